//! From a snapshot to services. What did not change keeps its service, so a change costs what it touches.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use mesh_core::api::ContentHash;
use mesh_core::layers::modify::NodeFacts;
use mesh_core::layers::rate_limit::Limit;
use mesh_core::layers::{BoxService, MirrorTarget, RetryLimit, order};
use mesh_core::snapshot::{
    Action, ClusterPlan, Direction, HttpPlan, ListenerKey, Map, MirrorPlan, RateLimitPlan, RoutePlan, Snapshot,
    TlsThen, VirtualHostPlan,
};

use super::router::{RouteServices, RouteTarget, Router, Routes};
use super::{Common, Inbound, Outbound, Place, Security};
use crate::cluster::Runtime;
use crate::listener::server_id;
use crate::net::Net;
use crate::pool::Destination;
use crate::tcp::StreamPolicies;

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
    clusters: Arc<Map<ClusterId, BoxService>>,
    security: Arc<Security>,
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
    security: Arc<Security>,
    router: Router,
    stack: Arc<HttpStack>,
}

/// The stacks of a virtual host's routes, and what they were built for.
pub(super) struct Host {
    plan: Arc<VirtualHostPlan>,
    /// In the order of its routes.
    pub(super) routes: Vec<RouteServices>,
    /// Clusters by the names that the routes have; `None`: there is none of that name.
    clusters: Vec<(Arc<str>, Option<ClusterId>)>,
}

impl Active {
    /// The HTTP stack of a listener, or of one of its TLS servers, if it has one.
    pub fn http(&self, listener: &ListenerKey, server: ContentHash) -> Option<&Arc<HttpStack>> {
        self.http.get(&(*listener, server)).map(|b| &b.stack)
    }

    /// The orders of the Layers of its stacks, a line for each that occurs: `listener`, `route` or `cluster`, and its
    /// [order](mesh_core::layers::order).
    #[must_use]
    pub fn orders(&self) -> BTreeSet<String> {
        let routes = |built: &Arc<Built>| {
            let hosts = built.router.routes().hosts.iter();
            let targets: Vec<_> = hosts.flat_map(|host| &host.routes).flat_map(|route| route.iter()).cloned().collect();
            targets.into_iter().map(|target| format!("route: {}", target.service.order()))
        };
        let listeners = self.http.values().map(|built| match &*built.stack {
            HttpStack::Inbound(_) => format!("inbound: {}", order::<Inbound>()),
            HttpStack::Outbound(_) => format!("outbound: {}", order::<Outbound>()),
        });
        let clusters = self.clusters.values().map(|service| format!("cluster: {}", service.order()));
        listeners.chain(self.http.values().flat_map(routes)).chain(clusters).collect()
    }

    /// Policies for streams of bytes.
    pub(crate) fn stream_policies(&self) -> &Arc<StreamPolicies> {
        &self.security.bytes
    }

    /// Whether it has the very clusters of a snapshot.
    pub(crate) fn has_clusters_of(&self, snapshot: &Snapshot) -> bool {
        Arc::ptr_eq(&self.snapshot.clusters, &snapshot.clusters)
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
    let same_clusters = previous.is_some_and(|p| p.has_clusters_of(&snapshot));
    let security = Security::of(&snapshot, runtime, (previous.map(|p| &p.security), same_clusters));
    let mut building = Building {
        runtime,
        common,
        snapshot: &snapshot,
        security: &security,
        previous,
        same_clusters,
        fresh: Map::default(),
    };
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
    let clusters = building.clusters(&http);
    Active { snapshot, http, clusters, security }
}

fn node<N: Net>(snapshot: &Snapshot, runtime: &Runtime<N>) -> Arc<NodeFacts> {
    let hostname = snapshot.proxy.id.name.to_string();
    Arc::new(NodeFacts { hostname, variables: runtime.variables.clone() })
}

struct Building<'a, N: Net> {
    runtime: &'a Arc<Runtime<N>>,
    common: Common,
    snapshot: &'a Snapshot,
    security: &'a Arc<Security>,
    previous: Option<&'a Active>,
    /// No cluster is another one than in `previous`.
    same_clusters: bool,
    /// Stacks of clusters that `previous` does not have.
    fresh: Map<ClusterId, BoxService>,
}

impl<N: Net> Building<'_, N> {
    fn listener(&mut self, at: HttpKey, plan: &Arc<HttpPlan>) -> Arc<Built> {
        let (key, _) = at;
        let old = self.previous.and_then(|p| p.http.get(&at));
        let same_policies = old.is_some_and(|old| Arc::ptr_eq(&old.security, self.security));
        if let Some(old) = old.filter(|old| self.same_clusters && same_policies && Arc::ptr_eq(&old.plan, plan)) {
            return Arc::clone(old);
        }
        let before = old.map_or(&[][..], |old| &old.router.routes().hosts);
        let mut by_plan: Option<Map<*const VirtualHostPlan, &Arc<Host>>> = None;
        let mut hosts = Vec::with_capacity(plan.routes.hosts.len());
        for (place, host) in plan.routes.hosts.iter().enumerate() {
            // While only routes change, each virtual host keeps its place.
            let known = before.get(place).filter(|b| Arc::ptr_eq(&b.plan, host)).or_else(|| {
                let all = || before.iter().map(|b| (Arc::as_ptr(&b.plan), b)).collect();
                by_plan.get_or_insert_with(all).get(&Arc::as_ptr(host)).copied()
            });
            hosts.push(match known.filter(|known| self.is_current(known)) {
                Some(known) => Arc::clone(known),
                None => Arc::new(self.host(host, key.direction)),
            });
        }
        if let Some(old) = old
            && same_policies
            && Arc::ptr_eq(&old.plan, plan)
            && before.iter().zip(&hosts).all(|(a, b)| Arc::ptr_eq(a, b))
        {
            return Arc::clone(old);
        }
        let router = Router::new(Routes { plan: Arc::clone(plan), hosts, env: Arc::clone(&self.common.env) });
        let guards = self.security.of_listener(key);
        let stack = match key.direction {
            Direction::Inbound => HttpStack::Inbound(super::inbound(&self.common, plan, guards, router.clone())),
            direction @ (Direction::Outbound | Direction::Gateway) => {
                HttpStack::Outbound(super::outbound(&self.common, plan, direction, guards, router.clone()))
            }
        };
        let (plan, security) = (Arc::clone(plan), Arc::clone(self.security));
        Arc::new(Built { plan, security, router, stack: Arc::new(stack) })
    }

    /// Whether the clusters of a virtual host are still the same.
    fn is_current(&self, host: &Host) -> bool {
        let same = |(name, id): &(Arc<str>, Option<ClusterId>)| match (self.snapshot.clusters.get(name), id) {
            (Some(now), Some(ClusterId(then, _))) => Arc::ptr_eq(now, then),
            (now, then) => now.is_none() && then.is_none(),
        };
        self.same_clusters || host.clusters.iter().all(same)
    }

    fn host(&mut self, plan: &Arc<VirtualHostPlan>, direction: Direction) -> Host {
        let mut clusters = Vec::new();
        let routes = plan.routes.iter().map(|r| self.route(r, direction, &mut clusters)).collect();
        Host { plan: Arc::clone(plan), routes, clusters }
    }

    fn route(
        &mut self,
        plan: &Arc<RoutePlan>,
        direction: Direction,
        used: &mut Vec<(Arc<str>, Option<ClusterId>)>,
    ) -> RouteServices {
        let per_try = plan.retry.as_ref().and_then(|r| r.per_try_timeout);
        let mirrors = &plan.filters.mirrors;
        let unknown = StatusCode::SERVICE_UNAVAILABLE;
        let mirrors: Vec<_> = mirrors.iter().map(|m| self.cluster(&m.cluster, None, unknown, used)).collect();
        match &plan.action {
            Action::Forward(targets) => {
                let all = targets.iter().enumerate();
                all.map(|(destination, target)| {
                    let cluster = match (&self.runtime.application, direction) {
                        (Some(application), Direction::Inbound) => application.clone(),
                        _ => self.cluster(&target.cluster, per_try, target.missing_status, used),
                    };
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
        &self,
        plan: &Arc<RoutePlan>,
        place: Place,
        below: (BoxService, Option<RetryLimit>),
        mirrors: &[BoxService],
    ) -> BoxService {
        let beside = (self.limits(plan), self.targets(plan, place.direction, mirrors));
        BoxService::new(super::route(&self.common, plan, place, below, beside))
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

    /// The stack of a cluster, which is noted as used.
    fn cluster(
        &mut self,
        name: &Arc<str>,
        per_try: Option<Duration>,
        missing: StatusCode,
        used: &mut Vec<(Arc<str>, Option<ClusterId>)>,
    ) -> BoxService {
        let Some(plan) = self.snapshot.clusters.get(name) else {
            used.push((Arc::clone(name), None));
            return BoxService::new(super::no_cluster(missing));
        };
        let id = ClusterId(Arc::clone(plan), per_try);
        used.push((Arc::clone(name), Some(id.clone())));
        if let Some(known) = self.fresh.get(&id).or_else(|| self.previous?.clusters.get(&id)) {
            return known.clone();
        }
        let to = Destination {
            runtime: Arc::clone(self.runtime),
            cluster: self.runtime.cluster(name),
            plan: Arc::clone(plan),
        };
        let service = BoxService::new(super::cluster(to, per_try));
        self.fresh.insert(id, service.clone());
        service
    }

    /// The stacks of all clusters that routes use now.
    fn clusters(self, http: &Map<HttpKey, Arc<Built>>) -> Arc<Map<ClusterId, BoxService>> {
        let Self { previous, same_clusters, mut fresh, .. } = self;
        let old = previous.map(|p| &p.clusters);
        if let Some(old) = old.filter(|_| same_clusters && fresh.is_empty()) {
            return Arc::clone(old);
        }
        let hosts = http.values().flat_map(|b| &b.router.routes().hosts);
        for id in hosts.flat_map(|h| &h.clusters).filter_map(|(_, id)| id.as_ref()) {
            if !fresh.contains_key(id)
                && let Some(known) = old.and_then(|old| old.get(id))
            {
                fresh.insert(id.clone(), known.clone());
            }
        }
        Arc::new(fresh)
    }
}

#[cfg(test)]
mod tests;
