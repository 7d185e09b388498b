//! The stacks of a virtual host's routes. Each is made when a request takes the route for the first time: of the thousands
//! that a proxy may have, most are never taken. What they lead to is held from the beginning, so that they are the ones of
//! their snapshot whenever that is.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::StatusCode;
use mesh_core::layers::limits::Usage;
use mesh_core::layers::mirror::Budget;
use mesh_core::layers::rate_limit::Limit;
use mesh_core::layers::{BoxService, MirrorTarget, RetryLimit};
use mesh_core::snapshot::{
    Action, ClusterPlan, Direction, Map, MirrorPlan, RateLimitPlan, RoutePlan, Snapshot, VirtualHostPlan,
};

use super::{Common, Place};
use crate::cluster::Runtime;
use crate::net::Net;
use crate::pool::Destination;

/// Each destination, in the plan's order; redirects and direct responses have one.
type RouteServices = Box<[RouteTarget]>;

/// The stack of a destination, and what it leads to.
pub(super) struct RouteTarget {
    pub(super) service: BoxService,
    /// What the log names, also if the stack answers itself.
    pub(super) cluster: Option<Arc<ClusterPlan>>,
}

/// The routes of a virtual host, and what their stacks are made from.
pub(super) struct Host {
    pub(super) plan: Arc<VirtualHostPlan>,
    direction: Direction,
    maker: Arc<dyn Make>,
    /// In the order of its routes.
    routes: Box<[Stacks]>,
}

/// The stacks of a route.
struct Stacks {
    /// Its destinations, then its mirrors; `None`: there is no cluster of that name.
    leads: Box<[Option<Arc<dyn Lead>>]>,
    made: OnceLock<RouteServices>,
}

impl Host {
    pub(super) fn new<N: Net>(
        plan: &Arc<VirtualHostPlan>,
        direction: Direction,
        maker: &Arc<Maker<N>>,
        in_force: &Snapshot,
    ) -> Self {
        let lead = |name: &Arc<str>| in_force.clusters.get(name).map(|plan| maker.lead(plan));
        let stacks = |route: &Arc<RoutePlan>| {
            let stacks = Stacks { leads: names(route).map(lead).collect(), made: OnceLock::new() };
            if !route.filters.rate_limits.is_empty() {
                // Their buckets go on while some stack has them.
                stacks.make(&**maker, route, direction);
            }
            stacks
        };
        let routes = plan.routes.iter().map(stacks).collect();
        Self { plan: Arc::clone(plan), direction, maker: Arc::clone(maker) as _, routes }
    }

    /// Whether its routes lead to these clusters, not to others of the same names.
    pub(super) fn is_current(&self, clusters: &Map<Arc<str>, Arc<ClusterPlan>>) -> bool {
        let same = |(name, then): (&Arc<str>, &Option<Arc<dyn Lead>>)| match (clusters.get(name), then) {
            (Some(now), Some(then)) => Arc::ptr_eq(now, then.plan()),
            (now, then) => now.is_none() && then.is_none(),
        };
        let mut routes = self.plan.routes.iter().zip(&self.routes);
        routes.all(|(route, stacks)| names(route).zip(&stacks.leads).all(same))
    }

    /// The stack of a destination.
    pub(super) fn target(&self, route: usize, destination: usize) -> Option<&RouteTarget> {
        let stacks = self.routes.get(route)?;
        let made = match stacks.made.get() {
            Some(made) => made,
            None => stacks.make(&*self.maker, self.plan.routes.get(route)?, self.direction),
        };
        made.get(destination)
    }

    /// The stacks of all destinations, and of the clusters below them.
    pub(super) fn all(&self) -> impl Iterator<Item = (&RouteTarget, Option<BoxService>)> {
        let routes = self.plan.routes.iter().zip(&self.routes);
        routes.flat_map(move |(route, stacks)| {
            let below = stacks.leads.iter().map(move |lead| Some(Arc::clone(lead.as_ref()?).stack(per_try(route))));
            let made = stacks.make(&*self.maker, route, self.direction);
            made.iter().zip(below.chain(std::iter::repeat(None)))
        })
    }

    #[cfg(test)]
    pub(super) fn made(&self) -> usize {
        self.routes.iter().filter(|stacks| stacks.made.get().is_some()).count()
    }
}

impl Stacks {
    fn make(&self, maker: &dyn Make, route: &Arc<RoutePlan>, direction: Direction) -> &[RouteTarget] {
        self.made.get_or_init(|| maker.route(route, direction, &self.leads))
    }
}

/// Names of the clusters that a route leads to: of its destinations, then of its mirrors.
fn names(route: &RoutePlan) -> impl Iterator<Item = &Arc<str>> {
    let mirrors = route.filters.mirrors.iter().map(|mirror| &mirror.cluster);
    destinations(route).iter().map(|target| &target.cluster).chain(mirrors)
}

fn destinations(route: &RoutePlan) -> &[mesh_core::snapshot::WeightedCluster] {
    match &route.action {
        Action::Forward(targets) => targets,
        Action::Redirect(_) | Action::Direct(_) => &[],
    }
}

fn per_try(route: &RoutePlan) -> Option<Duration> {
    route.retry.as_ref().and_then(|retry| retry.per_try_timeout)
}

/// A cluster that a route leads to.
trait Lead: Send + Sync {
    fn plan(&self) -> &Arc<ClusterPlan>;

    /// Its stack, for routes with this timeout of one try.
    fn stack(self: Arc<Self>, per_try: Option<Duration>) -> BoxService;

    fn usage(&self) -> Arc<Usage>;

    /// Bounds of the copies that are mirrored there.
    fn copies(&self) -> Arc<Budget>;
}

impl<N: Net> Lead for Destination<N> {
    fn plan(&self) -> &Arc<ClusterPlan> {
        &self.plan
    }

    fn stack(self: Arc<Self>, per_try: Option<Duration>) -> BoxService {
        BoxService::new(super::cluster(self, per_try))
    }

    fn usage(&self) -> Arc<Usage> {
        Arc::clone(self.cluster.usage())
    }

    fn copies(&self) -> Arc<Budget> {
        self.cluster.copies()
    }
}

/// Makes the stacks of a route.
trait Make: Send + Sync {
    fn route(&self, plan: &Arc<RoutePlan>, direction: Direction, leads: &[Option<Arc<dyn Lead>>]) -> RouteServices;
}

/// What all stacks of routes are made with.
pub(super) struct Maker<N: Net> {
    pub(super) common: Common,
    pub(super) runtime: Arc<Runtime<N>>,
}

impl<N: Net> Make for Maker<N> {
    fn route(&self, plan: &Arc<RoutePlan>, direction: Direction, leads: &[Option<Arc<dyn Lead>>]) -> RouteServices {
        let targets = destinations(plan);
        let (leads, mirrors) = leads.split_at(targets.len());
        let unknown = StatusCode::SERVICE_UNAVAILABLE;
        let mirrors: Vec<_> = mirrors.iter().map(|lead| (lead, below(lead.as_ref(), None, unknown))).collect();
        if targets.is_empty() {
            // Its stack answers before it gets to a cluster, or there is nowhere to go.
            let nowhere = BoxService::new(super::no_cluster(unknown));
            let service = self.destination(plan, Place { direction, destination: 0 }, (nowhere, None), &[]);
            let answers = !matches!(plan.action, Action::Forward(_));
            return answers.then_some(RouteTarget { service, cluster: None }).into_iter().collect();
        }
        let all = targets.iter().zip(leads).enumerate();
        all.map(|(destination, (target, lead))| {
            let cluster = match (&self.runtime.application, direction) {
                (Some(application), Direction::Inbound) => application.clone(),
                _ => below(lead.as_ref(), per_try(plan), target.missing_status),
            };
            let limit = lead.as_ref().map(|lead| RetryLimit {
                // Counted where there is no limit, too: there may be one in the next snapshot.
                pool: mesh_core::snapshot::PoolPlan::clone(&lead.plan().pool),
                usage: lead.usage(),
            });
            let service = self.destination(plan, Place { direction, destination }, (cluster, limit), &mirrors);
            RouteTarget { service, cluster: lead.as_ref().map(|lead| Arc::clone(lead.plan())) }
        })
        .collect()
    }
}

/// The stack of a cluster, if there is one.
fn below(lead: Option<&Arc<dyn Lead>>, per_try: Option<Duration>, missing: StatusCode) -> BoxService {
    match lead {
        Some(lead) => Arc::clone(lead).stack(per_try),
        None => BoxService::new(super::no_cluster(missing)),
    }
}

/// A mirror's cluster and its stack.
type Below<'a> = (&'a Option<Arc<dyn Lead>>, BoxService);

impl<N: Net> Maker<N> {
    fn lead(&self, plan: &Arc<ClusterPlan>) -> Arc<dyn Lead> {
        let (runtime, cluster) = (Arc::clone(&self.runtime), self.runtime.cluster(&plan.name));
        Arc::new(Destination { runtime, cluster, plan: Arc::clone(plan) })
    }

    fn destination(
        &self,
        plan: &Arc<RoutePlan>,
        place: Place,
        below: (BoxService, Option<RetryLimit>),
        mirrors: &[Below<'_>],
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
    fn targets(&self, plan: &RoutePlan, direction: Direction, clusters: &[Below<'_>]) -> Vec<MirrorTarget> {
        let target = |(mirror, (lead, cluster)): (&MirrorPlan, &Below<'_>)| MirrorTarget {
            name: Arc::clone(&mirror.cluster),
            service: BoxService::new(super::copy(&self.common, plan, direction, cluster.clone())),
            share: mirror.share,
            budget: lead.as_ref().map(|lead| lead.copies()).unwrap_or_default(),
        };
        plan.filters.mirrors.iter().zip(clusters).map(target).collect()
    }
}
