//! TLS of a proxy: what terminates and originates it, by plan; kept across snapshots, so that sessions and key material
//! that did not change stay.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use mesh_core::api::ContentHash;
use mesh_core::snapshot::{DownstreamTls, Map, MeshAuthority, Snapshot, TlsServer, UpstreamTls};
use mesh_tls::{Acceptor, Authorities, Connector, Roots, SecretRef, SecretSource, SecretState, Secrets};
use parking_lot::Mutex;
use tokio::sync::watch;

/// What originates TLS by one plan, from its first connection on: most clusters of a large mesh have none.
#[derive(Clone)]
struct Originates {
    plan: Arc<UpstreamTls>,
    connector: OnceLock<Arc<Connector>>,
}

impl From<&Arc<UpstreamTls>> for Originates {
    fn from(plan: &Arc<UpstreamTls>) -> Self {
        Self { plan: Arc::clone(plan), connector: OnceLock::new() }
    }
}

/// Acceptors and connectors by the hash of their plan.
#[derive(Default)]
pub struct Tls {
    secrets: Arc<Secrets>,
    connectors: ArcSwap<Map<ContentHash, Originates>>,
    /// What connectors need, whether they are made already or not.
    needed: Mutex<BTreeMap<SecretRef, watch::Receiver<SecretState>>>,
    acceptors: ArcSwap<Map<ContentHash, Arc<Acceptor>>>,
    /// Who vouches for workloads beside the mesh's CA, as the plan says.
    trusted: ArcSwap<Box<[MeshAuthority]>>,
    authorities: watch::Sender<Vec<Authorities>>,
}

impl Tls {
    /// Key material, for those who deliver it.
    pub fn secrets(&self) -> &Arc<Secrets> {
        &self.secrets
    }

    /// Who vouches for workloads beside the mesh's CA, for who delivers the mesh's roots.
    pub fn authorities(&self) -> watch::Receiver<Vec<Authorities>> {
        self.authorities.subscribe()
    }

    /// What originates TLS by this plan.
    pub(crate) fn connector(&self, plan: &Arc<UpstreamTls>) -> Arc<Connector> {
        match self.connectors.load().get(&plan.hash) {
            Some(Originates { plan, connector }) => Arc::clone(connector.get_or_init(|| self.new_connector(plan))),
            None => self.new_connector(plan),
        }
    }

    /// What ends TLS by this plan.
    pub(crate) fn acceptor(&self, plan: &Arc<DownstreamTls>) -> Arc<Acceptor> {
        self.acceptors.load().get(&plan.hash).map_or_else(|| self.new_acceptor(plan), Arc::clone)
    }

    fn new_connector(&self, plan: &Arc<UpstreamTls>) -> Arc<Connector> {
        Arc::new(Connector::new(Arc::clone(plan), &*self.secrets))
    }

    fn new_acceptor(&self, plan: &Arc<DownstreamTls>) -> Arc<Acceptor> {
        Arc::new(Acceptor::new(Arc::clone(plan), &*self.secrets))
    }

    /// Makes what a snapshot needs, so that its key material is on its way before the first connection, and forgets what
    /// no plan names any more. `same_clusters`: they are those of the snapshot before.
    pub(crate) fn follow(&self, snapshot: &Snapshot, same_clusters: bool) {
        self.trust(&snapshot.proxy.authorities);
        if !same_clusters {
            let old = self.connectors.load();
            let upstream = || snapshot.clusters.values().filter_map(|c| c.tls.as_ref().or(c.auto_tls.as_ref()));
            let next = upstream().map(|plan| (plan.hash, old.get(&plan.hash).cloned().unwrap_or_else(|| plan.into())));
            self.connectors.store(Arc::new(next.collect()));
            let mut needed = self.needed.lock();
            let names: BTreeSet<&SecretRef> = upstream().flat_map(|plan| Connector::needs(plan)).collect();
            needed.retain(|name, _| names.contains(name));
            for name in names {
                if !needed.contains_key(name) {
                    needed.insert(name.clone(), self.secrets.watch(name));
                }
            }
        }
        let old = self.acceptors.load();
        let servers = snapshot.listeners.values().flat_map(|l| &l.tls).map(|TlsServer { tls, .. }| tls);
        let mesh = snapshot.listeners.values().filter_map(|l| l.mesh.as_ref()).map(|m| &m.tls);
        let mut made: Map<ContentHash, Arc<Acceptor>> = Map::default();
        for plan in servers.chain(mesh) {
            let known = || old.get(&plan.hash).map_or_else(|| self.new_acceptor(plan), Arc::clone);
            made.entry(plan.hash).or_insert_with(known);
        }
        self.acceptors.store(Arc::new(made));
    }

    /// Reads other authorities when they have changed. Those that can't be read vouch for nobody.
    fn trust(&self, plan: &[MeshAuthority]) {
        if ***self.trusted.load() == *plan {
            return;
        }
        let read = |MeshAuthority { pem, trust_domains }: &MeshAuthority| {
            let roots = Roots::bundle(pem.as_bytes()).unwrap_or_else(|error| {
                tracing::warn!(?trust_domains, %error, "caCertificates can't be used");
                // Nobody else is to vouch for its workloads instead.
                Roots::nobody()
            });
            Authorities { trust_domains: trust_domains.clone(), roots: Arc::new(roots) }
        };
        self.authorities.send_replace(plan.iter().map(read).collect());
        self.trusted.store(Arc::new(plan.into()));
    }
}
