//! The outermost Layer: sees each request once, ends it exactly once, also when the client goes away, and hands the
//! record to every sink.

#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{HeaderMap, Method};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower::{Layer, Service};

use super::respond::is_grpc;
use super::{Body, Request, Upstream};
use crate::env::Env;
use crate::error::Error;
use crate::record::{Cx, Flag, HttpRecord, RequestRecord, Sink};

/// Config of [`MeterLayer`].
#[derive(Clone)]
pub struct MeterConfig {
    /// Readers of records: metrics, access log.
    pub sinks: Arc<[Arc<dyn Sink>]>,
    /// Wall clock for the record's start.
    pub env: Arc<dyn Env>,
}

/// Records requests that carry an `Arc<Cx>` in their extensions (the server puts it there).
///
/// ```
/// use mesh_core::layers::{MeterConfig, MeterLayer};
///
/// fn metered(config: MeterConfig) -> MeterLayer {
///     MeterLayer::new(config)
/// }
/// ```
#[derive(Clone)]
pub struct MeterLayer(Arc<MeterConfig>);

impl MeterLayer {
    /// With these sinks.
    pub fn new(config: MeterConfig) -> Self {
        Self(Arc::new(config))
    }
}

impl<S> Layer<S> for MeterLayer {
    type Service = Meter<S>;

    fn layer(&self, inner: S) -> Meter<S> {
        Meter { config: Arc::clone(&self.0), inner }
    }
}

/// Service of [`MeterLayer`].
#[derive(Clone)]
pub struct Meter<S> {
    config: Arc<MeterConfig>,
    inner: S,
}

impl<S: Upstream> Service<Request> for Meter<S> {
    type Response = http::Response<MeterBody>;
    type Error = Error;
    type Future = MeterFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let open = request.extensions().get::<Arc<Cx>>().map(|cx| Open::new(&self.config, cx, &request));
        if let Some(open) = open.as_ref().filter(|_| !request.body().is_empty()) {
            let (body, cx) = (std::mem::take(request.body_mut()), Arc::clone(&open.cx));
            *request.body_mut() = Body::Stream(Box::pin(Received { body, bytes: 0, cx }));
        }
        MeterFuture { inner: self.inner.call(request), open }
    }
}

/// A request that has begun. Dropping it is what ends it, so there is no way to forget or repeat that.
struct Open {
    config: Arc<MeterConfig>,
    cx: Arc<Cx>,
    start: SystemTime,
    began: Instant,
    http: HttpRecord,
    bytes: u64,
    complete: bool,
}

impl Open {
    fn new(config: &Arc<MeterConfig>, cx: &Arc<Cx>, request: &Request) -> Self {
        let headers = request.headers();
        let start = config.env.now();
        let _ = cx.start.set(start);
        let http = HttpRecord {
            method: request.method().clone(),
            target: request.uri().clone(),
            version: request.version(),
            host: headers.get(HOST).cloned(),
            status: None,
            grpc_status: None,
            grpc: is_grpc(headers),
            user_agent: headers.get(USER_AGENT).cloned(),
        };
        let (config, cx) = (Arc::clone(config), Arc::clone(cx));
        Self { config, cx, start, began: Instant::now(), http, bytes: 0, complete: false }
    }

    fn trailer(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.http.grpc_status = status.to_str().ok().and_then(|s| s.parse().ok());
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.config.sinks.is_empty() {
            return;
        }
        // A client that broke the protocol did not just go.
        let broken = self.cx.flags.load(Ordering::Relaxed) & Flag::Dpe as u32 != 0;
        if !self.complete && !broken && !self.cx.cut.load(Ordering::Relaxed) {
            self.cx.flag(Flag::Dc);
            // Unset only if nothing else has ended it before.
            let _ = self.cx.details.set("downstream_remote_disconnect".into());
        }
        self.cx.response_bytes.store(self.bytes, Ordering::Relaxed);
        let record = RequestRecord {
            start: self.start,
            duration: self.began.elapsed(),
            cx: Arc::clone(&self.cx),
            http: Some(std::mem::take(&mut self.http)),
            termination: Arc::default(),
        };
        for sink in self.config.sinks.iter() {
            sink.record(&record);
        }
    }
}

pin_project! {
    /// Future of [`Meter`].
    pub struct MeterFuture<F> {
        #[pin]
        inner: F,
        open: Option<Open>,
    }
}

impl<F: Future<Output = Result<super::Response, Error>>> Future for MeterFuture<F> {
    type Output = Result<http::Response<MeterBody>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        if let Some(open) = this.open {
            open.http.status = Some(response.status());
            if open.http.grpc {
                open.trailer(response.headers());
            }
            // No body follows to a HEAD, and the server drops it unread.
            open.complete = open.http.method == Method::HEAD;
        }
        let open = this.open.take();
        Poll::Ready(Ok(response.map(|body| MeterBody { body, open })))
    }
}

/// The response's body; its end, or its being dropped, ends the request.
pub struct MeterBody {
    body: Body,
    open: Option<Open>,
}

impl MeterBody {
    /// An empty body that nobody counts: the request is ended elsewhere.
    pub fn unmetered() -> Self {
        Self { body: Body::Empty, open: None }
    }

    /// The same request with another body.
    #[must_use]
    pub fn replaced(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// Ends the request after this many bytes; why is in the context.
    pub fn finish(mut self, bytes: u64) {
        if let Some(open) = &mut self.open {
            (open.bytes, open.complete) = (bytes, true);
        }
        drop(self.open.take());
    }

    /// Ends the request as one whose client has gone, after this many bytes: how a tunnel ends.
    pub fn abandon(mut self, bytes: u64) {
        if let Some(open) = &mut self.open {
            open.bytes = bytes;
        }
        // Without its body nothing marks it complete.
        drop(self.open.take());
    }
}

impl HttpBody for MeterBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        let Some(open) = &mut this.open else { return Poll::Ready(frame) };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    open.bytes += data.len() as u64;
                } else if let Some(trailers) = frame.trailers_ref() {
                    open.trailer(trailers);
                }
            }
            // Cut by the upstream or a timeout; who did it has said so in the context.
            None | Some(Err(_)) => {
                open.complete = true;
                this.open = None;
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for MeterBody {
    fn drop(&mut self) {
        if let Some(open) = &mut self.open {
            open.complete |= self.body.is_end_stream();
        }
    }
}

/// The request's body, counted.
struct Received {
    body: Body,
    bytes: u64,
    cx: Arc<Cx>,
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let Some(data) = frame.as_ref().and_then(|f| f.as_ref().ok()).and_then(Frame::data_ref) {
            this.bytes += data.len() as u64;
            this.cx.request_bytes.store(this.bytes, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
