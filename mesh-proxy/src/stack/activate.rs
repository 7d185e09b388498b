//! From a snapshot to services. What did not change keeps its service, so a change costs what it touches.

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_core::api::ContentHash;
use mesh_core::layers::modify::NodeFacts;
use mesh_core::layers::order;
use mesh_core::snapshot::{Direction, HttpPlan, ListenerKey, Map, Snapshot, TlsThen, VirtualHostPlan};

use super::host::{Host, Maker};
use super::router::{Router, Routes};
use super::{Common, Inbound, Outbound, Security};
use crate::cluster::Runtime;
use crate::listener::server_id;
use crate::net::Net;
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
    security: Arc<Security>,
}

/// A listener, and which of its TLS servers; 0 for its own HTTP.
type HttpKey = (ListenerKey, ContentHash);

struct Built {
    plan: Arc<HttpPlan>,
    security: Arc<Security>,
    router: Router,
    stack: Arc<HttpStack>,
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
        let hosts = self.http.values().flat_map(|built| &built.router.routes().hosts);
        let routes = hosts.flat_map(|host| host.all()).flat_map(|(route, cluster)| {
            let cluster = cluster.map(|cluster| format!("cluster: {}", cluster.order()));
            std::iter::once(format!("route: {}", route.service.order())).chain(cluster)
        });
        let listeners = self.http.values().map(|built| match &*built.stack {
            HttpStack::Inbound(_) => format!("inbound: {}", order::<Inbound>()),
            HttpStack::Outbound(_) => format!("outbound: {}", order::<Outbound>()),
        });
        listeners.chain(routes).collect()
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
    let maker = Arc::new(Maker { common, runtime: Arc::clone(runtime) });
    let building = Building { maker, snapshot: &snapshot, security: &security, previous, same_clusters };
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
    Active { snapshot, http, security }
}

fn node<N: Net>(snapshot: &Snapshot, runtime: &Runtime<N>) -> Arc<NodeFacts> {
    let hostname = snapshot.proxy.id.name.to_string();
    Arc::new(NodeFacts { hostname, variables: runtime.variables.clone() })
}

struct Building<'a, N: Net> {
    maker: Arc<Maker<N>>,
    snapshot: &'a Snapshot,
    security: &'a Arc<Security>,
    previous: Option<&'a Active>,
    /// No cluster is another one than in `previous`.
    same_clusters: bool,
}

impl<N: Net> Building<'_, N> {
    fn listener(&self, at: HttpKey, plan: &Arc<HttpPlan>) -> Arc<Built> {
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
                None => Arc::new(Host::new(host, key.direction, &self.maker, self.snapshot)),
            });
        }
        if let Some(old) = old
            && same_policies
            && Arc::ptr_eq(&old.plan, plan)
            && before.iter().zip(&hosts).all(|(a, b)| Arc::ptr_eq(a, b))
        {
            return Arc::clone(old);
        }
        let common = &self.maker.common;
        let router = Router::new(Routes { plan: Arc::clone(plan), hosts, env: Arc::clone(&common.env) });
        let guards = self.security.of_listener(key);
        let stack = match key.direction {
            Direction::Inbound => HttpStack::Inbound(super::inbound(common, plan, guards, router.clone())),
            direction @ (Direction::Outbound | Direction::Gateway) => {
                HttpStack::Outbound(super::outbound(common, plan, direction, guards, router.clone()))
            }
        };
        let (plan, security) = (Arc::clone(plan), Arc::clone(self.security));
        Arc::new(Built { plan, security, router, stack: Arc::new(stack) })
    }

    /// Whether the clusters of a virtual host are still the same.
    fn is_current(&self, host: &Host) -> bool {
        self.same_clusters || host.is_current(&self.snapshot.clusters)
    }
}

#[cfg(test)]
mod tests;
