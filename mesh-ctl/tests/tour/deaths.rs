//! Processes that are killed: what is started again, and what is left when everything ends.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::get;
use crate::mesh::{MESHCTL, Mesh, root};

fn numbers() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok())
}

fn parents() -> HashMap<i32, i32> {
    let parent = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?))
    };
    numbers().filter_map(parent).collect()
}

fn words(pid: i32) -> Vec<String> {
    let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    text.split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect()
}

/// Whether a process is this service of bookinfo.
fn is_service(pid: i32, service: &str) -> bool {
    let words = words(pid);
    words.first().is_some_and(|w| w.ends_with("/bookinfo")) && words.get(1).is_some_and(|w| w == service)
}

/// This process and all below it, from the top.
fn tree(top: i32) -> Vec<i32> {
    let parents = parents();
    let mut pids = vec![top];
    let mut at = 0;
    while at < pids.len() {
        let above = pids[at];
        pids.extend(parents.iter().filter(|(_, parent)| **parent == above).map(|(pid, _)| *pid));
        at += 1;
    }
    pids
}

/// The top process of a mesh: it has the mesh's name in its arguments, and its parent has not.
fn top_of(name: &str) -> i32 {
    let named: BTreeSet<i32> = numbers().filter(|pid| words(*pid).iter().any(|w| w == name)).collect();
    let parents = parents();
    let tops: Vec<i32> = named.iter().copied().filter(|p| !parents.get(p).is_some_and(|q| named.contains(q))).collect();
    assert_eq!(tops.len(), 1, "processes of {name}: {named:?}");
    tops[0]
}

/// The process of a mesh that runs this, or the sidecar beside it.
fn process(mesh: &Mesh, service: &str, sidecar: bool) -> i32 {
    let all = tree(top_of(&mesh.name));
    let parents = parents();
    let runs = |pid: &i32| is_service(*pid, service);
    let application = *all.iter().find(|p| runs(p)).unwrap_or_else(|| panic!("no process of {service}"));
    if !sidecar {
        return application;
    }
    let beside = |p: &&i32| parents[*p] == parents[&application] && words(**p)[0].ends_with("/mesh-proxy");
    *all.iter().find(beside).expect("a sidecar in the same pod")
}

/// The application of a pod: the process of this name in the pod's network namespace.
pub(crate) fn application_of(mesh: &Mesh, workload: &str, service: &str) -> i32 {
    let namespace = mesh.run(&["exec", workload, "--", "readlink", "/proc/self/ns/net"]);
    let inside =
        |pid: &i32| fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|n| n.as_os_str() == namespace.trim());
    let runs = |pid: &i32| is_service(*pid, service);
    numbers().find(|pid| runs(pid) && inside(pid)).unwrap_or_else(|| panic!("no {service} in {workload}"))
}

pub(crate) fn kill_hard(pid: i32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

/// A workload as `status` shows it.
fn shown(mesh: &Mesh, workload: &str) -> Value {
    let status = mesh.json(&["status", "-o", "json"]);
    let all = status["workloads"].as_array().unwrap();
    all.iter().find(|w| w["workload"] == workload).unwrap().clone()
}

/// Asks until it holds; a mesh that never gets there is a failure, how long it takes is not.
fn until(mesh: &Mesh, workload: &str, what: &str, holds: impl Fn(&Value) -> bool) {
    let limit = Instant::now() + Duration::from_secs(60);
    loop {
        let now = shown(mesh, workload);
        if holds(&now) {
            return;
        }
        assert!(Instant::now() < limit, "{workload} is not {what}: {now:#}");
    }
}

/// A sidecar that is killed is started again, and its pod gets traffic again.
pub(crate) fn of_a_sidecar(mesh: &Mesh) {
    let started = Instant::now();
    kill_hard(process(mesh, "details", true));
    until(mesh, "details-v1", "restarted and ready", |w| w["proxyRestarts"] == 1 && w["ready"] == true);
    println!("a killed sidecar was ready again after {} ms", started.elapsed().as_millis());
    let page = get(mesh.gateway(), "/productpage", &[]);
    assert!(page.status == 200 && !page.body.contains("Error fetching product details"), "{page:?}");
}

/// A service process that dies is shown, with the reason, and started again.
pub(crate) fn of_a_service(mesh: &Mesh) {
    kill_hard(process(mesh, "ratings", false));
    until(mesh, "ratings-v1", "shown as ended", |w| {
        w["reason"].as_str().unwrap().contains("container ratings ended with signal 9") || w["restarts"] == 1
    });
    until(mesh, "ratings-v1", "restarted and ready", |w| w["restarts"] == 1 && w["ready"] == true);
    let log = mesh.run(&["logs", "ratings-v1"]);
    assert!(log.contains("[mesh] container ratings ended with"), "{log}");
}

/// A mesh in the foreground.
struct Foreground(Child);

impl Drop for Foreground {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn foreground(name: &str) -> Foreground {
    let mut command = Command::new(MESHCTL);
    command.args(["up", "examples/bookinfo/platform", "examples/bookinfo/routing", "--gateway-port", "80=0"]);
    command.args(["--gateway-port", "443=0", "--name", name]).current_dir(root());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let up = Foreground(child);
    assert!(output.lines().any(|l| l.unwrap().contains("http://127.0.0.1:")), "it did not start");
    up
}

fn namespaces_of(pids: &[i32]) -> BTreeSet<String> {
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    let all = pids.iter().filter_map(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).ok());
    all.filter(|n| *n != own).map(|n| n.to_string_lossy().into_owned()).collect()
}

/// Kills each process of `meshctl up` in turn: nothing of that mesh is left, or, for a pod, the mesh goes on.
pub(crate) fn of_everything() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let files = temporary();
    for victim in ["parent", "node", "zygote", "everything at once"] {
        let name = format!("test-kill-{}-{}", victim.split(' ').next().unwrap(), std::process::id());
        let up = foreground(&name);
        let all = tree(up.0.id().cast_signed());
        assert!(all.len() > 20, "parent, node, zygote, seven pods with their processes: {all:?}");
        let namespaces = namespaces_of(&all);
        assert!(namespaces.len() >= 8, "{namespaces:?}");
        match victim {
            "parent" => kill_hard(all[0]),
            "node" => kill_hard(all[1]),
            "zygote" => kill_hard(all[2]),
            _ => all.iter().rev().for_each(|pid| drop(Command::new("kill").args(["-9", &pid.to_string()]).output())),
        }
        let limit = Instant::now() + Duration::from_secs(60);
        let left = || numbers().filter(|p| !namespaces_of(&[*p]).is_disjoint(&namespaces)).collect::<Vec<_>>();
        let named = || numbers().filter(|p| words(*p).contains(&name)).collect::<Vec<_>>();
        // The launcher itself is our child, gone once it is waited for.
        let mut up = up;
        up.0.wait().unwrap();
        // The kernel closes what the killed held after they are gone from the list of processes.
        let socket = || fs::read_to_string("/proc/net/unix").unwrap().contains(&name);
        while !left().is_empty() || !named().is_empty() || socket() {
            let state = (left(), named(), socket());
            assert!(Instant::now() < limit, "{victim} killed; processes, named ones, socket left: {state:?}");
        }
        assert_eq!(mounts, fs::read_to_string("/proc/self/mounts").unwrap(), "{victim}: mounts are left");
    }
    let new: Vec<_> = temporary().difference(&files).filter(|f| f.contains("mesh")).cloned().collect();
    assert!(new.is_empty(), "files are left: {new:?}");
}

fn temporary() -> BTreeSet<String> {
    let folders = ["/tmp", "/dev/shm", "/run", "/var/tmp"];
    let entries = folders.iter().filter_map(|f| fs::read_dir(f).ok()).flatten().flatten();
    entries.map(|e| e.path().to_string_lossy().into_owned()).collect()
}
