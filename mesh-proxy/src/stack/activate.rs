//! From a snapshot to services. What did not change keeps its service, so a change costs what it touches.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use mesh_core::api::ContentHash;
use mesh_core::layers::modify::NodeFacts;
use mesh_core::layers::rate_limit::Limit;
use mesh_core::layers::{BoxService, MirrorTarget, RetryLimit};
use mesh_core::snapshot::{
    Action, ClusterPlan, Direction, HttpPlan, ListenerKey, Map, MirrorPlan, RateLimitPlan, RoutePlan, Snapshot, TlsThen,
};

use super::router::{RouteId, RouteServices, RouteTarget, Router, Routes};
use super::{Common, Inbound, Outbound, Place};
use crate::cluster::Runtime;
use crate::listener::server_id;
use crate::net::Net;
use crate::pool::Destination;

/// The stack of a listener.
#[derive(Clone)]
pub enum HttpStack {
    /// Of an inbound one.
    Inbound(Inbound),
    /// Of an outbound or gateway one.
    Outbound(Outbound),
}

/// A snapshot with the services that act on it.
pub struct Active {
    /// The plan.
    pub snapshot: Arc<Snapshot>,
    http: Map<HttpKey, Arc<Built>>,
    clusters: Map<ClusterId, BoxService>,
    routes: Map<(RouteId, Place), (BoxService, Vec<BoxService>)>,
}

/// A listener, and which of its TLS servers; 0 for its own HTTP.
type HttpKey = (ListenerKey, ContentHash);

/// Identity of a cluster's stack: the plan, and what routes ask of it.
#[derive(Clone)]
struct ClusterId(Arc<ClusterPlan>, Option<Duration>);

impl PartialEq for ClusterId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) && self.1 == other.1
    }
}

impl Eq for ClusterId {}

impl std::hash::Hash for ClusterId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

struct Built {
    plan: Arc<HttpPlan>,
    router: Router,
    stack: Arc<HttpStack>,
}

impl Active {
    /// The HTTP stack of a listener, or of one of its TLS servers, if it has one.
    pub fn http(&self, listener: &ListenerKey, server: ContentHash) -> Option<&Arc<HttpStack>> {
        self.http.get(&(*listener, server)).map(|b| &b.stack)
    }

    /// Stacks that this one shares with another: what a change did not touch.
    pub fn shared_routes(&self, other: &Active) -> usize {
        self.routes.iter().filter(|(k, (s, _))| other.routes.get(k).is_some_and(|(o, _)| o.same(s))).count()
    }
}

/// Builds the services of a snapshot; parts that are the same as in `previous` (by pointer) are taken over from it.
pub fn activate<N: Net>(snapshot: Arc<Snapshot>, runtime: &Arc<Runtime<N>>, previous: Option<&Active>) -> Active {
    let common = Common {
        env: Arc::clone(&runtime.env),
        sinks: Arc::clone(&runtime.sinks),
        node_address: snapshot.proxy.id.addresses.first().copied().or(runtime.node_address),
        node: node(&snapshot, runtime),
        shadow_suffix: runtime.shadow_suffix,
    };
    let mut building =
        Building { runtime, common, snapshot: &snapshot, previous, clusters: Map::default(), routes: Map::default() };
    let mut http = Map::default();
    for (key, listener) in &snapshot.listeners {
        if let Some(plan) = &listener.http {
            let at = (*key, ContentHash::default());
            http.insert(at, building.listener(at, plan));
        }
        for server in &listener.tls {
            if let TlsThen::Http(plan) = &server.then {
                let at = (*key, server_id(&server.name));
                http.insert(at, building.listener(at, plan));
            }
        }
    }
    let Building { clusters, routes, .. } = building;
    Active { snapshot, http, clusters, routes }
}

fn node<N: Net>(snapshot: &Snapshot, runtime: &Runtime<N>) -> Arc<NodeFacts> {
    let hostname = snapshot.proxy.id.name.to_string();
    Arc::new(NodeFacts { hostname, variables: runtime.variables.clone() })
}

struct Building<'a, N: Net> {
    runtime: &'a Arc<Runtime<N>>,
    common: Common,
    snapshot: &'a Snapshot,
    previous: Option<&'a Active>,
    clusters: Map<ClusterId, BoxService>,
    routes: Map<(RouteId, Place), (BoxService, Vec<BoxService>)>,
}

impl<N: Net> Building<'_, N> {
    fn listener(&mut self, at: HttpKey, plan: &Arc<HttpPlan>) -> Arc<Built> {
        let (key, _) = at;
        let mut services: Map<RouteId, RouteServices> = Map::default();
        for host in plan.routes.virtual_hosts() {
            for route in &host.routes {
                let id = RouteId(Arc::clone(route));
                services.entry(id).or_insert_with(|| self.route(route, key.direction));
            }
        }
        let old = self.previous.and_then(|p| p.http.get(&at));
        if let Some(old) = old
            && Arc::ptr_eq(&old.plan, plan)
            && same_services(&old.router.routes().services, &services)
        {
            return Arc::clone(old);
        }
        let table = Arc::clone(&plan.routes);
        let router = Router::new(Routes { plan: Arc::clone(plan), table, services, env: Arc::clone(&self.common.env) });
        let stack = match key.direction {
            Direction::Inbound => HttpStack::Inbound(super::inbound(&self.common, plan, router.clone())),
            direction @ (Direction::Outbound | Direction::Gateway) => {
                HttpStack::Outbound(super::outbound(&self.common, plan, direction, router.clone()))
            }
        };
        Arc::new(Built { plan: Arc::clone(plan), router, stack: Arc::new(stack) })
    }

    fn route(&mut self, plan: &Arc<RoutePlan>, direction: Direction) -> RouteServices {
        let per_try = plan.retry.as_ref().and_then(|r| r.per_try_timeout);
        let mirrors = &plan.filters.mirrors;
        let unknown = StatusCode::SERVICE_UNAVAILABLE;
        let mirrors: Vec<_> = mirrors.iter().map(|m| self.cluster(&m.cluster, None, unknown)).collect();
        match &plan.action {
            Action::Forward(targets) => {
                let all = targets.iter().enumerate();
                all.map(|(destination, target)| {
                    let cluster = self.cluster(&target.cluster, per_try, target.missing_status);
                    let limit = self.retry_limit(&target.cluster);
                    let service = self.destination(plan, Place { direction, destination }, (cluster, limit), &mirrors);
                    RouteTarget { service, cluster: self.snapshot.clusters.get(&target.cluster).cloned() }
                })
                .collect()
            }
            Action::Redirect(_) | Action::Direct(_) => {
                // Its stack answers before it gets to a cluster.
                let nowhere = BoxService::new(super::no_cluster(StatusCode::SERVICE_UNAVAILABLE));
                let service = self.destination(plan, Place { direction, destination: 0 }, (nowhere, None), &[]);
                vec![RouteTarget { service, cluster: None }]
            }
        }
    }

    /// What limits the retries to a cluster; `None`: nothing does.
    fn retry_limit(&self, name: &Arc<str>) -> Option<RetryLimit> {
        let pool = &self.snapshot.clusters.get(name)?.pool;
        // Counted where there is no limit, too: there may be one in the next snapshot.
        Some(RetryLimit { pool: pool.clone(), usage: Arc::clone(self.runtime.cluster(name).usage()) })
    }

    fn destination(
        &mut self,
        plan: &Arc<RoutePlan>,
        place: Place,
        (cluster, limit): (BoxService, Option<RetryLimit>),
        mirrors: &[BoxService],
    ) -> BoxService {
        let key = (RouteId(Arc::clone(plan)), place);
        if let Some((known, _)) = self.routes.get(&key) {
            return known.clone();
        }
        let old = self.previous.and_then(|p| p.routes.get(&key));
        let answers = !matches!(plan.action, Action::Forward(_));
        let below: Vec<_> = std::iter::once(&cluster).chain(mirrors).cloned().collect();
        let same = |old: &[BoxService]| old.len() == below.len() && old.iter().zip(&below).all(|(a, b)| a.same(b));
        let service = match old {
            Some((service, old)) if answers || same(old) => service.clone(),
            _ => {
                let beside = (self.limits(plan), self.targets(plan, place.direction, mirrors));
                BoxService::new(super::route(&self.common, plan, place, (cluster, limit), beside))
            }
        };
        self.routes.insert(key, (service.clone(), below));
        service
    }

    /// The limits of a route with their buckets, which go on where they are while nothing about them changes.
    fn limits(&self, plan: &RoutePlan) -> Vec<Limit> {
        let limit =
            |l: &Arc<RateLimitPlan>| Limit { bucket: self.runtime.bucket(l), status: l.status, headers: l.headers };
        plan.filters.rate_limits.iter().map(limit).collect()
    }

    /// The mirrors of a route with what sends to them.
    fn targets(&self, plan: &RoutePlan, direction: Direction, clusters: &[BoxService]) -> Vec<MirrorTarget> {
        let target = |(mirror, cluster): (&MirrorPlan, &BoxService)| MirrorTarget {
            name: Arc::clone(&mirror.cluster),
            service: BoxService::new(super::copy(&self.common, plan, direction, cluster.clone())),
            share: mirror.share,
            budget: self.runtime.cluster(&mirror.cluster).copies(),
        };
        plan.filters.mirrors.iter().zip(clusters).map(target).collect()
    }

    fn cluster(&mut self, name: &Arc<str>, per_try: Option<Duration>, missing: StatusCode) -> BoxService {
        let Some(plan) = self.snapshot.clusters.get(name) else {
            return BoxService::new(super::no_cluster(missing));
        };
        let id = ClusterId(Arc::clone(plan), per_try);
        if let Some(known) = self.clusters.get(&id).or_else(|| self.previous?.clusters.get(&id)) {
            let known = known.clone();
            self.clusters.insert(id, known.clone());
            return known;
        }
        let to = Destination {
            runtime: Arc::clone(self.runtime),
            cluster: self.runtime.cluster(name),
            plan: Arc::clone(plan),
        };
        let service = BoxService::new(super::cluster(to, per_try));
        self.clusters.insert(id, service.clone());
        service
    }
}

fn same_services(a: &Map<RouteId, RouteServices>, b: &Map<RouteId, RouteServices>) -> bool {
    let same = |x: &RouteServices, y: &RouteServices| x.len() == y.len() && x.iter().zip(y).all(|(x, y)| x.same(y));
    a.len() == b.len() && a.iter().all(|(k, x)| b.get(k).is_some_and(|y| same(x, y)))
}
