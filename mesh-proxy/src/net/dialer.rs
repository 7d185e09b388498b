//! Client of the local mesh's dialer, which connects, resolves and listens in the host's network.
//!
//! A request is one datagram of text with one descriptor attached: an end of a fresh socket pair, on which the one reply
//! arrives. So any number of processes share the channel without request numbers, and dropping a request closes its
//! reply socket, which tells the dialer to give up.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Resolved;

/// A client of the dialer; cheap to clone.
#[derive(Clone, Debug)]
pub struct Dialer {
    channel: Arc<OwnedFd>,
}

const MAX_REPLY: usize = 4096;
const MAX_FDS: usize = 16;

impl Dialer {
    /// A client of this channel.
    pub fn new(channel: OwnedFd) -> Self {
        Self { channel: Arc::new(channel) }
    }

    /// A connection from the host's network.
    ///
    /// # Errors
    /// The host could not connect, or the dialer is gone.
    pub async fn connect(&self, to: SocketAddr) -> io::Result<std::net::TcpStream> {
        let (_, mut fds) = self.ask(&format!("CONNECT {} {}", to.ip(), to.port())).await?;
        fds.pop().map(Into::into).ok_or_else(no_descriptor)
    }

    /// Addresses of a name, by the host's resolver.
    ///
    /// # Errors
    /// The name has none, or the dialer is gone.
    pub async fn resolve(&self, name: &str) -> io::Result<Resolved> {
        let (text, _) = self.ask(&format!("RESOLVE {name}")).await?;
        Resolved::parse(&text)
    }

    /// Listening sockets of a port of the host, `copies` of them; the same ones when asked again.
    ///
    /// # Errors
    /// The port is taken or not permitted, or the dialer is gone.
    pub async fn listen(&self, at: SocketAddr, copies: usize) -> io::Result<Vec<std::net::TcpListener>> {
        let (_, fds) = self.ask(&format!("LISTEN {} {} {copies}", at.ip(), at.port())).await?;
        Ok(fds.into_iter().map(Into::into).collect())
    }

    /// Closes the dialer's copies of that port.
    ///
    /// # Errors
    /// It was not open, or the dialer is gone.
    pub async fn unlisten(&self, at: SocketAddr) -> io::Result<()> {
        self.ask(&format!("UNLISTEN {} {}", at.ip(), at.port())).await.map(drop)
    }

    async fn ask(&self, request: &str) -> io::Result<(String, Vec<OwnedFd>)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (mine, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        while let Err(errno) = send(&self.channel, request, &theirs) {
            if errno != Errno::AGAIN {
                return Err(errno.into());
            }
            // The channel is shared with other processes, so its readiness can't be waited for without a race.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(theirs);
        let reply = register(mine)?;
        let (text, fds) = loop {
            let mut guard = reply.readable().await?;
            match guard.try_io(|fd| receive(fd.get_ref()).map_err(Into::into)) {
                Ok(answer) => break answer?,
                Err(_would_block) => {}
            }
        };
        match text.split_once(' ').unwrap_or((&text, "")) {
            ("OK", rest) => Ok((rest.to_owned(), fds)),
            ("ERR", why) => Err(error_of(why)),
            _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the dialer is gone")),
        }
    }
}

#[allow(unsafe_code)]
fn register(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and gives the same number until it is dropped, and it moves into the registration.
    unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }.map_err(Into::into)
}

/// The dialer sends the system's text; a refused connection must stay recognisable as one.
fn error_of(why: &str) -> io::Error {
    let lower = why.to_ascii_lowercase();
    let kind = [
        ("no records found", io::ErrorKind::NotFound),
        ("refused", io::ErrorKind::ConnectionRefused),
        ("timed out", io::ErrorKind::TimedOut),
        ("unreachable", io::ErrorKind::NetworkUnreachable),
        ("in use", io::ErrorKind::AddrInUse),
        ("permission", io::ErrorKind::PermissionDenied),
    ];
    let kind = kind.iter().find(|(word, _)| lower.contains(word)).map_or(io::ErrorKind::Other, |(_, kind)| *kind);
    io::Error::new(kind, why.to_owned())
}

fn no_descriptor() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the dialer's answer has no socket")
}

fn send(channel: &OwnedFd, request: &str, reply: &OwnedFd) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [reply.as_fd()];
    let fits = control.push(SendAncillaryMessage::ScmRights(&fds));
    debug_assert!(fits);
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::net::sendmsg(channel, &[IoSlice::new(request.as_bytes())], &mut control, flags).map(drop)
}

fn receive(socket: &OwnedFd) -> Result<(String, Vec<OwnedFd>), Errno> {
    let mut bytes = [0; MAX_REPLY];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let length = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)?.bytes;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok((String::from_utf8_lossy(&bytes[..length]).into_owned(), fds))
}
