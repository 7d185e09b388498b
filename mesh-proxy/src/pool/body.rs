//! Bodies on their way to and from an upstream.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use mesh_core::error::{Error, ErrorKind};
use mesh_core::layers::Body;
use mesh_core::layers::limits::Permit;
use mesh_core::record::{Cx, Flag};

use super::{classify, h1, h2};
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
        let sent = self.sending.as_ref().is_none_or(|s| s.done.load(Ordering::Acquire));
        if let Some(connection) = self.connection.take().filter(|c| sent && !c.is_spent()) {
            self.active.member().shard().put(connection);
        }
    }
}

impl<N: Net> Drop for Lease<N> {
    fn drop(&mut self) {
        if let Some(sending) = &self.sending {
            sending.stop();
        }
    }
}

/// A response's body.
pub(super) struct UpstreamBody<N: Net> {
    incoming: Incoming,
    lease: Option<Lease<N>>,
    cx: Arc<Cx>,
    http1: bool,
}

impl<N: Net> UpstreamBody<N> {
    pub(super) fn wrap(incoming: Incoming, lease: Lease<N>, cx: Arc<Cx>) -> Body {
        if incoming.is_end_stream() {
            lease.give_back();
            return Body::Empty;
        }
        let http1 = lease.connection.is_some();
        Body::Stream(Box::pin(Self { incoming, lease: Some(lease), cx, http1 }))
    }

    fn end(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }

    /// The response broke off: the status is out, so this can only be noted and passed on.
    fn broken(&self, error: &hyper::Error) -> Error {
        let mut kind = classify::error(error).kind();
        if self.http1 && kind == ErrorKind::ConnectionTermination {
            // A body shorter than announced is Envoy's protocol error.
            kind = ErrorKind::UpstreamProtocol;
        }
        self.cut(kind)
    }

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
        loop {
            let frame = match ready!(Pin::new(&mut this.incoming).poll_frame(cx)) {
                Some(Ok(frame)) if this.http1 && frame.is_trailers() => continue,
                Some(Ok(frame)) => Some(Ok(frame)),
                Some(Err(error)) => {
                    this.lease = None;
                    Some(Err(this.broken(&error)))
                }
                // The codec takes a reset with NO_ERROR for the end, even where the rest of the body is missing.
                None if !this.http1 && !this.incoming.is_end_stream() => {
                    this.lease = None;
                    Some(Err(this.cut(ErrorKind::RemoteReset)))
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
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
