//! Upstream connections: one shard for each worker and endpoint, newest first, never waiting for each other.
//!
//! A connection is polled by a task of its own on the worker that made it; a request takes the connection out of the
//! shard and its response's body puts it back when it has ended. Nothing is sent on a connection that is known to be
//! closed, and what a closed connection hands back unsent goes to another one, whatever the retry policy says.

mod body;
mod classify;
mod h1;
mod h2;

use std::sync::Arc;

use http::Version;
use http::header::HOST;
use mesh_core::balance::Tried;
use mesh_core::error::Error;
use mesh_core::layers::{Affinity, Request, Response};
use mesh_core::matching::host_without_port;
use mesh_core::record::Cx;
use mesh_core::snapshot::{ClusterPlan, UpstreamProtocol};
use parking_lot::Mutex;

use crate::cluster::{Choice, Cluster, Runtime};
use crate::dial::ConnKey;
use crate::net::Net;

/// Idle connections kept for each endpoint and worker; the oldest goes when there are more.
const MAX_IDLE: usize = 256;
/// Shared connections of different keys (server names, clients named in a PROXY header) for each endpoint and worker.
const MAX_SHARED: usize = 64;

/// One worker's connections to one endpoint. The mutexes are never contended: one thread uses a shard, and nothing waits
/// while it holds one.
#[derive(Default)]
pub(crate) struct Shard {
    idle: Mutex<Vec<h1::Connection>>,
    h2: Mutex<Vec<(ConnKey, h2::Connection)>>,
}

impl Shard {
    fn take(&self, key: ConnKey) -> Option<h1::Connection> {
        let mut idle = self.idle.lock();
        // All of one key, as nearly always, makes this a pop.
        let newest = idle.iter().rposition(|c| c.key() == key)?;
        Some(idle.remove(newest))
    }

    fn put(&self, connection: h1::Connection) {
        let mut idle = self.idle.lock();
        if idle.len() >= MAX_IDLE {
            idle.remove(0);
        }
        idle.push(connection);
    }

    fn shared(&self, key: ConnKey) -> Option<h2::Connection> {
        self.h2.lock().iter().find(|(k, _)| *k == key).map(|(_, c)| c.clone())
    }

    /// Replaces the shared connection of a key.
    fn share(&self, key: ConnKey, connection: Option<h2::Connection>) {
        let mut all = self.h2.lock();
        all.retain(|(k, c)| *k != key && !c.is_closed());
        if all.len() >= MAX_SHARED {
            all.remove(0);
        }
        all.extend(connection.map(|c| (key, c)));
    }
}

/// Where the requests of one cluster go.
pub(crate) struct Destination<N: Net> {
    pub(crate) runtime: Arc<Runtime<N>>,
    pub(crate) cluster: Arc<Cluster<N>>,
    pub(crate) plan: Arc<ClusterPlan>,
}

impl<N: Net> Destination<N> {
    /// For whom a connection for this request is made, and what others it may share with. The authority matters to TLS
    /// only.
    fn whom(&self, request: &Request) -> Option<Box<str>> {
        self.plan.tls.as_ref()?;
        let host = request.headers().get(http::header::HOST).and_then(|h| h.to_str().ok());
        host.or(request.uri().authority().map(http::uri::Authority::as_str)).map(Into::into)
    }
}

/// The host that a request asks for, without port.
fn host(request: &Request) -> Option<&str> {
    request.headers().get(HOST)?.to_str().ok().map(host_without_port)
}

/// Sends one request to one endpoint of the cluster.
pub(crate) async fn send<N: Net>(to: Arc<Destination<N>>, request: Request) -> Result<Response, Error> {
    let cx =
        request.extensions().get::<Arc<Cx>>().cloned().expect("invariant: the server gives each request a context");
    let _ = cx.cluster.set(Arc::clone(&to.plan));
    let extensions = request.extensions();
    let tried = extensions.get::<Arc<Tried>>().cloned();
    let choice =
        Choice { hash: extensions.get::<Affinity>().map(|a| a.0), tried: tried.as_deref(), host: host(&request) };
    let active = to.runtime.pick(&to.plan, &to.cluster, &cx.conn, choice).await?;
    cx.endpoint.store(Some(Arc::clone(active.member().endpoint())));
    let http2 = match to.plan.protocol {
        UpstreamProtocol::Http2 => true,
        UpstreamProtocol::Http1 | UpstreamProtocol::Tcp => false,
        UpstreamProtocol::Client => request.version() == Version::HTTP_2,
    };
    if http2 { h2::send(&to, active, cx, request).await } else { h1::send(&to, active, cx, request).await }
}
