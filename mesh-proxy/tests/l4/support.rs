//! A proxy on a network where every connection was redirected from one address.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use mesh_core::api::{ContentHash, Resource};
use mesh_core::matching::HostPattern;
use mesh_core::record::{Flag, RequestRecord, Sink};
use mesh_core::snapshot::{
    AuthorizerPlan, Balancer, Balancing, ClusterPlan, Direction, Endpoint, EndpointSource, HeaderOps, L4Rule,
    ListenerKey, ListenerPlan, NameEntry, PoolPlan, Provenance, ProviderPlan, ProxyId, ProxyKind, ProxyPlan,
    SecurityPlan, Snapshot, TcpPlan, UpstreamProtocol, WeightedCluster,
};
use mesh_proxy::cluster::Runtime;
use mesh_proxy::http::Proxy;
use mesh_proxy::listener::{Door, Engine, Shared};
use mesh_proxy::net::{
    ConnectOptions, HostDatagrams, HostEnv, HostListener, HostNet, HostStream, Listener, Net, Resolved, Share,
};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

pub(crate) const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Where a connection is reset while it is being made: nothing on loopback does that.
pub(crate) const RESETS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9)), 9);

/// Linux sockets, with one original destination for all.
#[derive(Clone)]
pub(crate) struct Redirected(HostNet, SocketAddr);

impl Net for Redirected {
    type Stream = HostStream;
    type Listener = HostListener;
    type Datagrams = HostDatagrams;

    async fn connect(&self, to: SocketAddr, options: ConnectOptions) -> io::Result<HostStream> {
        if to == RESETS {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::CONNRESET.raw_os_error()));
        }
        self.0.connect(to, options).await
    }
    async fn listen(&self, name: &str, at: SocketAddr, share: Share) -> io::Result<HostListener> {
        self.0.listen(name, at, share).await
    }
    async fn listen_host(&self, name: &str, at: SocketAddr, share: Share) -> io::Result<HostListener> {
        self.0.listen_host(name, at, share).await
    }
    async fn datagrams(&self, at: SocketAddr) -> io::Result<HostDatagrams> {
        self.0.datagrams(at).await
    }
    async fn unlisten_host(&self, at: SocketAddr) -> io::Result<()> {
        self.0.unlisten_host(at).await
    }
    async fn resolve(&self, name: &str) -> io::Result<Resolved> {
        self.0.resolve(name).await
    }
    fn original_dst(&self, _: &HostStream) -> io::Result<SocketAddr> {
        Ok(self.1)
    }
}

struct Records(mpsc::Sender<RequestRecord>);

impl Sink for Records {
    fn record(&self, record: &RequestRecord) {
        let _ = self.0.send(record.clone());
    }
}

/// What a test says about the plan.
pub(crate) struct Setup {
    pub(crate) detect: bool,
    pub(crate) detection_timeout: Option<Duration>,
    /// Rule for this server name goes to the cluster `tls`.
    pub(crate) sni: Option<&'static str>,
    pub(crate) source: EndpointSource,
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) cluster: &'static str,
    pub(crate) to: SocketAddr,
    pub(crate) balancing: Balancing,
    pub(crate) pool: PoolPlan,
    /// AuthorizationPolicies that apply.
    pub(crate) policies: &'static str,
    /// Where the external authorizer `checker` is.
    pub(crate) authorizer: Option<SocketAddr>,
}

impl Setup {
    /// Bytes to one endpoint.
    pub(crate) fn tcp(endpoint: Option<SocketAddr>) -> Self {
        let source = EndpointSource::Service {
            namespace: "default".into(),
            hostname: "db.default.svc.cluster.local".into(),
            port: 5432,
            labels: Default::default(),
        };
        let to = "10.96.0.7:5432".parse().unwrap();
        Self {
            detect: false,
            detection_timeout: None,
            sni: None,
            source,
            endpoint,
            cluster: "db",
            to,
            balancing: Balancing::default(),
            pool: PoolPlan::default(),
            policies: "",
            authorizer: None,
        }
    }
}

/// A proxy with one port.
pub(crate) struct Running {
    at: SocketAddr,
    records: mpsc::Receiver<RequestRecord>,
    pub(crate) shared: Arc<Shared<Redirected, Proxy<Redirected>>>,
}

impl Running {
    pub(crate) async fn start(setup: Setup, door: Door) -> Self {
        let net = Redirected(HostNet::new(), setup.to);
        let (tell, records) = mpsc::channel();
        let sink: Arc<dyn Sink> = Arc::new(Records(tell));
        let runtime = Runtime::new(net.clone(), Arc::new(HostEnv), vec![sink.clone()], 1);
        let shared = Arc::new(Shared::new(net.clone(), Proxy::new(Arc::new(runtime)), Arc::new(HostEnv), sink));
        let endpoint = |address: SocketAddr| {
            let (weight, health, workload) = (1, Default::default(), Default::default());
            Arc::new(Endpoint { address: address.into(), weight, health, workload, mesh: Default::default() })
        };
        let endpoints = setup.endpoint.map(endpoint);
        let snapshot = Arc::new(snapshot(&setup));
        shared.http.set_endpoints(&"db".into(), endpoints.into_iter().collect());
        let authorizer = setup.authorizer.map(endpoint);
        shared.http.set_endpoints(&"authz".into(), authorizer.into_iter().collect());
        shared.activate(&snapshot);
        let mut listener = net.listen("test", LOOPBACK, Share::WHOLE).await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn({
            let shared = shared.clone();
            async move {
                while let Ok(stream) = listener.accept().await {
                    tokio::spawn(shared.clone().serve(stream, door));
                }
            }
        });
        Self { at, records, shared }
    }

    /// Other policies from now on.
    pub(crate) fn apply(&self, policies: &str) {
        let before = self.shared.snapshot().unwrap();
        let next = Snapshot { hash: ContentHash(2), security: security(policies, None), ..Snapshot::clone(&before) };
        self.shared.activate(&Arc::new(next));
    }

    /// The next finished stream.
    pub(crate) async fn record(self) -> RequestRecord {
        tokio::task::spawn_blocking(move || self.records.recv().unwrap()).await.unwrap()
    }

    pub(crate) async fn client(&self) -> TcpStream {
        client(self.at).await
    }

    /// Flags of the streams that have finished since it was asked.
    pub(crate) fn flags_so_far(&self) -> Vec<String> {
        let flags =
            |r: RequestRecord| Flag::names_of(r.cx.flags.load(std::sync::atomic::Ordering::Relaxed), r.http.is_none());
        self.records.try_iter().map(flags).collect()
    }

    /// Flags of the next finished stream, and the reason of a failed connection.
    pub(crate) async fn flags(self) -> (String, String) {
        let record = tokio::task::spawn_blocking(move || self.records.recv().unwrap()).await.unwrap();
        let flags = Flag::names_of(record.cx.flags.load(std::sync::atomic::Ordering::Relaxed), record.http.is_none());
        (flags, record.cx.failure_reason.get().cloned().unwrap_or_default())
    }
}

pub(crate) async fn client(at: SocketAddr) -> TcpStream {
    TcpSocket::new_v4().unwrap().connect(at).await.unwrap()
}

pub(crate) fn upstream() -> (TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind(LOOPBACK).unwrap();
    listener.set_nonblocking(true).unwrap();
    let at = listener.local_addr().unwrap();
    (TcpListener::from_std(listener).unwrap(), at)
}

/// An address that refuses.
pub(crate) fn closed() -> SocketAddr {
    std::net::TcpListener::bind(LOOPBACK).unwrap().local_addr().unwrap()
}

fn origin() -> Provenance {
    Provenance::default("test")
}

fn plan_to(cluster: &str) -> Arc<TcpPlan> {
    Arc::new(TcpPlan {
        route_name: "".into(),
        clusters: vec![WeightedCluster {
            cluster: cluster.into(),
            weight: 1,
            request_headers: HeaderOps::default(),
            response_headers: HeaderOps::default(),
            authority: None,
            missing_status: http::StatusCode::SERVICE_UNAVAILABLE,
            origin: origin(),
        }],
        origin: origin(),
        hash: ContentHash::default(),
    })
}

fn checker() -> ProviderPlan {
    ProviderPlan {
        name: "checker".into(),
        cluster: "authz".into(),
        authority: "authz.example".into(),
        timeout: Duration::from_secs(5),
        fail_open: false,
        status_on_error: http::StatusCode::FORBIDDEN,
        body: None,
        speaks: AuthorizerPlan::Grpc,
        origin: origin(),
    }
}

fn security(policies: &str, authorizer: Option<SocketAddr>) -> Arc<SecurityPlan> {
    let (mut authorization, mut egress) = (Vec::new(), Vec::new());
    for resource in mesh_core::yaml::read("p.yaml", policies).0 {
        match resource {
            Resource::AuthorizationPolicy(o) => authorization.push(o),
            Resource::EgressPolicy(o) => egress.push(o),
            other => panic!("{}", other.key()),
        }
    }
    let hash = ContentHash::of(policies.as_bytes());
    let identity = Some("cluster.local/ns/default/sa/web".into());
    let providers = authorizer.map(|_| Arc::new(checker())).into_iter().collect();
    Arc::new(SecurityPlan { authorization, egress, identity, providers, hash, ..SecurityPlan::default() })
}

fn snapshot(setup: &Setup) -> Snapshot {
    let key = ListenerKey::new(Direction::Outbound, None, 0);
    let l4 = setup.sni.map(|sni| L4Rule {
        sni: vec![HostPattern::Exact(sni.into())],
        alpn: Vec::new(),
        destination_subnets: Vec::new(),
        plan: plan_to("db"),
    });
    let fallback = (setup.cluster != "none").then(|| plan_to(setup.cluster));
    let listener = ListenerPlan {
        name: "virtualOutbound".into(),
        key,
        detect: setup.detect,
        http: None,
        mesh: None,
        tls: Vec::new(),
        l4: l4.into_iter().collect(),
        fallback,
        origin: origin(),
        hash: ContentHash::default(),
    };
    let inbound = ListenerKey { direction: Direction::Inbound, ..key };
    let plan = cluster(setup.source.clone(), setup.pool.clone());
    let cluster = Arc::new(ClusterPlan { balancing: setup.balancing.clone().into(), ..plan });
    let authz = cluster_called("authz", setup.source.clone(), PoolPlan::default());
    let authz = ClusterPlan { protocol: UpstreamProtocol::Http2, ..authz };
    let name = Arc::new(NameEntry { hostname: "db".into(), addresses: vec![setup.to.ip()] });
    Snapshot {
        hash: ContentHash(1),
        proxy: Arc::new(proxy_plan(setup.detection_timeout)),
        listeners: [(key, Arc::new(listener.clone())), (inbound, Arc::new(ListenerPlan { key: inbound, ..listener }))]
            .into_iter()
            .collect(),
        binds: Vec::new(),
        clusters: Arc::new([(cluster.name.clone(), cluster), ("authz".into(), Arc::new(authz))].into_iter().collect()),
        names: Arc::new([("db".into(), name)].into_iter().collect()),
        security: security(setup.policies, setup.authorizer),
    }
}

fn cluster(source: EndpointSource, pool: PoolPlan) -> ClusterPlan {
    cluster_called("db", source, pool)
}

fn cluster_called(name: &str, source: EndpointSource, pool: PoolPlan) -> ClusterPlan {
    ClusterPlan {
        name: name.into(),
        source,
        protocol: UpstreamProtocol::Tcp,
        balancer: Balancer::RoundRobin,
        balancing: Arc::default(),
        connect_timeout: Duration::from_secs(10),
        auto_tls: None,
        tls_origin: Provenance::default("test"),
        tls: None,
        proxy_header: None,
        tunnel: None,
        pool: pool.into(),
        pool_origin: origin(),
        service: "".into(),
        service_name: "".into(),
        service_namespace: "".into(),
        external: false,
        subset: "".into(),
        origin: origin(),
        policy_origin: origin(),
        hash: ContentHash::default(),
    }
}

fn proxy_plan(detection_timeout: Option<Duration>) -> ProxyPlan {
    ProxyPlan {
        id: ProxyId {
            kind: ProxyKind::Sidecar,
            workload: "w".into(),
            name: "w".into(),
            namespace: "default".into(),
            addresses: Vec::new(),
            domain: "cluster.local".into(),
        },
        access_log: false,
        access_log_json: false,
        access_log_format: None,
        accepts_proxy_header: false,
        listener_log: true,
        ports: Default::default(),
        preserve_case: false,
        allow_any: true,
        detection_timeout,
        drain_duration: Duration::from_secs(45),
        termination_drain_duration: Duration::from_secs(5),
        authorities: Default::default(),
        workload: None,
        hash: ContentHash::default(),
    }
}
