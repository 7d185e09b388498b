//! The proxy's own HTTP endpoints, on the ports that Istio uses for them:
//!
//! | port | reach | paths |
//! | --- | --- | --- |
//! | 15000 | loopback | `/config_dump` `/certs` `/clusters` `/debug/pprof/…` `/denials` `/listeners` `/peers` `/stats` `/stats/prometheus` `/server_info` `/ready`; POST `/drain_listeners` `/healthcheck/fail` `/healthcheck/ok` `/quitquitquit` |
//! | 15021 | all | `/healthz/ready` |
//! | 15090 | all | `/stats/prometheus` |
//!
//! What they show and do is behind [`AdminState`]; here is only the protocol. Anything else is 404; a change asked for
//! with another method than POST is 405, as Envoy answers it.

mod certs;
mod process;
mod profiles;
mod state;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fmt::Write;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mesh_core::balance::Standing;
use mesh_core::model::Health;
use mesh_core::outlier::Stats;
use mesh_core::snapshot::{Direction, Endpoint, Snapshot};
use mesh_tls::CertHandle;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};

pub use self::profiles::{NotTaken, Profiles, Taking};
pub(crate) use self::state::State;
use crate::listener::PeerSeen;
use crate::net::{Listener, Net, Share};
use crate::telemetry::denials::Denial;
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

/// Endpoints of a cluster with what is known of them.
#[derive(Clone, Debug)]
pub struct ClusterEndpoints {
    /// Name of the cluster.
    pub name: Arc<str>,
    /// Endpoints.
    pub endpoints: Vec<EndpointStatus>,
    /// Counters of outlier detection, where it is on.
    pub outliers: Option<Stats>,
}

/// What is known of an endpoint.
#[derive(Clone, Debug)]
pub struct EndpointStatus {
    /// Address, weight, health as configured, instance.
    pub endpoint: Arc<Endpoint>,
    /// Requests and connections now.
    pub active: u32,
    /// Taken out by outlier detection.
    pub ejected: bool,
    /// How often it was.
    pub ejections: u64,
    /// Failures in a row: its own, and the proxy's in reaching it.
    pub failures: (u32, u32),
    /// Its place in the order of balancing; `None`: it gets nothing.
    pub standing: Option<Standing>,
}

impl EndpointStatus {
    /// Envoy's `health_flags`.
    pub fn health_flags(&self) -> &'static str {
        match (self.endpoint.health, self.ejected) {
            (Health::Healthy, false) => "healthy",
            (Health::Healthy, true) => "/failed_outlier_check",
            (Health::Unhealthy, false) => "/failed_eds_health",
            (Health::Unhealthy, true) => "/failed_outlier_check/failed_eds_health",
        }
    }
}

/// The running proxy, as far as the admin endpoints see it.
pub trait AdminState: Send + Sync + 'static {
    /// The plan in force.
    fn snapshot(&self) -> Option<Arc<Snapshot>>;
    /// Endpoints of every cluster, by cluster name.
    fn endpoints(&self) -> Vec<ClusterEndpoints>;
    /// Whether it may get traffic.
    fn readiness(&self) -> Readiness;
    /// The proxy's own certificate; `None`: it has no identity.
    fn identity(&self) -> Option<&CertHandle>;
    /// Wall-clock time.
    fn now(&self) -> SystemTime;
    /// The metrics.
    fn metrics(&self) -> &Metrics;
    /// Further counters of the process, as name and value.
    fn counters(&self) -> Vec<(&'static str, u64)>;
    /// How many connections of clients are open.
    fn connections(&self, direction: Direction) -> u64;
    /// Who has connected to the own application.
    fn peers(&self) -> Vec<PeerSeen>;
    /// What was refused last.
    fn denials(&self) -> Vec<Arc<Denial>>;
    /// What takes profiles of the process; `None`: that is switched off.
    fn profiles(&self) -> Option<&dyn Profiles>;
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

impl Port {
    /// As arguments and log lines call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Health => "health",
            Self::Prometheus => "metrics",
        }
    }
}

/// Opens one of the ports. What is returned serves it for ever.
///
/// # Errors
/// It can't be opened; the text says which.
pub(crate) async fn open<N: Net, S: AdminState>(
    net: &N,
    port: Port,
    at: SocketAddr,
    state: Arc<S>,
) -> io::Result<impl Future<Output = ()> + Send + use<N, S>> {
    let name = port.name();
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{name} port {at}: {error}"));
    let mut listener = net.listen(name, at, Share::WHOLE).await.map_err(named)?;
    tracing::info!(name, at = %listener.local_addr()?, "listening");
    Ok(async move {
        loop {
            match listener.accept().await {
                Ok(stream) => drop(tokio::spawn(serve(stream, port, state.clone()))),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
}

/// Serves one connection until it ends.
pub fn serve<S: AdminState, I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    io: I,
    port: Port,
    state: Arc<S>,
) -> impl Future<Output = ()> + Send {
    let service = service_fn(move |request: Request<Incoming>| {
        let state = Arc::clone(&state);
        async move {
            Ok::<_, Infallible>(match profiles::asked(port, request.uri()) {
                Some(what) => profiles::respond(&*state, what).await,
                None => respond(&*state, port, &request),
            })
        }
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
            reply(StatusCode::OK, Metrics::CONTENT_TYPE, prometheus(state))
        }
        (Port::Admin, _) => admin(state, request),
        _ => text(StatusCode::NOT_FOUND, String::new()),
    }
}

/// Istio's metrics, with those of its agent about the certificate, Envoy's of outlier detection where it is on, open
/// connections, and the process.
fn prometheus<S: AdminState>(state: &S) -> String {
    let mut text = state.metrics().encode();
    text.push_str(&certs::metrics(state.identity(), state.now()));
    text.push_str(&process::metrics());
    text.push_str(&connections(state));
    let clusters: Vec<_> =
        state.endpoints().into_iter().filter_map(|c| Some((c.name, outlier_counters(&c.outliers?)))).collect();
    for i in 0..clusters.first().map_or(0, |(_, counters)| counters.len()) {
        let name = format!("envoy_cluster_outlier_detection_{}", clusters[0].1[i].0);
        let kind = if name.ends_with("_active") { "gauge" } else { "counter" };
        let mut line = |text_line: std::fmt::Arguments<'_>| writeln!(text, "{text_line}");
        let mut written = line(format_args!("# TYPE {name} {kind}"));
        for (cluster, counters) in &clusters {
            written = written.and(line(format_args!("{name}{{cluster_name=\"{cluster}\"}} {}", counters[i].1)));
        }
        written.expect("invariant: a String takes all text");
    }
    text
}

fn connections<S: AdminState>(state: &S) -> String {
    let mut text = "# TYPE mesh_downstream_connections gauge\n".to_owned();
    for (name, direction) in
        [("inbound", Direction::Inbound), ("outbound", Direction::Outbound), ("gateway", Direction::Gateway)]
    {
        let open = state.connections(direction);
        writeln!(text, "mesh_downstream_connections{{direction=\"{name}\"}} {open}")
            .expect("invariant: a String takes all text");
    }
    text
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
        "/certs" => return reply(StatusCode::OK, "application/json", certs::json(state.identity(), state.now())),
        "/clusters" => return text(StatusCode::OK, clusters(state)),
        "/listeners" => return text(StatusCode::OK, listeners(state)),
        "/stats" => return text(StatusCode::OK, stats(state)),
        "/server_info" => return server_info(state),
        "/denials" => return denials(state),
        "/peers" => return peers(state),
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
        .map(|cluster| (cluster.name.to_string(), cluster.endpoints.iter().map(endpoint).collect()))
        .collect();
    dump["endpoints"] = endpoints.into();
    let body = serde_json::to_string_pretty(&dump).expect("invariant: a JSON value prints");
    reply(StatusCode::OK, "application/json", body + "\n")
}

fn endpoint(status: &EndpointStatus) -> serde_json::Value {
    let EndpointStatus { endpoint: e, active, ejected, ejections, failures: (errors, local), standing } = status;
    json!({
        "address": e.address.to_string(),
        "workload": e.workload.uid,
        "locality": e.workload.locality,
        "weight": e.weight,
        "health": e.health,
        "active": active,
        "ejected": ejected,
        "ejections": ejections,
        "consecutiveErrors": errors,
        "consecutiveLocalOriginFailures": local,
        "priority": standing.map(|s| s.priority),
        "priorityLoad": standing.map(|s| s.load),
        "panic": standing.is_some_and(|s| s.panic),
    })
}

/// Who has connected to the own application, and whether the port takes plaintext.
fn peers<S: AdminState>(state: &S) -> Response<Full<Bytes>> {
    let snapshot = state.snapshot();
    let mode = |port| Some(snapshot.as_ref()?.inbound(port).mesh.as_ref()?.mode.to_string());
    let row = |peer: PeerSeen| {
        let PeerSeen { port, address, principal, connections, open, refused, last_seen } = peer;
        json!({
            "port": port,
            "mode": mode(port),
            "address": address.to_string(),
            "principal": principal,
            "connections": connections,
            "open": open,
            "refused": refused,
            "lastSeen": certs::rfc3339(last_seen),
        })
    };
    let all = serde_json::Value::Array(state.peers().into_iter().map(row).collect());
    reply(StatusCode::OK, "application/json", format!("{all:#}\n"))
}

/// In Envoy's form: `CLUSTER::ADDRESS::NAME::VALUE`.
fn clusters<S: AdminState>(state: &S) -> String {
    let mut lines = String::new();
    for cluster in state.endpoints() {
        let name = &cluster.name;
        for status in &cluster.endpoints {
            let e = &status.endpoint;
            let mut place = e.workload.locality.splitn(3, '/');
            let mut part = || place.next().unwrap_or_default().to_owned();
            let priority = status.standing.map_or("-".to_owned(), |s| s.priority.to_string());
            for (what, value) in [
                ("rq_active", status.active.to_string()),
                ("health_flags", status.health_flags().to_owned()),
                ("weight", e.weight.to_string()),
                ("region", part()),
                ("zone", part()),
                ("sub_zone", part()),
                ("priority", priority),
                ("ejections", status.ejections.to_string()),
            ] {
                writeln!(lines, "{name}::{}::{what}::{value}", e.address).expect("invariant: a String takes all text");
            }
        }
        for (what, value) in cluster.outliers.iter().flat_map(outlier_counters) {
            writeln!(lines, "{name}::outlier_detection::{what}::{value}").expect("invariant: a String takes all text");
        }
    }
    lines
}

/// Envoy's names, without `outlier_detection.`.
fn outlier_counters(stats: &Stats) -> [(&'static str, u64); 6] {
    let Stats {
        ejections_active,
        ejections_enforced_total,
        ejections_enforced_consecutive_5xx,
        ejections_enforced_consecutive_gateway_failure,
        ejections_enforced_consecutive_local_origin_failure,
        ejections_overflow,
    } = stats;
    [
        ("ejections_active", *ejections_active),
        ("ejections_enforced_total", *ejections_enforced_total),
        ("ejections_enforced_consecutive_5xx", *ejections_enforced_consecutive_5xx),
        ("ejections_enforced_consecutive_gateway_failure", *ejections_enforced_consecutive_gateway_failure),
        ("ejections_enforced_consecutive_local_origin_failure", *ejections_enforced_consecutive_local_origin_failure),
        ("ejections_overflow", *ejections_overflow),
    ]
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
    let mut lines = state.counters().iter().fold(String::new(), |mut lines, (name, value)| {
        writeln!(lines, "{name}: {value}").expect("invariant: a String takes all text");
        lines
    });
    for cluster in state.endpoints() {
        for (what, value) in cluster.outliers.iter().flat_map(outlier_counters) {
            writeln!(lines, "cluster.{};.outlier_detection.{what}: {value}", cluster.name)
                .expect("invariant: a String takes all text");
        }
    }
    lines
}

/// What was refused last, newest first, with reasons.
fn denials<S: AdminState>(state: &S) -> Response<Full<Bytes>> {
    let body = serde_json::to_string_pretty(&state.denials()).expect("invariant: texts and numbers print");
    reply(StatusCode::OK, "application/json", body + "\n")
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
