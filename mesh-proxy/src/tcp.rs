//! TCP streams in two phases: decide where to with everything that is known, then connect and move bytes.

pub(crate) mod gate;
pub(crate) mod relay;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use mesh_core::decide::pick_weighted;
use mesh_core::env::Env;
use mesh_core::error::{Error, ErrorKind};
use mesh_core::record::{ConnInfo, Cx, Flag, RequestRecord, Sink, TlsInfo};
use mesh_core::snapshot::{ClusterPlan, Endpoint, Snapshot, TcpPlan, TunnelPlan};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use self::gate::Closed;
pub use self::gate::{Gate, StreamPolicies};
use self::relay::{End, relay};
use crate::detect::Prefixed;
use crate::dial::Link;
use crate::net::Stream;

/// A connection to an endpoint; the endpoint counts it as active until `guard` is dropped.
pub struct Upstream<S> {
    /// The connection.
    pub stream: Prefixed<Link<S>>,
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Held while it is used.
    pub guard: Box<dyn Send + Sync>,
}

/// Connects TCP streams to clusters.
pub trait Upstreams<S>: Send + Sync + 'static {
    /// Picks an endpoint and connects to it, and through it if there is a tunnel.
    ///
    /// # Errors
    /// `NoHealthyUpstream`, `ConnectFailure`, `ConnectTimeout`, or `Overflow` at `maxConnections`.
    fn open(
        &self,
        cluster: &ClusterPlan,
        conn: &ConnInfo,
        through: Option<&TunnelPlan>,
    ) -> impl Future<Output = Result<Upstream<S>, Error>> + Send;
}

/// The parts of a proxy that a TCP stream uses.
pub(crate) struct Tools<'a, H> {
    pub(crate) upstreams: &'a H,
    pub(crate) env: &'a dyn Env,
    pub(crate) sink: &'a Arc<dyn Sink>,
}

/// Why a stream was not connected, and the cluster if it is known.
pub(crate) struct Failure(Option<Arc<ClusterPlan>>, Error);

/// A connected upstream.
pub(crate) struct Connected<S> {
    cluster: Arc<ClusterPlan>,
    endpoint: Arc<Endpoint>,
    local: Option<SocketAddr>,
    tls: Option<Arc<TlsInfo>>,
    pub(crate) stream: Prefixed<Link<S>>,
    _guard: Box<dyn Send + Sync>,
}

/// Phase one: the cluster. Then the connection to where it leads.
pub(crate) async fn open<S: Stream, H: Upstreams<S>>(
    tools: &Tools<'_, H>,
    snapshot: &Snapshot,
    plan: &TcpPlan,
    conn: &ConnInfo,
) -> Result<Connected<S>, Failure> {
    let chosen = pick_weighted(&plan.clusters, tools.env.random());
    let Some(cluster) = chosen.and_then(|c| snapshot.clusters.get(&c.cluster)).cloned() else {
        return Err(Failure(None, Error::new(ErrorKind::NoCluster)));
    };
    // Of several destinations the first one's tunnel is everybody's, as with Istio.
    let first = plan.clusters.first().and_then(|c| snapshot.clusters.get(&c.cluster));
    let through = first.and_then(|c| c.tunnel.as_deref());
    match tools.upstreams.open(&cluster, conn, through).await {
        Ok(Upstream { stream, endpoint, guard }) => {
            let (local, tls) = (stream.local_addr().ok(), stream.get_ref().tls().cloned());
            Ok(Connected { cluster, endpoint, local, tls, stream, _guard: guard })
        }
        Err(error) => Err(Failure(Some(cluster), error)),
    }
}

/// Finishes one stream exactly once, also when its task is dropped.
pub(crate) struct Finish<'a> {
    cx: Arc<Cx>,
    start: SystemTime,
    began: Instant,
    sink: &'a Arc<dyn Sink>,
    termination: Arc<str>,
}

impl<'a> Finish<'a> {
    pub(crate) fn new(conn: &Arc<ConnInfo>, snapshot: &Snapshot, env: &dyn Env, sink: &'a Arc<dyn Sink>) -> Self {
        let cx = Arc::new(Cx::new(conn.clone(), snapshot.hash));
        Self { cx, start: env.now(), began: Instant::now(), sink, termination: "".into() }
    }

    /// Closes without a target: no rule of the listener takes the connection.
    pub(crate) fn no_rule(self, why: &'static str) {
        self.cx.flag(Flag::Nr);
        let _ = self.cx.details.set(why.to_owned());
    }

    fn fail(&self, Failure(cluster, error): Failure) {
        if let Some(cluster) = cluster {
            let _ = self.cx.cluster.set(cluster);
        }
        if let Some(flag) = Flag::from_name(error.kind().row().flag) {
            self.cx.flag(flag);
        }
        if matches!(error.kind(), ErrorKind::ConnectFailure | ErrorKind::ConnectTimeout) {
            // A TCP stream has one attempt (`max_connect_attempts`), so the first failure uses them up.
            self.cx.flag(Flag::Urx);
        }
        let reason = error.reason();
        if !reason.is_empty() {
            let _ = self.cx.failure_reason.set(reason);
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
            termination: self.termination.clone(),
        });
    }
}

/// Phase two: moves bytes until the stream ends. The connection may have been made before (while sniffing).
pub(crate) async fn serve<S: Stream, H: Upstreams<S>, D: Stream>(
    tools: &Tools<'_, H>,
    snapshot: &Snapshot,
    plan: &TcpPlan,
    conn: &Arc<ConnInfo>,
    (mut downstream, early): (D, Option<Connected<S>>),
    mut gate: Gate,
) {
    let mut finish = Finish::new(conn, snapshot, tools.env, tools.sink);
    if let Some(closed) = passes(&finish.cx, &mut gate, &mut downstream).await {
        finish.termination = closed.details().into();
        return;
    }
    gate.notice(&finish.cx);
    let connected = match early {
        Some(connected) => Ok(connected),
        None => open(tools, snapshot, plan, conn).await,
    };
    let mut connected = match connected {
        Ok(connected) => connected,
        Err(failure) => {
            if failure.1.kind() == ErrorKind::ConnectTimeout {
                downstream.abort_on_close();
            }
            return finish.fail(failure);
        }
    };
    let cx = &finish.cx;
    let _ = cx.cluster.set(connected.cluster.clone());
    cx.endpoint.set(connected.endpoint.clone());
    if let Some(local) = connected.local {
        cx.upstream_local.set(local);
    }
    cx.upstream_tls.set(connected.tls.clone());
    cx.attempts.fetch_add(1, Ordering::Relaxed);
    let counts = (&cx.request_bytes, &cx.response_bytes);
    let stream = &mut connected.stream;
    let pool = &connected.cluster.pool;
    let relayed = relay(&mut downstream, stream, pool.tcp_idle_timeout, counts);
    let relayed = async {
        match pool.max_connection_duration {
            Some(limit) => tokio::time::timeout(limit, relayed).await,
            None => Ok(relayed.await),
        }
    };
    let ended = tokio::select! {
        ended = relayed => ended,
        closed = gate.closes(conn) => {
            // Neither side may take it for a regular end.
            downstream.abort_on_close();
            stream.abort_on_close();
            gate.refused(cx, &closed);
            finish.termination = closed.details().into();
            return;
        }
    };
    let Ok(ended) = ended else {
        cx.flag(Flag::Dt);
        return;
    };
    match ended {
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

/// How long a connection that is refused may stay silent.
const SILENCE: Duration = Duration::from_secs(3_600);

/// Waits until the gate lets a connection through. As Envoy does, one that is refused stays open until its client sends
/// something, and then ends; unlike Envoy's, it has had nothing from the server by then, since nobody dialled it.
async fn passes<D: Stream>(cx: &Cx, gate: &mut Gate, downstream: &mut D) -> Option<Closed> {
    let mut first = bytes::BytesMut::new();
    let until = Instant::now() + SILENCE;
    loop {
        let closed = gate.refusal(&cx.conn).await?;
        tokio::select! {
            biased;
            () = gate.changed() => {}
            read = downstream.read_buf(&mut first) => {
                cx.request_bytes.fetch_add(read.unwrap_or(0) as u64, Ordering::Relaxed);
                gate.refused(cx, &closed);
                // The client may have gone; there is nobody else to tell.
                let _ = downstream.shutdown().await;
                return Some(closed);
            }
            () = tokio::time::sleep_until(until) => return Some(closed),
        }
    }
}

/// How long a connection that is being sniffed may stay silent before the upstream is dialled, to hear whether the server
/// speaks first. Clients that do speak first nearly always have by then, and cost no second connection.
pub(crate) const HEAD_START: Duration = Duration::from_millis(10);
