//! Bodies on their way to and from an upstream.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body as HttpBody, Frame, SizeHint};
use mesh_core::error::{Error, ErrorKind};
use mesh_core::layers::Body;
use mesh_core::layers::limits::Permit;
use mesh_core::record::{Cx, Flag};

use super::{classify, driver, h1, h2};
use crate::cluster::Active;
use crate::net::Net;

/// What the sender of a request's body and the receiver of its response tell each other.
#[derive(Default)]
pub(super) struct Sending {
    done: AtomicBool,
    unwanted: AtomicBool,
    sender: AtomicWaker,
}

impl Sending {
    /// All of it is with the codec.
    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Ends the sending: the response is over, nobody wants the rest.
    fn stop(&self) {
        self.unwanted.store(true, Ordering::Release);
        self.sender.wake();
    }
}

/// A request's body that says when it has been taken completely, and can be ended early. Trailers are dropped: HTTP/1 does
/// not carry them here.
pub(super) struct SentBody {
    body: Body,
    sending: Arc<Sending>,
}

impl SentBody {
    pub(super) fn wrap(body: Body) -> (Body, Arc<Sending>) {
        let sending = Arc::new(Sending::default());
        (Body::Stream(Box::pin(Self { body, sending: Arc::clone(&sending) })), sending)
    }
}

impl HttpBody for SentBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        this.sending.sender.register(cx.waker());
        if this.sending.unwanted.load(Ordering::Acquire) {
            this.body = Body::Empty;
            return Poll::Ready(Some(Err(Error::new(ErrorKind::LocalReset))));
        }
        loop {
            let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
            if frame.is_none() || this.body.is_end_stream() {
                this.sending.done.store(true, Ordering::Release);
            }
            match frame {
                Some(Ok(frame)) if frame.is_trailers() => {}
                frame => return Poll::Ready(frame),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The right to an endpoint, and for HTTP/1 to a connection, for as long as the response streams.
pub(super) struct Lease<N: Net> {
    active: Active<N>,
    connection: Option<h1::Connection>,
    sending: Option<Arc<Sending>>,
    _stream: Option<h2::Stream>,
    _request: Permit,
}

impl<N: Net> Lease<N> {
    pub(super) fn new(
        active: Active<N>,
        connection: h1::Connection,
        sending: Option<Arc<Sending>>,
        request: Permit,
    ) -> Self {
        Self { active, connection: Some(connection), sending, _stream: None, _request: request }
    }

    /// On a connection that others use, too.
    pub(super) fn shared(active: Active<N>, stream: h2::Stream, request: Permit) -> Self {
        Self { active, connection: None, sending: None, _stream: Some(stream), _request: request }
    }

    /// The response has ended. A connection whose request is still being sent is not used again.
    fn give_back(mut self) {
        let sent = self.sending.as_ref().is_none_or(|s| s.is_done());
        if let Some(connection) = self.connection.take().filter(|c| sent && !c.is_spent() && !c.is_closed()) {
            self.active.member().shard().put(connection);
        }
    }
}

impl<N: Net> Drop for Lease<N> {
    fn drop(&mut self) {
        if let Some(sending) = self.sending.as_ref().filter(|s| !s.is_done()) {
            sending.stop();
        }
    }
}

/// A body of this length, or less, most often comes with its head: no more than the codec's first read takes.
const SHORT: u64 = 8 << 10;

/// What the codecs have of a response's body.
pub(super) enum Incoming {
    Http1(hyper::body::Incoming),
    Http2(h2::Download),
}

impl From<hyper::body::Incoming> for Incoming {
    fn from(body: hyper::body::Incoming) -> Self {
        Self::Http1(body)
    }
}

impl From<h2::Download> for Incoming {
    fn from(body: h2::Download) -> Self {
        Self::Http2(body)
    }
}

impl Incoming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ErrorKind>>> {
        match self {
            Self::Http1(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(|error| classify::body(&error))))
            }
            Self::Http2(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}

/// A response's body.
pub(super) struct UpstreamBody<N: Net> {
    incoming: Incoming,
    /// What came with the head.
    ahead: Option<Result<Frame<Bytes>, ErrorKind>>,
    /// It is known to be broken.
    broken: bool,
    lease: Option<Lease<N>>,
    cx: Arc<Cx>,
}

impl<N: Net> UpstreamBody<N> {
    /// The body of a response whose head has come. If all of it has come, there is nothing to stream.
    pub(super) fn wrap(mut incoming: Incoming, lease: Lease<N>, cx: Arc<Cx>) -> Body {
        if incoming.is_end_stream() {
            lease.give_back();
            return Body::Empty;
        }
        let mut ahead = None;
        if incoming.size_hint().exact().is_some_and(|length| length <= SHORT) {
            let look = || incoming.poll_frame(&mut Context::from_waker(Waker::noop()));
            if let (Poll::Ready(Some(frame)), _) = driver::hushed(look) {
                match frame.map(Frame::into_data) {
                    Ok(Ok(data)) if incoming.is_end_stream() => {
                        lease.give_back();
                        return Body::Full(data);
                    }
                    Ok(frame) => ahead = Some(Ok(frame.map_or_else(|other| other, Frame::data))),
                    Err(error) => ahead = Some(Err(error)),
                }
            }
        }
        Body::Stream(Box::pin(Self { incoming, ahead, broken: false, lease: Some(lease), cx }))
    }

    /// The next of the codec's frames. Over HTTP/1 whoever asks drives the connection.
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ErrorKind>>> {
        if let Some(ahead) = self.ahead.take() {
            return Poll::Ready(Some(ahead));
        }
        let incoming = &mut self.incoming;
        match self.lease.as_mut().and_then(|lease| lease.connection.as_mut()) {
            Some(connection) => connection.poll(cx, |cx| incoming.poll_frame(cx)),
            None => incoming.poll_frame(cx),
        }
    }

    fn end(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }

    /// The response broke off: the status is out, so this can only be noted and passed on.
    fn cut(&self, kind: ErrorKind) -> Error {
        let row = kind.row();
        if let Some(flag) = Flag::from_name(row.flag) {
            self.cx.flag(flag);
        }
        let word = row.reset_reason.unwrap_or("local reset").replace(' ', "_");
        let _ = self.cx.details.set(format!("upstream_reset_after_response_started{{{word}}}"));
        Error::new(kind)
    }
}

impl<N: Net> HttpBody for UpstreamBody<N> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let http1 = matches!(this.incoming, Incoming::Http1(_));
        loop {
            let frame = match ready!(this.poll_incoming(cx)) {
                // HTTP/1 does not carry them here.
                Some(Ok(frame)) if http1 && frame.is_trailers() => continue,
                Some(Ok(frame)) => Some(Ok(frame)),
                Some(Err(kind)) if !this.broken => {
                    // At an error the client's codec ends the connection, and what it has not written yet is lost: it gets
                    // the time to write what came before.
                    (this.broken, this.ahead, this.lease) = (true, Some(Err(kind)), None);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Err(kind)) => {
                    return Poll::Ready(Some(Err(this.cut(kind))));
                }
                None => None,
            };
            if frame.is_none() || this.incoming.is_end_stream() {
                this.end();
            }
            return Poll::Ready(frame);
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.incoming.size_hint();
        let ahead = self.ahead.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + ahead as u64);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + ahead as u64);
        }
        hint
    }
}
