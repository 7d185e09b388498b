//! Descriptors that the process inherits, announced in its environment.

use std::collections::BTreeMap;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::FdFlags;

/// What the process inherited; see `meshctl`'s local mesh for the variables.
#[derive(Debug, Default)]
pub struct Inherited {
    /// `MESH_DIALER_FD`: sequenced-packet socket of the dialer.
    pub dialer: Option<OwnedFd>,
    /// `MESH_CONFIG_FD`: connected stream socket to the configuration server.
    pub config: Option<OwnedFd>,
    /// `MESH_LISTEN_FDS`: listening sockets by name; a name that occurs twice has one for each worker.
    pub listeners: BTreeMap<String, Vec<OwnedFd>>,
}

static TAKEN: AtomicBool = AtomicBool::new(false);

impl Inherited {
    /// Takes them over, the first time it is called in a process; later there is nothing left.
    pub fn from_env() -> Self {
        if TAKEN.swap(true, Ordering::SeqCst) {
            return Self::default();
        }
        let variable = |name| std::env::var(name).unwrap_or_default();
        let number = |text: &str| text.trim().parse::<RawFd>().ok();
        let mut listeners = BTreeMap::<String, Vec<OwnedFd>>::new();
        for (name, fd) in parse_names(&variable("MESH_LISTEN_FDS")) {
            if let Some(fd) = adopt(fd) {
                listeners.entry(name).or_default().push(fd);
            }
        }
        Self {
            dialer: number(&variable("MESH_DIALER_FD")).and_then(adopt),
            config: number(&variable("MESH_CONFIG_FD")).and_then(adopt),
            listeners,
        }
    }
}

/// `name=fd,name=fd`; entries that are not of this form are left out.
pub(super) fn parse_names(text: &str) -> Vec<(String, RawFd)> {
    let pairs = text.split(',').filter_map(|pair| pair.rsplit_once('='));
    pairs.filter_map(|(name, fd)| Some((name.trim().to_owned(), fd.trim().parse().ok()?))).collect()
}

/// Takes a descriptor by number, if it is open, and keeps it from programs that we start.
#[allow(unsafe_code)]
fn adopt(fd: RawFd) -> Option<OwnedFd> {
    // Standard streams are never ours to close.
    if fd < 3 {
        return None;
    }
    // SAFETY: the parent names this descriptor as ours alone, nothing in this process has opened or wrapped it (`TAKEN`
    // makes this run once, at the start), and `F_GETFD` through a borrowed copy tells whether it is open at all.
    let open = rustix::io::fcntl_getfd(unsafe { rustix::fd::BorrowedFd::borrow_raw(fd) }).is_ok();
    if !open {
        return None;
    }
    // SAFETY: as above: open, and owned by nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let _ = rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC);
    Some(fd)
}
