//! The parent: serves the dialer's requests in the host's network, passes signals on, and waits for the end of the mesh.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::{Pid, Signal, WaitOptions};

use super::resolving::Resolving;
use crate::localmesh::wire::{self, Packet};
use crate::localmesh::{Status, sys};

/// Connections that may wait to be accepted.
pub(in crate::localmesh) const BACKLOG: i32 = 4096;
/// Listening sockets for one port.
const MOST_COPIES: u16 = 16;

/// The parent's part of the mesh.
pub(in crate::localmesh) struct Host {
    requests: OwnedFd,
    node: Pid,
    lifeline: OwnedFd,
    connecting: Vec<Connecting>,
    listeners: HashMap<SocketAddr, Vec<OwnedFd>>,
    names: Resolving,
}

/// A connection on its way.
struct Connecting {
    socket: OwnedFd,
    reply: OwnedFd,
}

/// What the parent's loop has seen.
#[derive(Default)]
struct Seen {
    request: bool,
    status: bool,
    signals: bool,
    /// Places in [`Host::connecting`] of those that are through, or that nobody waits for.
    connected: Vec<usize>,
}

impl Host {
    /// `server`: who is asked for names instead of the host's own resolver.
    pub(in crate::localmesh) fn new(
        requests: OwnedFd,
        node: Pid,
        lifeline: OwnedFd,
        server: Option<SocketAddr>,
    ) -> io::Result<Self> {
        let (connecting, listeners) = (Vec::new(), HashMap::new());
        Ok(Self { requests, node, lifeline, connecting, listeners, names: Resolving::new(server) })
    }

    /// Serves until the node has ended and everything of the mesh is gone; gives the node's exit code.
    pub(in crate::localmesh) fn serve(
        mut self,
        status: Option<OwnedFd>,
        show: &mut impl FnMut(&Status),
    ) -> io::Result<u8> {
        let signals = sys::signal_fd(&[libc::SIGCHLD, libc::SIGINT, libc::SIGTERM])?;
        let mut lines = Lines { pipe: status, rest: Vec::new() };
        let mut asked_to_end = false;
        loop {
            let seen = self.wait(&signals, lines.pipe.as_ref())?;
            for at in seen.connected.into_iter().rev() {
                let done = self.connecting.swap_remove(at);
                answer(&done.reply, finish(&done.socket).map(|()| (String::new(), vec![done.socket.as_fd()])));
            }
            if seen.status {
                lines.show(show);
            }
            if seen.request {
                self.request()?;
            }
            if !seen.signals {
                continue;
            }
            for signal in sys::read_signals(&signals) {
                if signal != libc::SIGCHLD {
                    let signal = if asked_to_end { Signal::KILL } else { Signal::TERM };
                    let _ = rustix::process::kill_process(self.node, signal);
                    asked_to_end = true;
                }
            }
            if let Some((_, end)) = rustix::process::waitpid(Some(self.node), WaitOptions::NOHANG)? {
                while lines.pipe.is_some() {
                    lines.show(show);
                }
                self.wait_for_the_rest();
                // Before `requests`, whose end tells `meshctl down` that everything has gone.
                self.listeners.clear();
                let code = end.exit_status().or_else(|| end.terminating_signal().map(|signal| 128 + signal));
                return Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
            }
        }
    }

    /// Waits for holders that still end their processes (explicit mode).
    fn wait_for_the_rest(&self) {
        let mut nothing = [0];
        while rustix::io::read(&self.lifeline, &mut nothing).is_err_and(|errno| errno == Errno::INTR) {}
    }

    fn wait(&self, signals: &OwnedFd, status: Option<&OwnedFd>) -> io::Result<Seen> {
        let mut fds = vec![PollFd::new(&self.requests, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        for one in &self.connecting {
            fds.push(PollFd::new(&one.socket, PollFlags::OUT));
            // Nothing is ever sent to us there: this only sees the asker going away.
            fds.push(PollFd::new(&one.reply, PollFlags::empty()));
        }
        fds.extend(status.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        loop {
            match rustix::event::poll(&mut fds, None) {
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
                Ok(_) => break,
            }
        }
        let hit = |at: usize| !fds[at].revents().is_empty();
        let count = self.connecting.len();
        Ok(Seen {
            request: fds[0].revents().contains(PollFlags::IN),
            signals: hit(1),
            status: status.is_some() && hit(2 + 2 * count),
            connected: (0..count).filter(|at| hit(2 + 2 * at) || hit(3 + 2 * at)).collect(),
        })
    }

    fn request(&mut self) -> io::Result<()> {
        let packet = match wire::receive(&self.requests, RecvFlags::DONTWAIT) {
            Ok(Some(packet)) => packet,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let Packet { bytes, fds } = packet;
        let mut fds = fds.into_iter();
        let Some(reply) = fds.next() else { return Ok(()) };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            ["CONNECT", ip, port] => match address(ip, port).and_then(begin) {
                Ok(socket) => self.connecting.push(Connecting { socket, reply }),
                Err(error) => answer(&reply, Err(error)),
            },
            ["RESOLVE", name] => self.names.resolve(name.to_owned(), reply),
            ["LISTEN", ip, port] => answer(&reply, address(ip, port).and_then(|at| self.listen(at, 1))),
            ["LISTEN", ip, port, copies] => {
                let result = copies
                    .parse()
                    .map_err(|_| malformed())
                    .and_then(|copies| address(ip, port).and_then(|at| self.listen(at, copies)));
                answer(&reply, result);
            }
            ["UNLISTEN", ip, port] => {
                let result = address(ip, port).and_then(|at| {
                    self.listeners.remove(&at).ok_or_else(|| io::Error::other(format!("{at} is not open")))
                });
                answer(&reply, result.map(|_| (String::new(), Vec::new())));
            }
            ["PEERUID"] => {
                let peer = fds
                    .next()
                    .ok_or_else(malformed)
                    .and_then(|socket| Ok(rustix::net::sockopt::socket_peercred(&socket)?.uid.as_raw().to_string()));
                answer(&reply, peer.map(|uid| (uid, Vec::new())));
            }
            _ => answer(&reply, Err(malformed())),
        }
        Ok(())
    }

    fn listen(&mut self, at: SocketAddr, copies: u16) -> io::Result<(String, Vec<BorrowedFd<'_>>)> {
        if copies == 0 || copies > MOST_COPIES {
            return Err(malformed());
        }
        let mut bound = at;
        if !self.listeners.contains_key(&at) {
            let sockets = open(at, copies)?;
            bound = rustix::net::getsockname(&sockets[0])?.try_into().map_err(|_| malformed())?;
            self.listeners.insert(bound, sockets);
        }
        let sockets = &self.listeners[&bound];
        if sockets.len() != usize::from(copies) {
            return Err(io::Error::other(format!("{at} is open with {} copies", sockets.len())));
        }
        Ok((bound.to_string(), sockets.iter().map(AsFd::as_fd).collect()))
    }
}

/// Sends the one answer. The socket of a reply is never full, and an asker that is gone is no matter.
pub(super) fn answer(reply: &OwnedFd, result: io::Result<(String, Vec<BorrowedFd<'_>>)>) {
    let (text, fds) = match result {
        Ok((text, fds)) if text.is_empty() => ("OK".to_owned(), fds),
        Ok((text, fds)) => (format!("OK {text}"), fds),
        Err(error) => (format!("ERR {error}"), Vec::new()),
    };
    let _ = wire::send(reply, text.as_bytes(), &fds, SendFlags::DONTWAIT);
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the dialer does not understand the request")
}

fn address(ip: &str, port: &str) -> io::Result<SocketAddr> {
    let ip: IpAddr = ip.parse().map_err(|_| malformed())?;
    let port = port.parse().map_err(|_| malformed())?;
    Ok(SocketAddr::new(ip, port))
}

fn socket_for(at: SocketAddr) -> io::Result<OwnedFd> {
    let family = if at.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(family, SocketType::STREAM, flags, None)?)
}

fn begin(to: SocketAddr) -> io::Result<OwnedFd> {
    let socket = socket_for(to)?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno.into()),
    }
}

fn finish(socket: &OwnedFd) -> io::Result<()> {
    Ok(rustix::net::sockopt::socket_error(socket)??)
}

/// The first socket is bound without sharing, so that a port of somebody else (another mesh, say) is seen as taken.
fn open(at: SocketAddr, copies: u16) -> io::Result<Vec<OwnedFd>> {
    let taken =
        |errno: Errno| io::Error::new(io::Error::from(errno).kind(), format!("port {at}: {}", io::Error::from(errno)));
    let mut at = at;
    let mut sockets = Vec::new();
    if copies > 1 {
        let trial = bind(at, false).map_err(taken)?;
        at = rustix::net::getsockname(&trial)?.try_into().map_err(|_| malformed())?;
    }
    for _ in 0..copies {
        let socket = bind(at, copies > 1).map_err(taken)?;
        rustix::net::listen(&socket, BACKLOG).map_err(taken)?;
        sockets.push(socket);
    }
    Ok(sockets)
}

fn bind(at: SocketAddr, shared: bool) -> rustix::io::Result<OwnedFd> {
    let socket = socket_for(at).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::MFILE))?;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    if shared {
        rustix::net::sockopt::set_socket_reuseport(&socket, true)?;
    }
    rustix::net::bind(&socket, &at)?;
    Ok(socket)
}

/// The status pipe of a mesh in the foreground.
struct Lines {
    pipe: Option<OwnedFd>,
    rest: Vec<u8>,
}

impl Lines {
    /// Reads once and shows the lines that are complete.
    fn show(&mut self, show: &mut impl FnMut(&Status)) {
        let Some(pipe) = &self.pipe else { return };
        let mut buffer = [0; 4096];
        match rustix::io::read(pipe, &mut buffer) {
            Ok(0) | Err(_) => self.pipe = None,
            Ok(length) => self.rest.extend_from_slice(&buffer[..length]),
        }
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            if let Ok(status) = serde_json::from_slice(&line) {
                show(&status);
            }
        }
    }
}
