//! Requests that last: what policies have let in is asked again when they change.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use mesh_core::error::{Error, ErrorKind};
use mesh_core::layers::{Body, BoxBody, Request, Response, SendFuture, Upstream};
use mesh_core::matching::Claims;
use mesh_core::record::Cx;
use pin_project_lite::pin_project;
use tokio::sync::watch;
use tower::{Layer, Service};

use super::authz::{asked, refuse};
use super::context;
use crate::authz::Custom;
use crate::{Decision, Denial, Observer, Policies, Refusal};

/// Config of [`StandingLayer`].
#[derive(Clone)]
pub struct StandingConfig {
    /// The policies in force from moment to moment, of which those of now have been asked already.
    pub policies: watch::Receiver<Arc<Policies>>,
    /// As [`AuthzConfig::port`](super::AuthzConfig::port).
    pub port: Option<u16>,
    /// As [`AuthzConfig::own`](super::AuthzConfig::own).
    pub own: Option<Arc<str>>,
    /// Hears of refusals; unset: nobody wants to know.
    pub observer: Option<Arc<dyn Observer>>,
}

impl StandingConfig {
    /// With these policies.
    pub fn new(policies: watch::Receiver<Arc<Policies>>) -> Self {
        Self { policies, port: None, own: None, observer: None }
    }
}

impl std::fmt::Debug for StandingConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StandingConfig").field("port", &self.port).field("own", &self.own).finish_non_exhaustive()
    }
}

/// Ends requests that new policies would refuse, of the kinds that may last for hours: gRPC, event streams, upgrades.
/// Before the response has begun it is the refusal of [`AuthzLayer`](super::AuthzLayer); afterwards gRPC ends with status 7
/// and everything else is cut off. A tunnel is ended by whoever runs it: a 101 response has a [`Tenure`] among its
/// extensions. All others end by themselves, and are not looked at.
///
/// It goes below the Layers that let requests in, and is there without any policies, too.
///
/// ```
/// use std::sync::Arc;
///
/// use mesh_policy::Policies;
/// use mesh_policy::layers::{StandingConfig, StandingLayer};
/// use tokio::sync::watch;
///
/// let (change, policies) = watch::channel(Arc::new(Policies::default()));
/// let layer = StandingLayer::new(StandingConfig::new(policies));
/// // Later: `change.send_replace(others)`.
/// # let _ = (layer, change);
/// ```
#[derive(Clone, Debug)]
pub struct StandingLayer(Arc<StandingConfig>);

impl StandingLayer {
    /// With this config.
    pub fn new(config: StandingConfig) -> Self {
        Self(Arc::new(config))
    }
}

impl<S> Layer<S> for StandingLayer {
    type Service = Standing<S>;

    fn layer(&self, inner: S) -> Standing<S> {
        Standing { config: Arc::clone(&self.0), inner }
    }
}

/// Service of [`StandingLayer`].
#[derive(Clone, Debug)]
pub struct Standing<S> {
    config: Arc<StandingConfig>,
    inner: S,
}

impl<S: Upstream> Service<Request> for Standing<S> {
    type Response = Response;
    type Error = Error;
    type Future = StandingFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let held = lasts(&request).then(|| Box::new(Held::new(Tenure::of(&self.config, &request))));
        StandingFuture { future: self.inner.call(request), held }
    }
}

/// Whether a request may last as long as its client and its server like.
fn lasts(request: &Request) -> bool {
    let headers = request.headers();
    let begins = |name, with: &[u8]| {
        let value = headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
        value.get(..with.len()).is_some_and(|v| v.eq_ignore_ascii_case(with))
    };
    begins(CONTENT_TYPE, b"application/grpc")
        || headers.contains_key(UPGRADE)
        || begins(ACCEPT, b"text/event-stream")
        || request.method() == Method::CONNECT
}

/// What policies see of a request, for as long as it lasts.
#[derive(Clone, Debug)]
pub struct Tenure {
    config: Arc<StandingConfig>,
    policies: watch::Receiver<Arc<Policies>>,
    request: Arc<http::Request<()>>,
}

impl Tenure {
    fn of(config: &Arc<StandingConfig>, request: &Request) -> Self {
        let mut seen = http::Request::new(());
        *seen.method_mut() = request.method().clone();
        *seen.uri_mut() = request.uri().clone();
        *seen.headers_mut() = request.headers().clone();
        keep::<Arc<Cx>>(request, &mut seen);
        keep::<Claims>(request, &mut seen);
        Self { config: Arc::clone(config), policies: config.policies.clone(), request: Arc::new(seen) }
    }

    /// Resolves when policies refuse it, which the request's context then says. Never, if nobody changes them any more.
    pub async fn refused(mut self) {
        loop {
            if self.policies.changed().await.is_err() {
                return std::future::pending().await;
            }
            let policies = Arc::clone(&self.policies.borrow_and_update());
            if (policies.decides() || policies.has_custom()) && self.is_refused(&policies) {
                return;
            }
        }
    }

    fn is_refused(&self, policies: &Policies) -> bool {
        let StandingConfig { policies: _, port, own, observer } = &*self.config;
        let refused = asked(&*self.request, (*port, own.as_deref()), |cx, input| {
            let denial = match (policies.decide(input), policies.custom(input)) {
                (Decision::Deny(denial), _) => denial,
                (Decision::Allow, Some(Custom::Refuse { rule })) => Denial { rule: Arc::clone(rule) },
                // An authorizer is asked about what begins.
                (Decision::Allow, _) => return false,
            };
            if let Some(observer) = observer {
                observer.refused(cx, &Refusal::Policies { denial: &denial, policies, input });
            }
            let _ = cx.details.set(denial.details());
            true
        });
        refused.unwrap_or(true)
    }
}

fn keep<T: Clone + Send + Sync + 'static>(request: &Request, seen: &mut http::Request<()>) {
    if let Some(extension) = request.extensions().get::<T>() {
        seen.extensions_mut().insert(extension.clone());
    }
}

/// A request that lasts, and its end.
struct Held {
    tenure: Tenure,
    refused: SendFuture<()>,
}

impl Held {
    fn new(tenure: Tenure) -> Self {
        Self { refused: Box::pin(tenure.clone().refused()), tenure }
    }

    /// Goes on with the response.
    fn keep(self: Box<Self>, mut response: Response) -> Response {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            response.extensions_mut().insert(self.tenure);
            return response;
        }
        let grpc = response.headers().get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"));
        response.map(|body| match body {
            Body::Stream(inner) => Body::Stream(Box::pin(HeldBody { inner: Some(inner), held: self, grpc })),
            short => short,
        })
    }
}

pin_project! {
    /// Future of [`Standing`].
    pub struct StandingFuture<F> {
        #[pin]
        future: F,
        held: Option<Box<Held>>,
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for StandingFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(done) = this.future.poll(cx) {
            return Poll::Ready(match this.held.take() {
                Some(held) => done.map(|response| held.keep(response)),
                None => done,
            });
        }
        let Some(held) = this.held else { return Poll::Pending };
        ready!(held.refused.as_mut().poll(cx));
        let cx = context(&*held.tenure.request);
        // Unless the rule has been named already.
        Poll::Ready(Ok(refuse(cx.as_deref(), "rbac_access_denied_matched_policy[none]".to_owned())))
    }
}

/// A response that lasts.
struct HeldBody {
    /// `None`: it is over.
    inner: Option<BoxBody>,
    held: Box<Held>,
    grpc: bool,
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        let polled = inner.as_mut().poll_frame(cx);
        let policies = &mut this.held.tenure.policies;
        // A stream that always has something is to be asked about, too.
        if polled.is_ready() && !policies.has_changed().unwrap_or(false) {
            return polled;
        }
        policies.mark_unchanged();
        if this.held.refused.as_mut().poll(cx).is_pending() {
            return polled;
        }
        this.inner = None;
        Poll::Ready(Some(match this.grpc {
            true => Ok(Frame::trailers(refusal())),
            false => Err(Error::new(ErrorKind::LocalReset)),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(|inner| inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(SizeHint::default, |inner| inner.size_hint())
    }
}

fn refusal() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("7"));
    trailers.insert("grpc-message", HeaderValue::from_static("RBAC: access denied"));
    trailers
}
