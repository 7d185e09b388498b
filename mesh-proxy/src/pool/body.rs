//! Bodies on their way to and from an upstream.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use mesh_core::error::{Error, ErrorKind};
use mesh_core::layers::Body;
use mesh_core::record::{Cx, Flag};

use super::{classify, h1};
use crate::cluster::Active;
use crate::net::Net;

/// A request's body that says when it has been taken completely. Trailers are dropped: HTTP/1 does not carry them here.
pub(super) struct SentBody {
    body: Body,
    done: Arc<AtomicBool>,
}

impl SentBody {
    pub(super) fn wrap(body: Body) -> (Body, Arc<AtomicBool>) {
        let done = Arc::new(AtomicBool::new(false));
        (Body::Stream(Box::pin(Self { body, done: Arc::clone(&done) })), done)
    }
}

impl HttpBody for SentBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        loop {
            let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
            if frame.is_none() || this.body.is_end_stream() {
                this.done.store(true, Ordering::Release);
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
    request_done: Option<Arc<AtomicBool>>,
}

impl<N: Net> Lease<N> {
    pub(super) fn new(active: Active<N>, connection: h1::Connection, request_done: Option<Arc<AtomicBool>>) -> Self {
        Self { active, connection: Some(connection), request_done }
    }

    /// On a connection that others use, too.
    pub(super) fn shared(active: Active<N>) -> Self {
        Self { active, connection: None, request_done: None }
    }

    /// The response has ended. A connection whose request is still being sent is not used again.
    fn give_back(mut self) {
        let sent = self.request_done.as_ref().is_none_or(|d| d.load(Ordering::Acquire));
        if let Some(connection) = self.connection.take().filter(|_| sent) {
            self.active.member().shard().put(connection);
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
