//! Messages between node, zygote and holders, and sequenced-packet sockets that carry descriptors.

use std::io;
use std::io::{IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Exit, PodSpec, Role, Usage};

/// What the node asks of the zygote: one pod. Its answer is [`PodMade`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MakePod {
    pub(super) id: u32,
    pub(super) spec: PodSpec,
}

/// The zygote's answer; with the channel to the holder when it worked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PodMade {
    pub(super) id: u32,
    pub(super) result: Result<(), String>,
}

/// What the node asks of a holder.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Start a process; descriptors attached.
    Start(Start),
    /// Send a signal to a process.
    Kill { child: u64, signal: i32 },
    /// Make a TCP socket in the pod's network.
    Socket { request: u64, v6: bool },
    /// Say what the pod's processes use.
    Usage { request: u64 },
}

/// A process to start.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) child: u64,
    pub(super) argv: Vec<String>,
    /// `NAME=value`.
    pub(super) env: Vec<String>,
    pub(super) cwd: Option<std::path::PathBuf>,
    pub(super) role: Role,
    /// The number that each attached descriptor gets.
    pub(super) targets: Vec<i32>,
    pub(super) tty: bool,
    /// End the rest of its process group with it, as a container does.
    pub(super) whole_group: bool,
}

/// What a holder tells the node.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// The pod is set up; with things that did not work but are no reason to stop.
    Ready(Vec<String>),
    /// The pod could not be set up; the holder ends.
    Failed(String),
    /// Answer to [`Order::Start`].
    Started { child: u64, result: Result<i32, String> },
    /// A process that was started has ended.
    Exited { child: u64, exit: Exit },
    /// Answer to [`Order::Socket`], with the socket when it worked.
    Socket { request: u64, result: Result<(), String> },
    /// Answer to [`Order::Usage`].
    Usage { request: u64, usage: Usage },
}

/// A packet with its descriptors.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) bytes: Vec<u8>,
    pub(super) fds: Vec<OwnedFd>,
}

/// As many descriptors as the kernel takes in one packet.
const MAX_FDS: usize = 253;
const MAX_BYTES: usize = 64 * 1024;
/// Longer messages travel as a memory file: a socket buffer holds about 200 KiB.
const INLINE_LIMIT: usize = 32 * 1024;
const INLINE: u8 = 0;
const IN_FILE: u8 = 1;

/// A pair of connected sequenced-packet sockets.
pub(super) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    Ok(rustix::net::socketpair(family, kind, SocketFlags::CLOEXEC, None)?)
}

/// Sends one packet.
pub(super) fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>], flags: SendFlags) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && (fds.len() > MAX_FDS || !control.push(SendAncillaryMessage::ScmRights(fds))) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags | SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one packet; `None` when the other side is gone.
pub(super) fn receive(socket: impl AsFd, flags: RecvFlags) -> io::Result<Option<Packet>> {
    let mut bytes = vec![0; MAX_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let length = loop {
        match rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            other => break other?.bytes,
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    bytes.truncate(length);
    Ok((length > 0).then_some(Packet { bytes, fds }))
}

/// Encodes a message as a packet. The descriptor, if any, goes first.
pub(super) fn encode(message: &impl Serialize) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut bytes = vec![INLINE];
    serde_json::to_writer(&mut bytes, message)?;
    if bytes.len() <= INLINE_LIMIT {
        return Ok((bytes, None));
    }
    let file = rustix::fs::memfd_create("mesh-message", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(file);
    file.write_all(&bytes[1..])?;
    Ok((vec![IN_FILE], Some(file.into())))
}

/// Decodes a packet of [`encode`]; what remains are the caller's descriptors.
pub(super) fn decode<T: DeserializeOwned>(packet: Packet) -> io::Result<(T, Vec<OwnedFd>)> {
    let mut fds = packet.fds;
    let message = match packet.bytes.split_first() {
        Some((&INLINE, json)) => serde_json::from_slice(json)?,
        Some((&IN_FILE, _)) if !fds.is_empty() => {
            let mut file = std::fs::File::from(fds.remove(0));
            let mut json = Vec::new();
            file.rewind()?;
            file.read_to_end(&mut json)?;
            serde_json::from_slice(&json)?
        }
        _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "a message without content")),
    };
    Ok((message, fds))
}

/// Encodes and sends, waiting while the socket is full.
pub(super) fn tell(socket: impl AsFd, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let (bytes, file) = encode(message)?;
    let all: Vec<BorrowedFd<'_>> = file.iter().map(AsFd::as_fd).chain(fds.iter().copied()).collect();
    send(socket, &bytes, &all, SendFlags::empty())
}

#[cfg(test)]
mod tests;
