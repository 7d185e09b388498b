//! From deltas to what is in force, for proxies and for applications that embed the mesh.

use std::sync::Arc;

use mesh_core::compile::{Compiled, compile};
use mesh_core::endpoints::Finder;
use mesh_core::model::Health;
use mesh_core::snapshot::{ClusterPlan, EndpointSource, Map, ProxyId, Snapshot};
use mesh_core::wire::{Ack, Delta};
use mesh_core::world::World;

use crate::http::Proxy;
use crate::listener::{Engine, Shared};
use crate::net::Net;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::{Metrics, Neighbours};

/// What others want to know about the configuration in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Facts {
    /// Some configuration is in force.
    pub(crate) configured: bool,
    /// The mesh sends traffic to this workload.
    pub(crate) receives_traffic: bool,
}

/// Applies deltas.
pub(crate) struct InForce<N: Net> {
    id: ProxyId,
    shared: Arc<Shared<N, Proxy<N>>>,
    metrics: Arc<Metrics>,
    log: Option<Arc<AccessLog>>,
    world: World,
    compiled: Option<Compiled>,
}

impl<N: Net> InForce<N> {
    /// Nothing is in force yet. `log` follows `accessLogFormat`.
    pub(crate) fn new(
        id: ProxyId,
        shared: Arc<Shared<N, Proxy<N>>>,
        metrics: Arc<Metrics>,
        log: Option<Arc<AccessLog>>,
    ) -> Self {
        Self { id, shared, metrics, log, world: World::new(), compiled: None }
    }

    /// The plan, once there is one.
    #[cfg(feature = "bin")]
    pub(crate) fn snapshot(&self) -> Option<&Arc<Snapshot>> {
        self.compiled.as_ref().map(|c| &c.snapshot)
    }

    /// Brings a delta into force: when it returns, every worker uses it for new requests.
    pub(crate) fn apply(&mut self, delta: Delta) -> (Ack, Facts) {
        let instances = self.world.instances();
        let (world, rejected) = std::mem::take(&mut self.world).after(&delta);
        // What was read is not needed any more; what is made of it takes its room.
        let Delta { nonce, changed, removed: _ } = delta;
        drop(changed);
        let same_instances = instances.are_those_of(&world);
        let compiled = compile(&world, &self.id, self.compiled.as_ref());
        let snapshot = compiled.snapshot.clone();
        self.set_endpoints(&world, &snapshot, same_instances);
        if let Some(Err(error)) = self.log.as_ref().map(|log| log.configure(&snapshot.proxy)) {
            tracing::error!(%error, "accessLogFormat; the format before stays in force");
        }
        if self.compiled.is_none() || !same_instances {
            self.metrics.set_neighbours(neighbours(&world, &self.id));
        }
        let before = self.shared.snapshot();
        if before.is_none_or(|b| b.hash != snapshot.hash) {
            self.shared.activate(&snapshot);
        }
        let own = world.workload(&self.id.workload);
        let receives_traffic = own.is_some_and(|w| w.health == Health::Healthy);
        self.world = world;
        self.compiled = Some(compiled);
        let ack = Ack { nonce, config: snapshot.hash, rejected };
        (ack, Facts { configured: true, receives_traffic })
    }

    /// Endpoints come first: a new cluster has them when the first request comes. `same_instances`: services and
    /// workloads are those that the compilation before had.
    fn set_endpoints(&self, world: &World, snapshot: &Snapshot, same_instances: bool) {
        let before = self.compiled.as_ref().filter(|_| same_instances).map(|c| &c.snapshot);
        if before.is_some_and(|b| Arc::ptr_eq(&b.clusters, &snapshot.clusters)) {
            return;
        }
        let known = |name: &Arc<str>, cluster: &Arc<ClusterPlan>| {
            before.is_some_and(|b| b.clusters.get(name).is_some_and(|old| Arc::ptr_eq(old, cluster)))
        };
        let has_endpoints = |cluster: &ClusterPlan| match cluster.source {
            EndpointSource::Service { .. } => true,
            // Of addresses that clients choose, it is only said how they are spoken to.
            EndpointSource::OriginalDst { .. } => {
                cluster.auto_tls.is_some() || cluster.tls.as_ref().is_some_and(|tls| tls.is_mesh())
            }
            _ => false,
        };
        let fresh = || snapshot.clusters.iter().filter(|(name, c)| has_endpoints(c) && !known(name, c));
        self.shared.http.runtime().expect(fresh().map(|(name, _)| name));
        let mut finder = Finder::new(world);
        for (name, cluster) in fresh() {
            self.shared.http.set_endpoints(name, finder.endpoints(cluster).into_iter().map(Arc::new).collect());
        }
    }
}

fn neighbours(world: &World, id: &ProxyId) -> Neighbours {
    let mut by_address = Map::default();
    for workload in world.workloads().iter() {
        by_address.extend(workload.addresses.iter().map(|a| (*a, workload.clone())));
    }
    Neighbours { own: world.workload(&id.workload).cloned(), by_address }
}
