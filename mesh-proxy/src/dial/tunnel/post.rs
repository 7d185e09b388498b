//! A tunnel by POST: each direction is the body of one HTTP/1.1 exchange.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::chunked::Chunked;

/// Bytes of one chunk at most.
const CHUNK: usize = 16 * 1024;

/// How the answer's body ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Framing {
    Chunks,
    Length(u64),
    Close,
}

#[derive(Debug)]
enum Reading {
    Chunks(Chunked),
    Length(u64),
    Close,
    Ended,
}

/// The bytes in the tunnel.
#[derive(Debug)]
pub struct Post<S> {
    io: S,
    reading: Reading,
    /// Read, not yet taken apart.
    raw: BytesMut,
    /// A chunk on its way, and how many bytes of the caller's are in it.
    out: BytesMut,
    taken: usize,
    finished: bool,
}

impl<S> Post<S> {
    /// After the heads of both sides; `rest` came with the answer's.
    pub(super) fn new(io: S, framing: Framing, rest: BytesMut) -> Self {
        let reading = match framing {
            Framing::Chunks => Reading::Chunks(Chunked::default()),
            Framing::Length(0) => Reading::Ended,
            Framing::Length(n) => Reading::Length(n),
            Framing::Close => Reading::Close,
        };
        Self { io, reading, raw: rest, out: BytesMut::new(), taken: 0, finished: false }
    }

    /// What the tunnel goes through.
    pub(crate) fn inner(&self) -> &S {
        &self.io
    }

    /// Moves what is there of the body to the reader.
    fn decode(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        while !self.raw.is_empty() && buf.remaining() > 0 {
            match &mut self.reading {
                Reading::Ended => return Ok(()),
                Reading::Close => {
                    give(&mut self.raw, usize::MAX, buf);
                }
                Reading::Length(left) => {
                    *left -= give(&mut self.raw, usize::try_from(*left).unwrap_or(usize::MAX), buf) as u64;
                    if *left == 0 {
                        self.reading = Reading::Ended;
                    }
                }
                Reading::Chunks(Chunked::Data(left)) => {
                    *left -= give(&mut self.raw, usize::try_from(*left).unwrap_or(usize::MAX), buf) as u64;
                    if *left == 0 {
                        self.reading = Reading::Chunks(Chunked::DataEnd);
                    }
                }
                Reading::Chunks(state) => {
                    let last = *state == Chunked::Trailer(true);
                    let next = state.next(self.raw.get_u8());
                    self.reading = match next {
                        Some(Chunked::SizeStart) if last => Reading::Ended,
                        Some(next) => Reading::Chunks(next),
                        None => return Err(io::ErrorKind::InvalidData.into()),
                    };
                }
            }
        }
        Ok(())
    }
}

fn give(raw: &mut BytesMut, most: usize, buf: &mut ReadBuf<'_>) -> usize {
    let n = raw.len().min(most).min(buf.remaining());
    buf.put_slice(&raw[..n]);
    raw.advance(n);
    n
}

impl<S: AsyncRead + AsyncWrite + Unpin> Post<S> {
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let n = ready!(Pin::new(&mut self.io).poll_write(cx, &self.out))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(n);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Post<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        loop {
            this.decode(buf)?;
            if buf.filled().len() > before || buf.remaining() == 0 || matches!(this.reading, Reading::Ended) {
                return Poll::Ready(Ok(()));
            }
            let mut scratch = [std::mem::MaybeUninit::uninit(); CHUNK];
            let mut fresh = ReadBuf::uninit(&mut scratch);
            ready!(Pin::new(&mut this.io).poll_read(cx, &mut fresh))?;
            if fresh.filled().is_empty() {
                return Poll::Ready(match this.reading {
                    Reading::Close => Ok(()),
                    _ => Err(io::ErrorKind::UnexpectedEof.into()),
                });
            }
            this.raw.extend_from_slice(fresh.filled());
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Post<S> {
    /// Takes bytes when the chunk with them is written: who gets `Pending` comes again with the same.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if this.taken == 0 {
            let bytes = &buf[..buf.len().min(CHUNK)];
            if bytes.is_empty() {
                return Poll::Ready(Ok(0));
            }
            this.out.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
            this.out.extend_from_slice(bytes);
            this.out.extend_from_slice(b"\r\n");
            this.taken = bytes.len();
        }
        ready!(this.poll_out(cx))?;
        Poll::Ready(Ok(std::mem::take(&mut this.taken)))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    /// Ends the request's body. The connection stays for the answer's.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !std::mem::replace(&mut this.finished, true) {
            this.out.extend_from_slice(b"0\r\n\r\n");
        }
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }
}
