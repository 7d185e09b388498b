//! Faults: delays and answers in the application's place. Above timeout and retries, so neither applies to them.

#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::StatusCode;
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower::{Layer, Service};

use super::modify::ReplyHeaders;
use super::{LocalReply, Request, Response, Upstream};
use crate::decide::{FaultDecision, decide_fault};
use crate::env::Env;
use crate::error::Error;
use crate::record::{Cx, Flag};
use crate::snapshot::{AbortPlan, AbortStatus, DelayPlan, FaultPlan, Share};

/// Config of [`FaultLayer`].
#[derive(Clone)]
pub struct FaultConfig {
    /// Wait before forwarding.
    pub delay: Option<DelayPlan>,
    /// Answer instead of forwarding: after the delay, if a request gets both.
    pub abort: Option<AbortPlan>,
    /// Response headers of the route, which its answers have, too.
    pub headers: Option<ReplyHeaders>,
    /// Source of the choice.
    pub env: Arc<dyn Env>,
}

impl FaultConfig {
    /// Without any fault.
    pub fn new(env: Arc<dyn Env>) -> Self {
        Self { delay: None, abort: None, headers: None, env }
    }

    /// From a route's plan.
    pub fn of(plan: &FaultPlan, env: Arc<dyn Env>) -> Self {
        let FaultPlan { delay, abort, origin: _ } = plan;
        Self { delay: *delay, abort: *abort, headers: None, env }
    }

    /// The same, delaying a share of the requests (flag `DI`).
    #[must_use]
    pub fn delay(mut self, fixed: Duration, share: Share) -> Self {
        self.delay = Some(DelayPlan { fixed, share });
        self
    }

    /// The same, answering a share of the requests (flag `FI`, body `fault filter abort`).
    #[must_use]
    pub fn abort(mut self, status: AbortStatus, share: Share) -> Self {
        self.abort = Some(AbortPlan { status, share });
        self
    }

    /// The same, whose answers have these headers.
    #[must_use]
    pub fn headers(mut self, headers: Option<ReplyHeaders>) -> Self {
        self.headers = headers;
        self
    }

    fn decide(&self) -> FaultDecision {
        decide_fault(self.delay.as_ref(), self.abort.as_ref(), || self.env.random())
    }
}

/// Delays requests and answers them in the application's place.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use http::StatusCode;
/// use mesh_core::env::Env;
/// use mesh_core::layers::{FaultConfig, FaultLayer};
/// use mesh_core::snapshot::{AbortStatus, Share};
///
/// fn unreliable(env: Arc<dyn Env>) -> FaultLayer {
///     let config = FaultConfig::new(env)
///         .delay(Duration::from_secs(2), Share::percent(50.0))
///         .abort(AbortStatus::Http(StatusCode::FORBIDDEN), Share::percent(30.0));
///     FaultLayer::new(config)
/// }
/// ```
#[derive(Clone)]
pub struct FaultLayer(Arc<FaultConfig>);

impl FaultLayer {
    /// With this config.
    pub fn new(config: FaultConfig) -> Self {
        Self(Arc::new(config))
    }
}

impl<S> Layer<S> for FaultLayer {
    type Service = Fault<S>;

    fn layer(&self, inner: S) -> Fault<S> {
        Fault { config: Arc::clone(&self.0), inner }
    }
}

/// Service of [`FaultLayer`].
#[derive(Clone)]
pub struct Fault<S> {
    config: Arc<FaultConfig>,
    inner: S,
}

impl<S: Upstream> Service<Request> for Fault<S> {
    type Response = Response;
    type Error = Error;
    type Future = FaultFuture<S>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let state = match self.config.decide() {
            FaultDecision { delay: None, abort: None } => State::Forwarded { future: self.inner.call(request) },
            FaultDecision { delay: None, abort: Some(status) } => {
                State::Aborted { response: Some(self.config.reply(status, &request)) }
            }
            FaultDecision { delay: Some(delay), abort } => {
                if let Some(cx) = context(&request) {
                    cx.flag(Flag::Di);
                }
                let abort = abort.map(|status| (status, Arc::clone(&self.config)));
                let held = Held { inner: self.inner.clone(), request, abort };
                State::Delayed { delay, sleep: None, held: Some(Box::new(held)) }
            }
        };
        FaultFuture { state }
    }
}

/// A request that waits. Boxed, and so is its timer: the futures above embed this one, and few requests are delayed.
struct Held<S> {
    inner: S,
    request: Request,
    abort: Option<(AbortStatus, Arc<FaultConfig>)>,
}

fn context(request: &Request) -> Option<&Cx> {
    request.extensions().get::<Arc<Cx>>().map(|cx| &**cx)
}

impl FaultConfig {
    fn reply(&self, status: AbortStatus, request: &Request) -> Response {
        let of = |status| LocalReply::new(status, "fault filter abort", "fault_filter_abort").flagged(Flag::Fi);
        let reply = match status {
            AbortStatus::Http(status) => of(status),
            AbortStatus::Grpc(status) => of(StatusCode::OK).with_grpc(status),
        };
        let mut response = reply.into_response(context(request));
        if let Some(headers) = &self.headers {
            headers.change(request, &mut response);
        }
        response
    }
}

pin_project! {
    /// Future of [`Fault`].
    pub struct FaultFuture<S: Service<Request>> {
        #[pin]
        state: State<S>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S: Service<Request>> {
        Forwarded { #[pin] future: S::Future },
        // The timer begins when it is waited for: that may be another place than where the request was made.
        Delayed { delay: Duration, sleep: Option<Pin<Box<Sleep>>>, held: Option<Box<Held<S>>> },
        Aborted { response: Option<Response> },
    }
}

impl<S: Upstream> Future for FaultFuture<S> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.state.as_mut().project() {
                StateProj::Forwarded { future } => return future.poll(cx),
                StateProj::Aborted { response } => {
                    return Poll::Ready(Ok(response.take().expect("invariant: polled once to the end")));
                }
                StateProj::Delayed { delay, sleep, held } => {
                    let sleep = sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(*delay)));
                    ready!(sleep.as_mut().poll(cx));
                    let Held { mut inner, request, abort } = *held.take().expect("invariant: taken as the state ends");
                    match abort {
                        Some((status, config)) => State::Aborted { response: Some(config.reply(status, &request)) },
                        None => State::Forwarded { future: inner.call(request) },
                    }
                }
            };
            this.state.set(next);
        }
    }
}
