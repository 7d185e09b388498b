//! The HTTP server of one connection: HTTP/1.1 or HTTP/2 by its first bytes, requests into the listener's stack.
//!
//! What hyper would answer by itself is answered by us before it sees it: `guard` checks each request head on its way in
//! and hands over a stand-in that carries the reply, so that every refusal is logged, counted and worded as Envoy's.

mod engine;
mod exchange;
mod guard;
mod prefix;
mod rules;
mod upgrade;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use mesh_core::record::ConnInfo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::cluster::Runtime;
use crate::drain::Drain;
use crate::listener::Route;
use crate::net::Net;
use crate::stack::Active;
use exchange::Exchanges;
use guard::{Guard, Shared};

/// Envoy's defaults for HTTP/2 servers.
const MAX_STREAMS: u32 = 1024;
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 24 << 20;

/// The HTTP half of a proxy: what is in force, and what outlives it.
pub struct Proxy<N: Net> {
    runtime: Arc<Runtime<N>>,
    active: Arc<ArcSwapOption<Active>>,
}

impl<N: Net> Proxy<N> {
    /// One that has no plan yet.
    pub fn new(runtime: Arc<Runtime<N>>) -> Self {
        Self { runtime, active: Arc::default() }
    }

    /// Endpoints, pools and counters.
    pub fn runtime(&self) -> &Arc<Runtime<N>> {
        &self.runtime
    }
}

/// Serves a connection until it ends.
///
/// There is no timeout for slow request heads, as in Istio's defaults; what a client can hold that way is one connection
/// and at most 60 KiB of its head.
pub(crate) async fn serve_connection<I>(
    io: I,
    conn: Arc<ConnInfo>,
    route: Route,
    active: Arc<ArcSwapOption<Active>>,
    drain: Drain,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (io, http2) = match prefix::detect(io).await {
        Ok(detected) => detected,
        Err(error) => {
            tracing::trace!(%error, "connection ended before its first request");
            return;
        }
    };
    let shared = Arc::new(Shared::default());
    let exchanges = Exchanges::new(active, drain.clone(), conn, route, Arc::clone(&shared));
    let ended = if http2 {
        serve_http2(TokioIo::new(io), exchanges, drain).await
    } else {
        serve_http1(TokioIo::new(Guard::new(io, shared)), exchanges).await
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "downstream connection");
    }
}

/// While draining, each response says `connection: close`; an idle connection is left alone, since the client may be
/// sending its next request already.
async fn serve_http1<I>(io: TokioIo<Guard<I>>, exchanges: Exchanges) -> hyper::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request| exchanges.clone().http1(request));
    let mut builder = http1::Builder::new();
    // The guard has its own, smaller limits.
    builder.pipeline_flush(true).header_read_timeout(None).max_buf_size(256 * 1024);
    builder.serve_connection(io, service).with_upgrades().await
}

async fn serve_http2<I>(io: TokioIo<I>, exchanges: Exchanges, drain: Drain) -> hyper::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request| exchanges.clone().http2(request));
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(60 * 1024);
    let connection = builder.serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = drain.started() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
