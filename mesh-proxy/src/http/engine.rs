//! The HTTP half as listeners, TCP streams and the configuration see it.

use std::sync::Arc;

use mesh_core::error::{Error, ErrorKind};
use mesh_core::layers::affinity::of_connection;
use mesh_core::layers::limits::Resource;
use mesh_core::record::ConnInfo;
use mesh_core::snapshot::{ClusterPlan, Direction, DownstreamTls, Endpoint, Snapshot, TunnelPlan};
use mesh_tls::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};

use super::dispatch::Source;
use super::{Proxy, serve_connection};
use crate::admin::ClusterEndpoints;
use crate::cluster::Choice;
use crate::drain::Drain;
use crate::listener::{Engine, HttpServer, Route, Served};
use crate::net::Net;
use crate::stack::activate;
use crate::tcp::{Gate, Upstream, Upstreams};

impl<N: Net> Upstreams<N::Stream> for Proxy<N> {
    async fn open(
        &self,
        plan: &ClusterPlan,
        conn: &ConnInfo,
        through: Option<&TunnelPlan>,
    ) -> Result<Upstream<N::Stream>, Error> {
        if self.runtime.application.is_some() && conn.direction == Direction::Inbound {
            let port = conn.local.port();
            tracing::warn!(port, "the plan has bytes for this port, and the application serves HTTP: name it http-…");
            return Err(Error::new(ErrorKind::NoCluster));
        }
        let cluster = self.runtime.cluster(&plan.name);
        // Nothing queues: a stream that waited for another to end would wait for ever.
        let permit = cluster.usage().take(Resource::Connections, plan.pool.max_connections);
        let permit = permit.ok_or_else(|| Error::new(ErrorKind::Overflow))?;
        let hash = plan.balancing.hash_key.as_ref().and_then(|key| of_connection(key, conn));
        let picked = self.runtime.pick(plan, &cluster, conn, Choice { hash, ..Choice::default() }).await?;
        let connected = self.runtime.dial_bytes(plan, picked.member(), conn, through).await;
        cluster.connected(picked.member(), connected.as_ref().map(|_| ()));
        let stream = connected?;
        let endpoint = picked.member().endpoint().clone();
        Ok(Upstream { stream, endpoint, guard: Box::new((picked, permit)) })
    }
}

impl<N: Net, S: AsyncRead + AsyncWrite + Unpin + Send + 'static> HttpServer<S> for Proxy<N> {
    fn serve(&self, io: S, conn: Arc<ConnInfo>, route: Route, drain: Drain) -> Served {
        serve_connection(io, Source::new(conn, route), Arc::clone(&self.active), drain)
    }
}

impl<N: Net> Engine<N::Stream> for Proxy<N> {
    fn activate(&self, snapshot: &Arc<Snapshot>) {
        let previous = self.active.load_full();
        let same_clusters = previous.as_ref().is_some_and(|p| p.has_clusters_of(snapshot));
        self.runtime.tls.follow(snapshot, same_clusters);
        self.runtime.preserve_case(snapshot.proxy.preserve_case);
        let old = previous.as_ref().map(|p| Arc::clone(&p.snapshot));
        let known = |plan: &Arc<ClusterPlan>| {
            old.as_ref().and_then(|o| o.clusters.get(&plan.name)).is_some_and(|old| Arc::ptr_eq(old, plan))
        };
        let changed = || snapshot.clusters.values().filter(|_| !same_clusters).filter(|plan| !known(plan));
        self.runtime.expect(changed().map(|plan| &plan.name));
        for plan in changed() {
            self.runtime.configure(plan);
        }
        self.runtime.snapshot.store(Some(Arc::clone(snapshot)));
        let next = activate(Arc::clone(snapshot), &self.runtime, previous.as_deref());
        self.streams.send_if_modified(|old| {
            let other = !Arc::ptr_eq(old, next.stream_policies());
            if other {
                *old = Arc::clone(next.stream_policies());
            }
            other
        });
        self.active.store(Some(Arc::new(next)));
        drop(previous);
        self.runtime.keys.sweep();
        for plan in changed() {
            self.runtime.follow_names(plan);
        }
        if !same_clusters {
            self.runtime.retain(|name| snapshot.clusters.contains_key(name));
        }
    }

    fn set_endpoints(&self, cluster: &Arc<str>, endpoints: Vec<Arc<Endpoint>>) {
        self.runtime.set_endpoints(cluster, endpoints);
    }

    fn gate(&self) -> Gate {
        Gate::new(self.streams.subscribe(), self.runtime.denials.clone())
    }

    fn acceptor(&self, plan: &Arc<DownstreamTls>) -> Arc<Acceptor> {
        self.runtime.tls.acceptor(plan)
    }

    fn endpoints(&self) -> Vec<ClusterEndpoints> {
        self.runtime.all_endpoints()
    }
}
