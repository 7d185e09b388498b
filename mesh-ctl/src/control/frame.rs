//! Frames with descriptors over a unix socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Longest frame in bytes: a mesh's whole configuration fits.
const MAX_FRAME: usize = 256 << 20;
/// Most descriptors of one frame.
const MAX_FDS: usize = 4;

/// Sends one frame, with these descriptors.
///
/// # Errors
/// The other side is gone.
pub async fn send<T: Serialize>(stream: &UnixStream, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend_from_slice(&body);
    let mut sent = 0;
    while sent < frame.len() {
        let fds = if sent == 0 { fds } else { &[] };
        sent += stream.async_io(Interest::WRITABLE, || send_once(stream, &frame[sent..], fds)).await?;
    }
    Ok(())
}

/// Receives one frame and its descriptors; `None`: the other side has closed between frames.
///
/// # Errors
/// The other side went away inside a frame, or sent something that is not a frame of this type.
pub async fn recv<T: DeserializeOwned>(stream: &UnixStream) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut fds = Vec::new();
    let mut length = [0; 4];
    if !fill(stream, &mut length, &mut fds).await? {
        return Ok(None);
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes is too long")));
    }
    let mut body = vec![0; length];
    if !fill(stream, &mut body, &mut fds).await? && length > 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some((serde_json::from_slice(&body)?, fds)))
}

/// Fills the buffer; false if the stream ended before its first byte.
async fn fill(stream: &UnixStream, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<bool> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.async_io(Interest::READABLE, || recv_once(stream, &mut buffer[filled..], fds)).await? {
            0 if filled == 0 => return Ok(false),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => filled += n,
        }
    }
    Ok(true)
}

fn send_once(stream: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one frame"));
    }
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
}

fn recv_once(stream: &UnixStream, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(stream, &mut [IoSliceMut::new(buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok(got.bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use super::super::{Reply, Request};
    use super::*;

    #[tokio::test]
    async fn frames_carry_descriptors_and_end_cleanly() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let request = Request::Dial { target: "svc/reviews".into(), port: 9080 };
        send(&a, &request, &[theirs.as_fd()]).await.unwrap();
        send(&a, &Request::Status, &[]).await.unwrap();
        drop((a, theirs));

        let (got, fds) = recv::<Request>(&b).await.unwrap().unwrap();
        assert_eq!(got, request);
        let mut passed = std::os::unix::net::UnixStream::from(fds.into_iter().next().unwrap());
        passed.write_all(b"x").unwrap();
        let mut byte = [0];
        ours.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
        assert_eq!(recv::<Request>(&b).await.unwrap().unwrap().0, Request::Status);
        assert!(recv::<Request>(&b).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn long_frames_cross_in_pieces_and_foreign_bytes_are_refused() {
        let (a, b) = UnixStream::pair().unwrap();
        let long = Reply::Text("x".repeat(1 << 20));
        let (sent, got) = tokio::join!(send(&a, &long, &[]), recv::<Reply>(&b));
        sent.unwrap();
        assert_eq!(got.unwrap().unwrap().0, long);

        a.try_write(b"GET / HTTP/1.1\r\n").unwrap();
        assert!(recv::<Request>(&b).await.is_err());
    }
}
