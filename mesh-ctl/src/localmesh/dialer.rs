//! The dialer: the parent's service to everything in the mesh that needs the host's network.
//!
//! # Protocol
//!
//! The channel is one sequenced-packet unix socket, shared by node, sidecars and gateways. A request is one datagram of
//! text with one descriptor attached (`SCM_RIGHTS`): an end of a fresh `socketpair(AF_UNIX, SOCK_SEQPACKET)` on which the
//! one reply arrives. Closing the other end gives the request up.
//!
//! | Request | Reply |
//! |---|---|
//! | `CONNECT ip port` | `OK` and the connected socket (non-blocking) |
//! | `RESOLVE name` | `OK seconds ip ip …` from the host's own resolver; good for so many seconds |
//! | `LISTEN ip port [n]` | `OK ip:port` and `n` (1 to 16, by default 1) listening sockets; port 0 picks a free one |
//! | `UNLISTEN ip port` | `OK`; the parent's copies are closed |
//! | `PEERUID`, with the socket as second descriptor | `OK uid`, as the host sees it |
//!
//! Every request may be answered `ERR text`. A port is open while anybody holds a copy of its listener: the parent does
//! from `LISTEN` to `UNLISTEN`, so that a restarted gateway finds its listener (and the connections waiting in it) again
//! by the same `LISTEN`. Ports below 1024 are the caller's business. With `n` above 1 the sockets share the port by
//! `SO_REUSEPORT`, and whoever asks must accept on each of them.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use mesh_proxy::net::Resolved;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::Interest;

use super::{sys, wire};

mod host;
mod resolving;

pub(super) use host::{BACKLOG, Host};

/// The node's client of the dialer; cheap to clone.
#[derive(Clone, Debug)]
pub struct Dialer {
    channel: Arc<OwnedFd>,
}

impl Dialer {
    /// A client of this channel.
    #[must_use]
    pub fn new(channel: OwnedFd) -> Self {
        Self { channel: Arc::new(channel) }
    }

    /// Connects from the host's network. No timeout of its own: dropping the future gives the attempt up.
    ///
    /// # Errors
    /// The connection failed, or the parent is gone.
    pub async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let (_, mut fds) = self.ask(&format!("CONNECT {} {}", to.ip(), to.port()), None).await?;
        fds.pop().map(TcpStream::from).ok_or_else(no_descriptor)
    }

    /// Addresses of a name, as the host's resolver gives them.
    ///
    /// # Errors
    /// The name has none, or the parent is gone.
    pub async fn resolve(&self, name: &str) -> io::Result<Resolved> {
        let (text, _) = self.ask(&format!("RESOLVE {name}"), None).await?;
        Resolved::parse(&text)
    }

    /// Opens a port of the host with `copies` listening sockets; asked again it gives the same ones.
    ///
    /// # Errors
    /// The port is taken or not permitted, or the parent is gone.
    pub async fn listen(&self, at: SocketAddr, copies: u16) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
        let (text, fds) = self.ask(&format!("LISTEN {} {} {copies}", at.ip(), at.port()), None).await?;
        let address = text.trim().parse().map_err(io::Error::other)?;
        if fds.is_empty() {
            return Err(no_descriptor());
        }
        Ok((address, fds.into_iter().map(TcpListener::from).collect()))
    }

    /// Closes the parent's copies of a port; it refuses once all others are closed too.
    ///
    /// # Errors
    /// The port was not open, or the parent is gone.
    pub async fn unlisten(&self, at: SocketAddr) -> io::Result<()> {
        self.ask(&format!("UNLISTEN {} {}", at.ip(), at.port()), None).await.map(drop)
    }

    /// The user id of the process at the other end of a unix socket, as the host sees it (inside the mesh's user
    /// namespace all foreign users look alike).
    ///
    /// # Errors
    /// The parent is gone.
    pub async fn peer_uid(&self, socket: impl AsFd) -> io::Result<u32> {
        let copy = socket.as_fd().try_clone_to_owned()?;
        let (text, _) = self.ask("PEERUID", Some(copy)).await?;
        text.trim().parse().map_err(io::Error::other)
    }

    /// A descriptor that hangs up (`POLLHUP`) when the parent has gone, which is when nothing of the mesh is left.
    ///
    /// # Errors
    /// Descriptors have run out.
    pub fn parent(&self) -> io::Result<OwnedFd> {
        self.channel.try_clone()
    }

    async fn ask(&self, request: &str, extra: Option<OwnedFd>) -> io::Result<(String, Vec<OwnedFd>)> {
        let (ours, theirs) = wire::socket_pair()?;
        let fds: Vec<BorrowedFd<'_>> = [&theirs].into_iter().chain(&extra).map(AsFd::as_fd).collect();
        // The channel is shared with other processes, so its mode stays as it is; a packet this short only waits when
        // hundreds of others do.
        wire::send(&*self.channel, request.as_bytes(), &fds, SendFlags::empty())?;
        drop((theirs, extra));
        let ours = sys::watch(ours, Interest::READABLE)?;
        let reply = ours.async_io(Interest::READABLE, |fd| wire::receive(fd, RecvFlags::DONTWAIT)).await?;
        let packet = reply.ok_or_else(|| io::Error::other("the process that started the mesh is gone"))?;
        let text = String::from_utf8_lossy(&packet.bytes);
        match text.split_once(' ').unwrap_or((&text, "")) {
            ("OK", rest) => Ok((rest.to_owned(), packet.fds)),
            (_, error) => Err(error_of(error)),
        }
    }
}

fn no_descriptor() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the dialer's answer has no socket")
}

/// The system's own error where the text names one, so that "refused" stays recognisable.
fn error_of(text: &str) -> io::Error {
    let number = text.rsplit_once("(os error ").and_then(|(_, rest)| rest.trim_end_matches(')').parse().ok());
    let kind = number.map_or(io::ErrorKind::Other, |number| io::Error::from_raw_os_error(number).kind());
    io::Error::new(kind, text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_keep_their_kind_across_the_channel() {
        let error = error_of(&io::Error::from_raw_os_error(libc::ECONNREFUSED).to_string());
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains("refused"));
        assert_eq!(error_of("too many names").kind(), io::ErrorKind::Other);
    }
}
