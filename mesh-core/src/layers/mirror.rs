//! Mirroring: copies of requests to further destinations, whose answers nobody waits for.
//!
//! The primary never waits for a copy: what the primary's destination reads of the body is handed on, up to a bound. A
//! mirror that does not keep up, refuses, hangs or breaks off loses its copy, which is counted, and nothing else happens.

mod copy;
mod tee;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{HOST, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{Body, BoxService, Request, Response, Upstream};
use crate::env::Env;
use crate::error::{Error, ErrorKind};
use crate::record::{CopyOutcome, Cx, Sink};
use crate::snapshot::{MirrorPlan, RoutePlan, Share};
use copy::Copy;

pub use copy::Budget;

const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Config of [`MirrorLayer`].
#[derive(Clone)]
pub struct MirrorConfig {
    /// Where copies go; each chooses its requests on its own.
    pub targets: Vec<MirrorTarget>,
    /// Added to `x-forwarded-for` of copies; `None`: nothing is.
    pub node_address: Option<IpAddr>,
    /// Copies have `-shadow` after the host: what Istio does with `DISABLE_SHADOW_HOST_SUFFIX=false`. Default: no.
    pub shadow_suffix: bool,
    /// Readers of what became of copies.
    pub sinks: Arc<[Arc<dyn Sink>]>,
    /// Source of the choice.
    pub env: Arc<dyn Env>,
}

impl MirrorConfig {
    /// Without targets.
    pub fn new(env: Arc<dyn Env>) -> Self {
        Self { targets: Vec::new(), node_address: None, shadow_suffix: false, sinks: Arc::new([]), env }
    }

    /// From a route's plan; `to` is what sends copies to the cluster of that name.
    pub fn of(plan: &RoutePlan, env: Arc<dyn Env>, to: impl Fn(&str) -> BoxService) -> Self {
        let target = |mirror: &MirrorPlan| MirrorTarget {
            name: Arc::clone(&mirror.cluster),
            service: to(&mirror.cluster),
            share: mirror.share,
            budget: Arc::default(),
        };
        Self { targets: plan.filters.mirrors.iter().map(target).collect(), ..Self::new(env) }
    }

    /// The same with one more target.
    #[must_use]
    pub fn to(mut self, target: MirrorTarget) -> Self {
        self.targets.push(target);
        self
    }
}

/// A destination of copies.
#[derive(Clone)]
pub struct MirrorTarget {
    /// Name for counters: the cluster's.
    pub name: Arc<str>,
    /// What sends a copy there.
    pub service: BoxService,
    /// Share of the requests.
    pub share: Share,
    /// Bounds of what is under way; one for each destination and process.
    pub budget: Arc<Budget>,
}

impl MirrorTarget {
    /// All requests, with bounds of its own.
    pub fn new(name: &str, service: impl Upstream) -> Self {
        let budget = Arc::new(Budget::default());
        Self { name: name.into(), service: BoxService::new(service), share: Share::ALL, budget }
    }

    /// The same for a share of the requests.
    #[must_use]
    pub fn share(mut self, share: Share) -> Self {
        self.share = share;
        self
    }
}

/// Sends copies of requests to mirrors. Their answers are read and thrown away. Upgrades are not copied: what follows
/// one is no request.
///
/// ```
/// use std::sync::Arc;
/// use mesh_core::env::Env;
/// use mesh_core::layers::{BoxService, MirrorConfig, MirrorLayer, MirrorTarget};
/// use mesh_core::snapshot::Share;
///
/// fn mirrored(env: Arc<dyn Env>, next_version: BoxService) -> MirrorLayer {
///     let target = MirrorTarget::new("next", next_version).share(Share::percent(10.0));
///     MirrorLayer::new(MirrorConfig::new(env).to(target))
/// }
/// ```
#[derive(Clone)]
pub struct MirrorLayer(Arc<MirrorConfig>);

impl MirrorLayer {
    /// With this config.
    pub fn new(config: MirrorConfig) -> Self {
        Self(Arc::new(config))
    }
}

impl<S> Layer<S> for MirrorLayer {
    type Service = Mirror<S>;

    fn layer(&self, inner: S) -> Mirror<S> {
        Mirror { config: Arc::clone(&self.0), inner }
    }
}

/// Service of [`MirrorLayer`].
#[derive(Clone)]
pub struct Mirror<S> {
    config: Arc<MirrorConfig>,
    inner: S,
}

impl<S: Upstream> Service<Request> for Mirror<S> {
    type Response = Response;
    type Error = Error;
    type Future = MirrorFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let copies = self.config.copies(&mut request);
        MirrorFuture { inner: self.inner.call(request), copies }
    }
}

impl MirrorConfig {
    /// The copies of a request, not sent yet; its body feeds theirs from now on.
    fn copies(&self, request: &mut Request) -> Vec<Copy> {
        if request.headers().contains_key(UPGRADE) || *request.method() == http::Method::CONNECT {
            return Vec::new();
        }
        let mut chosen = Vec::new();
        for target in self.targets.iter().filter(|t| t.share.takes(self.env.random())) {
            match target.budget.admit() {
                Some(slot) => chosen.push((target, slot)),
                None => self.count(target, CopyOutcome::Lost),
            }
        }
        if chosen.is_empty() {
            return Vec::new();
        }
        let bodies = tee::split(request.body_mut(), chosen.iter().map(|(_, slot)| slot));
        let heads = std::iter::repeat_with(|| self.head(request)).take(chosen.len());
        let parts = chosen.iter().zip(heads).zip(bodies);
        let copies: Vec<Copy> = parts
            .map(|(((target, slot), mut head), (body, lost))| {
                *head.body_mut() = body;
                Copy {
                    service: target.service.clone(),
                    request: head,
                    lost,
                    slot: slot.clone(),
                    cluster: Arc::clone(&target.name),
                    sinks: Arc::clone(&self.sinks),
                }
            })
            .collect();
        copies
    }

    fn count(&self, target: &MirrorTarget, outcome: CopyOutcome) {
        for sink in self.sinks.iter() {
            sink.copied(&target.name, outcome);
        }
    }

    /// A copy of the head, as Envoy's: internal, from this node.
    fn head(&self, request: &Request) -> Request {
        let mut copy = http::Request::new(Body::Empty);
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.version_mut() = request.version();
        *copy.headers_mut() = request.headers().clone();
        let headers = copy.headers_mut();
        headers.insert(INTERNAL, HeaderValue::from_static("true"));
        if let Some(node) = self.node_address {
            append_node(headers, node);
        }
        if self.shadow_suffix
            && let Some(host) = headers.get(HOST).and_then(|h| h.to_str().ok()).map(shadow)
            && let Ok(value) = HeaderValue::try_from(host)
        {
            headers.insert(HOST, value);
        }
        // A context of its own: tries and flags of a copy are none of the client's request.
        if let Some(cx) = request.extensions().get::<Arc<Cx>>() {
            let own = Cx::new(Arc::clone(&cx.conn), cx.config);
            if let Some(route) = cx.route.get() {
                let _ = own.route.set(Arc::clone(route));
            }
            copy.extensions_mut().insert(Arc::new(own));
        }
        copy
    }
}

fn append_node(headers: &mut HeaderMap, node: IpAddr) {
    let mut value = Vec::new();
    for line in headers.get_all(FORWARDED_FOR) {
        value.extend_from_slice(line.as_bytes());
        value.push(b',');
    }
    value.extend_from_slice(node.to_string().as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&value) {
        headers.insert(FORWARDED_FOR, value);
    }
}

/// `-shadow` after the host, before the port; also after an address.
fn shadow(authority: &str) -> String {
    let end = authority.rfind(']').map_or(0, |i| i + 1);
    let at = authority[end..].find(':').map_or(authority.len(), |i| end + i);
    format!("{}-shadow{}", &authority[..at], &authority[at..])
}

pin_project! {
    /// Future of [`Mirror`].
    pub struct MirrorFuture<F> {
        #[pin]
        inner: F,
        copies: Vec<Copy>,
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for MirrorFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = this.inner.poll(cx);
        if !this.copies.is_empty() {
            // Nothing is copied of what has nowhere to go itself: a proxy without endpoints is no load generator.
            let nowhere = |e: &Error| matches!(e.kind(), ErrorKind::NoHealthyUpstream | ErrorKind::NoCluster);
            let copies = std::mem::take(this.copies);
            if !matches!(&result, Poll::Ready(Err(e)) if nowhere(e)) {
                copies.into_iter().for_each(Copy::send);
            }
        }
        result
    }
}
