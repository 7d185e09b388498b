//! As whom the mesh runs, and the user namespace's maps.

use std::fs;
use std::io;

use rustix::process::{Gid, Pid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::pod::step;
use super::{Mode, POOL_UID};

/// The user that everything runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    uid: u32,
    gid: u32,
    /// Started by root, whose place this user takes.
    instead_of_root: bool,
}

impl Identity {
    /// The caller; or, for root, the user who called sudo, or else a user that nobody is.
    pub(super) fn choose() -> Self {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        // Root of a container without privileges that has one user only is an ordinary user of the host.
        if uid != 0 || (outside(&map, 0) != Some(0) && outside(&map, POOL_UID).is_none()) {
            return Self { uid, gid, instead_of_root: false };
        }
        let number = |name: &str| std::env::var(name).ok()?.parse().ok().filter(|id: &u32| *id != 0);
        match (number("SUDO_UID"), number("SUDO_GID")) {
            (Some(uid), Some(gid)) => Self { uid, gid, instead_of_root: true },
            _ => Self { uid: POOL_UID, gid: POOL_UID, instead_of_root: true },
        }
    }

    /// Whether the parent must write the maps: only who has power outside may map other users.
    pub(super) fn maps_come_from_parent(self) -> bool {
        self.instead_of_root
    }

    /// Maps this user to itself; called by the child in its new user namespace. Applications see their real user, and
    /// since it is not 0, executing a program drops all capabilities by itself.
    pub(super) fn map_self(self) -> io::Result<()> {
        // In this order: without "deny" the kernel refuses the group map.
        write_map("/proc/self/setgroups", "deny")?;
        write_map("/proc/self/uid_map", &format!("{0} {0} 1", self.uid))?;
        write_map("/proc/self/gid_map", &format!("{0} {0} 1", self.gid))
    }

    /// Maps every user that exists here to itself; called by the parent when it is root, so that the node can read the
    /// files of all of them.
    pub(super) fn map_all(child: Pid) -> io::Result<()> {
        let child = child.as_raw_nonzero();
        for kind in ["uid_map", "gid_map"] {
            let ours = fs::read_to_string(format!("/proc/self/{kind}"))?;
            write_map(&format!("/proc/{child}/{kind}"), &identity_map(&ours))?;
        }
        Ok(())
    }

    /// Stops being root, keeping the capabilities `keep` (those over the mesh's own user namespace, or just reading).
    pub(super) fn assume(self, keep: CapabilitySet) -> io::Result<()> {
        if self.instead_of_root {
            let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
            let failed = |errno: rustix::io::Errno| {
                step(&format!("becoming user {}; run meshctl as an ordinary user", self.uid), &errno.into())
            };
            rustix::thread::set_keep_capabilities(true)?;
            rustix::thread::set_thread_groups(&[]).map_err(failed)?;
            rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(failed)?;
            rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(failed)?;
            rustix::thread::set_keep_capabilities(false)?;
        }
        let keep = keep & rustix::thread::capabilities(None)?.permitted;
        let sets = CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
        rustix::thread::set_capabilities(None, sets)?;
        // A change of user makes /proc/self belong to root, and it is needed.
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)?;
        Ok(())
    }

    /// What node, zygote and holders keep: enough to make namespaces, devices, rules and mounts inside the mesh, and to
    /// read. Never the right to write other users' files.
    pub(super) fn node_capabilities(mode: Mode) -> CapabilitySet {
        match mode {
            Mode::Namespaces => {
                CapabilitySet::NET_ADMIN
                    | CapabilitySet::NET_BIND_SERVICE
                    | CapabilitySet::SYS_ADMIN
                    | CapabilitySet::SETPCAP
                    | CapabilitySet::DAC_READ_SEARCH
            }
            Mode::Explicit => CapabilitySet::DAC_READ_SEARCH,
        }
    }
}

/// The same users inside as outside, for each range of this process's own map.
fn identity_map(ours: &str) -> String {
    let mut map = String::new();
    for line in ours.lines() {
        let mut words = line.split_whitespace();
        if let (Some(first), Some(_), Some(count)) = (words.next(), words.next(), words.next()) {
            map.push_str(&format!("{first} {first} {count}\n"));
        }
    }
    map
}

/// Which user outside `id` is, by a map's text.
fn outside(map: &str, id: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut words = line.split_whitespace().map_while(|word| word.parse::<u32>().ok());
        let (first, out, count) = (words.next()?, words.next()?, words.next()?);
        let offset = id.checked_sub(first)?;
        (offset < count).then(|| out + offset)
    })
}

/// The kernel takes a map in one write, and an error is only seen there.
fn write_map(path: &str, text: &str) -> io::Result<()> {
    fs::write(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_outside_are_found_by_range() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(outside(map, 0), Some(1000));
        assert_eq!(outside(map, 65_533), Some(165_532));
        assert_eq!(outside(map, 70_000), None);
        assert_eq!(outside("0 0 4294967295", 0), Some(0));
    }

    #[test]
    fn maps_each_range_to_itself() {
        assert_eq!(identity_map("         0          0 4294967295\n"), "0 0 4294967295\n");
        assert_eq!(identity_map("0 100000 1000\n1000 5000 1\n"), "0 0 1000\n1000 1000 1\n");
    }
}
