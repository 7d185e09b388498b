//! A gateway, or a sidecar, from YAML on a loopback socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mesh_core::convert::{Addresses, BUILTIN_GATEWAY, Options, inputs};
use mesh_core::record::{Flag, RequestRecord, Sink};
use mesh_core::snapshot::{Direction, ProxyId, ProxyKind, SecretRef};
use mesh_proxy::cluster::Runtime;
use mesh_proxy::http::Proxy;
use mesh_proxy::listener::{Door, Engine, Shared};
use mesh_proxy::net::{HostEnv, HostNet, HostStream, Listener, Net, Share};
use mesh_tls::{SecretState, Secrets};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

struct Records(UnboundedSender<RequestRecord>);

impl Sink for Records {
    fn record(&self, record: &RequestRecord) {
        let _ = self.0.send(record.clone());
    }
}

pub(crate) struct Running {
    pub(crate) at: SocketAddr,
    pub(crate) secrets: Arc<Secrets>,
    records: UnboundedReceiver<RequestRecord>,
    shared: Arc<Process>,
    door: Door,
}

type Process = Shared<HostNet, Proxy<HostNet>>;

fn configure(shared: &Process, yaml: &str, door: Door) {
    let (resources, reports) = mesh_core::yaml::read("test.yaml", yaml);
    assert!(reports.is_empty(), "{reports:?}");
    let world = inputs(&resources, &Options::default(), &mut Addresses::default()).world;
    let (kind, namespace) = match door.direction() {
        Direction::Gateway => (ProxyKind::Gateway, "istio-system"),
        Direction::Inbound | Direction::Outbound => (ProxyKind::Sidecar, "default"),
    };
    let of = world.workloads_in(namespace).first().expect("a workload").clone();
    let id = ProxyId::of(kind, &of);
    let compiled = mesh_core::compile::compile(&world, &id, None);
    for (name, cluster) in compiled.snapshot.clusters.iter() {
        let endpoints = mesh_core::endpoints::endpoints(&world, cluster).into_iter().map(Arc::new).collect();
        Engine::<HostStream>::set_endpoints(&shared.http, name, endpoints);
    }
    shared.activate(&compiled.snapshot);
}

/// `spec.servers` of a Gateway `gw`, and further documents. `up.example`, port 80, is the upstream.
pub(crate) fn yaml(servers: &str, upstream: SocketAddr, rest: &str) -> String {
    format!(
        "{BUILTIN_GATEWAY}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: up, namespace: default}}
spec:
  hosts: [up.example]
  ports: [{{number: 80, name: http, protocol: HTTP}}, {{number: 81, name: tcp, protocol: TCP}}, {{number: 82, name: http2, protocol: HTTP2}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{http: {0}, tcp: {0}, http2: {0}}}}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: gw, namespace: default}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
{servers}
---
{rest}",
        upstream.port()
    )
}

/// Everything for these hosts to the upstream's port 80.
pub(crate) fn routes(hosts: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: v, namespace: default}}
spec:
  hosts: [{hosts}]
  gateways: [gw]
  http: [{{retries: {{attempts: 0}}, route: [{{destination: {{host: up.example, port: {{number: 80}}}}}}]}}]
"
    )
}

impl Running {
    /// The gateway.
    pub(crate) async fn start(yaml: &str, port: u16) -> Self {
        Self::open(yaml, Door::Gateway(port)).await
    }

    /// The gateway, or the sidecar of the pod in the namespace `default`.
    pub(crate) async fn open(yaml: &str, door: Door) -> Self {
        let (tell, records) = unbounded_channel();
        let sink: Arc<dyn Sink> = Arc::new(Records(tell));
        let net = HostNet::new();
        let runtime = Runtime::new(net.clone(), Arc::new(HostEnv), vec![sink.clone()], 1);
        let secrets = runtime.tls.secrets().clone();
        let shared = Arc::new(Shared::new(net.clone(), Proxy::new(Arc::new(runtime)), Arc::new(HostEnv), sink));
        configure(&shared, yaml, door);
        let any = "127.0.0.1:0".parse().unwrap();
        let mut listener = net.listen("test", any, Share::WHOLE).await.unwrap();
        let at = listener.local_addr().unwrap();
        let serving = shared.clone();
        tokio::spawn(async move {
            while let Ok(stream) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream, door));
            }
        });
        Self { at, secrets, records, shared, door }
    }

    /// Brings other resources into force.
    pub(crate) fn configure(&self, yaml: &str) {
        configure(&self.shared, yaml, self.door);
    }

    /// Delivers the Secret that `credentialName` refers to.
    pub(crate) fn deliver(&self, name: &str, state: SecretState) {
        self.secrets.set(&SecretRef::Credential { namespace: "istio-system".into(), name: name.into() }, state);
    }

    /// Delivers authorities of a Secret.
    pub(crate) fn deliver_roots(&self, name: &str, state: SecretState) {
        self.secrets.set(&SecretRef::CredentialRoots { namespace: "istio-system".into(), name: name.into() }, state);
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.at).await.unwrap()
    }

    /// The next finished request or stream: flags and details.
    pub(crate) async fn record(&mut self) -> (String, String) {
        let record = self.records.recv().await.expect("a record");
        let flags = Flag::names(record.cx.flags.load(Ordering::Relaxed));
        (flags, record.cx.details.get().cloned().unwrap_or_default())
    }
}

/// One HTTP/1.1 request; the whole answer.
pub(crate) async fn get<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, host: &str) -> Result<String, String> {
    let request = format!("GET /x HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
    stream.flush().await.map_err(|e| e.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(|e| e.to_string())?;
    Ok(answer)
}

/// Answers every request with its head, wrapped by `wrap`.
pub(crate) async fn upstream<W, F, S>(wrap: W) -> SocketAddr
where
    W: Fn(TcpStream) -> F + Send + Sync + 'static,
    F: Future<Output = Option<S>> + Send,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let wrap = Arc::new(wrap);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let wrap = wrap.clone();
            tokio::spawn(async move {
                let Some(mut stream) = wrap(stream).await else { return };
                let mut got = Vec::new();
                while stream.read_buf(&mut got).await.is_ok_and(|n| n > 0) {
                    while let Some(end) = got.windows(4).position(|w| w == b"\r\n\r\n") {
                        let head: Vec<u8> = got.drain(..end + 4).collect();
                        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", head.len());
                        let _ = stream.write_all(&[answer.as_bytes(), &head].concat()).await;
                        let _ = stream.flush().await;
                    }
                }
            });
        }
    });
    at
}

pub(crate) async fn plain_upstream() -> SocketAddr {
    upstream(|stream| std::future::ready(Some(stream))).await
}
