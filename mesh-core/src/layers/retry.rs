//! Retries: only what the policy names, only what can be sent again.

mod condition;
mod replay;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower::{Layer, Service};

use super::{Body, Request, Response, Upstream};
use crate::env::Env;
use crate::error::Error;
use crate::record::{Cx, Flag};
use crate::snapshot::RetryPlan;
pub use replay::DEFAULT_CAP;
use replay::Replay;

const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");

/// Config of [`RetryLayer`].
#[derive(Clone)]
pub struct RetryConfig {
    /// What to retry, how often; `None`: nothing, and nothing is kept for it.
    pub policy: Option<RetryPlan>,
    /// Tell the upstream which try this is (`x-envoy-attempt-count`).
    pub attempt_count: bool,
    /// Bytes of a request body that are kept for another try; a longer one goes on, but can't be retried.
    pub buffer: usize,
    /// Source of the back-off's jitter.
    pub env: Arc<dyn Env>,
}

/// Tries again.
///
/// ```
/// use std::sync::Arc;
/// use mesh_core::env::Env;
/// use mesh_core::layers::{RetryConfig, RetryLayer, retry::DEFAULT_CAP};
///
/// fn no_retries(env: Arc<dyn Env>) -> RetryLayer {
///     RetryLayer::new(RetryConfig { policy: None, attempt_count: true, buffer: DEFAULT_CAP, env })
/// }
/// ```
#[derive(Clone)]
pub struct RetryLayer(Arc<RetryConfig>);

impl RetryLayer {
    /// With this config.
    pub fn new(config: RetryConfig) -> Self {
        Self(Arc::new(config))
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        Retry { config: Arc::clone(&self.0), inner }
    }
}

/// Service of [`RetryLayer`].
#[derive(Clone)]
pub struct Retry<S> {
    config: Arc<RetryConfig>,
    inner: S,
}

impl<S: Upstream> Service<Request> for Retry<S> {
    type Response = Response;
    type Error = Error;
    type Future = RetryFuture<S>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let cx = request.extensions().get::<Arc<Cx>>().cloned();
        if let Some(cx) = &cx {
            cx.attempts.store(1, Ordering::Relaxed);
        }
        if self.config.attempt_count {
            request.headers_mut().insert(ATTEMPT_COUNT, HeaderValue::from_static("1"));
        }
        let again = match &self.config.policy {
            Some(policy) if !request.headers().contains_key(http::header::UPGRADE) => {
                let copy = Copy::of(&mut request, self.config.buffer);
                let policy = policy.clone();
                Some(Box::new(Again { config: Arc::clone(&self.config), policy, copy, cx, tries: 1 }))
            }
            _ => None,
        };
        let future = self.inner.call(request);
        RetryFuture { inner: self.inner.clone(), state: State::Trying { future }, again }
    }
}

/// What is needed to send the request again.
struct Copy {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    body: Option<Replay>,
}

impl Copy {
    /// Keeps the head, and makes the body remember what it gives.
    fn of(request: &mut Request, cap: usize) -> Self {
        let replay = Replay::new(request.body_mut(), cap);
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: request.headers().clone(),
            body: replay,
        }
    }

    /// The request once more; `None` if its body can't be had again.
    fn again(&mut self) -> Option<Request> {
        let body = match &mut self.body {
            None => Body::Empty,
            Some(replay) => replay.again()?,
        };
        let mut request = http::Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers.clone();
        Some(request)
    }

    fn is_replayable(&self) -> bool {
        self.body.as_ref().is_none_or(Replay::is_whole)
    }
}

struct Again {
    config: Arc<RetryConfig>,
    policy: RetryPlan,
    copy: Copy,
    cx: Option<Arc<Cx>>,
    tries: u32,
}

/// What to do after a try.
enum Verdict {
    Done,
    Again(Duration),
}

impl Again {
    fn judge(&mut self, result: &Result<Response, Error>) -> Verdict {
        if !condition::is_retriable(&self.policy, result) || !self.copy.is_replayable() {
            return Verdict::Done;
        }
        if self.tries > self.policy.attempts {
            if let Some(cx) = &self.cx {
                cx.flag(Flag::Urx);
            }
            return Verdict::Done;
        }
        Verdict::Again(self.backoff())
    }

    /// Random in 0..base*(2^n-1) for the n-th retry, at most ten times the base.
    fn backoff(&self) -> Duration {
        let base = u64::try_from(self.policy.backoff.as_micros()).unwrap_or(u64::MAX);
        let factor = 2u64.saturating_pow(self.tries).saturating_sub(1);
        let ceiling = base.saturating_mul(factor).min(base.saturating_mul(10));
        Duration::from_micros(self.config.env.below(ceiling.saturating_add(1)))
    }

    fn request(&mut self) -> Option<Request> {
        let mut request = self.copy.again()?;
        self.tries += 1;
        if self.config.attempt_count {
            request.headers_mut().insert(ATTEMPT_COUNT, HeaderValue::from(self.tries));
        }
        if let Some(cx) = &self.cx {
            cx.attempts.store(self.tries, Ordering::Relaxed);
            request.extensions_mut().insert(Arc::clone(cx));
        }
        Some(request)
    }
}

pin_project! {
    /// Future of [`Retry`].
    pub struct RetryFuture<S: Service<Request>> {
        inner: S,
        #[pin]
        state: State<S::Future>,
        // Boxed: most requests have no second try, and futures above this one embed it.
        again: Option<Box<Again>>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Trying { #[pin] future: F },
        Waiting { #[pin] sleep: Sleep, last: Option<Result<Response, Error>> },
    }
}

impl<S: Upstream> Future for RetryFuture<S> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Trying { future } => {
                    let result = ready!(future.poll(cx));
                    let Some(again) = this.again.as_deref_mut() else { return Poll::Ready(result) };
                    match again.judge(&result) {
                        Verdict::Done => return Poll::Ready(result),
                        // The response that will not be used is dropped now, its connection with it; an error is kept
                        // for the case that the body can't be had again after all.
                        Verdict::Again(wait) => {
                            let last = result.is_err().then_some(result);
                            this.state.set(State::Waiting { sleep: tokio::time::sleep(wait), last });
                        }
                    }
                }
                StateProj::Waiting { sleep, last } => {
                    ready!(sleep.poll(cx));
                    let request = this.again.as_deref_mut().and_then(Again::request);
                    let Some(request) = request else {
                        let gone = || Err(Error::new(crate::error::ErrorKind::LocalReset));
                        return Poll::Ready(last.take().unwrap_or_else(gone));
                    };
                    let future = this.inner.call(request);
                    this.state.set(State::Trying { future });
                }
            }
        }
    }
}
