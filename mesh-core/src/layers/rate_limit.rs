//! Local rate limits: a token for each request, or 429.

mod bucket;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{LocalReply, Request, Response, Upstream};
use crate::error::Error;
use crate::record::{Cx, Flag};
use crate::snapshot::{RateLimitPlan, RoutePlan};
pub use bucket::{Left, TokenBucket};

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// One limit.
#[derive(Clone, Debug)]
pub struct Limit {
    /// Where tokens are taken from; shared by all stacks that it limits together.
    pub bucket: Arc<TokenBucket>,
    /// Status of a refusal.
    pub status: StatusCode,
    /// Responses say what is left.
    pub headers: bool,
}

/// Config of [`RateLimitLayer`].
#[derive(Clone, Debug, Default)]
pub struct RateLimitConfig {
    /// Limits, each of which has to have a token. The first without one refuses; tokens that others gave are spent.
    pub limits: Vec<Limit>,
}

impl RateLimitConfig {
    /// From a route's plan, with buckets of its own.
    pub fn of(plan: &RoutePlan) -> Self {
        let limit = |l: &Arc<RateLimitPlan>| Limit {
            bucket: Arc::new(TokenBucket::new(l.max_tokens, l.tokens_per_fill, l.fill_interval)),
            status: l.status,
            headers: l.headers,
        };
        Self { limits: plan.filters.rate_limits.iter().map(limit).collect() }
    }

    /// Of one bucket, answering 429.
    pub fn new(bucket: Arc<TokenBucket>) -> Self {
        Self { limits: vec![Limit { bucket, status: StatusCode::TOO_MANY_REQUESTS, headers: false }] }
    }

    /// The same, answering with another status.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        self.limits.iter_mut().for_each(|l| l.status = status);
        self
    }

    /// The same, telling clients what is left (`x-ratelimit-limit`, `-remaining`, `-reset`).
    #[must_use]
    pub fn headers(mut self) -> Self {
        self.limits.iter_mut().for_each(|l| l.headers = true);
        self
    }

    /// Takes the tokens of a request. The headers that its response gets, and the refusal if there was no token.
    fn take(&self) -> (Option<Box<HeaderMap>>, Option<LocalReply>) {
        let mut headers = None;
        for Limit { bucket, status, headers: tell } in &self.limits {
            let (took, left) = bucket.take();
            if *tell {
                let map = headers.get_or_insert_with(Box::<HeaderMap>::default);
                map.insert(LIMIT, HeaderValue::from(bucket.max_tokens()));
                map.insert(REMAINING, HeaderValue::from(left.tokens));
                map.insert(RESET, HeaderValue::from(left.next.as_secs() + u64::from(left.next.subsec_nanos() > 0)));
            }
            if !took {
                let reply = LocalReply::new(*status, "local_rate_limited", "local_rate_limited").flagged(Flag::Rl);
                return (headers, Some(reply));
            }
        }
        (headers, None)
    }
}

/// Refuses requests for which a bucket has no token.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use mesh_core::layers::rate_limit::TokenBucket;
/// use mesh_core::layers::{RateLimitConfig, RateLimitLayer};
///
/// // 100 at once, and 10 more every second.
/// let bucket = Arc::new(TokenBucket::new(100, 10, Duration::from_secs(1)));
/// let layer = RateLimitLayer::new(RateLimitConfig::new(bucket).headers());
/// # let _ = layer;
/// ```
#[derive(Clone, Debug)]
pub struct RateLimitLayer(Arc<RateLimitConfig>);

impl RateLimitLayer {
    /// With this config.
    pub fn new(config: RateLimitConfig) -> Self {
        Self(Arc::new(config))
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimit<S>;

    fn layer(&self, inner: S) -> RateLimit<S> {
        RateLimit { config: Arc::clone(&self.0), inner }
    }
}

/// Service of [`RateLimitLayer`].
#[derive(Clone, Debug)]
pub struct RateLimit<S> {
    config: Arc<RateLimitConfig>,
    inner: S,
}

impl<S: Upstream> Service<Request> for RateLimit<S> {
    type Response = Response;
    type Error = Error;
    type Future = RateLimitFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (headers, refusal) = self.config.take();
        let state = match refusal {
            None => State::Forwarded { future: self.inner.call(request) },
            Some(reply) => {
                let cx = request.extensions().get::<Arc<Cx>>().map(|cx| &**cx);
                State::Refused { response: Some(reply.into_response(cx)) }
            }
        };
        RateLimitFuture { state, headers }
    }
}

pin_project! {
    /// Future of [`RateLimit`].
    pub struct RateLimitFuture<F> {
        #[pin]
        state: State<F>,
        headers: Option<Box<HeaderMap>>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Forwarded { #[pin] future: F },
        Refused { response: Option<Response> },
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for RateLimitFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match this.state.project() {
            StateProj::Forwarded { future } => ready!(future.poll(cx))?,
            StateProj::Refused { response } => response.take().expect("invariant: polled once to the end"),
        };
        if let Some(headers) = this.headers.take() {
            response.headers_mut().extend(*headers);
        }
        Poll::Ready(Ok(response))
    }
}
