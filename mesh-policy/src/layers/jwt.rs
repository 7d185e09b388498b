//! Authentication of users by tokens.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::HeaderValue;
use http::header::WWW_AUTHENTICATE;
use mesh_core::env::Env;
use mesh_core::error::Error;
use mesh_core::layers::{LocalReply, Request, Response, SendFuture, Upstream};
use mesh_core::record::Cx;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{authority, context, scheme};
use crate::jwt::{Authenticator, JwtError, Outcome, RemoteKeys};
use crate::{Observer, Refusal};

/// Bytes of path and query that a refusal repeats.
const MAX_TARGET: usize = 256;

/// Config of [`JwtLayer`].
#[derive(Clone)]
pub struct JwtConfig {
    /// The rules, compiled. Whoever compiled them also fetches keys ([`RemoteKeys::run`]).
    pub authenticator: Arc<Authenticator>,
    /// The clock that tokens expire by.
    pub env: Arc<dyn Env>,
    /// Hears of refusals; unset: nobody wants to know.
    pub observer: Option<Arc<dyn Observer>>,
}

impl JwtConfig {
    /// With these rules.
    pub fn new(authenticator: Arc<Authenticator>, env: Arc<dyn Env>) -> Self {
        Self { authenticator, env, observer: None }
    }
}

impl std::fmt::Debug for JwtConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JwtConfig").field("authenticator", &self.authenticator).finish_non_exhaustive()
    }
}

/// Refuses bad tokens: 401, or 403 for another's audience, with the reason as text and in `www-authenticate`. Requests
/// with good ones, or none, go on; claims of good ones are an extension of the request
/// ([`mesh_core::matching::Claims`]).
///
/// ```
/// use std::sync::Arc;
/// use std::time::SystemTime;
/// use mesh_core::api::Resource;
/// use mesh_core::env::Env;
/// use mesh_policy::jwt::{Authenticator, KeyStore};
/// use mesh_policy::layers::{JwtConfig, JwtLayer};
///
/// struct Clock;
/// impl Env for Clock {
///     fn now(&self) -> SystemTime { SystemTime::UNIX_EPOCH }
///     fn random(&self) -> u64 { 0 }
/// }
///
/// let yaml = "
/// apiVersion: security.istio.io/v1
/// kind: RequestAuthentication
/// metadata: {name: users, namespace: shop}
/// spec: {jwtRules: [{issuer: https://login.example, jwksUri: https://login.example/keys}]}
/// ";
/// let (resources, _) = mesh_core::yaml::read("jwt.yaml", yaml);
/// let policies: Vec<_> = resources
///     .into_iter()
///     .filter_map(|r| match r {
///         Resource::RequestAuthentication(policy) => Some(policy),
///         _ => None,
///     })
///     .collect();
/// let (authenticator, fetched) = Authenticator::compile(&policies, &KeyStore::default());
/// // One task for each of these: `keys.run(&source)`.
/// assert_eq!(fetched.len(), 1);
/// let layer = JwtLayer::new(JwtConfig::new(Arc::new(authenticator), Arc::new(Clock)));
/// # let _ = layer;
/// ```
#[derive(Clone, Debug)]
pub struct JwtLayer(Arc<JwtConfig>);

impl JwtLayer {
    /// With this config.
    pub fn new(config: JwtConfig) -> Self {
        Self(Arc::new(config))
    }
}

impl<S> Layer<S> for JwtLayer {
    type Service = Jwt<S>;

    fn layer(&self, inner: S) -> Jwt<S> {
        Jwt { config: Arc::clone(&self.0), inner }
    }
}

/// Service of [`JwtLayer`].
#[derive(Clone, Debug)]
pub struct Jwt<S> {
    config: Arc<JwtConfig>,
    inner: S,
}

/// What is next for a request.
enum Next {
    Forward(Request),
    Refuse(Response),
    Wait(Arc<RemoteKeys>, Request),
}

impl JwtConfig {
    fn next(&self, mut request: Request) -> Next {
        match self.authenticator.check(&request, self.env.now()) {
            Outcome::Pass(changes) => {
                changes.apply(&mut request);
                Next::Forward(request)
            }
            Outcome::Refuse(error) => Next::Refuse(self.refuse(&request, error)),
            Outcome::Wait(keys) => Next::Wait(keys, request),
        }
    }

    fn refuse(&self, request: &Request, error: JwtError) -> Response {
        let cx = context(request);
        if let (Some(observer), Some(cx)) = (&self.observer, &cx) {
            let (authenticator, now) = (&*self.authenticator, self.env.now());
            observer.refused(cx, &Refusal::Token { error, authenticator, request, now });
        }
        refusal(request, error, cx.as_deref())
    }
}

fn refusal(request: &Request, error: JwtError, cx: Option<&Cx>) -> Response {
    if let Some(cx) = cx {
        let _ = cx.details.set(error.details());
    }
    let reply = LocalReply::new(error.status(), error.text(), "jwt_authn_access_denied");
    let mut response = reply.into_response(cx);
    let target = request.uri().path_and_query().map_or("/", |p| p.as_str());
    // A target is ASCII but for bytes that nobody should send.
    let end = (0..=target.len().min(MAX_TARGET)).rev().find(|n| target.is_char_boundary(*n)).unwrap_or(0);
    let invalid = if error == JwtError::Missing { "" } else { ", error=\"invalid_token\"" };
    let realm = format!("{}://{}{}", scheme(request), authority(request).unwrap_or_default(), &target[..end]);
    if let Ok(value) = HeaderValue::from_str(&format!("Bearer realm=\"{realm}\"{invalid}")) {
        // Before the others, as Envoy sends it.
        let others = std::mem::take(response.headers_mut());
        response.headers_mut().insert(WWW_AUTHENTICATE, value);
        response.headers_mut().extend(others);
    }
    response
}

impl<S: Upstream> Service<Request> for Jwt<S> {
    type Response = Response;
    type Error = Error;
    type Future = JwtFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.config.next(request) {
            Next::Forward(request) => JwtFuture { state: State::Forwarded { future: self.inner.call(request) } },
            Next::Refuse(response) => JwtFuture { state: State::Refused { response: Some(response) } },
            Next::Wait(keys, request) => {
                let (config, mut inner) = (Arc::clone(&self.config), self.inner.clone());
                let future: SendFuture<_> = Box::pin(async move {
                    let mut waited = (keys, request);
                    // Each issuer's keys are waited for once.
                    for _ in 0..config.authenticator.issuers() {
                        waited.0.settled().await;
                        match config.next(waited.1) {
                            Next::Forward(request) => return inner.call(request).await,
                            Next::Refuse(response) => return Ok(response),
                            Next::Wait(keys, request) if Arc::ptr_eq(&keys, &waited.0) => {
                                return Ok(config.refuse(&request, JwtError::KeysUnavailable));
                            }
                            Next::Wait(keys, request) => waited = (keys, request),
                        }
                    }
                    Ok(config.refuse(&waited.1, JwtError::KeysUnavailable))
                });
                JwtFuture { state: State::Waiting { future } }
            }
        }
    }
}

pin_project! {
    /// Future of [`Jwt`].
    pub struct JwtFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Forwarded { #[pin] future: F },
        Refused { response: Option<Response> },
        Waiting { future: SendFuture<Result<Response, Error>> },
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for JwtFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Forwarded { future } => future.poll(cx),
            StateProj::Refused { response } => {
                Poll::Ready(Ok(response.take().expect("invariant: polled once to the end")))
            }
            StateProj::Waiting { future } => Poll::Ready(ready!(future.as_mut().poll(cx))),
        }
    }
}
