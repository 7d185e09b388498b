//! The real stack from YAML: read, convert, compile, activate, serve on a loopback socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mesh_core::convert::{Addresses, BUILTIN_GATEWAY, Options, inputs};
use mesh_core::layers::limits::Usage;
use mesh_core::record::{ConnInfo, CopyOutcome, Flag, PeerCertificate, RequestRecord, Sink, TlsInfo};
use mesh_core::snapshot::{Direction, ProxyId, ProxyKind};
use mesh_core::world::World;
use mesh_proxy::cluster::Runtime;
use mesh_proxy::drain::Drain;
use mesh_proxy::http::Proxy;
use mesh_proxy::listener::{Engine, HttpServer, Route};
use mesh_proxy::net::{HostEnv, HostNet, HostStream};
use mesh_proxy::telemetry::denials::Denials;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The listener that a test talks to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Door {
    Gateway,
    Outbound,
    Inbound,
}

/// What a test configures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub(crate) door: Door,
    /// `spec.hosts` of the VirtualService.
    pub(crate) hosts: &'static str,
    /// `spec.http` of the VirtualService; `$up` is the upstream as a destination.
    pub(crate) routes: &'static str,
    /// Further documents.
    pub(crate) extra: &'static str,
    /// Protocol of the upstream's port.
    pub(crate) protocol: &'static str,
    /// Identity that clients have shown over TLS; empty: none.
    pub(crate) peer: &'static str,
}

pub(crate) const DEFAULT: Config = Config {
    door: Door::Gateway,
    hosts: "[up.example]",
    routes: "[{retries: {attempts: 0}, route: [$up]}]",
    extra: "",
    protocol: "HTTP",
    peer: "",
};

impl Config {
    fn yaml(&self, upstream: Option<SocketAddr>) -> String {
        let port = upstream.map_or(0, |u| u.port());
        let endpoints = if port == 0 {
            String::new()
        } else {
            format!("endpoints: [{{address: 127.0.0.1, ports: {{http: {port}}}}}]")
        };
        let text = format!(
            "{BUILTIN_GATEWAY}
---
apiVersion: v1
kind: Pod
metadata: {{name: client, namespace: default, labels: {{app: client}}}}
spec: {{containers: [{{name: c, image: c}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: client, namespace: default}}
spec: {{selector: {{app: client}}, ports: [{{name: a, port: 80, targetPort: {port}, appProtocol: {}}}]}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: up, namespace: default}}
spec:
  hosts: [up.example]
  ports: [{{number: 80, name: http, protocol: {}}}]
  resolution: STATIC
  {endpoints}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: gw, namespace: default}}
spec: {{selector: {{istio: ingressgateway}}, servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*']}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: v, namespace: default}}
spec:
  hosts: {}
  gateways: [gw, mesh]
  http: {}
{}",
            self.protocol.to_ascii_lowercase(),
            self.protocol,
            self.hosts,
            self.routes,
            self.extra
        );
        text.replace("$up", "{destination: {host: up.example, port: {number: 80}}}")
    }

    fn id(&self, world: &World) -> ProxyId {
        let (kind, namespace) = match self.door {
            Door::Gateway => (ProxyKind::Gateway, "istio-system"),
            Door::Outbound | Door::Inbound => (ProxyKind::Sidecar, "default"),
        };
        let of = world.workloads_in(namespace).first().expect("one workload there");
        ProxyId::of(kind, of)
    }
}

struct Records(UnboundedSender<RequestRecord>, UnboundedSender<(String, CopyOutcome)>);

impl Sink for Records {
    fn record(&self, record: &RequestRecord) {
        let _ = self.0.send(record.clone());
    }

    fn copied(&self, cluster: &str, outcome: CopyOutcome) {
        let _ = self.1.send((cluster.to_owned(), outcome));
    }
}

/// TLS in which a client has shown an identity.
fn shown(uri: &str) -> TlsInfo {
    let peer = PeerCertificate {
        uris: vec![uri.into()],
        dns: Vec::new(),
        ips: Vec::new(),
        emails: Vec::new(),
        subject: "".into(),
        serial: "01".into(),
        hash: "".into(),
        spki: "".into(),
        not_after: std::time::SystemTime::UNIX_EPOCH,
        chain: Vec::new(),
    };
    TlsInfo {
        version: "TLSv1.3",
        cipher: "".into(),
        alpn: "".into(),
        peer: Some(Arc::new(peer)),
        is_verified: false,
        identity: None,
        own: None,
        client_cert: None,
    }
    .into_verified()
}

/// A running proxy.
pub(crate) struct Mesh {
    pub(crate) at: SocketAddr,
    pub(crate) drain: Drain,
    pub(crate) node: String,
    records: UnboundedReceiver<RequestRecord>,
    copies: UnboundedReceiver<(String, CopyOutcome)>,
    runtime: Arc<Runtime<HostNet>>,
}

impl Mesh {
    pub(crate) async fn start(config: &Config, upstream: Option<SocketAddr>) -> Self {
        Self::start_with(config, upstream, Vec::new()).await
    }

    /// The same with more readers of records than the test itself.
    pub(crate) async fn start_with(
        config: &Config,
        upstream: Option<SocketAddr>,
        mut sinks: Vec<Arc<dyn Sink>>,
    ) -> Self {
        let (resources, reports) = mesh_core::yaml::read("test.yaml", &config.yaml(upstream));
        let wrong = |r: &&mesh_core::report::Report| r.level == mesh_core::report::Level::Error;
        assert!(!reports.iter().any(|r| wrong(&r)), "{reports:?}");
        let world = inputs(&resources, &Options::default(), &mut Addresses::default()).world;
        let id = config.id(&world);
        let node = id.addresses[0].to_string();
        let compiled = mesh_core::compile::compile(&world, &id, None);
        let (tell, records) = unbounded_channel();
        let (tell_copy, copies) = unbounded_channel();
        sinks.push(Arc::new(Records(tell, tell_copy)));
        let runtime = Arc::new(Runtime::new(HostNet::new(), Arc::new(HostEnv), sinks, 1));
        let proxy = Arc::new(Proxy::new(Arc::clone(&runtime)));
        for (name, cluster) in compiled.snapshot.clusters.iter() {
            let endpoints = mesh_core::endpoints::endpoints(&world, cluster).into_iter().map(Arc::new).collect();
            Engine::<HostStream>::set_endpoints(&*proxy, name, endpoints);
        }
        Engine::<HostStream>::activate(&*proxy, &compiled.snapshot);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let drain = Drain::new();
        let (direction, local, route) = match config.door {
            Door::Gateway => (Direction::Gateway, at, Route::Gateway(80)),
            Door::Outbound => {
                let to = "240.0.0.1:80".parse().unwrap();
                (Direction::Outbound, to, Route::Outbound(to))
            }
            Door::Inbound => {
                let app = upstream.unwrap_or(at);
                (Direction::Inbound, app, Route::Inbound(app.port()))
            }
        };
        tokio::spawn({
            let (proxy, drain) = (Arc::clone(&proxy), drain.clone());
            let tls = (!config.peer.is_empty()).then(|| Arc::new(shown(config.peer)));
            async move {
                while let Ok((stream, peer)) = listener.accept().await {
                    let tls = tls.clone();
                    let conn = Arc::new(ConnInfo {
                        direction,
                        peer,
                        local,
                        direct: None,
                        sni: "".into(),
                        tls,
                        peer_text: Default::default(),
                    });
                    let (proxy, drain) = (Arc::clone(&proxy), drain.clone());
                    tokio::spawn(async move { proxy.serve(stream, conn, route, drain).await });
                }
            }
        });
        Self { at, drain, node, records, copies, runtime }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.at).await.unwrap()
    }

    /// The next copy that has ended, with its cluster.
    pub(crate) async fn copy(&mut self) -> (String, CopyOutcome) {
        self.copies.recv().await.expect("a copy")
    }

    /// What is in use of a cluster.
    pub(crate) fn usage(&self, cluster: &str) -> Arc<Usage> {
        Arc::clone(self.runtime.cluster(cluster).usage())
    }

    /// What was refused.
    pub(crate) fn denials(&self) -> &Denials {
        &self.runtime.denials
    }

    /// The next finished request.
    pub(crate) async fn record(&mut self) -> RequestRecord {
        self.records.recv().await.expect("a record")
    }
}

pub(crate) fn flags(record: &RequestRecord) -> String {
    Flag::names(record.cx.flags.load(Ordering::Relaxed))
}

pub(crate) fn details(record: &RequestRecord) -> String {
    record.cx.details.get().cloned().unwrap_or_else(|| "via_upstream".into())
}
