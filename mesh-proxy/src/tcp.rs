//! TCP streams in two phases: decide where to with everything that is known, then connect and move bytes.

pub(crate) mod relay;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use mesh_core::decide::pick_weighted;
use mesh_core::env::Env;
use mesh_core::model::{Health, Workload};
use mesh_core::record::{ConnInfo, Cx, Flag, RequestRecord, Sink};
use mesh_core::snapshot::{ClusterPlan, Endpoint, EndpointSource, Snapshot, TcpPlan};
use tokio::time::Instant;

use self::relay::{End, relay};
use crate::detect::Prefixed;
use crate::net::{AppAddress, ConnectOptions, Net, Stream};

/// What TCP streams need of the proxy.
pub trait Upstreams: Send + Sync + 'static {
    /// Picks an endpoint of a cluster whose source is a service; `None`: none is healthy.
    fn pick(&self, cluster: &Arc<ClusterPlan>) -> Option<Arc<Endpoint>>;
}

/// The parts of a proxy that a TCP stream uses.
pub(crate) struct Tools<'a, N> {
    pub(crate) net: &'a N,
    pub(crate) upstreams: &'a dyn Upstreams,
    pub(crate) env: &'a dyn Env,
    pub(crate) sink: &'a Arc<dyn Sink>,
    pub(crate) app: AppAddress,
}

/// Why a stream was not connected.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The plan names a cluster that is not there.
    NoCluster,
    /// No endpoint to connect to.
    NoEndpoint,
    /// Connecting failed.
    Connect(io::Error),
    /// Connecting took longer than `connectTimeout`.
    Timeout,
}

/// Where a stream goes.
#[derive(Debug)]
pub(crate) struct Target {
    cluster: Arc<ClusterPlan>,
    endpoint: Option<Arc<Endpoint>>,
    addresses: Vec<SocketAddr>,
    options: ConnectOptions,
}

/// A connected upstream.
pub(crate) struct Connected<S> {
    target: Target,
    address: SocketAddr,
    pub(crate) stream: Prefixed<S>,
}

/// Phase one: cluster and endpoint.
pub(crate) async fn decide<N: Net>(
    tools: &Tools<'_, N>,
    snapshot: &Snapshot,
    plan: &TcpPlan,
    conn: &ConnInfo,
) -> Result<Target, (Option<Arc<ClusterPlan>>, Failure)> {
    let chosen = pick_weighted(&plan.clusters, tools.env.random());
    let Some(cluster) = chosen.and_then(|c| snapshot.clusters.get(&c.cluster)) else {
        return Err((None, Failure::NoCluster));
    };
    let target =
        |addresses| Target { cluster: cluster.clone(), endpoint: None, addresses, options: Default::default() };
    let to_app = |port| {
        let (address, options) = tools.app.connect(conn, port);
        Target { options, ..target(vec![address]) }
    };
    let target = match &cluster.source {
        EndpointSource::Service { .. } => match tools.upstreams.pick(cluster) {
            Some(endpoint) => Target { endpoint: Some(endpoint.clone()), ..target(vec![endpoint.address]) },
            None => target(Vec::new()),
        },
        EndpointSource::Dns { names, first_only } => target(resolve(tools.net, names, *first_only).await),
        EndpointSource::OriginalDst => target(vec![conn.local]),
        EndpointSource::LocalApp { port } => to_app(*port),
        EndpointSource::LocalOriginalDst => to_app(conn.local.port()),
        EndpointSource::BlackHole => target(Vec::new()),
    };
    if target.addresses.is_empty() {
        return Err((Some(target.cluster), Failure::NoEndpoint));
    }
    Ok(target)
}

async fn resolve<N: Net>(net: &N, names: &[(Arc<str>, u16)], first_only: bool) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for (name, port) in names {
        let addresses = match name.parse::<IpAddr>() {
            Ok(ip) => vec![ip],
            Err(_) => net.resolve(name).await.map(|r| r.addresses).unwrap_or_default(),
        };
        let keep = if first_only { 1 } else { addresses.len() };
        found.extend(addresses.into_iter().take(keep).map(|ip| SocketAddr::new(ip, *port)));
    }
    found
}

/// Connects to the first address of a target that takes the connection.
pub(crate) async fn connect<N: Net>(
    net: &N,
    target: Target,
) -> Result<Connected<N::Stream>, (Option<Arc<ClusterPlan>>, Failure)> {
    let limit = target.cluster.connect_timeout;
    let mut failure = Failure::NoEndpoint;
    for address in &target.addresses {
        match tokio::time::timeout(limit, net.connect(*address, target.options)).await {
            Ok(Ok(stream)) => {
                let (address, stream) = (*address, Prefixed::new(Bytes::new(), stream));
                return Ok(Connected { target, address, stream });
            }
            Ok(Err(error)) => failure = Failure::Connect(error),
            Err(_elapsed) => failure = Failure::Timeout,
        }
    }
    Err((Some(target.cluster), failure))
}

/// Connects to where a plan leads.
pub(crate) async fn open<N: Net>(
    tools: &Tools<'_, N>,
    snapshot: &Snapshot,
    plan: &TcpPlan,
    conn: &ConnInfo,
) -> Result<Connected<N::Stream>, (Option<Arc<ClusterPlan>>, Failure)> {
    let target = decide(tools, snapshot, plan, conn).await?;
    connect(tools.net, target).await
}

/// Finishes one stream exactly once, also when its task is dropped.
pub(crate) struct Finish<'a> {
    cx: Arc<Cx>,
    start: SystemTime,
    began: Instant,
    sink: &'a Arc<dyn Sink>,
    termination: &'static str,
}

impl<'a> Finish<'a> {
    pub(crate) fn new(conn: &Arc<ConnInfo>, snapshot: &Snapshot, env: &dyn Env, sink: &'a Arc<dyn Sink>) -> Self {
        let cx = Arc::new(Cx::new(conn.clone(), snapshot.hash));
        Self { cx, start: env.now(), began: Instant::now(), sink, termination: "" }
    }

    /// Closes without a target: no rule of the listener takes the connection.
    pub(crate) fn no_rule(mut self, why: &'static str) {
        self.cx.flag(Flag::Nr);
        let _ = self.cx.details.set(why.to_owned());
        self.termination = "";
    }

    fn fail(&self, cluster: Option<Arc<ClusterPlan>>, failure: &Failure) {
        if let Some(cluster) = cluster {
            let _ = self.cx.cluster.set(cluster);
        }
        match failure {
            Failure::NoCluster => self.cx.flag(Flag::Nc),
            Failure::NoEndpoint => self.cx.flag(Flag::Uh),
            Failure::Connect(_) | Failure::Timeout => {
                self.cx.flag(Flag::Uf);
                self.cx.flag(Flag::Urx);
            }
        }
        if let Failure::Connect(error) = failure {
            let _ = self.cx.failure_reason.set(format!("delayed_connect_error:_{}", reason(error)));
        }
    }
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.sink.record(&RequestRecord {
            start: self.start,
            duration: self.began.elapsed(),
            cx: self.cx.clone(),
            http: None,
            termination: self.termination.into(),
        });
    }
}

/// The system's text in Envoy's form: `Connection_refused`.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.replace(' ', "_")
}

/// Phase two: moves bytes until the stream ends. The connection may have been made before (while sniffing).
pub(crate) async fn serve<N: Net, D: Stream>(
    tools: &Tools<'_, N>,
    snapshot: &Snapshot,
    plan: &TcpPlan,
    conn: &Arc<ConnInfo>,
    mut downstream: D,
    early: Option<Connected<N::Stream>>,
) {
    let finish = Finish::new(conn, snapshot, tools.env, tools.sink);
    let connected = match early {
        Some(connected) => Ok(connected),
        None => open(tools, snapshot, plan, conn).await,
    };
    let mut connected = match connected {
        Ok(connected) => connected,
        Err((cluster, failure)) => {
            finish.fail(cluster, &failure);
            if matches!(failure, Failure::Timeout) {
                downstream.abort_on_close();
            }
            return;
        }
    };
    let cx = &finish.cx;
    let Connected { target, address, stream } = &mut connected;
    let _ = cx.cluster.set(target.cluster.clone());
    cx.endpoint.store(Some(endpoint_of(target, *address)));
    cx.upstream_local.store(stream.local_addr().ok().map(Arc::new));
    cx.attempts.fetch_add(1, Ordering::Relaxed);
    let counts = (&cx.request_bytes, &cx.response_bytes);
    match relay(&mut downstream, stream, plan.idle_timeout, counts).await {
        End::Finished | End::Idle => {}
        // An error on one side must not look like a regular end on the other.
        End::Downstream(error) => {
            tracing::debug!(%error, "downstream broke");
            stream.abort_on_close();
        }
        End::Upstream(error) => {
            tracing::debug!(%error, "upstream broke");
            downstream.abort_on_close();
        }
    }
}

/// The endpoint for the record: the picked one, or one that stands for the address.
fn endpoint_of(target: &Target, address: SocketAddr) -> Arc<Endpoint> {
    match &target.endpoint {
        Some(endpoint) => endpoint.clone(),
        None => Arc::new(address_endpoint(address)),
    }
}

/// An endpoint of which only the address is known.
pub(crate) fn address_endpoint(address: SocketAddr) -> Endpoint {
    Endpoint { address, weight: 1, health: Health::Healthy, workload: Arc::new(Workload::default()) }
}

/// How long a connection that is being sniffed may stay silent before the upstream is dialled, to hear whether the server
/// speaks first. Clients that do speak first nearly always have by then, and cost no second connection.
pub(crate) const HEAD_START: Duration = Duration::from_millis(10);
