//! The proxy's own HTTP endpoints, on the ports that Istio uses for them:
//!
//! | port | reach | paths |
//! | --- | --- | --- |
//! | 15000 | loopback | `/config_dump` `/clusters` `/listeners` `/stats` `/stats/prometheus` `/server_info` `/ready`; POST `/drain_listeners` `/healthcheck/fail` `/healthcheck/ok` `/quitquitquit` |
//! | 15021 | all | `/healthz/ready` |
//! | 15090 | all | `/stats/prometheus` |
//!
//! What they show and do is behind [`AdminState`]; here is only the protocol. Anything else is 404; a change asked for
//! with another method than POST is 405, as Envoy answers it.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fmt::Write;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mesh_core::snapshot::{Endpoint, Snapshot};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::telemetry::metrics::Metrics;

/// Whether the proxy may get traffic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// Configuration is in force and listeners are open.
    Live,
    /// No configuration yet.
    Initializing,
    /// Going away, or told to fail its health check.
    Draining,
}

impl Readiness {
    /// Envoy's name of the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "LIVE",
            Self::Initializing => "INITIALIZING",
            Self::Draining => "DRAINING",
        }
    }
}

/// What an operator may ask a running proxy to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Answer with `connection: close` and let connections end; `inbound_only` leaves outbound alone.
    Drain {
        /// Only inbound listeners.
        inbound_only: bool,
    },
    /// Fail the health check, or stop failing it.
    FailHealthCheck(bool),
    /// Exit at once.
    Quit,
}

/// Endpoints of a cluster by name.
pub type ClusterEndpoints = (Arc<str>, Arc<Vec<Arc<Endpoint>>>);

/// The running proxy, as far as the admin endpoints see it.
pub trait AdminState: Send + Sync + 'static {
    /// The plan in force.
    fn snapshot(&self) -> Option<Arc<Snapshot>>;
    /// Endpoints of every cluster, by cluster name.
    fn endpoints(&self) -> Vec<ClusterEndpoints>;
    /// Whether it may get traffic.
    fn readiness(&self) -> Readiness;
    /// The metrics.
    fn metrics(&self) -> &Metrics;
    /// Further counters of the process, as name and value.
    fn counters(&self) -> Vec<(&'static str, u64)>;
    /// Does what the operator asks.
    fn command(&self, command: Command);
}

/// Which of the endpoints a connection reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Port {
    /// 15000.
    Admin,
    /// 15021.
    Health,
    /// 15090.
    Prometheus,
}

/// Serves one connection until it ends.
pub fn serve<S: AdminState, I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    io: I,
    port: Port,
    state: Arc<S>,
) -> impl Future<Output = ()> + Send {
    let service = service_fn(move |request| {
        let response = respond(&*state, port, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    async move {
        // The peer is a scraper or an operator; a broken connection is theirs to notice.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(io), service).await;
    }
}

fn respond<B, S: AdminState>(state: &S, port: Port, request: &Request<B>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    match (port, path) {
        (Port::Health, "/healthz/ready") => ready(state),
        (Port::Prometheus | Port::Admin, "/stats/prometheus") => {
            reply(StatusCode::OK, Metrics::CONTENT_TYPE, state.metrics().encode())
        }
        (Port::Admin, _) => admin(state, request),
        _ => text(StatusCode::NOT_FOUND, String::new()),
    }
}

fn ready<S: AdminState>(state: &S) -> Response<Full<Bytes>> {
    let readiness = state.readiness();
    let status = if readiness == Readiness::Live { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    text(status, format!("{}\n", readiness.name()))
}

fn admin<B, S: AdminState>(state: &S, request: &Request<B>) -> Response<Full<Bytes>> {
    let flag = |name: &str| request.uri().query().is_some_and(|q| q.split('&').any(|p| p == name));
    let command = match request.uri().path() {
        "/config_dump" => return config_dump(state),
        "/clusters" => return text(StatusCode::OK, clusters(state)),
        "/listeners" => return text(StatusCode::OK, listeners(state)),
        "/stats" => return text(StatusCode::OK, stats(state)),
        "/server_info" => return server_info(state),
        "/ready" => return ready(state),
        "/drain_listeners" => Command::Drain { inbound_only: flag("inboundonly") },
        "/healthcheck/fail" => Command::FailHealthCheck(true),
        "/healthcheck/ok" => Command::FailHealthCheck(false),
        "/quitquitquit" => Command::Quit,
        _ => return text(StatusCode::NOT_FOUND, "invalid path\n".into()),
    };
    if request.method() != Method::POST {
        let body = format!("Method {} not allowed, POST required.", request.method());
        return text(StatusCode::METHOD_NOT_ALLOWED, body);
    }
    state.command(command);
    text(StatusCode::OK, "OK\n".into())
}

fn config_dump<S: AdminState>(state: &S) -> Response<Full<Bytes>> {
    let mut dump = state.snapshot().map_or_else(|| json!({ "config": null }), |s| s.to_json());
    let endpoints: serde_json::Map<_, _> = state
        .endpoints()
        .into_iter()
        .map(|(cluster, endpoints)| {
            let list: Vec<_> = endpoints
                .iter()
                .map(|e| {
                    json!({
                        "address": e.address,
                        "workload": e.workload.uid,
                        "weight": e.weight,
                        "health": e.health,
                    })
                })
                .collect();
            (cluster.to_string(), list.into())
        })
        .collect();
    dump["endpoints"] = endpoints.into();
    let body = serde_json::to_string_pretty(&dump).expect("invariant: a JSON value prints");
    reply(StatusCode::OK, "application/json", body + "\n")
}

fn clusters<S: AdminState>(state: &S) -> String {
    let mut lines = String::new();
    for (cluster, endpoints) in state.endpoints() {
        for e in &*endpoints {
            let address = e.address;
            let health = if e.health == mesh_core::model::Health::Healthy { "healthy" } else { "unhealthy" };
            writeln!(lines, "{cluster}::{address}::weight::{}", e.weight).expect("invariant: a String takes all text");
            writeln!(lines, "{cluster}::{address}::health_flags::{health}")
                .expect("invariant: a String takes all text");
        }
    }
    lines
}

fn listeners<S: AdminState>(state: &S) -> String {
    let mut keys: Vec<_> =
        state.snapshot().map(|s| s.listeners.values().map(|l| (l.key, l.name.clone())).collect()).unwrap_or_default();
    keys.sort();
    keys.iter().fold(String::new(), |mut lines, (key, name)| {
        writeln!(lines, "{name}::{:?}::{}", key.direction, key.port).expect("invariant: a String takes all text");
        lines
    })
}

fn stats<S: AdminState>(state: &S) -> String {
    state.counters().iter().fold(String::new(), |mut lines, (name, value)| {
        writeln!(lines, "{name}: {value}").expect("invariant: a String takes all text");
        lines
    })
}

fn server_info<S: AdminState>(state: &S) -> Response<Full<Bytes>> {
    let snapshot = state.snapshot();
    let info = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "state": state.readiness().name(),
        "config": snapshot.as_ref().map(|s| s.hash.to_string()),
        "node": snapshot.as_ref().map(|s| &s.proxy.id),
    });
    reply(StatusCode::OK, "application/json", format!("{info:#}\n"))
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    reply(status, "text/plain; charset=UTF-8", body)
}

fn reply(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
