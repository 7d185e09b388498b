//! The zygote: a small process with one thread that makes pods for the node.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::net::RecvFlags;
use rustix::process::{Pid, Signal, WaitOptions};

use super::netlink::{Socket, hardware_address};
use super::sys::{self, Forked};
use super::wire::{self, MakePod, PodMade};
use super::{Mode, PodSpec, pod};

/// Open as long as any process of the mesh's own machinery lives.
pub(super) type Lifeline = OwnedFd;

/// Runs the zygote until the node is gone.
pub(super) fn run(channel: OwnedFd, lifeline: Lifeline, mode: Mode) -> ! {
    sys::close_all_except(&[channel.as_raw_fd(), lifeline.as_raw_fd()]);
    let _ = rustix::thread::set_name(c"mesh-zygote");
    let code = match Zygote::new(channel, lifeline, mode).and_then(|mut zygote| zygote.serve()) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("mesh: the process that makes pods failed: {error}");
            1
        }
    };
    sys::exit_now(code)
}

struct Zygote {
    channel: OwnedFd,
    lifeline: Lifeline,
    mode: Mode,
    holders: HashSet<Pid>,
}

impl Zygote {
    fn new(channel: OwnedFd, lifeline: Lifeline, mode: Mode) -> io::Result<Self> {
        if mode == Mode::Namespaces {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        } else {
            // What a holder leaves behind when it is killed comes to us, and is ended.
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        }
        Ok(Self { channel, lifeline, mode, holders: HashSet::new() })
    }

    fn serve(&mut self) -> io::Result<()> {
        let signals = sys::signal_fd(&[libc::SIGCHLD])?;
        loop {
            wait_readable(&self.channel, &signals)?;
            if !sys::read_signals(&signals).is_empty() {
                self.reap();
            }
            match wire::receive(&self.channel, RecvFlags::DONTWAIT) {
                Ok(Some(packet)) => {
                    let (order, _) = wire::decode::<MakePod>(packet)?;
                    self.answer(order)?;
                }
                Ok(None) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        // The node is gone. Holders notice that themselves; stay until the last one has cleaned up.
        while rustix::process::wait(WaitOptions::empty()).is_ok_and(|child| child.is_some()) {
            self.end_strays();
        }
        Ok(())
    }

    fn answer(&mut self, order: MakePod) -> io::Result<()> {
        match self.make(&order.spec) {
            Ok(holder) => {
                let made = PodMade { id: order.id, result: Ok(()) };
                wire::tell(&self.channel, &made, &[holder.as_fd()])
            }
            Err(error) => {
                let text = format!("pod {}/{}: {error}", order.spec.namespace, order.spec.name);
                wire::tell(&self.channel, &PodMade { id: order.id, result: Err(text) }, &[])
            }
        }
    }

    /// Makes the holder and its network device; the rest is the holder's own work, so that pods start in parallel.
    fn make(&mut self, spec: &PodSpec) -> io::Result<OwnedFd> {
        let (ours, theirs) = wire::socket_pair()?;
        let (wait, go) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let namespaces = if self.mode == Mode::Namespaces { sys::POD_NAMESPACES } else { 0 };
        let pid = match sys::fork(namespaces).map_err(|error| pod::step("making its namespaces", &error))? {
            Forked::Child => {
                sys::close_all_except(&[theirs.as_raw_fd(), wait.as_raw_fd(), self.lifeline.as_raw_fd()]);
                pod::run(theirs, wait, spec, self.mode)
            }
            Forked::Parent(pid) => pid,
        };
        self.holders.insert(pid);
        if self.mode == Mode::Namespaces
            && let Err(error) = connect(pid, spec)
        {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            return Err(pod::step("making its network device", &error));
        }
        rustix::io::write(&go, b"!")?;
        Ok(ours)
    }

    fn reap(&mut self) {
        while let Ok(Some((pid, _))) = rustix::process::wait(WaitOptions::NOHANG) {
            self.holders.remove(&pid);
        }
        self.end_strays();
    }

    /// Ends processes that came to us because their holder was killed.
    fn end_strays(&self) {
        if self.mode == Mode::Explicit {
            for pid in pod::children_of(rustix::process::getpid()) {
                if !self.holders.contains(&pid) {
                    let _ = rustix::process::kill_process(pid, Signal::KILL);
                }
            }
        }
    }
}

/// Waits until one of two descriptors has something.
pub(super) fn wait_readable(first: &OwnedFd, second: &OwnedFd) -> io::Result<()> {
    let mut fds = [PollFd::new(first, PollFlags::IN), PollFd::new(second, PollFlags::IN)];
    match rustix::event::poll(&mut fds, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn connect(pid: Pid, spec: &PodSpec) -> io::Result<()> {
    let socket = Socket::route()?;
    let bridge = socket.index_of("mesh0")?;
    // Unique while the pod lives: no two pods of a mesh have the same address.
    let [_, _, c, d] = spec.ip.octets();
    let name = format!("pod{c:02x}{d:02x}.{:x}", pid.as_raw_nonzero());
    socket.add_veth(&name, bridge, pid, hardware_address(spec.ip))
}
