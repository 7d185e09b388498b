//! One stream of a connection: the request's body on its way, the response's, or a tunnel of both.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http_body::{Body as HttpBody, Frame, SizeHint};
use mesh_core::error::{Error, ErrorKind};
use mesh_core::layers::{Body, Request};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::pool::classify;

/// A request that has been sent: gives the head of its response.
pub(super) struct Exchange {
    answer: ResponseFuture,
    upload: Option<Upload>,
    up: Option<SendStream<Bytes>>,
}

impl Exchange {
    /// Sends a request. `switches`: it asks for another protocol, and gets the stream instead of a body.
    pub(super) fn begin(sender: &mut SendRequest<Bytes>, request: Request, switches: bool) -> Result<Self, Error> {
        let (head, body) = request.into_parts();
        let ends = !switches && body.is_end_stream();
        let sent = sender.send_request(http::Request::from_parts(head, ()), ends);
        let (answer, stream) = sent.map_err(|error| classify::h2(&error))?;
        let (upload, up) = match (switches, ends) {
            (true, _) => (None, Some(stream)),
            (false, true) => (None, None),
            (false, false) => (Some(Upload { stream, body, ahead: None, last: false }), None),
        };
        Ok(Self { answer, upload, up })
    }
}

impl Future for Exchange {
    type Output = Result<(http::Response<RecvStream>, Option<SendStream<Bytes>>), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(upload) = &mut self.upload
            && let Poll::Ready(sent) = Pin::new(upload).poll(cx)
        {
            self.upload = None;
            sent?;
        }
        let answer = ready!(Pin::new(&mut self.answer).poll(cx)).map_err(|error| classify::h2(&error))?;
        if let Some(upload) = self.upload.take() {
            // Nobody would ask for the rest while the client does not read the response.
            tokio::spawn(upload);
        }
        Poll::Ready(Ok((answer, self.up.take())))
    }
}

/// A request's body on its way, as fast as the stream's window lets it.
struct Upload {
    stream: SendStream<Bytes>,
    body: Body,
    /// Waits for the window.
    ahead: Option<Bytes>,
    /// Nothing comes after that.
    last: bool,
}

impl Future for Upload {
    /// An error is the body's own; what the peer does to the stream is the response's matter.
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Self { stream, body, ahead, last } = &mut *self;
        loop {
            // Asked each time, because a reset is the end of all waiting.
            if stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            if ahead.is_some() && stream.capacity() == 0 {
                match ready!(stream.poll_capacity(cx)) {
                    Some(Ok(_)) => continue,
                    Some(Err(_)) | None => return Poll::Ready(Ok(())),
                }
            }
            if let Some(data) = ahead.take() {
                if stream.send_data(data, *last).is_err() || *last {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        *last = body.is_end_stream();
                        // A claim on the window only now that there is something to send, and only on some of it: what is
                        // claimed is missing to other streams.
                        stream.reserve_capacity(data.len().min(1));
                        if !data.is_empty() {
                            *ahead = Some(data);
                        } else if *last {
                            let _ = stream.send_data(data, true);
                            return Poll::Ready(Ok(()));
                        }
                    }
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            stream.reserve_capacity(0);
                            let _ = stream.send_trailers(trailers);
                            return Poll::Ready(Ok(()));
                        }
                    }
                },
                Some(Err(error)) => {
                    stream.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(Err(error));
                }
                None => {
                    let _ = stream.send_data(Bytes::new(), true);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

/// A response's body.
pub(in crate::pool) struct Download {
    stream: RecvStream,
    /// What is missing of the length that the head has announced.
    missing: Option<u64>,
    data_ended: bool,
}

impl Download {
    pub(super) fn of(response: http::Response<RecvStream>) -> http::Response<Self> {
        let announced = response.headers().get(CONTENT_LENGTH);
        let missing = announced.and_then(|length| length.to_str().ok()?.parse().ok());
        response.map(|stream| Self { stream, missing, data_ended: false })
    }

    pub(in crate::pool) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ErrorKind>>> {
        let broken = |error: h2::Error| Some(Err(classify::h2(&error).kind()));
        if !self.data_ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // The window is the client's: what it does not read is not asked for.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    self.missing = self.missing.map(|missing| missing.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(broken(error)),
                None => self.data_ended = true,
            }
        }
        Poll::Ready(match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => trailers.map(|t| Ok(Frame::trailers(t))),
            Err(error) => broken(error),
        })
    }

    pub(in crate::pool) fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    pub(in crate::pool) fn size_hint(&self) -> SizeHint {
        self.missing.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A stream that carries another protocol from here on. In the extensions of the response that said so, for whoever takes
/// it first.
#[derive(Clone)]
pub(crate) struct Switched(Arc<Mutex<Option<Tunnel>>>);

impl Switched {
    pub(super) fn new(up: SendStream<Bytes>, down: RecvStream) -> Self {
        Self(Arc::new(Mutex::new(Some(Tunnel { up, down, ahead: Bytes::new() }))))
    }

    pub(crate) fn take(&self) -> Option<Tunnel> {
        self.0.lock().take()
    }
}

/// Bytes both ways inside a stream.
pub(crate) struct Tunnel {
    up: SendStream<Bytes>,
    down: RecvStream,
    /// Has come, and was not taken yet.
    ahead: Bytes,
}

/// Longest piece that is copied for the codec.
const PIECE: usize = 64 << 10;

impl AsyncRead for Tunnel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.ahead.is_empty() {
            match ready!(self.down.poll_data(cx)) {
                Some(Ok(data)) => {
                    let _ = self.down.flow_control().release_capacity(data.len());
                    self.ahead = data;
                }
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let n = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..n]);
        self.ahead.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.up.reserve_capacity(buf.len().min(PIECE));
        while self.up.capacity() == 0 {
            ready!(self.up.poll_capacity(cx)).ok_or_else(gone)?.map_err(io::Error::other)?;
        }
        let n = self.up.capacity().min(buf.len());
        self.up.send_data(Bytes::copy_from_slice(&buf[..n]), false).map_err(io::Error::other)?;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.up.send_data(Bytes::new(), true).map_err(io::Error::other))
    }
}
