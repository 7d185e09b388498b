//! What the processes of a pod use, as its holder sees them in `/proc`.
//!
//! Where the pod has no `/proc` of its own, pids there are those of another pid namespace: the tree is walked by what
//! `/proc` calls processes, and the sidecar is known by the last number of `NSpid`, which is what the holder calls it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// `USER_HZ`, in which the kernel tells times to programs.
const TICKS: f64 = 100.;

/// What some processes use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Processor time so far, in seconds, with that of their children that have ended. It falls when a process goes.
    pub cpu_seconds: f64,
    /// Resident memory in bytes. Pages that they share count for each of them.
    pub memory_bytes: u64,
}

/// A process.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Process {
    /// As `/proc` calls it.
    pid: i32,
    parent: i32,
    /// As its own namespace calls it.
    own: i32,
    usage: Usage,
}

/// What all processes below this one use, without those of `proxies` and what is below them.
pub(super) fn below_us(proxies: &BTreeSet<i32>) -> Usage {
    let us = std::fs::read_link("/proc/self").ok().and_then(|link| link.to_str()?.parse().ok());
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let processes: Vec<Process> = pids.filter_map(process).collect();
    us.map(|us| below(us, proxies, &processes)).unwrap_or_default()
}

fn below(root: i32, left_out: &BTreeSet<i32>, all: &[Process]) -> Usage {
    let (mut sum, mut seen, mut parents) = (Usage::default(), BTreeSet::from([root]), vec![root]);
    while let Some(parent) = parents.pop() {
        for child in all.iter().filter(|p| p.parent == parent) {
            if left_out.contains(&child.own) || !seen.insert(child.pid) {
                continue;
            }
            sum.cpu_seconds += child.usage.cpu_seconds;
            sum.memory_bytes += child.usage.memory_bytes;
            parents.push(child.pid);
        }
    }
    sum
}

/// A process that has gone meanwhile is none.
fn process(pid: i32) -> Option<Process> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    parse(pid, &read("stat")?, &read("status")?)
}

fn parse(pid: i32, stat: &str, status: &str) -> Option<Process> {
    // The name in parentheses may hold anything; the third field follows the last one.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    let ticks: f64 = (14..=17).filter_map(number).sum();
    let line = |name: &str| status.lines().find_map(|l| l.strip_prefix(name));
    // A process that has ended and is not waited for has no memory.
    let kib: u64 = line("VmRSS:").and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    let own = line("NSpid:").and_then(|l| l.split_whitespace().next_back()?.parse().ok()).unwrap_or(pid);
    let usage = Usage { cpu_seconds: ticks / TICKS, memory_bytes: kib * 1024 };
    Some(Process { pid, parent: fields.get(1)?.parse().ok()?, own, usage })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_out_of_its_files() {
        let stat = "41 (a) (b) S 7 41 41 0 -1 0 1 0 0 0 100 50 30 20 20 0 1 0 5 99 5";
        let read = parse(41, stat, "Name:\ta\nVmRSS:\t  12 kB\nNSpid:\t41\t5\n").unwrap();
        let usage = Usage { cpu_seconds: 2., memory_bytes: 12 * 1024 };
        assert_eq!(read, Process { pid: 41, parent: 7, own: 5, usage });
        let ended = parse(41, stat, "Name:\ta\n").unwrap();
        assert_eq!((ended.own, ended.usage.memory_bytes), (41, 0));
        assert_eq!(parse(41, "41 (a", ""), None);
    }

    #[test]
    fn all_below_but_the_proxy() {
        let process = |pid, parent, own, seconds| {
            let usage = Usage { cpu_seconds: seconds, memory_bytes: 1000 };
            Process { pid, parent, own, usage }
        };
        // 10 is the holder; 11 the sidecar with a child; 13 the application with a child and a grandchild; 20 a stranger.
        let all = [
            process(10, 1, 1, 64.),
            process(11, 10, 2, 32.),
            process(12, 11, 3, 16.),
            process(13, 10, 4, 8.),
            process(14, 13, 5, 4.),
            process(15, 14, 6, 2.),
            process(20, 1, 20, 1.),
        ];
        let sum = below(10, &BTreeSet::from([2]), &all);
        assert_eq!(sum, Usage { cpu_seconds: 14., memory_bytes: 3000 });
        assert_eq!(below(10, &BTreeSet::new(), &all).cpu_seconds, 62.);
        assert_eq!(below(99, &BTreeSet::new(), &all), Usage::default());
    }
}
