//! CORS: answers preflights, and tells browsers who may read a response.

#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{LocalReply, Request, Response, Upstream};
use crate::decide::{CorsDecision, decide_cors};
use crate::error::Error;
use crate::matching::StringMatcher;
use crate::record::Cx;
use crate::snapshot::{CorsPlan, Provenance};

/// Config of [`CorsLayer`].
#[derive(Clone, Debug)]
pub struct CorsConfig {
    /// Who may do what.
    pub plan: Arc<CorsPlan>,
}

impl CorsConfig {
    /// From a route's plan.
    pub fn of(plan: &Arc<CorsPlan>) -> Self {
        Self { plan: Arc::clone(plan) }
    }

    /// Allows these origins; preflights of others are forwarded.
    pub fn allow_origins(origins: impl IntoIterator<Item = StringMatcher>) -> Self {
        let plan = CorsPlan {
            allow_origins: origins.into_iter().collect(),
            allow_methods: None,
            allow_headers: None,
            expose_headers: None,
            max_age: None,
            allow_credentials: false,
            forward_unmatched: true,
            origin: Provenance::default("CorsConfig"),
        };
        Self { plan: Arc::new(plan) }
    }

    fn with(mut self, change: impl FnOnce(&mut CorsPlan)) -> Self {
        change(Arc::make_mut(&mut self.plan));
        self
    }

    /// Methods, comma-separated: `GET,POST`, or `*`.
    #[must_use]
    pub fn methods(self, value: HeaderValue) -> Self {
        self.with(|p| p.allow_methods = Some(value))
    }

    /// Request headers, comma-separated, or `*`.
    #[must_use]
    pub fn headers(self, value: HeaderValue) -> Self {
        self.with(|p| p.allow_headers = Some(value))
    }

    /// Response headers that a page may read, comma-separated.
    #[must_use]
    pub fn expose(self, value: HeaderValue) -> Self {
        self.with(|p| p.expose_headers = Some(value))
    }

    /// How long an answer to a preflight may be kept; whole seconds.
    #[must_use]
    pub fn max_age(self, age: Duration) -> Self {
        self.with(|p| p.max_age = Some(age.as_secs()))
    }

    /// Pages may send cookies.
    #[must_use]
    pub fn credentials(self) -> Self {
        self.with(|p| p.allow_credentials = true)
    }

    /// Answers preflights of other origins here, without allowing them.
    #[must_use]
    pub fn answer_unmatched(self) -> Self {
        self.with(|p| p.forward_unmatched = false)
    }
}

/// Answers preflights with 200 and sets the headers of responses to allowed origins.
///
/// ```
/// use http::HeaderValue;
/// use mesh_core::layers::{CorsConfig, CorsLayer};
/// use mesh_core::matching::StringMatcher;
///
/// let config = CorsConfig::allow_origins([StringMatcher::Exact("https://shop.example".into())])
///     .methods(HeaderValue::from_static("GET,POST"))
///     .credentials();
/// let layer = CorsLayer::new(config);
/// # let _ = layer;
/// ```
#[derive(Clone, Debug)]
pub struct CorsLayer(CorsConfig);

impl CorsLayer {
    /// With this config.
    pub fn new(config: CorsConfig) -> Self {
        Self(config)
    }
}

impl<S> Layer<S> for CorsLayer {
    type Service = Cors<S>;

    fn layer(&self, inner: S) -> Cors<S> {
        Cors { config: self.0.clone(), inner }
    }
}

/// Service of [`CorsLayer`].
#[derive(Clone, Debug)]
pub struct Cors<S> {
    config: CorsConfig,
    inner: S,
}

impl<S: Upstream> Service<Request> for Cors<S> {
    type Response = Response;
    type Error = Error;
    type Future = CorsFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let state = match decide_cors(&self.config.plan, request.method(), request.headers()) {
            CorsDecision::Pass => State::Forwarded { future: self.inner.call(request), headers: None },
            CorsDecision::Allow(headers) => {
                State::Forwarded { future: self.inner.call(request), headers: Some(Box::new(headers)) }
            }
            CorsDecision::Answer(headers) => {
                let cx = request.extensions().get::<Arc<Cx>>().map(|cx| &**cx);
                let mut response = LocalReply::new(StatusCode::OK, "", "cors_response").into_response(cx);
                set(response.headers_mut(), headers);
                State::Answered { response: Some(response) }
            }
        };
        CorsFuture { state }
    }
}

fn set(into: &mut HeaderMap, headers: HeaderMap) {
    for (name, value) in headers {
        if let Some(name) = name {
            into.insert(name, value);
        }
    }
}

pin_project! {
    /// Future of [`Cors`].
    pub struct CorsFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Forwarded { #[pin] future: F, headers: Option<Box<HeaderMap>> },
        Answered { response: Option<Response> },
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for CorsFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.project().state.project() {
            StateProj::Answered { response } => Ok(response.take().expect("invariant: polled once to the end")),
            StateProj::Forwarded { future, headers } => {
                let result = ready!(future.poll(cx));
                let Some(headers) = headers.take() else { return Poll::Ready(result) };
                match result {
                    Ok(mut response) => {
                        set(response.headers_mut(), *headers);
                        Ok(response)
                    }
                    // A page is to see that its request failed, not that it was not allowed.
                    Err(error) => {
                        Err(error.changing_reply(move |_, of_reply| set(of_reply, HeaderMap::clone(&headers))))
                    }
                }
            }
        })
    }
}
