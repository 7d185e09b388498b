//! Between the socket and the HTTP/1 codec: lets only request heads through that Envoy would serve.
//!
//! A clean head is checked where it lies in the codec's buffer: one parse, no copy. An incomplete one is held back here
//! (at most 60 KiB). For one that is refused the codec gets a stand-in, and the service finds the reply in [`Shared`]; so
//! pipelined answers stay in order and the refusal is logged as a request. Body framing is followed only to know where the
//! next head begins.

mod shared;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::rules::{self, Framing, Verdict};
use crate::chunked::{self, Chunked};
pub(super) use shared::Shared;

/// What the codec sees instead of a refused request. It answers and closes.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n";
/// How long a closed connection waits for a client that is still sending, so that the reply is not lost with a reset.
const LINGER: Duration = Duration::from_secs(1);

/// What the next byte from the client is.
enum Expecting {
    Head,
    Body(u64),
    Chunks(Chunked),
    /// Not HTTP/1 any more, or nothing that the codec would take for a request.
    Anything,
    /// Nothing more will be served.
    Nothing,
}

/// What to do with bytes that can't go to the codec as they are.
enum Stop {
    /// They are the start of a head.
    Hold,
    /// This goes to the codec instead of so many of them.
    Replace(Vec<u8>, usize),
}

/// A stream that checks what is read from it.
pub(super) struct Guard<I> {
    io: I,
    shared: Arc<Shared>,
    /// HTTP/1.0 is served.
    http10: bool,
    expecting: Expecting,
    /// From the client, not yet judged.
    held: Vec<u8>,
    /// Bytes of `held` that were looked at and are no complete head.
    seen: usize,
    /// Judged, not yet read by the codec.
    out: Vec<u8>,
    given: usize,
    linger: Option<Pin<Box<Sleep>>>,
}

impl<I> Guard<I> {
    pub(super) fn new(io: I, shared: Arc<Shared>, http10: bool) -> Self {
        let (held, out) = (Vec::new(), Vec::new());
        Self { io, shared, http10, expecting: Expecting::Head, held, seen: 0, out, given: 0, linger: None }
    }

    /// How many bytes go on as they are, and what to do with the rest, if there is one.
    fn judge(&mut self, bytes: &[u8]) -> (usize, Option<Stop>) {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match &mut self.expecting {
                Expecting::Anything | Expecting::Nothing => return (bytes.len(), None),
                Expecting::Body(left) => {
                    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= n as u64;
                    at += n;
                    if *left == 0 {
                        self.expecting = Expecting::Head;
                    }
                }
                Expecting::Chunks(chunks) => match chunks.follow(rest) {
                    chunked::Step::More => return (bytes.len(), None),
                    chunked::Step::Ended(n) => {
                        at += n;
                        self.expecting = Expecting::Head;
                    }
                    // The codec finds out by this byte, and ends the request. Without the rest: it does not flush its
                    // answer while there is more to read.
                    chunked::Step::Broken(n) => {
                        self.expecting = Expecting::Nothing;
                        return (at + n, Some(Stop::Replace(Vec::new(), rest.len() - n)));
                    }
                },
                Expecting::Head => match rules::check(rest, self.http10) {
                    Verdict::Incomplete => return (at, Some(Stop::Hold)),
                    Verdict::Pass { length, framing } => {
                        self.shared.pass();
                        self.expect(framing);
                        at += length;
                    }
                    Verdict::Rewrite { head, length, framing, expects_continue } => {
                        self.shared.pass();
                        if expects_continue {
                            self.shared.note_expectation();
                        }
                        self.expect(framing);
                        return (at, Some(Stop::Replace(head, length)));
                    }
                    Verdict::Refuse(reply) => {
                        self.shared.refuse(reply);
                        self.expecting = Expecting::Nothing;
                        return (at, Some(Stop::Replace(STAND_IN.to_vec(), rest.len())));
                    }
                },
            }
        }
        (at, None)
    }

    fn expect(&mut self, framing: Framing) {
        self.expecting = match framing {
            Framing::None => Expecting::Head,
            Framing::Length(n) => Expecting::Body(n),
            Framing::Chunked => Expecting::Chunks(Chunked::default()),
            Framing::Unknown => Expecting::Anything,
        };
    }

    /// Judges what is held; what may pass goes to `out`.
    fn judge_held(&mut self) {
        // A head that comes byte by byte is parsed once, when its end has come (or it is too long).
        let from = self.seen.saturating_sub(3);
        let is_head = matches!(self.expecting, Expecting::Head);
        if is_head && self.held.len() <= rules::MAX_HEAD && self.seen > 0 && !rules::has_end(&self.held[from..]) {
            self.seen = self.held.len();
            return;
        }
        let mut rest = std::mem::take(&mut self.held);
        self.seen = 0;
        while !rest.is_empty() {
            let (passed, stop) = self.judge(&rest);
            self.out.extend_from_slice(&rest[..passed]);
            match stop {
                None => return,
                Some(Stop::Hold) => {
                    rest.drain(..passed);
                    self.seen = rest.len();
                    self.held = rest;
                    self.shared.life.head_began();
                    return;
                }
                Some(Stop::Replace(with, length)) => {
                    self.out.extend_from_slice(&with);
                    rest.drain(..passed + length);
                }
            }
        }
    }

    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        if self.given == self.out.len() {
            return false;
        }
        let rest = &self.out[self.given..];
        let n = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..n]);
        self.given += n;
        if self.given == self.out.len() {
            self.out = Vec::new();
            self.given = 0;
        }
        true
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Guard<I> {
    /// Writes interim responses that an upstream has sent.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.write_interim(|bytes| Pin::new(&mut self.io).poll_write(cx, bytes))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guard<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.shared.has_interim(cx.waker()) {
            ready!(this.poll_interim(cx))?;
        }
        if let Some(reply) = this.shared.late()
            && matches!(this.expecting, Expecting::Head)
        {
            this.shared.refuse(reply.clone());
            this.expecting = Expecting::Nothing;
            this.held = Vec::new();
            this.out.extend_from_slice(STAND_IN);
        }
        loop {
            if this.give(buf) {
                return Poll::Ready(Ok(()));
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
            let fresh = buf.filled().len() - before;
            if fresh == 0 {
                return Poll::Ready(Ok(()));
            }
            if matches!(this.expecting, Expecting::Nothing) {
                buf.set_filled(before);
                continue;
            }
            if !this.held.is_empty() {
                this.held.extend_from_slice(&buf.filled()[before..]);
                buf.set_filled(before);
                this.judge_held();
                continue;
            }
            let (passed, stop) = this.judge(&buf.filled()[before..]);
            match stop {
                None => return Poll::Ready(Ok(())),
                Some(Stop::Hold) => {
                    this.held.extend_from_slice(&buf.filled()[before + passed..]);
                    this.seen = this.held.len();
                    this.shared.life.head_began();
                }
                Some(Stop::Replace(with, length)) => {
                    this.out = with;
                    this.held.extend_from_slice(&buf.filled()[before + passed + length..]);
                    this.judge_held();
                }
            }
            buf.set_filled(before + passed);
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.shared.has_interim(cx.waker()) {
            ready!(self.poll_interim(cx))?;
        }
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// After the last byte, waits for a client that is still sending: closing at once would reset the connection and take
    /// the reply with it.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            if matches!(this.expecting, Expecting::Head | Expecting::Anything) {
                return Poll::Ready(Ok(()));
            }
        }
        let linger = this.linger.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        let mut scratch = [0; 4096];
        loop {
            if linger.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut this.io).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                _ => return Poll::Ready(Ok(())),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.shared.has_interim(cx.waker()) {
            ready!(self.poll_interim(cx))?;
        }
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}
