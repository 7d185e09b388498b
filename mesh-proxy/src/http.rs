//! The HTTP server of one connection: HTTP/1.1 or HTTP/2 by its first bytes, requests into the listener's stack.
//!
//! What hyper would answer by itself is answered by us before it sees it: `guard` checks each request head on its way in
//! and hands over a stand-in that carries the reply, so that every refusal is logged, counted and worded as Envoy's.

mod counted;
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
use mesh_core::snapshot::HttpSettings;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::cluster::Runtime;
use crate::drain::Drain;
use crate::listener::Route;
use crate::net::Net;
use crate::stack::Active;
use exchange::Exchanges;
use guard::{Guard, Shared};

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
/// There is no timeout for slow request heads unless `httpRequestHeadersTimeout` is set; what a client can hold that way is one connection
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
    let settings = settings(&active, route);
    let shared = Arc::new(Shared::default());
    let exchanges = Exchanges::new(active, drain.clone(), conn, route, Arc::clone(&shared));
    let ended = if http2 {
        serve_http2(TokioIo::new(io), exchanges, drain, settings).await
    } else {
        serve_http1(TokioIo::new(Guard::new(io, shared, settings.http10)), exchanges, settings).await
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "downstream connection");
    }
}

/// The settings of the listener when the connection came; for explicit proxying, those of the catch-all.
fn settings(active: &ArcSwapOption<Active>, route: Route) -> HttpSettings {
    let active = active.load();
    let Some(active) = &*active else { return HttpSettings::default() };
    let listener = match route {
        Route::ByAuthority => active.snapshot.listeners.values().find(|l| l.http.is_some()),
        _ => route.listener(&active.snapshot),
    };
    listener.and_then(|l| l.http.as_ref()).map_or_else(HttpSettings::default, |h| h.settings)
}

/// While draining, each response says `connection: close`; an idle connection is left alone, since the client may be
/// sending its next request already.
async fn serve_http1<I>(io: TokioIo<Guard<I>>, exchanges: Exchanges, settings: HttpSettings) -> hyper::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request| exchanges.clone().http1(request));
    let mut builder = http1::Builder::new();
    // The guard has its own, smaller limits.
    builder.pipeline_flush(true).max_buf_size(256 * 1024).preserve_header_case(settings.preserve_case);
    builder.timer(TokioTimer::new()).header_read_timeout(settings.headers_timeout);
    builder.serve_connection(io, service).with_upgrades().await
}

async fn serve_http2<I>(io: TokioIo<I>, exchanges: Exchanges, drain: Drain, settings: HttpSettings) -> hyper::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request| exchanges.clone().http2(request));
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.max_streams)
        .initial_stream_window_size(settings.stream_window)
        .initial_connection_window_size(settings.connection_window)
        .max_header_list_size(60 * 1024);
    let connection = builder.serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = drain.started() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
