//! Routing: which rule of a VirtualService a request gets, and what that rule does to it.

#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::StatusCode;
use http::header::HOST;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::modify::{ModifyFuture, NodeFacts, with_facts};
use super::{Modify, ModifyConfig, ModifyLayer, Request, Response, Upstream};
use crate::decide::{choose, is_misdirected};
use crate::env::Env;
use crate::error::{Error, ErrorKind};
use crate::record::Cx;
use crate::snapshot::{Action, HttpPlan, RoutePlan};

/// Config of [`RouteLayer`].
#[derive(Clone)]
pub struct RouteConfig {
    /// The rules.
    pub plan: Arc<HttpPlan>,
    /// What header values may say about this process.
    pub node: Arc<NodeFacts>,
    /// Source of the choice between destinations.
    pub env: Arc<dyn Env>,
}

impl RouteConfig {
    /// Of a listener's plan; from Istio's YAML: [`Rules::http`](super::Rules::http).
    pub fn new(plan: Arc<HttpPlan>, env: Arc<dyn Env>) -> Self {
        Self { plan, node: Arc::default(), env }
    }

    /// The same, with what header values say about this process.
    #[must_use]
    pub fn node(mut self, node: Arc<NodeFacts>) -> Self {
        self.node = node;
        self
    }
}

/// Where a request is to go: an extension of the requests that [`RouteLayer`] hands on.
#[derive(Clone, Debug)]
pub struct Routed {
    /// The rule.
    pub route: Arc<RoutePlan>,
    /// Name of the cluster, `outbound|PORT|SUBSET|HOST`.
    pub cluster: Arc<str>,
}

/// Chooses the rule by host, path, headers, and what else they match on; answers redirects and direct responses; changes
/// headers, path and host; and hands the request on with a [`Routed`]. Without a rule for it, the request fails with
/// [`ErrorKind::NoRoute`] (404 `NR`); one for a host that nobody has rules for gets what `outboundTrafficPolicy` says. Faults, retries and timeouts of the rule are other Layers' affair.
///
/// The proxy has a stack for each rule instead, chosen in the same way.
///
/// ```
/// # use std::{sync::Arc, time::SystemTime};
/// use mesh_core::env::Env;
/// use mesh_core::error::Error;
/// use mesh_core::layers::{Body, Request, Response, RouteConfig, RouteLayer, Routed, Rules};
/// use tower::{Layer, Service};
///
/// # struct Clock;
/// # impl Env for Clock {
/// #     fn now(&self) -> SystemTime { SystemTime::UNIX_EPOCH }
/// #     fn random(&self) -> u64 { 0 }
/// # }
/// let rules = Rules::read("reviews.yaml", "
/// apiVersion: v1
/// kind: Service
/// metadata: {name: reviews, namespace: default}
/// spec: {ports: [{name: http, port: 9080}]}
/// ---
/// apiVersion: networking.istio.io/v1
/// kind: VirtualService
/// metadata: {name: reviews, namespace: default}
/// spec:
///   hosts: [reviews]
///   http:
///   - match: [{uri: {prefix: /old/}}]
///     rewrite: {uri: /new/}
///     route: [{destination: {host: reviews}}]
/// ").unwrap();
/// let plan = rules.http(9080).expect("a service has this port").clone();
/// let mut service = RouteLayer::new(RouteConfig::new(plan, Arc::new(Clock))).layer(tower::service_fn(|request: Request| async move {
///     let to = request.extensions().get::<Routed>().expect("a route").cluster.clone();
///     Ok::<_, Error>(Response::new(Body::from(format!("{} to {to}", request.uri()))))
/// }));
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let request = http::Request::get("/old/1").header("host", "reviews:9080").body(Body::Empty).unwrap();
/// let answer = http_body_util::BodyExt::collect(service.call(request).await.unwrap()).await.unwrap().to_bytes();
/// assert_eq!(answer, "/new/1 to outbound|9080||reviews.default.svc.cluster.local");
/// # });
/// ```
#[derive(Clone)]
pub struct RouteLayer(Arc<RouteConfig>);

impl RouteLayer {
    /// With this config.
    pub fn new(config: RouteConfig) -> Self {
        Self(Arc::new(config))
    }
}

impl<S: Clone> Layer<S> for RouteLayer {
    type Service = Route<S>;

    fn layer(&self, inner: S) -> Route<S> {
        let RouteConfig { plan, node, .. } = &*self.0;
        let destinations = |route: &Arc<RoutePlan>| {
            let count = match &route.action {
                Action::Forward(clusters) => clusters.len(),
                Action::Redirect(_) | Action::Direct(_) => 1,
            };
            let at = |destination| ModifyConfig { route: Arc::clone(route), destination, node: Arc::clone(node) };
            (0..count).map(|destination| ModifyLayer::new(at(destination)).layer(inner.clone())).collect()
        };
        let hosts = plan.routes.hosts.iter().map(|host| host.routes.iter().map(destinations).collect());
        Route { config: Arc::clone(&self.0), hosts: hosts.collect() }
    }
}

/// By virtual host, route and destination.
type Destinations<S> = Arc<[Box<[Box<[Modify<S>]>]>]>;

/// Service of [`RouteLayer`].
#[derive(Clone)]
pub struct Route<S> {
    config: Arc<RouteConfig>,
    hosts: Destinations<S>,
}

impl<S: Upstream> Route<S> {
    fn find(&self, request: &mut Request) -> Option<Modify<S>> {
        let RouteConfig { plan, env, .. } = &*self.config;
        let choice = with_facts(request, |facts| choose(&plan.routes, facts, || env.random()))?;
        let service = self.hosts.get(choice.host)?.get(choice.route)?.get(choice.destination)?.clone();
        if let Some(cx) = request.extensions().get::<Arc<Cx>>() {
            let _ = cx.route.set(Arc::clone(&choice.plan));
        }
        if let Action::Forward(clusters) = &choice.plan.action {
            let cluster = Arc::clone(&clusters.get(choice.destination)?.cluster);
            request.extensions_mut().insert(Routed { route: choice.plan, cluster });
        }
        Some(service)
    }
}

impl<S: Upstream> Service<Request> for Route<S> {
    type Response = Response;
    type Error = Error;
    type Future = RouteFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        match self.find(&mut request) {
            Some(mut service) => RouteFuture { state: State::Routed { future: service.call(request) } },
            None => RouteFuture { state: State::Unrouted { error: no_route(&self.config.plan, &request) } },
        }
    }
}

/// What a request gets that no rule takes: 404, or 421 on the connection of another server, so that the client opens one
/// for it.
pub fn no_route(plan: &HttpPlan, request: &Request) -> Error {
    let authority = request.headers().get(HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
    match is_misdirected(plan, authority) {
        true => Error::new(ErrorKind::NoRoute).with_status(StatusCode::MISDIRECTED_REQUEST),
        false => Error::new(ErrorKind::NoRoute),
    }
}

pin_project! {
    /// Future of [`Route`].
    pub struct RouteFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Routed { #[pin] future: ModifyFuture<F> },
        Unrouted { error: Error },
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for RouteFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Routed { future } => future.poll(cx),
            StateProj::Unrouted { error } => Poll::Ready(Err(error.clone())),
        }
    }
}
