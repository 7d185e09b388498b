//! What is left after a mesh has ended, in every way it can end.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};

use mesh_ctl::localmesh::connect_control;
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::this;

/// Kills the parent or the node with SIGKILL and looks for remains.
pub(crate) fn kill(victim: &str, mode: &str) {
    let mounts = mounts();
    let name = format!("test-kill-{}", std::process::id());
    let (mut launcher, first) = start("hold", mode, &name);
    assert!(first.contains("up"), "{first}");
    let parent = Pid::from_child(&launcher);
    let mesh = Processes::below(parent);
    // Parent, node, zygote; two pods with holder, program and the process it left behind; sidecars in namespaces.
    assert_eq!(mesh.pids.len(), if mode == "explicit" { 9 } else { 11 }, "{:?}", mesh.pids);
    let target = if victim == "parent" { parent } else { mesh.child_of(parent) };
    rustix::process::kill_process(target, Signal::KILL).unwrap();
    launcher.wait().unwrap();
    mesh.wait_for_the_end();
    assert_eq!(mounts, self::mounts(), "mounts are left");
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    assert!(!sockets.contains(&name), "the control socket is left");
}

/// A detached mesh outlives its launcher, answers on the control socket, and ends.
pub(crate) fn detached(mode: &str) {
    let name = format!("test-detached-{}", std::process::id());
    let (mut launcher, first) = start("detached", mode, &name);
    assert!(first.contains("up"), "{first}");
    let parent = Processes::by_environment(&name);
    assert!(launcher.wait().unwrap().success());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = connect_control(&name).unwrap();
        // The node ends: the other end of the connection closes.
        let mut nothing = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut connection, &mut nothing).await.unwrap();
    });
    parent.wait_for_the_end();
    let error = runtime.block_on(async { connect_control(&name).unwrap_err() });
    assert!(error.to_string().contains("meshctl up"), "{error}");
}

/// A second mesh of the same name says so.
pub(crate) fn name_taken(mode: &str) {
    let name = format!("test-taken-{}", std::process::id());
    let (mut launcher, _) = start("hold", mode, &name);
    let (mut second, text) = start("hold", mode, &name);
    assert!(text.contains("is running already"), "{text}");
    assert_eq!(second.wait().unwrap().code(), Some(3));
    let mesh = Processes::below(Pid::from_child(&launcher));
    launcher.kill().unwrap();
    launcher.wait().unwrap();
    mesh.wait_for_the_end();
}

/// SIGTERM to the parent reaches the node, whose exit code becomes the launcher's.
pub(crate) fn terminated(mode: &str) {
    let name = format!("test-terminated-{}", std::process::id());
    let (mut launcher, _) = start("hold", mode, &name);
    let mesh = Processes::below(Pid::from_child(&launcher));
    rustix::process::kill_process(Pid::from_child(&launcher), Signal::TERM).unwrap();
    assert_eq!(launcher.wait().unwrap().code(), Some(9));
    mesh.wait_for_the_end();
}

/// A mesh whose zygote is killed ends as a whole.
pub(crate) fn zygote_killed(mode: &str) {
    let name = format!("test-zygote-{}", std::process::id());
    let (mut launcher, _) = start("hold", mode, &name);
    let mesh = Processes::below(Pid::from_child(&launcher));
    let zygote = mesh.child_of(mesh.child_of(Pid::from_child(&launcher)));
    rustix::process::kill_process(zygote, Signal::KILL).unwrap();
    assert_eq!(launcher.wait().unwrap().code(), Some(1));
    mesh.wait_for_the_end();
}

/// Starts a scenario and gives its first line.
fn start(scenario: &str, mode: &str, name: &str) -> (Launcher, String) {
    let mut command = this("scenario", &[scenario, mode]);
    let mut child = command.env("MESH_TEST_NAME", name).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (Launcher(child), line)
}

/// A started scenario, which does not outlive a test that failed.
struct Launcher(Child);

impl std::ops::Deref for Launcher {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl std::ops::DerefMut for Launcher {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mounts").unwrap()
}

fn parents() -> HashMap<i32, i32> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?))
    })
    .collect()
}

/// Processes, held so that their end is an event.
struct Processes {
    pids: Vec<i32>,
    handles: Vec<OwnedFd>,
    parents: HashMap<i32, i32>,
    namespaces: HashSet<String>,
}

impl Processes {
    fn below(root: Pid) -> Self {
        let parents = parents();
        let root = root.as_raw_nonzero().get();
        let mut pids = vec![root];
        let mut at = 0;
        while at < pids.len() {
            let above = pids[at];
            pids.extend(parents.iter().filter(|(_, parent)| **parent == above).map(|(pid, _)| *pid));
            at += 1;
        }
        Self::hold(pids, parents)
    }

    /// The parent of a detached mesh and all below it.
    fn by_environment(name: &str) -> Self {
        let parents = parents();
        let mine = |pid: &i32| {
            let mut text = Vec::new();
            let file = fs::File::open(format!("/proc/{pid}/environ"));
            file.and_then(|mut file| file.read_to_end(&mut text))
                .is_ok_and(|_| String::from_utf8_lossy(&text).contains(name))
        };
        let pids: Vec<i32> = parents.keys().copied().filter(mine).collect();
        assert!(pids.len() >= 3, "{pids:?}");
        Self::hold(pids, parents)
    }

    fn hold(pids: Vec<i32>, parents: HashMap<i32, i32>) -> Self {
        let open = |pid: &i32| rustix::process::pidfd_open(Pid::from_raw(*pid).unwrap(), PidfdFlags::empty()).unwrap();
        let handles = pids.iter().map(open).collect();
        let own = namespace(std::process::id().cast_signed());
        let namespaces =
            pids.iter().filter_map(|pid| namespace(*pid)).filter(|one| Some(one) != own.as_ref()).collect();
        Self { pids, handles, parents, namespaces }
    }

    fn child_of(&self, parent: Pid) -> Pid {
        let parent = parent.as_raw_nonzero().get();
        let child = self.pids.iter().find(|pid| self.parents.get(pid) == Some(&parent));
        Pid::from_raw(*child.unwrap()).unwrap()
    }

    /// Waits for the end of each; a test that hangs here has found a process that stays.
    fn wait_for_the_end(self) {
        for handle in &self.handles {
            let mut fds = [PollFd::new(handle, PollFlags::IN)];
            rustix::event::poll(&mut fds, None).unwrap();
        }
        let left: Vec<i32> = parents()
            .into_keys()
            .filter(|pid| namespace(*pid).is_some_and(|namespace| self.namespaces.contains(&namespace)))
            .collect();
        assert!(left.is_empty(), "processes in the mesh's namespaces: {left:?}");
    }
}

fn namespace(pid: i32) -> Option<String> {
    Some(fs::read_link(format!("/proc/{pid}/ns/net")).ok()?.to_string_lossy().into_owned())
}
