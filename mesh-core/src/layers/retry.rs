//! Retries: only what the policy names, only what can be sent again, only as many as the destination's limit allows.
//!
//! Beside the policy there is one case that is repeated once without being asked for: a request that met the close of an
//! idle connection, when nothing of a response was read and its method may be repeated (RFC 9112, 9.3.1).

mod condition;
#[cfg(test)]
mod properties;
mod replay;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Uri, Version};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tower::{Layer, Service};

use super::limits::{Permit, Usage};
use super::timeout;
use super::{Body, Request, Response, Upstream, value};
use crate::balance::Tried;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Sent};
use crate::record::{Cx, Flag, Proof};
use crate::snapshot::{Address, PoolPlan, RetryPlan, RoutePlan};
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
    /// The destination's limit of concurrent retries; `None`: none.
    pub limit: Option<RetryLimit>,
}

impl RetryConfig {
    /// No retries.
    pub fn new(env: Arc<dyn Env>) -> Self {
        Self { policy: None, attempt_count: true, buffer: DEFAULT_CAP, env, limit: None }
    }

    /// From a route's plan.
    pub fn of(plan: &RoutePlan, env: Arc<dyn Env>) -> Self {
        let (policy, attempt_count, buffer) = (plan.retry.clone(), plan.headers.attempt_count, plan.replay);
        Self { policy, attempt_count, buffer, env, limit: None }
    }

    /// The same with a policy.
    #[must_use]
    pub fn policy(mut self, policy: RetryPlan) -> Self {
        self.policy = Some(policy);
        self
    }

    /// The same with the destination's limit of concurrent retries.
    #[must_use]
    pub fn limit(mut self, limit: RetryLimit) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// How many retries a destination takes: `maxRetries` or `retryBudget`, and what is in use.
#[derive(Clone, Debug)]
pub struct RetryLimit {
    /// Limits.
    pub pool: PoolPlan,
    /// Counts, shared by everything that leads there.
    pub usage: Arc<Usage>,
}

/// Tries again.
///
/// ```
/// use std::sync::Arc;
/// use mesh_core::env::Env;
/// use mesh_core::layers::{RetryConfig, RetryLayer};
///
/// fn no_retries(env: Arc<dyn Env>) -> RetryLayer {
///     RetryLayer::new(RetryConfig::new(env))
/// }
/// ```
#[derive(Clone)]
pub struct RetryLayer {
    config: Arc<RetryConfig>,
    // The config's, shared with every request that may need it.
    policy: Option<Arc<RetryPlan>>,
}

impl RetryLayer {
    /// With this config.
    pub fn new(mut config: RetryConfig) -> Self {
        let policy = config.policy.take().map(Arc::new);
        Self { config: Arc::new(config), policy }
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        Retry { config: Arc::clone(&self.config), policy: self.policy.clone(), inner }
    }
}

/// Service of [`RetryLayer`].
#[derive(Clone)]
pub struct Retry<S> {
    config: Arc<RetryConfig>,
    policy: Option<Arc<RetryPlan>>,
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
        if let (Some(limit), Some(_)) = (&self.config.limit, &self.policy) {
            limit.usage.began(&limit.pool);
        }
        let again = match &self.policy {
            Some(policy) if !request.headers().contains_key(http::header::UPGRADE) => {
                let whole = request.extensions().get::<timeout::Whole>().copied();
                let copy = Copy::of(&mut request, self.config.buffer);
                Some(Box::new(Again::new(Arc::clone(&self.config), Arc::clone(policy), copy, (cx, whole))))
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
    /// Flat: one allocation, and nothing is hashed. It is made of every request and hardly ever used.
    headers: Vec<(HeaderName, HeaderValue)>,
    body: CopyBody,
}

enum CopyBody {
    Empty,
    Full(Bytes),
    Stream(Replay),
    /// Larger than the cap from the start.
    TooLarge,
}

impl Copy {
    /// Keeps the head, and makes the body remember what it gives.
    fn of(request: &mut Request, cap: usize) -> Self {
        let body = match request.body() {
            Body::Empty => CopyBody::Empty,
            Body::Full(bytes) if bytes.len() > cap => CopyBody::TooLarge,
            Body::Full(bytes) => CopyBody::Full(bytes.clone()),
            Body::Stream(_) => Replay::new(request.body_mut(), cap).map_or(CopyBody::Empty, CopyBody::Stream),
        };
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: {
                let headers = request.headers();
                let mut flat = Vec::with_capacity(headers.len());
                flat.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
                flat
            },
            body,
        }
    }

    /// The request once more, when the try before has let go of its body; `None` if the body can't be had again.
    fn poll_again(&mut self, cx: &mut Context<'_>) -> Poll<Option<Request>> {
        let body = match &mut self.body {
            CopyBody::Empty => Body::Empty,
            CopyBody::Full(bytes) => Body::Full(bytes.clone()),
            CopyBody::Stream(replay) => match ready!(replay.poll_again(cx)) {
                Some(body) => body,
                None => return Poll::Ready(None),
            },
            CopyBody::TooLarge => return Poll::Ready(None),
        };
        let mut request = http::Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers.iter().cloned().collect();
        Poll::Ready(Some(request))
    }

    fn is_replayable(&self) -> bool {
        match &self.body {
            CopyBody::Empty | CopyBody::Full(_) => true,
            CopyBody::Stream(replay) => replay.is_whole(),
            CopyBody::TooLarge => false,
        }
    }
}

struct Again {
    config: Arc<RetryConfig>,
    policy: Arc<RetryPlan>,
    copy: Copy,
    cx: Option<Arc<Cx>>,
    tries: u32,
    retries: u32,
    replayed: bool,
    began: Instant,
    /// All of it, where that is not what the first try says.
    whole: Option<timeout::Whole>,
    tried: Vec<Address>,
    permit: Option<Permit>,
}

/// What to do after a try.
enum Verdict {
    Done,
    Again(Duration),
}

impl Again {
    fn new(
        config: Arc<RetryConfig>,
        policy: Arc<RetryPlan>,
        copy: Copy,
        (cx, whole): (Option<Arc<Cx>>, Option<timeout::Whole>),
    ) -> Self {
        let (tries, retries, replayed, began) = (1, 0, false, Instant::now());
        Self { config, policy, copy, cx, tries, retries, replayed, began, whole, tried: Vec::new(), permit: None }
    }

    fn judge(&mut self, result: &Result<Response, Error>) -> Verdict {
        // The retry that this was has ended.
        self.permit = None;
        if !self.copy.is_replayable() {
            return Verdict::Done;
        }
        if !self.replayed && is_stale(result) && self.copy.method.is_idempotent() {
            self.replayed = true;
            self.note(|cx| _ = cx.replays.fetch_add(1, Ordering::Relaxed));
            self.repeat(result);
            return Verdict::Again(Duration::ZERO);
        }
        if !condition::is_retriable(&self.policy, result) {
            return Verdict::Done;
        }
        if self.retries >= self.policy.attempts {
            self.note(|cx| cx.flag(Flag::Urx));
            return Verdict::Done;
        }
        if let Some(limit) = &self.config.limit {
            self.permit = limit.usage.take_retry(&limit.pool);
            if self.permit.is_none() {
                self.note(|cx| cx.flag(Flag::Uo));
                return Verdict::Done;
            }
        }
        self.retries += 1;
        self.repeat(result);
        Verdict::Again(self.backoff())
    }

    fn note(&self, what: impl FnOnce(&Cx)) {
        if let Some(cx) = &self.cx {
            what(cx);
        }
    }

    /// Notes what the try was, before the next one replaces it.
    fn repeat(&mut self, result: &Result<Response, Error>) {
        let Some(cx) = &self.cx else { return };
        let proof = match result.as_ref().map_err(Error::was_sent) {
            Ok(_) => Proof::Answered,
            Err(Sent::No) => Proof::NotSent,
            Err(Sent::Refused) => Proof::Refused,
            Err(Sent::Unknown) => Proof::Unknown,
        };
        cx.proofs.fetch_or(proof as u32, Ordering::Relaxed);
        self.tried.extend(cx.endpoint.get().map(|e| e.address.clone()));
    }

    /// Random in 0..base*(2^n-1) for the n-th retry, at most ten times the base.
    fn backoff(&self) -> Duration {
        let base = u64::try_from(self.policy.backoff.as_micros()).unwrap_or(u64::MAX);
        let factor = 2u64.saturating_pow(self.retries).saturating_sub(1);
        let ceiling = base.saturating_mul(factor).min(base.saturating_mul(10));
        Duration::from_micros(self.config.env.below(ceiling.saturating_add(1)))
    }

    fn poll_request(&mut self, context: &mut Context<'_>) -> Poll<Option<Request>> {
        let Some(mut request) = ready!(self.copy.poll_again(context)) else { return Poll::Ready(None) };
        self.tries += 1;
        if self.config.attempt_count {
            request.headers_mut().insert(ATTEMPT_COUNT, value::number(self.tries.into()));
        }
        // A try's own limit begins anew; of the whole request's less is left.
        let limited = self.whole.is_some() || self.policy.per_try_timeout.is_none();
        if limited && timeout::is_told(request.headers()) {
            timeout::shorten(request.headers_mut(), self.whole, self.began.elapsed());
        }
        if let Some(cx) = &self.cx {
            cx.attempts.store(self.tries, Ordering::Relaxed);
            request.extensions_mut().insert(Arc::clone(cx));
        }
        // What met a stale connection did not fail because of the endpoint.
        if self.retries > 0 && !self.tried.is_empty() {
            request.extensions_mut().insert(Arc::new(Tried {
                endpoints: self.tried.clone(),
                ignore_previous_hosts: self.policy.ignore_previous_hosts,
                remote_localities: self.policy.remote_localities,
            }));
        }
        Poll::Ready(Some(request))
    }
}

/// The connection had served before, and closed before it gave anything of a response: most likely it was idle too long.
fn is_stale(result: &Result<Response, Error>) -> bool {
    result.as_ref().is_err_and(|e| e.kind() == ErrorKind::ConnectionTermination && e.was_reused())
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
        Waiting { #[pin] sleep: Option<Sleep>, last: Option<Result<Response, Error>> },
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
                            let sleep = (!wait.is_zero()).then(|| tokio::time::sleep(wait));
                            this.state.set(State::Waiting { sleep, last });
                        }
                    }
                }
                StateProj::Waiting { mut sleep, last } => {
                    if let Some(waiting) = sleep.as_mut().as_pin_mut() {
                        ready!(waiting.poll(cx));
                        sleep.set(None);
                    }
                    let again = this.again.as_deref_mut().expect("invariant: only what can be repeated waits");
                    let Some(request) = ready!(again.poll_request(cx)) else {
                        let gone = || Err(Error::new(ErrorKind::LocalReset));
                        return Poll::Ready(last.take().unwrap_or_else(gone));
                    };
                    let future = this.inner.call(request);
                    this.state.set(State::Trying { future });
                }
            }
        }
    }
}
