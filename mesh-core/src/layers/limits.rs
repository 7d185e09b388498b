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
pub use usage::{Permit, Resource, Usage};

/// Refuses requests above `http2MaxRequests` with 503 `UO`. A request counts until its response has ended.
///
/// ```
/// use std::sync::Arc;
/// use mesh_core::layers::limits::{LimitsLayer, Usage};
///
/// let layer = LimitsLayer::new(1024, Arc::new(Usage::default()));
/// # let _ = layer;
/// ```
#[derive(Clone, Debug)]
pub struct LimitsLayer {
    max: u32,
    usage: Arc<Usage>,
}

impl LimitsLayer {
    /// At most `max` requests at a time.
    pub fn new(max: u32, usage: Arc<Usage>) -> Self {
        Self { max, usage }
    }
}

impl<S> Layer<S> for LimitsLayer {
    type Service = Limits<S>;

    fn layer(&self, inner: S) -> Limits<S> {
        Limits { config: self.clone(), inner }
    }
}

/// Service of [`LimitsLayer`].
#[derive(Clone, Debug)]
pub struct Limits<S> {
    config: LimitsLayer,
    inner: S,
}

impl<S: Upstream> Service<Request> for Limits<S> {
    type Response = Response;
    type Error = Error;
    type Future = LimitsFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let permit = self.config.usage.take(Resource::Requests, self.config.max);
        let inner = permit.is_some().then(|| self.inner.call(request));
        LimitsFuture { inner, permit }
    }
}

pin_project! {
    /// Future of [`Limits`].
    pub struct LimitsFuture<F> {
        #[pin]
        inner: Option<F>,
        permit: Option<Permit>,
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for LimitsFuture<F> {
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
