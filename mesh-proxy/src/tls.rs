//! TLS of a proxy: what terminates and originates it, by plan; kept across snapshots, so that sessions and key material
//! that did not change stay.

use std::sync::Arc;

use arc_swap::ArcSwap;
use mesh_core::api::ContentHash;
use mesh_core::snapshot::{DownstreamTls, Map, MeshAuthority, Snapshot, TlsServer, UpstreamTls};
use mesh_tls::{Acceptor, Authorities, Connector, Roots, Secrets};
use tokio::sync::watch;

/// Acceptors and connectors by the hash of their plan.
#[derive(Default)]
pub struct Tls {
    secrets: Arc<Secrets>,
    connectors: ArcSwap<Map<ContentHash, Arc<Connector>>>,
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
        self.connectors.load().get(&plan.hash).map_or_else(|| self.new_connector(plan), Arc::clone)
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
            let upstream = snapshot.clusters.values().filter_map(|c| c.tls.as_ref().or(c.auto_tls.as_ref()));
            let made = upstream.map(|p| (p.hash, old.get(&p.hash).map_or_else(|| self.new_connector(p), Arc::clone)));
            self.connectors.store(Arc::new(made.collect()));
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
