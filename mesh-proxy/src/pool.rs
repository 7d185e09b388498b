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
use mesh_core::error::Error;
use mesh_core::layers::{Request, Response};
use mesh_core::record::Cx;
use mesh_core::snapshot::{ClusterPlan, UpstreamProtocol};
use parking_lot::Mutex;

use crate::cluster::{Cluster, Runtime};
use crate::net::Net;

/// Idle connections kept for each endpoint and worker; the oldest goes when there are more.
const MAX_IDLE: usize = 256;

/// One worker's connections to one endpoint. The mutexes are never contended: one thread uses a shard, and nothing waits
/// while it holds one.
#[derive(Default)]
pub(crate) struct Shard {
    idle: Mutex<Vec<h1::Connection>>,
    h2: Mutex<Option<h2::Connection>>,
}

impl Shard {
    fn take(&self) -> Option<h1::Connection> {
        self.idle.lock().pop()
    }

    fn put(&self, connection: h1::Connection) {
        let mut idle = self.idle.lock();
        if idle.len() >= MAX_IDLE {
            idle.remove(0);
        }
        idle.push(connection);
    }
}

/// Where the requests of one cluster go.
pub(crate) struct Destination<N: Net> {
    pub(crate) runtime: Arc<Runtime<N>>,
    pub(crate) cluster: Arc<Cluster<N>>,
    pub(crate) plan: Arc<ClusterPlan>,
}

/// Sends one request to one endpoint of the cluster.
pub(crate) async fn send<N: Net>(to: Arc<Destination<N>>, request: Request) -> Result<Response, Error> {
    let cx =
        request.extensions().get::<Arc<Cx>>().cloned().expect("invariant: the server gives each request a context");
    let _ = cx.cluster.set(Arc::clone(&to.plan));
    let active = to.runtime.pick(&to.plan, &to.cluster, &cx.conn).await?;
    cx.endpoint.store(Some(Arc::clone(active.member().endpoint())));
    let http2 = match to.plan.protocol {
        UpstreamProtocol::Http2 => true,
        UpstreamProtocol::Http1 | UpstreamProtocol::Tcp => false,
        UpstreamProtocol::Client => request.version() == Version::HTTP_2,
    };
    if http2 { h2::send(&to, active, cx, request).await } else { h1::send(&to, active, cx, request).await }
}
