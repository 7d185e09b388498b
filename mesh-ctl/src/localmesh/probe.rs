//! Whether the kernel lets this user make namespaces, and what to do when it does not.

use std::fmt;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::process::WaitOptions;

use super::identity::Identity;
use super::launch::pipe;
use super::netlink::Socket;
use super::sys::{self, Forked};
use super::{Mode, mounts, nftables};

/// The step of the probe that failed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Making all namespaces in one `clone`.
    Clone,
    /// Writing the user and group maps.
    UserMap,
    /// Setting the loopback device up.
    Loopback,
    /// Making an nf_tables table with a nat chain and a redirect.
    Nftables,
    /// Making a veth pair and a bridge.
    Links,
    /// Making mounts private and mounting memory.
    Mount,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clone => "making namespaces",
            Self::UserMap => "mapping the user",
            Self::Loopback => "setting up the loopback device",
            Self::Nftables => "making nf_tables rules",
            Self::Links => "making network devices",
            Self::Mount => "mounting",
        })
    }
}

/// Why namespaces cannot be used here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The step that failed first.
    pub step: Step,
    /// The kernel's error number.
    pub errno: i32,
    /// What it means and what to do, one line for the user.
    pub message: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refused {}

/// Tries everything that namespace mode needs in a child process, which leaves nothing behind.
///
/// Call it before any other thread exists.
///
/// # Errors
/// The first step that the kernel refused.
pub fn probe() -> Result<(), Refused> {
    let refused = |(step, error): (Step, io::Error)| {
        let errno = error.raw_os_error().unwrap_or(0);
        Refused { step, errno, message: explain(step, errno, &Facts::read()) }
    };
    attempt().map_err(refused)
}

const STEPS: [Step; 6] = [Step::Clone, Step::UserMap, Step::Loopback, Step::Nftables, Step::Links, Step::Mount];

fn attempt() -> Result<(), (Step, io::Error)> {
    let at = |step: Step| move |error: io::Error| (step, error);
    let identity = Identity::choose();
    let (result, report) = pipe().map_err(at(Step::Clone))?;
    let (wait, go) = pipe().map_err(at(Step::Clone))?;
    let pid = match sys::fork(sys::MESH_NAMESPACES).map_err(at(Step::Clone))? {
        Forked::Child => {
            drop((result, go));
            if let Err((step, error)) = inside(identity, wait) {
                let place = STEPS.iter().position(|one| *one == step).unwrap_or_default();
                let errno = error.raw_os_error().unwrap_or(0).to_ne_bytes();
                let _ = rustix::io::write(&report, &[&[place as u8][..], &errno].concat());
            }
            sys::exit_now(0)
        }
        Forked::Parent(pid) => pid,
    };
    drop((report, wait));
    let mapped = if identity.maps_come_from_parent() { Identity::map_all(pid) } else { Ok(()) };
    if mapped.is_ok() {
        let _ = rustix::io::write(&go, b"!");
    }
    drop(go);
    let mut bytes = Vec::new();
    let read = File::from(result).read_to_end(&mut bytes);
    let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
    mapped.map_err(at(Step::UserMap))?;
    read.map_err(at(Step::Clone))?;
    match bytes[..] {
        [place, a, b, c, d] => {
            Err((STEPS[usize::from(place)], io::Error::from_raw_os_error(i32::from_ne_bytes([a, b, c, d]))))
        }
        _ => Ok(()),
    }
}

fn inside(identity: Identity, wait: OwnedFd) -> Result<(), (Step, io::Error)> {
    let at = |step: Step| move |error: io::Error| (step, error);
    File::from(wait).read_exact(&mut [0]).map_err(at(Step::UserMap))?;
    if !identity.maps_come_from_parent() {
        identity.map_self().map_err(at(Step::UserMap))?;
    }
    identity.assume(Identity::node_capabilities(Mode::Namespaces)).map_err(at(Step::UserMap))?;
    let socket = Socket::route().map_err(at(Step::Loopback))?;
    socket.link_up(1).map_err(at(Step::Loopback))?;
    nftables::load(nftables::trial_rules()).map_err(at(Step::Nftables))?;
    socket.add_bridge("mesh0").map_err(at(Step::Links))?;
    socket.try_veth("pod").map_err(at(Step::Links))?;
    // Whether /proc can be mounted does not matter: the host's serves too.
    mounts::private(&mut Vec::new()).map_err(at(Step::Mount))?;
    mounts::memory(Path::new("/run"), 0o755).map_err(at(Step::Mount))
}

/// What tells the causes apart.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    user_namespaces_limited_to_none: bool,
    only_root_may_clone: bool,
    apparmor_restricts: bool,
    in_container: bool,
}

impl Facts {
    fn read() -> Self {
        let is = |path: &str, value: &str| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
        let filtered = std::fs::read_to_string("/proc/self/status").is_ok_and(|text| {
            text.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
        });
        Self {
            user_namespaces_limited_to_none: is("/proc/sys/user/max_user_namespaces", "0"),
            only_root_may_clone: is("/proc/sys/kernel/unprivileged_userns_clone", "0"),
            apparmor_restricts: is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
            in_container: filtered
                || Path::new("/.dockerenv").exists()
                || Path::new("/run/.containerenv").exists()
                || std::env::var_os("container").is_some(),
        }
    }
}

fn explain(step: Step, errno: i32, facts: &Facts) -> String {
    let denied = errno == libc::EPERM || errno == libc::EACCES;
    let unsupported = errno == libc::EOPNOTSUPP || errno == libc::ENOENT || errno == libc::EPROTONOSUPPORT;
    let why = match step {
        Step::Clone if errno == libc::ENOSPC && facts.user_namespaces_limited_to_none => {
            "User namespaces are switched off (user.max_user_namespaces=0). \
             Run: sudo sysctl -w user.max_user_namespaces=28633"
                .to_owned()
        }
        Step::Clone if errno == libc::ENOSPC => {
            "The kernel's limit of namespaces is reached: see the files in /proc/sys/user".to_owned()
        }
        Step::Clone if errno == libc::EINVAL => "This kernel has no user namespaces (CONFIG_USER_NS)".to_owned(),
        Step::Clone if denied && facts.only_root_may_clone => "User namespaces are switched off for ordinary users. \
             Run: sudo sysctl -w kernel.unprivileged_userns_clone=1"
            .to_owned(),
        _ if denied && facts.apparmor_restricts => {
            "AppArmor blocks user namespaces. Run: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, \
             or install an AppArmor profile for meshctl that allows userns"
                .to_owned()
        }
        _ if denied && facts.in_container => "Inside a container: run it with --security-opt seccomp=unconfined \
             (and apparmor=unconfined, systempaths=unconfined)"
            .to_owned(),
        Step::Nftables | Step::Links if unsupported => {
            "A kernel module is missing. Run: sudo modprobe -a nf_tables nft_redir nft_chain_nat veth bridge".to_owned()
        }
        _ if denied => format!("The kernel's security policy refuses {step} ({})", io::Error::from_raw_os_error(errno)),
        _ => format!("The kernel refuses {step} ({})", io::Error::from_raw_os_error(errno)),
    };
    format!("{why}. Until then explicit mode is used: no transparent capture, applications use proxy variables.")
}

#[cfg(test)]
mod tests;
