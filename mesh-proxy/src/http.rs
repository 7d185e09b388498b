//! The HTTP server of one connection: HTTP/1.1 or HTTP/2 by its first bytes, requests into the listener's stack.
//!
//! What hyper would answer by itself is answered by us before it sees it: `guard` checks each request head on its way in
//! and hands over a stand-in that carries the reply, so that every refusal is logged, counted and worded as Envoy's.

pub(crate) mod counted;
pub(crate) mod dispatch;
mod engine;
mod exchange;
mod guard;
mod lifetime;
mod prefix;
mod rules;
mod streams;
pub(crate) mod upgrade;

use std::future::Future;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use mesh_core::snapshot::{HttpSettings, TlsThen};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

use crate::cluster::Runtime;
use crate::drain::Drain;
use crate::listener::{Route, Served, server_id};
use crate::net::Net;
use crate::stack::Active;
use crate::tcp::StreamPolicies;
use dispatch::Source;
use exchange::Exchanges;
use guard::{Guard, Shared};
use lifetime::{Kind, Life};
use prefix::Protocol;
use streams::Streams;

/// The HTTP half of a proxy: what is in force, and what outlives it.
pub struct Proxy<N: Net> {
    runtime: Arc<Runtime<N>>,
    active: Arc<ArcSwapOption<Active>>,
    /// Policies for streams of bytes.
    streams: watch::Sender<Arc<StreamPolicies>>,
}

impl<N: Net> Proxy<N> {
    /// One that has no plan yet.
    pub fn new(runtime: Arc<Runtime<N>>) -> Self {
        Self { runtime, active: Arc::default(), streams: watch::Sender::default() }
    }

    /// What is in force.
    pub(crate) fn active(&self) -> &ArcSwapOption<Active> {
        &self.active
    }

    /// Endpoints, pools and counters.
    pub fn runtime(&self) -> &Arc<Runtime<N>> {
        &self.runtime
    }
}

/// Serves a connection until it ends.
///
/// There is no timeout for slow request heads unless `connectionSettings` have one; what a client can hold that way is one
/// connection and at most 60 KiB of its head.
pub(crate) fn serve_connection<I>(io: I, source: Source, active: Arc<ArcSwapOption<Active>>, drain: Drain) -> Served
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let beginning = Box::pin(begin(io, source, active, drain));
    Box::pin(async move {
        // Each in a box of its own: a connection has room for what it speaks, and not for how it began.
        if let Some(served) = beginning.await {
            served.await;
        }
    })
}

/// Looks at what a connection begins with, and makes the server for it.
async fn begin<I>(io: I, source: Source, active: Arc<ArcSwapOption<Active>>, drain: Drain) -> Option<Served>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let settings = settings(&active, source.route());
    let shared = Arc::new(Shared::new(Life::new(&settings)));
    let first = prefix::detect(io);
    let detected = match settings.idle_timeout {
        // Nothing has been asked, so nothing has to be announced.
        Some(limit) => tokio::time::timeout(limit, first).await.unwrap_or_else(|e| Err(e.into())),
        None => first.await,
    };
    let (mut io, protocol) = match detected {
        Ok(detected) => detected,
        Err(error) => {
            tracing::trace!(%error, "connection ended before its first request");
            return None;
        }
    };
    let exchanges = Exchanges::new(active, drain.clone(), source, Arc::clone(&shared));
    match protocol {
        Protocol::Http1 => {
            let guard = Guard::new(io, Arc::clone(&shared), settings.http10);
            Some(Box::pin(serve_http1(TokioIo::new(guard), exchanges, shared)))
        }
        Protocol::Http2 => Some(Box::pin(serve_http2(TokioIo::new(io), exchanges, drain, shared))),
        Protocol::Broken => {
            // The client may have gone; there is nobody else to tell.
            let _ = io.write_all(prefix::SETTINGS_EXPECTED).await;
            let _ = io.shutdown().await;
            None
        }
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
    let plan = listener.and_then(|l| match route {
        Route::Terminated(..) => {
            let server = l.tls.iter().find(|t| server_id(&t.name) == route.server())?;
            match &server.then {
                TlsThen::Http(plan) => Some(plan),
                TlsThen::Tcp(_) => None,
            }
        }
        _ => l.http.as_ref(),
    });
    plan.map_or_else(HttpSettings::default, |h| h.settings)
}

/// Buffers of an HTTP/1 connection. Not less than what a request's head may have.
const BUFFER: usize = 256 << 10;
const LEAST_BUFFER: usize = 64 << 10;

/// While draining, each response says `connection: close`; an idle connection is left alone, since the client may be
/// sending its next request already.
fn serve_http1<I>(
    io: TokioIo<Guard<I>>,
    exchanges: Exchanges,
    shared: Arc<Shared>,
) -> impl Future<Output = ()> + Send + 'static
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let life = Arc::clone(&shared.life);
    let service = hyper::service::service_fn(move |request| exchanges.clone().http1(request));
    let buffer = life.settings.buffer_limit.map_or(BUFFER, |limit| (limit as usize).max(LEAST_BUFFER));
    let mut builder = http1::Builder::new();
    // The guard has its own, smaller limits, and knows the time of a head.
    builder.max_buf_size(buffer).preserve_header_case(life.settings.preserve_case);
    let connection = builder.header_read_timeout(None).serve_connection(io, service).with_upgrades();
    let finish = lifetime::finish(&connection, |c| c.graceful_shutdown());
    let kind = Kind { announces: false, finish, refuse_head: move |reply| shared.too_late(reply) };
    lifetime::serve(connection, kind, life, None).map(ended)
}

fn serve_http2<I>(
    io: TokioIo<I>,
    exchanges: Exchanges,
    drain: Drain,
    shared: Arc<Shared>,
) -> impl Future<Output = ()> + Send + 'static
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let life = Arc::clone(&shared.life);
    let settings = life.settings;
    let streams = Streams::default();
    let service = hyper::service::service_fn({
        let streams = streams.clone();
        move |request| {
            let clock = shared.life.own_clock();
            streams.next_goes_by(clock.clone());
            exchanges.clone().http2(request, clock)
        }
    });
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.max_streams)
        .initial_stream_window_size(settings.stream_window)
        .initial_connection_window_size(settings.connection_window)
        .max_header_list_size(60 * 1024);
    if let Some(limit) = settings.buffer_limit {
        builder.max_send_buf_size(limit as usize);
    }
    let connection = builder.serve_connection(io, service);
    let finish = lifetime::finish(&connection, |c| c.graceful_shutdown());
    let kind = Kind { announces: true, finish, refuse_head: drop };
    lifetime::serve(connection, kind, life, Some(drain)).map(ended)
}

fn ended(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::trace!(%error, "downstream connection");
    }
}
