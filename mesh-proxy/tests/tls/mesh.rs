//! The mesh's own TLS between two sidecars, and what is tried against it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mesh_core::api::{Key, Kind};
use mesh_core::convert::{Addresses, Options, Placement, inputs};
use mesh_core::model::Health;
use mesh_core::record::{Flag, RequestRecord, Sink};
use mesh_core::snapshot::{ProxyId, ProxyKind, SecretRef, TlsParameters};
use mesh_proxy::cluster::Runtime;
use mesh_proxy::http::Proxy;
use mesh_proxy::listener::{Door, Engine, Shared};
use mesh_proxy::net::{HostEnv, HostNet, HostStream, Listener, Net, Share};
use mesh_tls::{Carries, Connector, MtlsUpstream, SecretState, Secrets, TrustDomains};
use rcgen::{BasicConstraints, IsCa};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::certificates::{Ca, Leaf, TlsClient};
use crate::running::{get, plain_upstream};

pub(crate) type Process = Shared<HostNet, Proxy<HostNet>>;

struct Records(UnboundedSender<RequestRecord>);

impl Sink for Records {
    fn record(&self, record: &RequestRecord) {
        let _ = self.0.send(record.clone());
    }
}

/// A sidecar on a loopback socket that is dialled as it is.
pub(crate) struct Sidecar {
    pub(crate) at: SocketAddr,
    name: &'static str,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) records: UnboundedReceiver<RequestRecord>,
    pub(crate) shared: Arc<Process>,
}

impl Sidecar {
    async fn start(name: &'static str, door: Door) -> Self {
        let (tell, records) = unbounded_channel();
        let sink: Arc<dyn Sink> = Arc::new(Records(tell));
        let net = HostNet::new();
        let runtime = Runtime::new(net.clone(), Arc::new(HostEnv), vec![sink.clone()], 1);
        let secrets = runtime.tls.secrets().clone();
        let shared = Arc::new(Shared::new(net.clone(), Proxy::new(Arc::new(runtime)), Arc::new(HostEnv), sink));
        let mut listener = net.listen("test", "127.0.0.1:0".parse().unwrap(), Share::WHOLE).await.unwrap();
        let at = listener.local_addr().unwrap();
        let serving = shared.clone();
        tokio::spawn(async move {
            while let Ok(stream) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream, door));
            }
        });
        Self { at, name, secrets, records, shared }
    }

    pub(crate) fn configure(&self, yaml: &str) {
        let (resources, reports) = mesh_core::yaml::read("test.yaml", yaml);
        assert!(reports.is_empty(), "{reports:?}");
        let pod = |name: &str| {
            let placement =
                Placement { addresses: vec![[127, 0, 0, 1].into()], health: Health::Healthy, sidecar: true };
            (Key::new(Kind::new("", "Pod"), "default", name), placement)
        };
        let placements = ["server", "client"].map(pod).into();
        let options = Options { placements: Some(&placements), ..Options::default() };
        let world = inputs(&resources, &options, &mut Addresses::default()).world;
        let of = world.workloads_in("default").iter().find(|w| &*w.name == self.name).expect("the pod").clone();
        let id = ProxyId::of(ProxyKind::Sidecar, &of);
        let compiled = mesh_core::compile::compile(&world, &id, None);
        for (name, cluster) in compiled.snapshot.clusters.iter() {
            let endpoints = mesh_core::endpoints::endpoints(&world, cluster).into_iter().map(Arc::new).collect();
            Engine::<HostStream>::set_endpoints(&self.shared.http, name, endpoints);
        }
        self.shared.activate(&compiled.snapshot);
    }

    pub(crate) fn identify(&self, leaf: &Leaf, roots: &Ca) {
        self.secrets.set(&SecretRef::Workload, leaf.material());
        self.secrets.set(&SecretRef::MeshRoots, roots.roots());
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.at).await.unwrap()
    }

    pub(crate) async fn record(&mut self) -> RequestRecord {
        self.records.recv().await.expect("a record")
    }
}

pub(crate) const SERVER: &str = "spiffe://cluster.local/ns/default/sa/server";
pub(crate) const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/client";

/// A client and a server with sidecars, and the server's application.
pub(crate) struct Mesh {
    pub(crate) ca: Ca,
    pub(crate) client: Sidecar,
    pub(crate) server: Sidecar,
    app: SocketAddr,
    protocol: &'static str,
    /// Who is reached instead of the server.
    pub(crate) instead: Option<SocketAddr>,
}

impl Mesh {
    pub(crate) async fn start(protocol: &'static str, app: SocketAddr, policy: &str) -> Self {
        let mesh = Self::nobody(protocol, app, policy).await;
        mesh.client.identify(&mesh.ca.leaf(&[CLIENT]), &mesh.ca);
        mesh.server.identify(&mesh.ca.leaf(&[SERVER]), &mesh.ca);
        mesh
    }

    /// The same without identities.
    pub(crate) async fn nobody(protocol: &'static str, app: SocketAddr, policy: &str) -> Self {
        let client = Sidecar::start("client", Door::OutboundDirect).await;
        let server = Sidecar::start("server", Door::InboundDirect).await;
        let mesh = Self { ca: Ca::new("mesh"), client, server, app, protocol, instead: None };
        mesh.configure(policy);
        mesh
    }

    pub(crate) fn configure(&self, policy: &str) {
        let yaml = self.yaml(policy);
        self.client.configure(&yaml);
        self.server.configure(&yaml);
    }

    pub(crate) fn yaml(&self, policy: &str) -> String {
        let server = self.instead.unwrap_or(self.server.at).port();
        let (client, app) = (self.client.at.port(), self.app.port());
        let protocol = self.protocol;
        format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: server, namespace: default, labels: {{app: server}}}}
spec: {{serviceAccountName: server, containers: [{{name: c, image: c}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: client, namespace: default, labels: {{app: client}}}}
spec: {{serviceAccountName: client, containers: [{{name: c, image: c}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: server, namespace: default}}
spec: {{clusterIP: 127.0.0.1, selector: {{app: server}}, ports: [{{name: {0}, port: {client}, targetPort: {server}}}]}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: server, namespace: default}}
spec:
  workloadSelector: {{labels: {{app: server}}}}
  ingress: [{{port: {{number: {server}, protocol: {protocol}, name: x}}, defaultEndpoint: '127.0.0.1:{app}'}}]
  egress: [{{hosts: ['*/*']}}]
---
{policy}",
            protocol.to_lowercase()
        )
    }
}

pub(crate) fn peers(spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: p, namespace: default}}\nspec: \
         {{{spec}}}\n"
    )
}

pub(crate) fn strict() -> String {
    peers("mtls: {mode: STRICT}")
}

pub(crate) fn flags(record: &RequestRecord) -> String {
    Flag::names(record.cx.flags.load(Ordering::Relaxed))
}

/// Sends a little, and reads to the end. `None`: reset.
pub(crate) async fn fate(mut stream: TcpStream, bytes: &[u8]) -> Option<Vec<u8>> {
    let _ = stream.write_all(bytes).await;
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.ok().map(|_| got)
}

/// N1, N6: what a client made up about itself does not reach the server, and what the server's sidecar knows does.
#[tokio::test]
async fn n1_requests_between_sidecars_are_mutually_authenticated_without_asking() {
    let mut mesh = Mesh::start("HTTP", plain_upstream().await, "").await;
    let mut stream = mesh.client.connect().await;
    let request = "GET /x HTTP/1.1\r\nhost: server\r\nx-forwarded-client-cert: By=a;URI=spiffe://cluster.local/ns/a/sa/admin\r\n\
                   connection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let said: Vec<&str> = answer.lines().filter(|l| l.starts_with("x-forwarded-client-cert: ")).collect();
    let [said] = said[..] else { panic!("{answer}") };
    assert!(said.starts_with(&format!("x-forwarded-client-cert: By={SERVER};Hash=")), "{said}");
    assert!(said.ends_with(&format!(";Subject=\"CN=leaf\";URI={CLIENT}")), "{said}");

    let (sent, received) = (mesh.client.record().await, mesh.server.record().await);
    let upstream = sent.cx.upstream_tls.get().unwrap().clone().expect("TLS");
    assert_eq!(&**upstream.identity.as_ref().unwrap().uri(), SERVER);
    assert_eq!((&*upstream.alpn, upstream.version), ("http/1.1", "TLSv1.3"));
    assert!(sent.cx.conn.tls.is_none());
    let downstream = received.cx.conn.tls.clone().expect("TLS");
    assert_eq!(downstream.identity.as_ref().unwrap().principal(), "cluster.local/ns/default/sa/client");
    assert_eq!(downstream.own.as_deref(), Some(SERVER));
    assert_eq!(
        &*received.cx.conn.sni,
        format!("outbound_.{}_._.server.default.svc.cluster.local", mesh.client.at.port())
    );
}

#[tokio::test]
async fn bytes_and_http2_are_mutually_authenticated_too() {
    for (protocol, alpn) in [("TCP", ""), ("HTTP2", "h2")] {
        let mut mesh = Mesh::start(protocol, plain_upstream().await, &strict()).await;
        let mut stream = mesh.client.connect().await;
        match protocol {
            "TCP" => drop(ask(&mut stream).await),
            // The application does not speak it, but that is the affair of its own sidecar.
            _ => drop(get(&mut stream, "server").await.unwrap()),
        }
        drop(stream);
        let record = mesh.server.record().await;
        let tls = record.cx.conn.tls.clone().expect("TLS");
        assert_eq!((&**tls.identity.as_ref().unwrap().uri(), &*tls.alpn), (CLIENT, alpn), "{protocol}");
    }
}

/// A31, S3, worked example 59: plaintext on a port that takes mutual TLS only is reset, and a line says so.
#[tokio::test]
async fn s3_plaintext_to_a_strict_port_is_reset() {
    for protocol in ["HTTP", "TCP", "HTTP2"] {
        let mut mesh = Mesh::start(protocol, plain_upstream().await, &strict()).await;
        for bytes in
            [&b"GET / HTTP/1.1\r\nhost: server\r\n\r\n"[..], b"G", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0\x01"]
        {
            assert_eq!(fate(mesh.server.connect().await, bytes).await, None, "{protocol} {bytes:?}");
            let record = mesh.server.record().await;
            assert_eq!(flags(&record), "NR");
            assert_eq!(record.cx.details.get().map(String::as_str), Some("filter_chain_not_found"));
        }
    }
}

/// S4: what is plaintext, and TLS that is not the mesh's, on a port that takes both.
#[tokio::test]
async fn s4_a_permissive_port_takes_plaintext_and_passes_other_tls_on() {
    let app = plain_upstream().await;
    for protocol in ["HTTP", "TCP"] {
        let mut mesh = Mesh::start(protocol, app, "").await;
        let mut stream = mesh.server.connect().await;
        ask(&mut stream).await;
        drop(stream);
        assert!(mesh.server.record().await.cx.conn.tls.is_none());
    }
    // The application gets the ClientHello as it is.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mesh = Mesh::start("TCP", listener.local_addr().unwrap(), "").await;
    let ca = Ca::new("other");
    let client = TlsClient::new(&ca, "server");
    let hello = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_u8().await.unwrap()
    };
    let stream = mesh.server.connect().await;
    let (first, connected) = tokio::join!(hello, client.connect(stream));
    assert_eq!(first, 0x16);
    assert!(connected.is_err());
}

/// S1, S6: nobody who can't prove to be a workload of the mesh reaches the application, in either version of TLS.
#[tokio::test]
async fn s6_impostors_are_refused() {
    let mesh = Mesh::start("HTTP", plain_upstream().await, "").await;
    let (ours, other) = (&mesh.ca, Ca::new("other"));
    let years = |from: i32, to: i32| {
        move |p: &mut rcgen::CertificateParams| {
            (p.not_before, p.not_after) = (rcgen::date_time_ymd(from, 1, 1), rcgen::date_time_ymd(to, 1, 1));
        }
    };
    let table: Vec<(&str, Option<Leaf>, bool)> = vec![
        ("a workload", Some(ours.leaf(&[CLIENT])), true),
        ("no certificate", None, false),
        ("another CA", Some(other.leaf(&[CLIENT])), false),
        ("expired", Some(ours.leaf_with(&[CLIENT], years(2019, 2020))), false),
        ("not yet valid", Some(ours.leaf_with(&[CLIENT], years(2090, 2091))), false),
        ("several identities", Some(ours.leaf(&[CLIENT, SERVER])), false),
        ("another trust domain", Some(ours.leaf(&["spiffe://other/ns/default/sa/client"])), false),
        (
            "an authority",
            Some(ours.leaf_with(&[CLIENT], |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))),
            false,
        ),
        ("a name", Some(ours.leaf(&["client.default.svc.cluster.local"])), false),
    ];
    for (what, shown, welcome) in table {
        let secrets = Secrets::default();
        let upstream = MtlsUpstream {
            host: "server.default.svc.cluster.local".into(),
            port: 80,
            subset: "".into(),
            accounts: vec![SERVER.into()],
            parameters: TlsParameters::mesh(false, []),
        };
        let mut plan = upstream.plan(&TrustDomains::default());
        if shown.is_none() {
            plan.identity = None;
            plan.alpn = vec!["istio-http/1.1".into()];
        }
        let connector = Connector::new(Arc::new(plan), &secrets);
        secrets.set(&SecretRef::MeshRoots, mesh.ca.roots());
        if let Some(leaf) = &shown {
            secrets.set(&SecretRef::Workload, leaf.material());
        }
        let answer = match connector.connect(mesh.server.connect().await, None, Carries::Http1).await {
            Ok(mut stream) => get(&mut stream, "server").await,
            Err(error) => Err(error.to_string()),
        };
        let answered = answer.as_ref().is_ok_and(|a| a.starts_with("HTTP/1.1 200"));
        assert_eq!(answered, welcome, "{what}: {answer:?}");
    }
}

/// Secure naming: a server that proves to be somebody else gets no request.
#[tokio::test]
async fn a_server_under_another_account_gets_no_request() {
    let mut mesh = Mesh::start("HTTP", plain_upstream().await, "").await;
    mesh.server.identify(&mesh.ca.leaf(&["spiffe://cluster.local/ns/default/sa/mallory"]), &mesh.ca);
    let answer = get(&mut mesh.client.connect().await, "server").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let record = mesh.client.record().await;
    assert!(flags(&record).contains("UF"), "{}", flags(&record));
    let why = record.cx.failure_reason.get().unwrap();
    assert!(why.contains("SAN_matcher") && why.contains("sa/mallory"), "{why}");
    // A rule that names it lets it be.
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r, namespace: default}\nspec: \
                {host: server, trafficPolicy: {tls: {mode: ISTIO_MUTUAL, subjectAltNames: \
                ['spiffe://cluster.local/ns/default/sa/mallory']}}}\n";
    mesh.configure(rule);
    let answer = get(&mut mesh.client.connect().await, "server").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// The client follows the server's mode, and a rule goes before it.
#[tokio::test]
async fn clients_follow_modes_and_rules() {
    let mut mesh = Mesh::start("HTTP", plain_upstream().await, &peers("mtls: {mode: DISABLE}")).await;
    let tls = |record: &RequestRecord| record.cx.upstream_tls.get().unwrap().is_some();
    let rule = |mode: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: r, namespace: default}}\nspec: \
             {{host: server, trafficPolicy: {{tls: {{mode: {mode}}}}}}}\n---\n"
        )
    };
    for (policy, answered, mutual) in [
        (peers("mtls: {mode: DISABLE}"), true, false),
        (strict(), true, true),
        (String::new(), true, true),
        (rule("DISABLE"), true, false),
        (rule("DISABLE") + &strict(), false, false),
        (rule("ISTIO_MUTUAL"), true, true),
    ] {
        mesh.configure(&policy);
        let answer = get(&mut mesh.client.connect().await, "server").await.unwrap();
        assert_eq!(answer.starts_with("HTTP/1.1 200"), answered, "{policy}: {answer}");
        let record = mesh.client.record().await;
        if answered {
            assert_eq!(tls(&record), mutual, "{policy}");
        }
    }
}

/// One request on a connection that stays; what the application saw of it.
pub(crate) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: server\r\n\r\n").await.unwrap();
    stream.flush().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    String::from_utf8(body).unwrap()
}

/// What a policy forbids ends; what it allows goes on.
#[tokio::test]
async fn connections_that_a_new_policy_forbids_are_closed() {
    let mut mesh = Mesh::start("HTTP", plain_upstream().await, "").await;
    let (mut plain, mut through) = (mesh.server.connect().await, mesh.client.connect().await);
    ask(&mut plain).await;
    ask(&mut through).await;
    let (first, second) = (mesh.server.record().await, mesh.server.record().await);
    let port = |r: &RequestRecord| r.cx.conn.peer.port();
    let mutual = if first.cx.conn.tls.is_some() { port(&first) } else { port(&second) };
    mesh.server.configure(&mesh.yaml(&strict()));
    let mut rest = Vec::new();
    plain.read_to_end(&mut rest).await.unwrap();
    ask(&mut through).await;
    assert_eq!(port(&mesh.server.record().await), mutual, "the same connection");

    // Bytes have no end to wait for.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mesh = Mesh::start("TCP", listener.local_addr().unwrap(), "").await;
    let mut stream = mesh.server.connect().await;
    stream.write_all(b"hello").await.unwrap();
    let (mut app, _) = listener.accept().await.unwrap();
    app.read_exact(&mut [0; 5]).await.unwrap();
    mesh.server.configure(&mesh.yaml(&strict()));
    assert!(!matches!(stream.read(&mut [0; 1]).await, Ok(n) if n > 0));
    assert!(!matches!(app.read(&mut [0; 1]).await, Ok(n) if n > 0));
}

/// When in doubt, closed: without a certificate nobody is served and nothing is sent.
#[tokio::test]
async fn without_an_identity_there_is_no_connection() {
    let mut mesh = Mesh::nobody("HTTP", plain_upstream().await, &strict()).await;
    let missing = SecretState::Missing(mesh_tls::SecretError("the CA is away".into()));
    for sidecar in [&mesh.client, &mesh.server] {
        sidecar.secrets.set(&SecretRef::Workload, missing.clone());
        sidecar.secrets.set(&SecretRef::MeshRoots, mesh.ca.roots());
    }
    let answer = get(&mut mesh.client.connect().await, "server").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let why = mesh.client.record().await.cx.failure_reason.get().cloned().unwrap();
    assert!(why.contains("the_CA_is_away"), "{why}");
    // Once the client has one, it is the server that can't.
    mesh.client.identify(&mesh.ca.leaf(&[CLIENT]), &mesh.ca);
    let answer = get(&mut mesh.client.connect().await, "server").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    mesh.server.identify(&mesh.ca.leaf(&[SERVER]), &mesh.ca);
    let answer = get(&mut mesh.client.connect().await, "server").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// A handshake that does not get on ends.
#[tokio::test(start_paused = true)]
async fn a_slow_handshake_is_given_up() {
    let mesh = Mesh::start("HTTP", plain_upstream().await, &strict()).await;
    for bytes in [&b""[..], &[0x16, 3, 1], &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]] {
        let began = tokio::time::Instant::now();
        let got = fate(mesh.server.connect().await, bytes).await;
        assert!(got.is_none_or(|g| g.is_empty()), "{bytes:?}");
        assert!(began.elapsed() < Duration::from_secs(60), "{bytes:?}");
    }
}

/// TLS of a Sidecar's own, where the mesh's is not let in.
#[tokio::test]
async fn a_sidecars_own_tls_ends_at_its_ingress() {
    let off = peers("mtls: {mode: DISABLE}");
    let own = "tls: {mode: MUTUAL, serverCertificate: /own.crt, privateKey: /own.key, caCertificates: /own-ca.crt}";
    for protocol in ["HTTPS", "TLS"] {
        let mut mesh = Mesh::nobody(protocol, plain_upstream().await, &off).await;
        let with_tls = mesh.yaml(&off).replace("defaultEndpoint", &format!("{own}, defaultEndpoint"));
        mesh.server.configure(&with_tls);
        let ca = Ca::new("own");
        let (files, roots) = (
            SecretRef::Files { certificate: "/own.crt".into(), key: "/own.key".into() },
            SecretRef::RootsFile { roots: Some("/own-ca.crt".into()), crl: None },
        );
        mesh.server.secrets.set(&files, ca.leaf(&["own.example"]).material());
        mesh.server.secrets.set(&roots, ca.roots());

        let leaf = ca.leaf(&["client.example"]);
        let client = TlsClient { shows: Some(&leaf), ..TlsClient::new(&ca, "own.example") };
        let mut stream = client.connect(mesh.server.connect().await).await.unwrap();
        let seen = ask(&mut stream).await;
        drop(stream);
        let record = mesh.server.record().await;
        assert!(record.cx.conn.tls.is_some(), "{protocol}");
        let told = seen.contains("x-forwarded-client-cert: Hash=") && seen.contains("DNS=client.example");
        assert_eq!(told, protocol == "HTTPS", "who the client is, is said in requests: {seen}");

        // Plaintext is refused, and so are strangers.
        assert_eq!(fate(mesh.server.connect().await, b"GET / HTTP/1.1\r\nhost: server\r\n\r\n").await, None);
        assert_eq!(flags(&mesh.server.record().await), "NR");
        let nobody = TlsClient::new(&ca, "own.example");
        if let Ok(mut stream) = nobody.connect(mesh.server.connect().await).await {
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: server\r\n\r\n").await;
            let mut got = Vec::new();
            let _ = stream.read_to_end(&mut got).await;
            assert!(got.is_empty(), "{protocol}");
        }

        // Where it is taken away again, an open connection of it asks nothing more.
        let mut stream = client.connect(mesh.server.connect().await).await.unwrap();
        ask(&mut stream).await;
        mesh.server.configure(&mesh.yaml(&off));
        let request = b"GET /late HTTP/1.1\r\nhost: server\r\n\r\n";
        let mut rest = Vec::new();
        let _ = stream.write_all(request).await;
        let _ = stream.read_to_end(&mut rest).await;
        let rest = String::from_utf8_lossy(&rest);
        assert!(!rest.contains("/late"), "{protocol}: {rest}");
    }
}
