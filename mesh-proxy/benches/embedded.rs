//! What the mesh costs inside an application, beside what it costs in sidecars: one request after the other over one
//! connection, mutual TLS of the same kind. Client and server are on one thread, which shows what their code costs; then on
//! a thread each, as two applications are, where each wakes the other up.
//!
//! ```text
//! cargo bench -p mesh-proxy --bench embedded
//! ```
//!
//! `bare` is hyper over rustls, `headers` the same with the headers that the mesh puts on the wire, which is the least that
//! any mesh could cost; `embedded` has a mesh at both ends; `sidecars` is bare hyper in plaintext with a sidecar at both ends.
//! Rounds take turns, so that whatever else the machine does is in all of them.

#![allow(clippy::unwrap_used, reason = "a program that measures ends when something is wrong")]
#![allow(clippy::disallowed_methods, reason = "clients and servers that are no part of the mesh")]
#![allow(dead_code, reason = "the certificates are shared with the tests")]

#[path = "../tests/tls/certificates.rs"]
mod certificates;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mesh_core::convert::{Addresses, Options, inputs};
use mesh_core::snapshot::{ProxyId, ProxyKind, SecretRef, TlsParameters};
use mesh_proxy::cluster::Runtime;
use mesh_proxy::http::Proxy;
use mesh_proxy::listener::{Door, Engine, Shared};
use mesh_proxy::net::{HostEnv, HostNet, HostStream, Listener, Net, Share};
use mesh_proxy::telemetry::metrics::Metrics;
use mesh_proxy::{Body, Mesh};
use mesh_tls::{Carries, MtlsAcceptor, MtlsConfig, MtlsConnector, MtlsUpstream, SecretState, Secrets, TrustDomains};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tower::Service;

use certificates::{Ca, Leaf};

const ROUNDS: usize = 7;
const REQUESTS: usize = 4_000;
const WARM: usize = 500;
const SERVER: &str = "spiffe://cluster.local/ns/default/sa/server";
const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/client";

fn main() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    println!("{ROUNDS} rounds of {REQUESTS} requests; CPU of both ends together, medians, ratios inside a round");
    let one = runtime();
    run("client and server on one thread", &one, one.handle());
    let (two, (tell, end)) = (runtime(), tokio::sync::oneshot::channel::<()>());
    let serving = two.handle().clone();
    let server = std::thread::spawn(move || two.block_on(end));
    run("client and server on a thread each", &runtime(), &serving);
    drop(tell);
    // It ends with an error, which is what it waits for.
    let _ = server.join().unwrap();
}

/// Measures clients in this runtime of servers in that one.
fn run(what: &str, clients: &tokio::runtime::Runtime, servers: &Handle) {
    clients.block_on(async {
        let ca = Ca::new("mesh");
        let (client, server) = (ca.leaf(&[CLIENT]), ca.leaf(&[SERVER]));
        let mut bare = self::bare(servers, &ca, &client, &server).await;
        let mut headers = self::bare(servers, &ca, &client, &server).await;
        let mut embedded = embedded(servers, &ca, &client, &server).await;
        let mut sidecars = sidecars(servers, &ca, &client, &server).await;
        let mut figures = [const { Vec::new() }; MODES.len()];
        for round in 0..=ROUNDS {
            let count = if round == 0 { WARM } else { REQUESTS };
            let run = [
                measure(count, async || ask(&mut bare, request()).await).await,
                measure(count, async || ask(&mut headers, as_in_a_mesh(request())).await).await,
                measure(count, async || embedded.ask().await).await,
                measure(count, async || ask(&mut sidecars, request()).await).await,
            ];
            if round > 0 {
                figures.iter_mut().zip(run).for_each(|(all, one)| all.push(one));
            }
        }
        report(what, &figures);
    });
}

const MODES: [&str; 4] = ["bare hyper + rustls", "with the mesh's headers", "embedded", "sidecar pair"];

/// Of a round.
#[derive(Clone, Copy)]
struct Figures {
    /// Processor time of a request, both ends, in µs.
    cpu: f64,
    /// Median latency in µs.
    p50: f64,
}

fn report(what: &str, figures: &[Vec<Figures>; MODES.len()]) {
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!(
        "\n| {what} | CPU, µs a request | more than bare, µs | p50, µs | p50 against bare |\n| --- | --- | --- | --- | --- |"
    );
    for (name, of) in MODES.iter().zip(figures) {
        let pairs = || of.iter().zip(&figures[0]);
        let cpu = median(of.iter().map(|f| f.cpu).collect());
        let more = median(pairs().map(|(f, bare)| f.cpu - bare.cpu).collect());
        let p50 = median(of.iter().map(|f| f.p50).collect());
        let ratio = median(pairs().map(|(f, bare)| f.p50 / bare.p50).collect());
        println!("| {name} | {cpu:.1} | {more:.1} | {p50:.1} | {ratio:.2} |");
    }
}

async fn measure(count: usize, mut ask: impl AsyncFnMut()) -> Figures {
    let mut times = Vec::with_capacity(count);
    let before = cpu();
    for _ in 0..count {
        let began = Instant::now();
        ask().await;
        times.push(began.elapsed());
    }
    let used = cpu() - before;
    times.sort();
    let micros = |d: Duration| d.as_secs_f64() * 1e6;
    Figures { cpu: micros(used) / count as f64, p50: micros(times[count / 2]) }
}

/// Processor time of this process until now.
fn cpu() -> Duration {
    // `seconds nanoseconds`: time on a processor, of all threads together.
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let of = |task: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    Duration::from_nanos(threads.map(of).sum())
}

async fn hello(request: Request<Incoming>) -> Result<Response<Full<bytes::Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(bytes::Bytes::from_static(b"Hello, world!")));
    if request.headers().contains_key("x-request-id") {
        response.headers_mut().insert("x-envoy-upstream-service-time", HeaderValue::from_static("0"));
        response.headers_mut().insert("server", HeaderValue::from_static("istio-envoy"));
    }
    Ok(response)
}

/// What the client's side of a mesh adds to a request. An id for each, as it would be.
fn as_in_a_mesh<B>(mut request: Request<B>) -> Request<B> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let headers = request.headers_mut();
    headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
    let id = format!("00000000-0000-4000-8000-{:012x}", COUNT.fetch_add(1, Ordering::Relaxed));
    headers.insert("x-request-id", HeaderValue::try_from(id).unwrap());
    headers.insert("x-envoy-attempt-count", HeaderValue::from_static("1"));
    request
}

fn request<B: Default>() -> Request<B> {
    Request::get("/hello").header("host", "server:9080").body(B::default()).unwrap()
}

async fn ask(sender: &mut SendRequest<Full<bytes::Bytes>>, request: Request<Full<bytes::Bytes>>) {
    sender.ready().await.unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    response.into_body().collect().await.unwrap();
}

fn serve<I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(io: I) {
    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(io), service_fn(hello)));
}

async fn client_over<I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(io: I) -> SendRequest<Full<bytes::Bytes>> {
    let (sender, connection) = handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// A connection without delays of the kernel's own.
async fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// What is made where it is used: sockets belong to a runtime.
async fn on<T: Send + 'static>(handle: &Handle, make: impl Future<Output = T> + Send + 'static) -> T {
    handle.spawn(make).await.unwrap()
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    (listener, at)
}

async fn bare(servers: &Handle, ca: &Ca, client: &Leaf, server: &Leaf) -> SendRequest<Full<bytes::Bytes>> {
    let upstream = MtlsUpstream {
        host: "server".into(),
        port: 9080,
        subset: "".into(),
        accounts: vec![SERVER.into()],
        parameters: TlsParameters::mesh(false, []),
    };
    let (own, theirs) = (Secrets::default(), Secrets::default());
    let acceptor = MtlsAcceptor::new(MtlsConfig::default(), &theirs);
    let connector = MtlsConnector::new(&upstream, &TrustDomains::default(), &own);
    for (secrets, leaf) in [(&own, client), (&theirs, server)] {
        secrets.set(&SecretRef::Workload, leaf.material());
        secrets.set(&SecretRef::MeshRoots, ca.roots());
    }
    let (listener, at) = on(servers, listener()).await;
    servers.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        serve(acceptor.accept(stream).await.unwrap().0);
    });
    let (stream, _) = connector.connect(connect(at).await, Carries::Http1).await.unwrap();
    client_over(stream).await
}

/// The service, and where it listens.
fn world(port: u16, more: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: server, namespace: default}}
spec: {{address: 127.0.0.1, labels: {{app: server}}, serviceAccount: server}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: client, namespace: default}}
spec: {{address: 127.0.0.2, labels: {{app: client}}, serviceAccount: client}}
---
apiVersion: v1
kind: Service
metadata: {{name: server, namespace: default}}
spec: {{clusterIP: 127.0.0.3, selector: {{app: server}}, ports: [{{name: http, port: 9080, targetPort: {port}}}]}}
---
{more}"
    )
}

/// Both ends are members of the mesh.
struct Embedded {
    client: mesh_proxy::Client,
}

impl Embedded {
    async fn ask(&mut self) {
        let response = self.client.call(request::<Body>()).await.unwrap();
        assert_eq!(response.status(), 200);
        response.into_body().collect().await.unwrap();
    }
}

async fn embedded(servers: &Handle, ca: &Ca, client: &Leaf, server: &Leaf) -> Embedded {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let yaml = world(listener.local_addr().unwrap().port(), "");
    let member = |name: &str, leaf: &Leaf| {
        let builder = Mesh::builder().yaml(&yaml).workload(format!("default/{name}"));
        builder.identity(leaf.pem.as_str(), leaf.key.as_str(), ca.pem.as_str()).start()
    };
    let app =
        tower::service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::from("Hello, world!"))) });
    let serving = on(servers, member("server", server)).await.unwrap();
    servers.spawn(async move { serving.serve(listener, app).await });
    Embedded { client: member("client", client).await.unwrap().client() }
}

/// A sidecar's share of the way.
async fn sidecar(
    name: &'static str,
    (own, roots): (SecretState, SecretState),
    yaml: impl Fn(u16) -> String,
    door: Door,
) -> SocketAddr {
    let net = HostNet::new();
    let metrics = Arc::new(Metrics::new());
    let runtime = Runtime::new(net.clone(), Arc::new(HostEnv), vec![metrics.clone()], 1);
    let secrets = runtime.tls.secrets().clone();
    let shared = Arc::new(Shared::new(net.clone(), Proxy::new(Arc::new(runtime)), Arc::new(HostEnv), metrics));
    let mut listener = net.listen("bench", "127.0.0.1:0".parse().unwrap(), Share::WHOLE).await.unwrap();
    let at = listener.local_addr().unwrap();
    let (resources, reports) = mesh_core::yaml::read("bench.yaml", &yaml(at.port()));
    assert!(reports.is_empty(), "{reports:?}");
    let world = inputs(&resources, &Options::default(), &mut Addresses::default()).world;
    let of = world.workloads_in("default").iter().find(|w| &*w.name == name).unwrap().clone();
    let id = ProxyId::of(ProxyKind::Sidecar, &of);
    let compiled = mesh_core::compile::compile(&world, &id, None);
    for (name, cluster) in compiled.snapshot.clusters.iter() {
        let endpoints = mesh_core::endpoints::endpoints(&world, cluster).into_iter().map(Arc::new).collect();
        Engine::<HostStream>::set_endpoints(&shared.http, name, endpoints);
    }
    shared.activate(&compiled.snapshot);
    secrets.set(&SecretRef::Workload, own);
    secrets.set(&SecretRef::MeshRoots, roots);
    tokio::spawn(async move {
        while let Ok(stream) = listener.accept().await {
            tokio::spawn(shared.clone().serve(stream, door));
        }
    });
    at
}

/// Has a sidecar serve a port in front of the application's.
fn ingress(port: u16, app: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: server, namespace: default}}
spec:
  workloadSelector: {{labels: {{app: server}}}}
  ingress: [{{port: {{number: {port}, protocol: HTTP, name: http}}, defaultEndpoint: '127.0.0.1:{app}'}}]
  egress: [{{hosts: ['*/*']}}]
"
    )
}

async fn sidecars(servers: &Handle, ca: &Ca, client: &Leaf, server: &Leaf) -> SendRequest<Full<bytes::Bytes>> {
    let (listener, app) = on(servers, listener()).await;
    servers.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            serve(stream);
        }
    });
    let identity = |of: &Leaf| (of.material(), ca.roots());
    let port = app.port();
    let yaml = move |own: u16| world(own, &ingress(own, port));
    let inbound = on(servers, sidecar("server", identity(server), yaml, Door::InboundDirect)).await;
    let door = Door::OutboundTo("127.0.0.3:9080".parse().unwrap());
    let outbound = sidecar("client", identity(client), |_| yaml(inbound.port()), door).await;
    client_over(connect(outbound).await).await
}
