//! Upstream connections: one shard for each worker and endpoint, newest first, never waiting for each other.
//!
//! A request takes an HTTP/1 connection out of the shard and polls it, and its response's body puts it back when it has
//! ended (`driver`); a connection of HTTP/2 has a task of its own on the worker that made it. Nothing is sent on a connection that is known to be
//! closed, and what a closed connection hands back unsent goes to another one, whatever the retry policy says.

mod body;
mod classify;
mod driver;
mod h1;
mod h2;
mod shard;
pub(crate) mod slot;

use std::future::Future;
use std::sync::Arc;

use futures_util::future::Either;
use http::header::HOST;
use http::{Extensions, HeaderMap, Version};
use mesh_core::balance::Tried;
use mesh_core::error::Error;
use mesh_core::layers::{Affinity, Request, Response};
use mesh_core::matching::host_without_port;
use mesh_core::record::Cx;
use mesh_core::snapshot::{ClusterPlan, EndpointSource, UpstreamProtocol};

use crate::cluster::{Active, Choice, Cluster, Runtime};
use crate::net::Net;
pub(crate) use h2::Switched;
pub(crate) use shard::{Peer, Shard};

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
        self.plan.tls.as_ref().filter(|tls| tls.by_host())?;
        // The mesh's own TLS names the service, not the host.
        let host = request.headers().get(http::header::HOST).and_then(|h| h.to_str().ok());
        host.or(request.uri().authority().map(http::uri::Authority::as_str)).map(Into::into)
    }
}

/// The host that a request asks for, without port.
fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(HOST)?.to_str().ok().map(host_without_port)
}

/// Sends one request to one endpoint of the cluster.
pub(crate) fn send<N: Net>(
    to: Arc<Destination<N>>,
    request: Request,
) -> impl Future<Output = Result<Response, Error>> + Send + 'static {
    let cx =
        request.extensions().get::<Arc<Cx>>().cloned().expect("invariant: the server gives each request a context");
    let _ = cx.cluster.set(Arc::clone(&to.plan));
    let http2 = match to.plan.protocol {
        UpstreamProtocol::Http2 => true,
        UpstreamProtocol::Http1 | UpstreamProtocol::Tcp => false,
        UpstreamProtocol::Client => request.version() == Version::HTTP_2,
    };
    // Layers above embed and move this future. It has room for the request once.
    if http2 { Either::Left(h2::send(to, cx, request)) } else { Either::Right(h1::send(to, cx, request)) }
}

/// The endpoint that a request goes to.
async fn pick<N: Net>(
    to: &Destination<N>,
    cx: &Cx,
    extensions: &Extensions,
    headers: &HeaderMap,
) -> Result<Active<N>, Error> {
    let tried = extensions.get::<Arc<Tried>>();
    let hash = extensions.get::<Affinity>().map(|a| a.0);
    let named = matches!(to.plan.source, EndpointSource::DynamicDns { .. });
    let choice = Choice { hash, tried: tried.map(|t| &**t), host: named.then(|| host(headers)).flatten() };
    let active = to.runtime.pick(&to.plan, &to.cluster, &cx.conn, choice).await?;
    cx.endpoint.set(Arc::clone(active.member().endpoint()));
    Ok(active)
}
