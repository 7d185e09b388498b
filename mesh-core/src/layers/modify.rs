//! What a route does to a request and its response: header operations, rewrite, redirect, direct response. One Layer over
//! the plan's action, so that a route with nothing to do costs nothing.

mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{HOST, HeaderName, LOCATION};
use http::{HeaderValue, Uri};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower::{Layer, Service};

use super::{LocalReply, Request, Response, Upstream, value};
use crate::decide::{apply_redirect, rewrite_path};
use crate::error::Error;
use crate::matching::{Claims, HeaderValueTemplate, RequestFacts};
use crate::record::Cx;
use crate::snapshot::{Action, HeaderOps, RouteHeaders, RoutePlan, SomeOps, WeightedCluster};
use template::{Kept, Scope};

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");
const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");

/// Config of [`ModifyLayer`].
#[derive(Clone, Debug)]
pub struct ModifyConfig {
    /// The route.
    pub route: Arc<RoutePlan>,
    /// Index of the destination among the action's; ignored for redirects and direct responses.
    pub destination: usize,
    /// Values of `%HOSTNAME%` and `%ENVIRONMENT(NAME)%`.
    pub node: Arc<NodeFacts>,
}

/// What header values may say about the process.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeFacts {
    /// Name of the pod, or of the machine.
    pub hostname: String,
    /// Environment variables.
    pub variables: BTreeMap<String, String>,
}

impl NodeFacts {
    fn value(&self, name: &str, argument: &str) -> Option<String> {
        match name {
            "HOSTNAME" => Some(self.hostname.clone()),
            "ENVIRONMENT" => Some(self.variables.get(argument).cloned().unwrap_or_default()),
            _ => None,
        }
    }

    /// The route with these put in, so that no request looks them up.
    fn put_in(&self, route: &Arc<RoutePlan>) -> Arc<RoutePlan> {
        let fixed = |v: &mut HeaderValueTemplate| *v = v.with_fixed(|name, argument| self.value(name, argument));
        let ops = |ops: &mut HeaderOps| {
            if !ops.is_empty() {
                let SomeOps { remove: _, set, add } = &mut **ops;
                set.iter_mut().chain(add).for_each(|(_, v)| fixed(v));
            }
        };
        let mut out = RoutePlan::clone(route);
        ops(&mut out.request_headers);
        ops(&mut out.response_headers);
        out.rewrite.iter_mut().filter_map(|r| r.authority.as_mut()).for_each(fixed);
        if let Action::Forward(clusters) = &mut out.action {
            for cluster in clusters {
                ops(&mut cluster.request_headers);
                ops(&mut cluster.response_headers);
                cluster.authority.iter_mut().for_each(fixed);
            }
        }
        if out == **route { Arc::clone(route) } else { Arc::new(out) }
    }
}

/// Applies a route to requests and responses.
///
/// ```
/// use std::sync::Arc;
/// use mesh_core::layers::modify::NodeFacts;
/// use mesh_core::layers::{ModifyConfig, ModifyLayer};
/// use mesh_core::snapshot::RoutePlan;
///
/// fn of(route: Arc<RoutePlan>) -> ModifyLayer {
///     let node = Arc::new(NodeFacts { hostname: "shop".into(), ..Default::default() });
///     ModifyLayer::new(ModifyConfig { route, destination: 0, node })
/// }
/// ```
#[derive(Clone, Debug)]
pub struct ModifyLayer(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    config: ModifyConfig,
    // A response header value reads request headers: they have to be kept.
    keep_request: bool,
    // No response header operations at all.
    plain_response: bool,
}

impl ModifyLayer {
    /// With this config.
    pub fn new(mut config: ModifyConfig) -> Self {
        config.route = config.node.put_in(&config.route);
        let (mut keep_request, mut plain_response) = (false, true);
        for ops in config.response_ops() {
            plain_response &= ops.is_empty();
            let parts = |(_, v): &(_, HeaderValueTemplate)| matches!(v, HeaderValueTemplate::Parts(_));
            keep_request |= ops.set.iter().any(parts) || ops.add.iter().any(parts);
        }
        Self(Arc::new(Compiled { config, keep_request, plain_response }))
    }

    /// The route's response headers for other answers; none if it changes none.
    pub fn reply_headers(&self) -> Option<ReplyHeaders> {
        (!self.0.plain_response).then(|| ReplyHeaders(Arc::clone(&self.0)))
    }
}

/// The response headers of a route for an answer that is made above its [`ModifyLayer`].
#[derive(Clone, Debug)]
pub struct ReplyHeaders(Arc<Compiled>);

impl ReplyHeaders {
    /// Changes the answer to a request.
    pub fn change(&self, request: &Request, response: &mut Response) {
        let kept = self.0.keep_request.then(|| Kept::of(request));
        let cx = request.extensions().get::<Arc<Cx>>().map(|cx| &**cx);
        for ops in self.0.config.response_ops() {
            let status = response.status();
            template::apply_to_headers(ops, (status, response.headers_mut()), kept.as_ref(), cx);
        }
    }
}

impl ModifyConfig {
    fn destination(&self) -> Option<&WeightedCluster> {
        match &self.route.action {
            Action::Forward(clusters) => clusters.get(self.destination),
            Action::Redirect(_) | Action::Direct(_) => None,
        }
    }

    /// The destination's operations come before the route's.
    fn request_ops(&self) -> impl Iterator<Item = &HeaderOps> {
        self.destination().map(|d| &d.request_headers).into_iter().chain([&self.route.request_headers])
    }

    fn response_ops(&self) -> impl Iterator<Item = &HeaderOps> {
        self.destination().map(|d| &d.response_headers).into_iter().chain([&self.route.response_headers])
    }

    /// The answer, if the route makes it itself.
    fn answer(&self, request: &Request, cx: Option<&Cx>) -> Option<Response> {
        let (reply, location) = match &self.route.action {
            Action::Forward(_) => return None,
            Action::Redirect(plan) => {
                let location = with_facts(request, |facts| apply_redirect(plan, facts));
                (LocalReply::new(plan.code, "", "direct_response"), Some(location))
            }
            Action::Direct(direct) => {
                let mut reply = LocalReply::new(direct.status, "", "direct_response");
                reply.body = Bytes::clone(&direct.body);
                // As Envoy does for every status that may carry one.
                let located = direct.status.is_redirection() || direct.status == http::StatusCode::CREATED;
                let own = |f: &RequestFacts<'_>| {
                    format!(
                        "{}://{}{}",
                        f.scheme,
                        f.authority,
                        request.uri().path_and_query().map_or("/", |p| p.as_str())
                    )
                };
                (reply, located.then(|| with_facts(request, own)))
            }
        };
        let mut response = reply.into_response(cx);
        if let Some(location) = location.and_then(|l| HeaderValue::try_from(l).ok()) {
            response.headers_mut().insert(LOCATION, location);
        }
        Some(response)
    }

    /// What the route and the destination make of a request.
    pub(crate) fn change(&self, request: &mut Request, cx: Option<&Cx>) {
        for ops in self.request_ops().filter(|ops| !ops.is_empty()) {
            template::apply_to_request(ops, request, cx);
        }
        let rewrite = self.route.rewrite.as_ref();
        let authority = self.destination().and_then(|d| d.authority.as_ref());
        if let Some(template) = authority {
            // Of one destination among several Envoy does not say what the host was.
            let quiet = RouteHeaders { debug: false, forwarded_host: false, ..self.route.headers };
            rewrite_host(template, request, cx, quiet);
        } else if let Some(template) = rewrite.and_then(|r| r.authority.as_ref()) {
            rewrite_host(template, request, cx, self.route.headers);
        }
        if let Some(rewrite) = rewrite.and_then(|r| r.path.as_ref()) {
            let path = rewrite_path(rewrite, request.uri().path(), request.uri().query());
            set_path(request, &path, cx, self.route.headers);
        }
    }
}

/// The request as the matcher sees it.
pub fn with_facts<T>(request: &Request, f: impl FnOnce(&RequestFacts<'_>) -> T) -> T {
    let headers = request.headers();
    let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    f(&RequestFacts {
        method: request.method(),
        scheme: text(FORWARDED_PROTO).unwrap_or("http"),
        authority: text(HOST).unwrap_or_default(),
        path: request.uri().path(),
        query: request.uri().query(),
        headers,
        claims: request.extensions().get::<Claims>(),
    })
}

fn rewrite_host(template: &HeaderValueTemplate, request: &mut Request, cx: Option<&Cx>, make: RouteHeaders) {
    let before = matches!(template, HeaderValueTemplate::Parts(_)).then(|| Kept::of(request));
    let scope = Scope { cx, request: before.as_ref(), response: None, status: 0 };
    let Some(value) = template.render(|name, argument| scope.resolve(name, argument)) else { return };
    if let Some(cx) = cx {
        let _ = cx.authority.set(value.clone());
    }
    if let Some(old) = request.headers_mut().insert(HOST, value) {
        if make.forwarded_host {
            request.headers_mut().append(FORWARDED_HOST, old.clone());
        }
        if make.debug {
            request.headers_mut().insert(ORIGINAL_HOST, old);
        }
    }
}

fn set_path(request: &mut Request, path: &str, cx: Option<&Cx>, make: RouteHeaders) {
    let original = request.uri().path_and_query().map_or("/", |p| p.as_str());
    // A rewritten path is one: what can't be in a path was encoded. Only its length may be too much for a URI.
    let Ok(uri) = path.parse::<Uri>() else { return };
    if let Ok(value) = HeaderValue::from_str(original) {
        if let Some(cx) = cx {
            let _ = cx.path.set(original.to_owned());
        }
        if make.debug {
            request.headers_mut().insert(ORIGINAL_PATH, value);
        }
    }
    *request.uri_mut() = uri;
}

impl<S> Layer<S> for ModifyLayer {
    type Service = Modify<S>;

    fn layer(&self, inner: S) -> Modify<S> {
        Modify { compiled: Arc::clone(&self.0), inner }
    }
}

/// Service of [`ModifyLayer`].
#[derive(Clone, Debug)]
pub struct Modify<S> {
    compiled: Arc<Compiled>,
    inner: S,
}

impl<S: Upstream> Service<Request> for Modify<S> {
    type Response = Response;
    type Error = Error;
    type Future = ModifyFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let config = &self.compiled.config;
        let cx = request.extensions().get::<Arc<Cx>>().cloned();
        let compiled = Arc::clone(&self.compiled);
        // The response's values read the request as it goes on, as Envoy's do.
        let kept = |request: &Request| self.compiled.keep_request.then(|| Box::new(Kept::of(request)));
        if let Some(response) = config.answer(&request, cx.as_deref()) {
            let kept = kept(&request);
            return ModifyFuture { state: State::Answered { response: Some(response) }, compiled, cx, kept };
        }
        config.change(&mut request, cx.as_deref());
        let (kept, began) = (kept(&request), Instant::now());
        ModifyFuture { state: State::Forwarded { future: self.inner.call(request), began }, compiled, cx, kept }
    }
}

pin_project! {
    /// Future of [`Modify`].
    pub struct ModifyFuture<F> {
        #[pin]
        state: State<F>,
        compiled: Arc<Compiled>,
        cx: Option<Arc<Cx>>,
        kept: Option<Box<Kept>>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Forwarded { #[pin] future: F, began: Instant },
        Answered { response: Option<Response> },
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for ModifyFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match this.state.project() {
            StateProj::Answered { response } => response.take().expect("invariant: polled once to the end"),
            StateProj::Forwarded { future, began } => {
                let mut response = match ready!(future.poll(cx)) {
                    Ok(response) => response,
                    Err(error) if this.compiled.plain_response => return Poll::Ready(Err(error)),
                    Err(error) => {
                        let (compiled, cx) = (Arc::clone(this.compiled), this.cx.clone());
                        let kept = this.kept.take();
                        return Poll::Ready(Err(error.changing_reply(move |status, headers| {
                            for ops in compiled.config.response_ops() {
                                template::apply_to_headers(ops, (status, headers), kept.as_deref(), cx.as_deref());
                            }
                        })));
                    }
                };
                let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                if let Some(cx) = this.cx {
                    cx.service_time.store(millis, Ordering::Relaxed);
                }
                if this.compiled.config.route.headers.debug {
                    response.headers_mut().insert(SERVICE_TIME, value::number(millis));
                }
                response
            }
        };
        if !this.compiled.plain_response {
            for ops in this.compiled.config.response_ops() {
                let status = response.status();
                let changed = (status, response.headers_mut());
                template::apply_to_headers(ops, changed, this.kept.as_deref(), this.cx.as_deref());
            }
        }
        Poll::Ready(Ok(response))
    }
}
