//! Timeouts: of the whole request, the route's or `grpc-timeout`'s, and of one try. Their clocks start when the request
//! has been received completely, so a slow upload or a client that keeps streaming is not cut.

mod deadline;
mod grpc;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tower::{Layer, Service};

use super::{Body, Request, Response, Upstream, respond::is_grpc};
use crate::error::{Error, ErrorKind};
use crate::record::{Cx, Flag};
use crate::snapshot::RoutePlan;
use deadline::Deadline;

const EXPECTED: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");

/// Whether the upstream is told how long we wait.
pub(super) fn is_told(headers: &HeaderMap) -> bool {
    headers.contains_key(EXPECTED) || grpc::is_told(headers)
}

/// Time for all tries of a request whose tries have a limit of their own, which is what the upstream is told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Whole(pub(super) Duration);

/// What a later try tells the upstream: no more than what was told before, and no more than what is left of the whole
/// request's time after so much of it. Without `whole` that was what the first try told.
pub(super) fn shorten(headers: &mut HeaderMap, whole: Option<Whole>, elapsed: Duration) {
    let left = |told: Duration| told.min(grpc::left(whole.map_or(told, |w| w.0), elapsed));
    let told = headers.get(EXPECTED).and_then(|v| v.to_str().ok()?.parse().ok()).map(Duration::from_millis);
    if let Some(told) = told {
        headers.insert(EXPECTED, HeaderValue::from(left(told).as_millis() as u64));
    }
    if is_grpc(headers) {
        grpc::shorten(headers, left);
    }
}

/// Config of [`TimeoutLayer`].
#[derive(Clone, Copy, Debug, Default)]
pub struct TimeoutConfig {
    /// Whole request; `None`: none, but a gRPC client's `grpc-timeout` still counts. Caps `grpc-timeout`.
    pub timeout: Option<Duration>,
    /// One try: the value of `x-envoy-expected-rq-timeout-ms` if it is set.
    pub per_try: Option<Duration>,
    /// Tell the upstream how long we wait.
    pub announce: bool,
}

impl TimeoutConfig {
    /// From a route's plan.
    pub fn of(plan: &RoutePlan) -> Self {
        let per_try = plan.retry.as_ref().and_then(|retry| retry.per_try_timeout);
        Self { timeout: plan.timeout, per_try, announce: plan.headers.debug }
    }
}

/// Ends a request that takes too long: 504 `UT` before the response's head, a cut stream after it.
///
/// ```
/// use std::time::Duration;
/// use mesh_core::layers::{TimeoutConfig, TimeoutLayer};
///
/// let layer = TimeoutLayer::new(TimeoutConfig { timeout: Some(Duration::from_secs(10)), ..Default::default() });
/// # let _ = layer;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TimeoutLayer(TimeoutConfig);

impl TimeoutLayer {
    /// With this config.
    pub fn new(config: TimeoutConfig) -> Self {
        Self(config)
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Timeout<S> {
        Timeout { config: self.0, inner }
    }
}

/// Service of [`TimeoutLayer`].
#[derive(Clone, Copy, Debug)]
pub struct Timeout<S> {
    config: TimeoutConfig,
    inner: S,
}

impl<S> Timeout<S> {
    /// How long a try may take that has all of the request's time before it.
    fn of_a_try(&self, whole: Option<Duration>) -> Option<Duration> {
        match (self.config.per_try, whole) {
            (Some(each), Some(whole)) => Some(each.min(whole)),
            (each, whole) => each.or(whole),
        }
    }
}

impl<S: Upstream> Service<Request> for Timeout<S> {
    type Response = Response;
    type Error = Error;
    type Future = TimeoutFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let mut timeout = self.config.timeout;
        if is_grpc(request.headers()) {
            timeout = grpc::timeout(request.headers(), timeout);
            if let Some(limit) = self.of_a_try(timeout) {
                grpc::announce(request.headers_mut(), limit);
            }
        }
        let announced = self.of_a_try(timeout).filter(|_| self.config.announce);
        if let Some(limit) = announced {
            request.headers_mut().insert(EXPECTED, HeaderValue::from(limit.as_millis() as u64));
        }
        if let (Some(whole), Some(_)) = (timeout, self.config.per_try)
            && is_told(request.headers())
        {
            request.extensions_mut().insert(Whole(whole));
        }
        let Some(timeout) = timeout else {
            return TimeoutFuture { inner: self.inner.call(request), deadline: None, cx: None };
        };
        let cx = request.extensions().get::<Arc<Cx>>().cloned();
        let (request, deadline) = Deadline::after_request(request, timeout);
        TimeoutFuture { inner: self.inner.call(request), deadline: Some(deadline), cx }
    }
}

pin_project! {
    /// Future of [`Timeout`].
    pub struct TimeoutFuture<F> {
        #[pin]
        inner: F,
        #[pin]
        deadline: Option<Deadline>,
        cx: Option<Arc<Cx>>,
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for TimeoutFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = this.inner.poll(cx);
        let Some(mut deadline) = this.deadline.as_pin_mut() else { return result };
        match result {
            // What is all here can't be late.
            Poll::Ready(Ok(response)) if matches!(response.body(), Body::Stream(body) if !body.is_end_stream()) => {
                let at = deadline.at();
                let context = this.cx.take();
                Poll::Ready(Ok(response.map(|body| match at {
                    Some(at) => Body::Stream(Box::pin(TimedBody::new(body, at, context))),
                    None => body,
                })))
            }
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => {
                ready!(deadline.as_mut().poll(cx));
                if let Some(context) = this.cx {
                    context.given_up.store(true, Ordering::Relaxed);
                }
                Poll::Ready(Err(Error::new(ErrorKind::Timeout)))
            }
        }
    }
}

/// The response's body, cut at the deadline.
struct TimedBody {
    body: Body,
    at: Instant,
    // Armed only when the body has to wait.
    sleep: Option<Pin<Box<Sleep>>>,
    cx: Option<Arc<Cx>>,
}

impl TimedBody {
    fn new(body: Body, at: Instant, cx: Option<Arc<Cx>>) -> Self {
        Self { body, at, sleep: None, cx }
    }
}

impl HttpBody for TimedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        let at = this.at;
        let sleep = this.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        ready!(sleep.as_mut().poll(cx));
        if let Some(cx) = &this.cx {
            cx.flag(Flag::Ut);
            let _ = cx.details.set("response_timeout".into());
        }
        this.body = Body::Empty;
        Poll::Ready(Some(Err(Error::new(ErrorKind::Timeout))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Ends one try that takes too long to give the response's head. A response that has begun goes on up to the whole
/// request's timeout.
///
/// ```
/// use std::time::Duration;
/// use mesh_core::layers::PerTryLayer;
///
/// let layer = PerTryLayer::new(Duration::from_secs(2));
/// # let _ = layer;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PerTryLayer(Duration);

impl PerTryLayer {
    /// With this limit.
    pub fn new(limit: Duration) -> Self {
        Self(limit)
    }
}

impl<S> Layer<S> for PerTryLayer {
    type Service = PerTry<S>;

    fn layer(&self, inner: S) -> PerTry<S> {
        PerTry { limit: self.0, inner }
    }
}

/// Service of [`PerTryLayer`].
#[derive(Clone, Copy, Debug)]
pub struct PerTry<S> {
    limit: Duration,
    inner: S,
}

impl<S: Upstream> Service<Request> for PerTry<S> {
    type Response = Response;
    type Error = Error;
    type Future = PerTryFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let cx = request.extensions().get::<Arc<Cx>>().cloned();
        let (request, deadline) = Deadline::after_request(request, self.limit);
        PerTryFuture { inner: self.inner.call(request), deadline, cx }
    }
}

pin_project! {
    /// Future of [`PerTry`].
    pub struct PerTryFuture<F> {
        #[pin]
        inner: F,
        #[pin]
        deadline: Deadline,
        cx: Option<Arc<Cx>>,
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for PerTryFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(result) = this.inner.poll(cx) {
            return Poll::Ready(result);
        }
        ready!(this.deadline.poll(cx));
        if let Some(context) = this.cx {
            context.given_up.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Err(Error::new(ErrorKind::PerTryTimeout)))
    }
}
