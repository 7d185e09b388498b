//! Authorization by somebody else.

mod body;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use mesh_core::error::Error;
use mesh_core::layers::{LocalReply, Request, Response, SendFuture, Upstream};
use mesh_core::matching::{Claims, RequestFacts};
use mesh_core::record::{Cx, Flag};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{authority, context, scheme};
use crate::authz::Custom;
use crate::ext_authz::{Allowed, Check, Provider, Refused, Verdict};
use crate::{Denial, Observer, Policies, PolicyInput, Refusal};

const FAILURE_ALLOWED: HeaderName = HeaderName::from_static("x-envoy-auth-failure-mode-allowed");

/// Config of [`ExtAuthzLayer`].
#[derive(Clone)]
pub struct ExtAuthzConfig {
    /// The policies, compiled for HTTP; those with action `CUSTOM` count here.
    pub policies: Arc<Policies>,
    /// As [`super::AuthzConfig::port`].
    pub port: Option<u16>,
    /// The authorizers that can be asked. One that a policy names and that is not here was not given to
    /// [`Policies::compile`] either, so that what it should decide is refused.
    pub providers: Arc<[Provider]>,
    /// Hears of refusals; unset: nobody wants to know.
    pub observer: Option<Arc<dyn Observer>>,
}

impl std::fmt::Debug for ExtAuthzConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExtAuthzConfig").field("providers", &self.providers).finish_non_exhaustive()
    }
}

/// Asks external authorizers about the requests that `CUSTOM` rules match, and passes their answers on. It goes above
/// [`JwtLayer`](super::JwtLayer): tokens have not been looked at yet.
///
/// ```
/// use std::sync::Arc;
/// use mesh_policy::Policies;
/// use mesh_policy::layers::{ExtAuthzConfig, ExtAuthzLayer};
///
/// let (policies, providers) = (Arc::new(Policies::default()), Vec::new().into());
/// let layer = ExtAuthzLayer::new(ExtAuthzConfig { policies, port: None, providers, observer: None });
/// # let _ = layer;
/// ```
#[derive(Clone, Debug)]
pub struct ExtAuthzLayer(Arc<ExtAuthzConfig>);

impl ExtAuthzLayer {
    /// With this config.
    pub fn new(config: ExtAuthzConfig) -> Self {
        Self(Arc::new(config))
    }
}

impl<S> Layer<S> for ExtAuthzLayer {
    type Service = ExtAuthz<S>;

    fn layer(&self, inner: S) -> ExtAuthz<S> {
        ExtAuthz { config: Arc::clone(&self.0), inner }
    }
}

/// Service of [`ExtAuthzLayer`].
#[derive(Clone, Debug)]
pub struct ExtAuthz<S> {
    config: Arc<ExtAuthzConfig>,
    inner: S,
}

/// What becomes of a request.
enum Next {
    /// No rule matches it.
    Forward,
    Refuse(Response),
    Ask(Question),
}

/// A question to be asked.
struct Question {
    provider: Provider,
    rule: Arc<str>,
    cx: Arc<Cx>,
}

impl ExtAuthzConfig {
    fn next(&self, request: &Request) -> Next {
        let cx = context(request);
        let (Some(cx), Some(authority)) = (cx, authority(request)) else {
            return Next::Refuse(super::authz::refuse(None, "rbac_access_denied_matched_policy[none]".to_owned()));
        };
        let scheme = scheme(request);
        let facts = RequestFacts {
            method: request.method(),
            scheme: &scheme,
            authority,
            path: request.uri().path(),
            query: request.uri().query(),
            headers: request.headers(),
            claims: request.extensions().get::<Claims>(),
        };
        let mut input = PolicyInput::request(&cx.conn, cx.remote().ip(), facts);
        input.destination_port = self.port.unwrap_or(input.destination_port);
        let (rule, provider) = match self.policies.custom(&input) {
            None => return Next::Forward,
            Some(Custom::Refuse { rule }) => (rule, None),
            Some(Custom::Ask { provider, rule }) => (rule, self.providers.iter().find(|p| p.name == *provider)),
        };
        let Some(provider) = provider else {
            let denial = Denial { rule: Arc::clone(rule) };
            if let Some(observer) = &self.observer {
                observer.refused(&cx, &Refusal::Policies { denial: &denial, policies: &self.policies, input: &input });
            }
            return Next::Refuse(super::authz::refuse(Some(&cx), denial.details()));
        };
        let (provider, rule) = (provider.clone(), Arc::clone(rule));
        Next::Ask(Question { provider, rule, cx })
    }

    fn refused(&self, question: &Question, check: &Check, failure: Option<&str>) {
        if let Some(observer) = &self.observer {
            let Question { provider, rule, cx } = question;
            observer.refused(cx, &Refusal::Authorizer { rule, provider: &provider.name, check: Some(check), failure });
        }
    }

    /// Asks; the request with the changes that the answer makes, and what is to be added to its response, or the refusal.
    async fn ask(&self, question: &Question, request: Request) -> Result<(Request, Added), Response> {
        let Question { provider, rule: _, cx } = question;
        let (request, body) = match provider.body {
            None => (request, None),
            Some(limits) => match body::read(request, limits).await {
                Ok((request, body)) => (request, Some(body)),
                Err(error) => return Err(error),
            },
        };
        let check = Check {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: request.headers().clone(),
            scheme: scheme(&request).into_owned(),
            body,
            cx: Arc::clone(cx),
        };
        match provider.authorizer.check(&check).await {
            Ok(Verdict::Allow(allowed)) => Ok(change(request, allowed)),
            Ok(Verdict::Deny(refused)) => {
                self.refused(question, &check, None);
                Err(deny(cx, refused))
            }
            Err(why) if provider.fail_open => {
                tracing::warn!(provider = &*provider.name, why, "external authorizer does not answer, requests go on");
                let mut request = request;
                request.headers_mut().insert(FAILURE_ALLOWED, HeaderValue::from_static("true"));
                Ok((request, Vec::new()))
            }
            Err(why) => {
                tracing::warn!(provider = &*provider.name, why, "external authorizer does not answer");
                self.refused(question, &check, Some(&why));
                let reply = LocalReply::new(provider.status_on_error, "", "ext_authz_error").flagged(Flag::Uaex);
                Err(reply.into_response(Some(cx)))
            }
        }
    }
}

/// Headers that are added to a response.
type Added = Vec<(HeaderName, HeaderValue)>;

fn change(mut request: Request, allowed: Allowed) -> (Request, Added) {
    let Allowed { remove, set, append, response } = allowed;
    let headers = request.headers_mut();
    for name in remove {
        headers.remove(name);
    }
    for (name, value) in set {
        headers.insert(name, value);
    }
    for (name, value) in append {
        headers.append(name, value);
    }
    (request, response)
}

fn deny(cx: &Cx, refused: Refused) -> Response {
    let Refused { status, headers: own, body } = refused;
    let reply = LocalReply { body, ..LocalReply::new(status, "", "ext_authz_denied").flagged(Flag::Uaex) };
    let mut response = reply.into_response(Some(cx));
    let others = std::mem::take(response.headers_mut());
    for (name, value) in own {
        response.headers_mut().append(name, value);
    }
    response.headers_mut().extend(others);
    response
}

/// A request's body is larger than what an authorizer is shown.
fn too_large(cx: Option<&Cx>) -> Response {
    let text = Bytes::from_static(b"Payload Too Large");
    let reply = LocalReply::new(StatusCode::PAYLOAD_TOO_LARGE, "", "request_payload_too_large").closing();
    LocalReply { body: text, ..reply }.into_response(cx)
}

impl<S: Upstream> Service<Request> for ExtAuthz<S> {
    type Response = Response;
    type Error = Error;
    type Future = ExtAuthzFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let question = match self.config.next(&request) {
            Next::Forward => return ExtAuthzFuture { state: State::Forwarded { future: self.inner.call(request) } },
            Next::Refuse(response) => return ExtAuthzFuture { state: State::Refused { response: Some(response) } },
            Next::Ask(question) => question,
        };
        let (config, mut inner) = (Arc::clone(&self.config), self.inner.clone());
        let future: SendFuture<_> = Box::pin(async move {
            match config.ask(&question, request).await {
                Ok((request, added)) => {
                    let mut response = inner.call(request).await?;
                    for (name, value) in added {
                        response.headers_mut().append(name, value);
                    }
                    Ok(response)
                }
                Err(response) => Ok(response),
            }
        });
        ExtAuthzFuture { state: State::Asking { future } }
    }
}

pin_project! {
    /// Future of [`ExtAuthz`].
    pub struct ExtAuthzFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Forwarded { #[pin] future: F },
        Refused { response: Option<Response> },
        Asking { future: SendFuture<Result<Response, Error>> },
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for ExtAuthzFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Forwarded { future } => future.poll(cx),
            StateProj::Refused { response } => {
                Poll::Ready(Ok(response.take().expect("invariant: polled once to the end")))
            }
            StateProj::Asking { future } => Poll::Ready(ready!(future.as_mut().poll(cx))),
        }
    }
}
