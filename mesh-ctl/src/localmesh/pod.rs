//! The holder of one pod: sets the pod up, starts its processes, reaps them, and ends them when the node is gone.

use std::collections::HashMap;
use std::io;
use std::io::Read;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use super::netlink::{NODE_V4, NODE_V6, Socket};
use super::sys::{self, Forked};
use super::wire::{self, Order, Report, Start};
use super::{Exit, Mode, PodSpec, Role, mounts, nftables, process, usage, zygote};

/// An error with the step in which it happened.
pub(super) fn step(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// Runs a holder until the node is gone.
pub(super) fn run(channel: OwnedFd, wait: OwnedFd, spec: &PodSpec, mode: Mode) -> ! {
    let _ = rustix::thread::set_name(c"mesh-pod");
    let set_up = if mode == Mode::Namespaces {
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        wait_for_go(wait).and_then(|()| {
            let uncovered = mounts::uncovered(spec);
            Ok((set_up(spec)?, uncovered))
        })
    } else {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(io::Error::from)
            .map(|()| (Vec::new(), None))
    };
    match set_up {
        Ok((warnings, uncovered)) => {
            let mut holder = Holder { channel, mode, uncovered, children: HashMap::new() };
            let _ = wire::tell(&holder.channel, &Report::Ready(warnings), &[]);
            let result = holder.serve();
            holder.end_all();
            sys::exit_now(i32::from(result.is_err()))
        }
        Err(error) => {
            let text = format!("pod {}/{}: {error}", spec.namespace, spec.name);
            let _ = wire::tell(&channel, &Report::Failed(text), &[]);
            sys::exit_now(1)
        }
    }
}

fn wait_for_go(wait: OwnedFd) -> io::Result<()> {
    let mut byte = [0];
    std::fs::File::from(wait).read_exact(&mut byte)
}

fn set_up(spec: &PodSpec) -> io::Result<Vec<String>> {
    let mut warnings = Vec::new();
    network(spec, &mut warnings)?;
    if let Some(rules) = spec.capture.as_ref().and_then(nftables::pod_rules) {
        nftables::load(rules).map_err(|error| step("loading its capture rules", &error))?;
    }
    rustix::system::sethostname(host_name(&spec.name).as_bytes())
        .map_err(|errno| step("setting its host name", &errno.into()))?;
    mounts::pod(spec, &mut warnings)?;
    Ok(warnings)
}

/// The pod's name, shortened to what the kernel takes; as the kubelet does it.
fn host_name(name: &str) -> &str {
    const LONGEST: usize = 63;
    name.get(..LONGEST).unwrap_or(name).trim_end_matches(['-', '.'])
}

fn network(spec: &PodSpec, warnings: &mut Vec<String>) -> io::Result<()> {
    let socket = Socket::route()?;
    let device = socket.index_of("eth0").map_err(|error| step("finding its network device", &error))?;
    socket.link_up(1).map_err(|error| step("setting up its loopback device", &error))?;
    sysctl("ipv6/conf/all/disable_ipv6", "0", &mut Vec::new());
    socket.link_up(device).map_err(|error| step("setting up its network device", &error))?;
    socket.add_address(device, IpAddr::V4(spec.ip), 16).map_err(|error| step("setting its address", &error))?;
    // Without a route the kernel refuses to connect before any rule sees the packet.
    socket.add_default_route(device, NODE_V4.into()).map_err(|error| step("making its default route", &error))?;
    if let Err(error) = network_v6(&socket, device, spec) {
        warnings.push(format!("no IPv6 in pod {}/{}: {error}", spec.namespace, spec.name));
    }
    sysctl("ipv4/ip_unprivileged_port_start", "0", warnings);
    let group = rustix::process::getegid().as_raw();
    sysctl("ipv4/ping_group_range", &format!("{group} {group}"), warnings);
    Ok(())
}

fn network_v6(socket: &Socket, device: u32, spec: &PodSpec) -> io::Result<()> {
    socket.add_address(device, IpAddr::V6(spec.ip6()), 64)?;
    // Only with capture does anybody answer at IPv6 addresses outside; without a route clients go on to IPv4 at once.
    if spec.capture.as_ref().is_some_and(|rules| rules.capture_outbound) {
        socket.add_default_route(device, NODE_V6.into())?;
    }
    Ok(())
}

/// Writes a setting of this network namespace. Inside containers these files are often read-only.
pub(super) fn sysctl(name: &str, value: &str, warnings: &mut Vec<String>) {
    let path = Path::new("/proc/sys/net").join(name);
    if let Err(error) = std::fs::write(&path, value)
        && error.kind() != io::ErrorKind::NotFound
    {
        warnings.push(format!("{} could not be set to {value}: {error}", path.display()));
    }
}

struct Running {
    child: u64,
    whole_group: bool,
    is_proxy: bool,
}

struct Holder {
    channel: OwnedFd,
    mode: Mode,
    /// Programs may lie where a volume is mounted now.
    uncovered: Option<OwnedFd>,
    children: HashMap<Pid, Running>,
}

impl Holder {
    fn serve(&mut self) -> io::Result<()> {
        let signals = sys::signal_fd(&[libc::SIGCHLD])?;
        loop {
            zygote::wait_readable(&self.channel, &signals)?;
            if !sys::read_signals(&signals).is_empty() {
                self.reap()?;
            }
            match wire::receive(&self.channel, RecvFlags::DONTWAIT) {
                Ok(Some(packet)) => {
                    let (order, fds) = wire::decode(packet)?;
                    self.obey(order, fds)?;
                }
                Ok(None) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn obey(&mut self, order: Order, fds: Vec<OwnedFd>) -> io::Result<()> {
        match order {
            Order::Start(start) => {
                let result = self.start(&start, fds).map_err(|error| error.to_string());
                wire::tell(&self.channel, &Report::Started { child: start.child, result }, &[])
            }
            Order::Kill { child, signal } => {
                let target = self.children.iter().find(|(_, running)| running.child == child);
                if let (Some((pid, _)), Some(signal)) = (target, Signal::from_named_raw(signal)) {
                    let _ = rustix::process::kill_process(*pid, signal);
                }
                Ok(())
            }
            Order::Usage { request } => {
                let proxies = self.children.iter().filter(|(_, running)| running.is_proxy);
                let usage = usage::below_us(&proxies.map(|(pid, _)| pid.as_raw_nonzero().get()).collect());
                wire::tell(&self.channel, &Report::Usage { request, usage }, &[])
            }
            Order::Socket { request, v6 } => {
                let family = if v6 { AddressFamily::INET6 } else { AddressFamily::INET };
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                match rustix::net::socket_with(family, SocketType::STREAM, flags, None) {
                    Ok(socket) => {
                        wire::tell(&self.channel, &Report::Socket { request, result: Ok(()) }, &[socket.as_fd()])
                    }
                    Err(errno) => {
                        let result = Err(io::Error::from(errno).to_string());
                        wire::tell(&self.channel, &Report::Socket { request, result }, &[])
                    }
                }
            }
        }
    }

    /// Starts a process and waits until its program runs, so that "not found" is an error of the start.
    fn start(&mut self, start: &Start, fds: Vec<OwnedFd>) -> io::Result<i32> {
        let (result, report) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let holder = rustix::process::getpid();
        let pid = match sys::fork(0)? {
            Forked::Child => {
                let error = process::become_program(start, fds, holder, (self.mode, self.uncovered.as_ref()));
                let _ = rustix::io::write(&report, error.to_string().as_bytes());
                sys::exit_now(127)
            }
            Forked::Parent(pid) => pid,
        };
        drop(report);
        drop(fds);
        let mut text = String::new();
        std::fs::File::from(result).read_to_string(&mut text)?;
        if text.is_empty() {
            let (whole_group, is_proxy) = (start.whole_group, start.role == Role::Sidecar);
            self.children.insert(pid, Running { child: start.child, whole_group, is_proxy });
            return Ok(pid.as_raw_nonzero().get());
        }
        let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
        Err(io::Error::other(text))
    }

    fn reap(&mut self) -> io::Result<()> {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let Some(running) = self.children.remove(&pid) else { continue };
            if running.whole_group {
                // Its session began with it, so its group has its number.
                let _ = rustix::process::kill_process_group(pid, Signal::KILL);
            }
            wire::tell(&self.channel, &Report::Exited { child: running.child, exit: exit_of(status) }, &[])?;
        }
        Ok(())
    }

    /// Ends every process of the pod, so that the node sees our end only after theirs.
    fn end_all(&self) {
        // Children of a process that ends come to us: repeat until there is none.
        loop {
            match self.mode {
                Mode::Namespaces => sys::end_namespace(),
                Mode::Explicit => {
                    for pid in children_of(rustix::process::getpid()) {
                        let _ = rustix::process::kill_process(pid, Signal::KILL);
                    }
                }
            }
            if !rustix::process::wait(WaitOptions::empty()).is_ok_and(|child| child.is_some()) {
                return;
            }
        }
    }
}

fn exit_of(status: WaitStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::PodGone,
    }
}

/// The processes whose parent is `parent`.
pub(super) fn children_of(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero().to_string();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name in parentheses may hold anything; state and parent follow the last one.
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)) == Some(parent.as_str())
    })
    .filter_map(Pid::from_raw)
    .collect()
}
