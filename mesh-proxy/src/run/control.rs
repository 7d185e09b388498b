//! From deltas to what is in force.

use std::convert::Infallible;
use std::sync::Arc;

use mesh_core::compile::{Compiled, compile};
use mesh_core::endpoints::endpoints;
use mesh_core::model::Health;
use mesh_core::snapshot::{ClusterPlan, EndpointSource, Map, ProxyId, Snapshot};
use mesh_core::wire::{Ack, ConfigSource, Delta};
use mesh_core::world::World;
use tokio::sync::watch;
use tokio::time::{Duration, interval};

use super::admin_state::State;
use super::doors::Doors;
use super::{Process, follow};
use crate::listener::Engine;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::{Metrics, Neighbours};

/// How often ports that could not be opened are tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What others want to know about the configuration in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Facts {
    /// Some configuration is in force.
    pub(super) configured: bool,
    /// The mesh sends traffic to this workload.
    pub(super) receives_traffic: bool,
}

/// Applies deltas.
pub(super) struct Control {
    id: ProxyId,
    shared: Process,
    doors: Doors,
    state: Arc<State>,
    metrics: Arc<Metrics>,
    log: Arc<AccessLog>,
    world: World,
    compiled: Option<Compiled>,
    facts: watch::Sender<Facts>,
}

impl Control {
    pub(super) fn new(
        id: ProxyId,
        shared: Process,
        doors: Doors,
        state: Arc<State>,
        metrics: Arc<Metrics>,
        log: Arc<AccessLog>,
    ) -> Self {
        let facts = watch::Sender::default();
        Self { id, shared, doors, state, metrics, log, world: World::new(), compiled: None, facts }
    }

    /// To follow what is in force.
    pub(super) fn facts(&self) -> watch::Receiver<Facts> {
        self.facts.subscribe()
    }

    /// Applies deltas for ever. A delta is acknowledged when every worker uses it for new requests and its ports are open.
    pub(super) async fn run(mut self, mut source: impl ConfigSource) -> Infallible {
        let mut retry = interval(RETRY);
        loop {
            tokio::select! {
                delta = follow(&mut source) => {
                    let ack = self.apply(&delta).await;
                    source.ack(ack).await;
                }
                _ = retry.tick(), if self.doors.are_missing() => self.open_doors().await,
            }
        }
    }

    async fn apply(&mut self, delta: &Delta) -> Ack {
        let instances = self.world.instances();
        let (world, rejected) = std::mem::take(&mut self.world).after(delta);
        let same_instances = instances.are_those_of(&world);
        let compiled = compile(&world, &self.id, self.compiled.as_ref());
        let snapshot = compiled.snapshot.clone();
        self.set_endpoints(&world, &snapshot, same_instances);
        if let Err(error) = self.log.configure(&snapshot.proxy) {
            tracing::error!(%error, "accessLogFormat; the format before stays in force");
        }
        if self.compiled.is_none() || !same_instances {
            self.metrics.set_neighbours(neighbours(&world, &self.id));
        }
        let before = self.shared.snapshot.load_full();
        if before.is_none_or(|b| b.hash != snapshot.hash) {
            self.shared.activate(&snapshot);
        }
        let own = world.workload(&self.id.workload);
        let receives_traffic = own.is_some_and(|w| w.health == Health::Healthy);
        self.world = world;
        self.compiled = Some(compiled);
        self.open_doors().await;
        self.facts.send_replace(Facts { configured: true, receives_traffic });
        self.state.set_configured();
        Ack { nonce: delta.nonce.clone(), config: snapshot.hash, rejected }
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
        for (name, cluster) in snapshot.clusters.iter() {
            // Of addresses that clients choose, it is only said how they are spoken to.
            let chosen = matches!(cluster.source, EndpointSource::Service { .. });
            let tls = cluster.auto_tls.is_some() || cluster.tls.as_ref().is_some_and(|tls| tls.is_mesh());
            let dialled = matches!(cluster.source, EndpointSource::OriginalDst { .. }) && tls;
            if (chosen || dialled) && !known(name, cluster) {
                self.shared.http.set_endpoints(name, endpoints(world, cluster).into_iter().map(Arc::new).collect());
            }
        }
    }

    async fn open_doors(&mut self) {
        if let Some(compiled) = &self.compiled {
            self.doors.reconcile(&compiled.snapshot).await;
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
