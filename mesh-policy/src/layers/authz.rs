//! Authorization by policies.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::StatusCode;
use mesh_core::error::Error;
use mesh_core::layers::{LocalReply, Request, Response, Upstream};
use mesh_core::matching::{Claims, RequestFacts};
use mesh_core::record::Cx;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{authority, context, scheme};
use crate::authz::DryRun;
use crate::{Decision, Notice, Observer, Peer, Policies, PolicyInput, Refusal};

/// Config of [`AuthzLayer`].
#[derive(Clone)]
pub struct AuthzConfig {
    /// The policies, compiled for HTTP.
    pub policies: Arc<Policies>,
    /// The port that rules about ports see, where it is not the one that the connection came to: that of a Gateway's
    /// server, which users reach by another one.
    pub port: Option<u16>,
    /// Who asks, where that is not the peer of the connection: the own workload (without `spiffe://`), for what it asks of
    /// others.
    pub own: Option<Arc<str>>,
    /// Hears of refusals, and of what policies say that decide nothing; unset: nobody wants to know.
    pub observer: Option<Arc<dyn Observer>>,
}

impl AuthzConfig {
    /// Of these policies.
    pub fn new(policies: Arc<Policies>) -> Self {
        Self { policies, port: None, own: None, observer: None }
    }
}

impl std::fmt::Debug for AuthzConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthzConfig").field("policies", &self.policies).finish_non_exhaustive()
    }
}

/// Refuses what policies deny or don't allow: 403 `RBAC: access denied`, for gRPC clients `grpc-status: 7`.
///
/// It goes below the Layer that knows the connection (the request has to have an `Arc<Cx>` among its extensions; without
/// one it is refused) and below [`JwtLayer`](super::JwtLayer), whose claims it reads. External authorizers (`CUSTOM`) are
/// asked elsewhere, before tokens are looked at.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::sync::Arc;
/// use mesh_core::api::Resource;
/// use mesh_policy::Policies;
/// use mesh_policy::authz::{AuthzInput, Protocol, TrustDomains};
/// use mesh_policy::layers::{AuthzConfig, AuthzLayer};
///
/// let yaml = "
/// apiVersion: security.istio.io/v1
/// kind: AuthorizationPolicy
/// metadata: {name: readers, namespace: shop}
/// spec:
///   rules:
///   - from: [{source: {namespaces: [shop]}}]
///     to: [{operation: {methods: [GET]}}]
/// ";
/// let (resources, _) = mesh_core::yaml::read("policy.yaml", yaml);
/// let policies: Vec<_> = resources
///     .into_iter()
///     .filter_map(|r| match r {
///         Resource::AuthorizationPolicy(policy) => Some(policy),
///         _ => None,
///     })
///     .collect();
/// let policies = Policies::compile(&AuthzInput {
///     policies: &policies,
///     protocol: Protocol::Http,
///     trust_domains: &TrustDomains::default(),
///     providers: &BTreeMap::new(),
/// });
/// let layer = AuthzLayer::new(AuthzConfig::new(Arc::new(policies)));
/// # let _ = layer;
/// ```
#[derive(Clone, Debug)]
pub struct AuthzLayer(Arc<AuthzConfig>);

impl AuthzLayer {
    /// With this config.
    pub fn new(config: AuthzConfig) -> Self {
        Self(Arc::new(config))
    }
}

impl<S> Layer<S> for AuthzLayer {
    type Service = Authz<S>;

    fn layer(&self, inner: S) -> Authz<S> {
        Authz { config: Arc::clone(&self.0), inner }
    }
}

/// Service of [`AuthzLayer`].
#[derive(Clone, Debug)]
pub struct Authz<S> {
    config: Arc<AuthzConfig>,
    inner: S,
}

impl AuthzConfig {
    /// The refusal of a request.
    fn refusal(&self, request: &Request) -> Option<Response> {
        let decided = asked(request, (self.port, self.own.as_deref()), |cx, input| {
            if let Some(observer) = self.observer.as_ref().filter(|_| self.policies.has_notices()) {
                let notice = Notice { audit: self.policies.audit(input), dry_run: self.policies.dry_run(input) };
                if notice.audit.is_some() || notice.dry_run != DryRun::default() {
                    observer.noticed(cx, &notice);
                }
            }
            match self.policies.decide(input) {
                Decision::Allow => None,
                Decision::Deny(denial) => {
                    if let Some(observer) = &self.observer {
                        observer.refused(cx, &Refusal::Policies { denial: &denial, policies: &self.policies, input });
                    }
                    Some(refuse(Some(cx), denial.details()))
                }
            }
        });
        let unknown = || "rbac_access_denied_matched_policy[none]".to_owned();
        decided.unwrap_or_else(|| Some(refuse(context(request).as_deref(), unknown())))
    }
}

/// Asks something about a request as policies see it. `None`: its connection is not known, or what it is for is not clear.
pub(super) fn asked<B, T>(
    request: &http::Request<B>,
    (port, own): (Option<u16>, Option<&str>),
    f: impl FnOnce(&Arc<Cx>, &PolicyInput<'_>) -> T,
) -> Option<T> {
    let cx = context(request)?;
    let scheme = scheme(request);
    let facts = RequestFacts {
        method: request.method(),
        scheme: &scheme,
        authority: authority(request)?,
        path: request.uri().path(),
        query: request.uri().query(),
        headers: request.headers(),
        claims: request.extensions().get::<Claims>(),
    };
    let mut input = PolicyInput::request(&cx.conn, cx.remote().ip(), facts);
    input.destination_port = port.unwrap_or(input.destination_port);
    input.peer = own.map_or(input.peer, Peer::Spiffe);
    Some(f(&cx, &input))
}

pub(super) fn refuse(cx: Option<&Cx>, details: String) -> Response {
    if let Some(cx) = cx {
        let _ = cx.details.set(details);
    }
    // The details above came first, so that these words are not theirs.
    let words = "rbac_access_denied";
    LocalReply::new(StatusCode::FORBIDDEN, "RBAC: access denied", words).into_response(cx)
}

impl<S: Upstream> Service<Request> for Authz<S> {
    type Response = Response;
    type Error = Error;
    type Future = AuthzFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.config.refusal(&request) {
            None => AuthzFuture { state: State::Forwarded { future: self.inner.call(request) } },
            Some(response) => AuthzFuture { state: State::Refused { response: Some(response) } },
        }
    }
}

pin_project! {
    /// Future of [`Authz`].
    pub struct AuthzFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Forwarded { #[pin] future: F },
        Refused { response: Option<Response> },
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for AuthzFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Forwarded { future } => future.poll(cx),
            StateProj::Refused { response } => {
                Poll::Ready(Ok(response.take().expect("invariant: polled once to the end")))
            }
        }
    }
}
