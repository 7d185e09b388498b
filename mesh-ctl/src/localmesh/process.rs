//! From a freshly forked child of a holder to the program it shall run.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode as FileMode, OFlags, ResolveFlags};
use rustix::process::{Pid, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::wire::Start;
use super::{Mode, Role, pod, sys};

/// Numbers below this may be wanted by a program; copies are parked above it while they are sorted.
pub(super) const PARKING: i32 = 200;

/// Turns this process into the program; returns only when that failed.
///
/// `uncovered` is the root directory without the pod's volumes.
pub(super) fn become_program(
    start: &Start,
    fds: Vec<OwnedFd>,
    holder: Pid,
    (mode, uncovered): (Mode, Option<&OwnedFd>),
) -> io::Error {
    match prepare(start, &fds, holder, (mode, uncovered)) {
        Ok(program) => program.exec(),
        Err(error) => error,
    }
}

fn prepare(
    start: &Start,
    fds: &[OwnedFd],
    holder: Pid,
    (mode, uncovered): (Mode, Option<&OwnedFd>),
) -> io::Result<Program> {
    rustix::process::setsid()?;
    sys::close_all_on_exec()?;
    let parked = fds.iter().map(|fd| sys::copy_above(fd, PARKING)).collect::<io::Result<Vec<_>>>()?;
    for (fd, target) in parked.iter().zip(&start.targets) {
        sys::place(fd, *target)?;
    }
    if start.tty {
        rustix::process::ioctl_tiocsctty(&parked[0])
            .map_err(|errno| pod::step("taking the terminal", &errno.into()))?;
    }
    let cwd = start.cwd.as_deref().unwrap_or(Path::new("/"));
    rustix::process::chdir(cwd)
        .map_err(|errno| pod::step(&format!("working directory {}", cwd.display()), &errno.into()))?;
    let program = Program::find(start, uncovered)?;
    limit_capabilities(start.role, mode)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if rustix::process::getppid() != Some(holder) {
        return Err(io::Error::other("its pod is gone"));
    }
    sys::default_signals();
    Ok(program)
}

/// Applications have nothing and cannot gain anything; a sidecar keeps the one capability that marks its connections.
fn limit_capabilities(role: Role, mode: Mode) -> io::Result<()> {
    let mut kept = match (role, mode) {
        (Role::Sidecar, Mode::Namespaces) => CapabilitySet::NET_ADMIN,
        _ => CapabilitySet::empty(),
    };
    if mode == Mode::Namespaces && !low_ports_are_free() {
        kept |= CapabilitySet::NET_BIND_SERVICE;
    }
    rustix::thread::clear_ambient_capability_set()?;
    if mode == Mode::Namespaces {
        for number in 0..64 {
            let one = CapabilitySet::from_bits_retain(1 << number);
            // The kernel says EINVAL after the last one that it knows.
            if !kept.contains(one) && rustix::thread::remove_capability_from_bounding_set(one).is_err() {
                break;
            }
        }
    }
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: kept };
    rustix::thread::set_capabilities(None, sets)?;
    for one in kept.iter() {
        rustix::thread::configure_capability_in_ambient_set(one, true)?;
    }
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

/// Whether anybody may listen on ports below 1024. The holder arranges that, except in containers whose settings are
/// read-only; there it takes a capability (over the pod's own network).
fn low_ports_are_free() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").is_ok_and(|text| text.trim() == "0")
}

struct Program {
    path: PathBuf,
    /// Opened while we may still read everything: see [`Program::exec`].
    file: OwnedFd,
    argv: Vec<CString>,
    env: Vec<CString>,
}

impl Program {
    fn find(start: &Start, uncovered: Option<&OwnedFd>) -> io::Result<Self> {
        let name = start.argv.first().ok_or_else(|| io::Error::other("no program given"))?;
        let (path, file) = if name.contains('/') {
            let file = open_program(Path::new(name))
                .or_else(|error| match (error.kind(), uncovered) {
                    (io::ErrorKind::NotFound, Some(root)) => open_program_in(root, Path::new(name)),
                    _ => Err(error),
                })
                .map_err(|error| io::Error::new(error.kind(), format!("program {name}: {error}")))?;
            (PathBuf::from(name), file)
        } else {
            let search = start.env.iter().find_map(|entry| entry.strip_prefix("PATH="));
            let search = search.unwrap_or("/usr/local/bin:/usr/bin:/bin");
            let candidates = search.split(':').map(|dir| Path::new(dir).join(name));
            candidates.filter_map(|path| open_program(&path).ok().map(|file| (path, file))).next().ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, format!("program {name} is not in PATH ({search})"))
            })?
        };
        let argv = start.argv.iter().map(|text| c_string(text.as_bytes())).collect::<io::Result<_>>()?;
        let env = start.env.iter().map(|text| c_string(text.as_bytes())).collect::<io::Result<_>>()?;
        Ok(Self { path, file, argv, env })
    }

    fn exec(self) -> io::Error {
        let path = match c_string(self.path.as_os_str().as_bytes()) {
            Ok(path) => path,
            Err(error) => return error,
        };
        let mut error = sys::exec_path(&path, &self.argv, &self.env);
        if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound) {
            // The file may be below a directory that only root enters, or that a volume covers; the file itself decides
            // who may run it.
            error = sys::exec_fd(&self.file, &self.argv, &self.env);
        }
        io::Error::new(error.kind(), format!("program {}: {error}", self.path.display()))
    }
}

fn open_program(path: &Path) -> io::Result<OwnedFd> {
    checked(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, FileMode::empty())?)
}

fn open_program_in(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = ResolveFlags::IN_ROOT;
    checked(rustix::fs::openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, FileMode::empty(), flags)?)
}

fn checked(file: OwnedFd) -> io::Result<OwnedFd> {
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_mode & 0o111 == 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "not a program"));
    }
    Ok(file)
}

fn c_string(text: &[u8]) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a zero byte in a program's arguments"))
}
