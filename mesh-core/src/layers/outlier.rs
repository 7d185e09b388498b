//! Outlier detection: tells the cluster's [`Detector`] what each try saw of its endpoint.

#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{Body, Request, Response, Upstream, respond::is_grpc};
use crate::error::{Error, ErrorKind};
use crate::outlier::{Detector, Event};
use crate::record::Cx;
use crate::snapshot::Address;

/// Observes tries. The endpoint is the one in [`Cx::endpoint`], which what is below sets when it has chosen.
///
/// ```
/// use std::sync::Arc;
/// use mesh_core::layers::OutlierLayer;
/// use mesh_core::outlier::{Detector, Host};
/// use mesh_core::snapshot::OutlierPlan;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let detector = Arc::new(Detector::new(Box::new(|change| println!("{change:?}"))));
/// let host = Arc::new(Host::default());
/// detector.set_hosts([("10.0.0.1:80".parse().unwrap(), Arc::clone(&host))].into_iter());
/// detector.set_plan(Some(OutlierPlan { max_ejection_percent: 100, ..OutlierPlan::default() }));
/// tokio::spawn(Arc::clone(&detector).run()); // lets endpoints return
/// let layer = OutlierLayer::new(detector); // whoever chooses endpoints skips those whose `host.is_ejected()`
/// # let _ = layer;
/// # });
/// ```
#[derive(Clone)]
pub struct OutlierLayer(Arc<Detector>);

impl OutlierLayer {
    /// For the endpoints of this detector.
    pub fn new(detector: Arc<Detector>) -> Self {
        Self(detector)
    }
}

impl<S> Layer<S> for OutlierLayer {
    type Service = Outlier<S>;

    fn layer(&self, inner: S) -> Outlier<S> {
        Outlier { detector: Arc::clone(&self.0), inner }
    }
}

/// Service of [`OutlierLayer`].
#[derive(Clone)]
pub struct Outlier<S> {
    detector: Arc<Detector>,
    inner: S,
}

impl<S: Upstream> Service<Request> for Outlier<S> {
    type Response = Response;
    type Error = Error;
    type Future = OutlierFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let extensions = request.extensions();
        let watch = extensions.get::<Arc<Cx>>().map(|cx| {
            cx.given_up.store(false, Ordering::Relaxed);
            let (cx, before) = (Arc::clone(cx), cx.endpoint.count());
            Watch { detector: Arc::clone(&self.detector), cx, before, grpc: is_grpc(request.headers()) }
        });
        OutlierFuture { inner: self.inner.call(request), watch: Watched(watch) }
    }
}

struct Watch {
    detector: Arc<Detector>,
    cx: Arc<Cx>,
    /// Endpoints of the tries before.
    before: usize,
    grpc: bool,
}

impl Watch {
    fn endpoint(&self) -> Option<&Address> {
        self.cx.endpoint.get().filter(|_| self.cx.endpoint.count() > self.before).map(|e| &e.address)
    }

    fn tell(&self, event: Event) {
        if let Some(address) = self.endpoint() {
            self.detector.observe(address, event);
        }
    }
}

/// Tells of a try that is dropped without an answer because its time is over: the timeouts are further out, and drop it.
/// One that is dropped because the client has gone says nothing about the endpoint.
struct Watched(Option<Watch>);

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(watch) = &self.0
            && watch.cx.given_up.load(Ordering::Relaxed)
        {
            watch.tell(Event::LocalTimeout);
        }
    }
}

pin_project! {
    /// Future of [`Outlier`].
    pub struct OutlierFuture<F> {
        #[pin]
        inner: F,
        watch: Watched,
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for OutlierFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(cx));
        let Some(watch) = this.watch.0.take() else { return Poll::Ready(result) };
        match result {
            Ok(response) if !watch.grpc => {
                watch.tell(Event::Status(response.status()));
                Poll::Ready(Ok(response))
            }
            Ok(response) => Poll::Ready(Ok(grpc(response, watch))),
            Err(error) => {
                if let Some(event) = event(error.kind()) {
                    watch.tell(event);
                }
                Poll::Ready(Err(error))
            }
        }
    }
}

/// What a failed try says about its endpoint; `None`: nothing.
fn event(kind: ErrorKind) -> Option<Event> {
    match kind {
        ErrorKind::ConnectFailure
        | ErrorKind::ConnectionTermination
        | ErrorKind::RemoteReset
        | ErrorKind::RefusedStream
        | ErrorKind::UpstreamProtocol => Some(Event::LocalFailure),
        ErrorKind::ConnectTimeout | ErrorKind::Timeout | ErrorKind::PerTryTimeout => Some(Event::LocalTimeout),
        _ => None,
    }
}

/// A gRPC answer's status is in its head if that is all there is, else in its trailers.
fn grpc(response: Response, watch: Watch) -> Response {
    if let Some(status) = grpc_status(response.headers()) {
        watch.tell(Event::Status(status));
        return response;
    }
    if response.status() != StatusCode::OK || response.body().is_empty() {
        watch.tell(Event::Status(response.status()));
        return response;
    }
    let endpoint = watch.endpoint().cloned();
    response.map(|body| Body::Stream(Box::pin(GrpcBody { body, watch: Some(watch), endpoint })))
}

/// HTTP's equivalent of a gRPC status, as Envoy counts it.
fn grpc_status(headers: &HeaderMap) -> Option<StatusCode> {
    let code: u16 = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    let http = match code {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    };
    StatusCode::from_u16(http).ok()
}

/// Reads the status from the trailers as they pass.
struct GrpcBody {
    body: Body,
    watch: Option<Watch>,
    endpoint: Option<Address>,
}

impl HttpBody for GrpcBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let event = match &frame {
            Some(Ok(frame)) => frame.trailers_ref().and_then(grpc_status).map(Event::Status),
            Some(Err(error)) => event(error.kind()),
            None => None,
        };
        if let Some(event) = event
            && let Some(watch) = self.watch.take()
            && let Some(endpoint) = &self.endpoint
        {
            watch.detector.observe(endpoint, event);
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
