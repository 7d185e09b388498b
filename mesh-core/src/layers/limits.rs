//! Limits of a destination. They fail at once: nothing queues here.
//!
//! The proxy's pools count on the same [`Usage`], but at the moment when a request gets its connection: one that waits
//! for a connection is not active yet, and Envoy's limits are about active ones.

#[cfg(test)]
mod tests;
mod usage;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{Body, Request, Response, Upstream};
use crate::error::{Error, ErrorKind};
use crate::snapshot::ClusterPlan;
pub use usage::{Permit, Resource, Usage};

/// Config of [`CircuitLayer`].
#[derive(Clone, Debug)]
pub struct CircuitConfig {
    /// Requests at a time: `http2MaxRequests`. Default: no limit.
    pub max_requests: u32,
    /// Counts, shared by everything that leads there.
    pub usage: Arc<Usage>,
}

impl Default for CircuitConfig {
    fn default() -> Self {
        Self { max_requests: u32::MAX, usage: Arc::default() }
    }
}

impl CircuitConfig {
    /// From a destination's plan, with counts of its own.
    pub fn of(plan: &ClusterPlan) -> Self {
        Self { max_requests: plan.pool.max_requests, ..Self::default() }
    }

    /// The same with another limit.
    #[must_use]
    pub fn max_requests(mut self, max: u32) -> Self {
        self.max_requests = max;
        self
    }

    /// The same on counts that others share.
    #[must_use]
    pub fn usage(mut self, usage: Arc<Usage>) -> Self {
        self.usage = usage;
        self
    }
}

/// Circuit breaking: refuses requests above `http2MaxRequests` with 503 `UO`. A request counts until its response has ended.
///
/// ```
/// use mesh_core::layers::{CircuitConfig, CircuitLayer};
///
/// let layer = CircuitLayer::new(CircuitConfig::default().max_requests(1024));
/// # let _ = layer;
/// ```
#[derive(Clone, Debug)]
pub struct CircuitLayer(CircuitConfig);

impl CircuitLayer {
    /// With this config.
    pub fn new(config: CircuitConfig) -> Self {
        Self(config)
    }
}

impl<S> Layer<S> for CircuitLayer {
    type Service = Circuit<S>;

    fn layer(&self, inner: S) -> Circuit<S> {
        Circuit { config: self.0.clone(), inner }
    }
}

/// Service of [`CircuitLayer`].
#[derive(Clone, Debug)]
pub struct Circuit<S> {
    config: CircuitConfig,
    inner: S,
}

impl<S: Upstream> Service<Request> for Circuit<S> {
    type Response = Response;
    type Error = Error;
    type Future = CircuitFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let permit = self.config.usage.take(Resource::Requests, self.config.max_requests);
        let inner = permit.is_some().then(|| self.inner.call(request));
        CircuitFuture { inner, permit }
    }
}

pin_project! {
    /// Future of [`Circuit`].
    pub struct CircuitFuture<F> {
        #[pin]
        inner: Option<F>,
        permit: Option<Permit>,
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for CircuitFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(inner) = this.inner.as_pin_mut() else {
            return Poll::Ready(Err(Error::new(ErrorKind::Overflow)));
        };
        let response = ready!(inner.poll(cx))?;
        let permit = this.permit.take();
        Poll::Ready(Ok(response.map(|body| Body::stream(Counted { body, _permit: permit }))))
    }
}

/// Keeps the permit for as long as the response streams.
struct Counted {
    body: Body,
    _permit: Option<Permit>,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
