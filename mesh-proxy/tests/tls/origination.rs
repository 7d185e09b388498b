//! TLS, PROXY headers and tunnels towards upstreams.

use std::net::SocketAddr;
use std::sync::Arc;

use mesh_core::snapshot::{ClientCertificate, SecretRef, TlsVersion};
use mesh_proxy::listener::Door;
use mesh_tls::SecretState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::certificates::{Ca, Leaf, acceptor};
use crate::running::{Running, get, plain_upstream, routes, upstream, yaml};

const PLAIN: &str = "  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}";

fn rule(policy: &str) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: up, namespace: default}}
spec: {{host: up.example, trafficPolicy: {{{policy}}}}}
"
    )
}

async fn tls_upstream(leaf: &Leaf, clients: Option<&Ca>, max: TlsVersion) -> SocketAddr {
    let asks = if clients.is_some() { ClientCertificate::Required } else { ClientCertificate::None };
    let far = Arc::new(acceptor(leaf, (asks, clients), max));
    upstream(move |stream| {
        let far = far.clone();
        async move { far.accept(stream).await.ok() }
    })
    .await
}

/// A request for `up.example` through a gateway to an upstream with a DestinationRule.
async fn through(policy: &str, up: SocketAddr, material: &[(SecretRef, SecretState)]) -> (String, String, String) {
    let rest = routes("up.example") + &rule(policy);
    let mut gateway = Running::start(&yaml(PLAIN, up, &rest), 80).await;
    for (name, state) in material {
        gateway.secrets.set(name, state.clone());
    }
    let mut stream = gateway.connect().await;
    let answer = get(&mut stream, "up.example").await.unwrap();
    let (flags, details) = gateway.record().await;
    (answer, flags, details)
}

fn roots_file() -> SecretRef {
    SecretRef::RootsFile { roots: Some("ca.pem".into()), crl: None }
}

const UF: &str = "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";

#[tokio::test]
async fn simple_verifies_the_host_that_was_asked_for() {
    let ca = Ca::new("ca");
    let up = tls_upstream(&ca.leaf(&["up.example"]), None, TlsVersion::V1_3).await;
    let (answer, flags, _) =
        through("tls: {mode: SIMPLE, caCertificates: ca.pem}", up, &[(roots_file(), ca.roots())]).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(flags, "-");
}

#[tokio::test]
async fn unknown_hosts_by_name_with_tls_around() {
    let ca = Ca::new("ca");
    let up = tls_upstream(&ca.leaf(&["127.0.0.1", "other.example"]), None, TlsVersion::V1_3).await;
    let asked = async |tls: &str, roots: &Ca| {
        // A service makes the port one of HTTP; who is asked for is not that service.
        let yaml = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: client, namespace: default}}\n\
             spec: {{containers: [{{name: c, image: c}}]}}\n---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
             metadata: {{name: known, namespace: default}}\nspec:\n  hosts: [known.example]\n  resolution: NONE\n  \
             ports: [{{number: {}, name: http, protocol: HTTP}}]\n---\napiVersion: v1\nkind: ConfigMap\n\
             metadata: {{name: istio, namespace: istio-system}}\n\
             data: {{mesh: 'outboundTrafficPolicy: {{mode: ALLOW_ANY_DYNAMIC_DNS{tls}}}'}}\n",
            up.port()
        );
        let door = Door::OutboundTo(SocketAddr::new([192, 0, 2, 1].into(), up.port()));
        let mut sidecar = Running::open(&yaml, door).await;
        sidecar.secrets.set(&roots_file(), roots.roots());
        let answer = get(&mut sidecar.connect().await, &up.to_string()).await.unwrap();
        (answer.lines().next().unwrap_or_default().to_owned(), sidecar.record().await.0)
    };
    let ok = ("HTTP/1.1 200 OK".to_owned(), "-".to_owned());
    let failed = ("HTTP/1.1 503 Service Unavailable".to_owned(), "UF".to_owned());
    let simple = ", tls: {mode: SIMPLE, caCertificates: ca.pem}";
    assert_eq!(asked(simple, &ca).await, ok, "the host that was asked for is the server");
    assert_eq!(asked(simple, &Ca::new("another")).await, failed);
    let named = ", tls: {mode: SIMPLE, caCertificates: ca.pem, subjectAltNames: [nobody.example]}";
    assert_eq!(asked(named, &ca).await, failed);
    assert_eq!(asked(&named.replace("nobody", "other"), &ca).await, ok);
    assert_ne!(asked("", &ca).await, ok, "plain HTTP to a port of TLS");
}

#[tokio::test]
async fn http2_over_tls_is_https() {
    let ca = Ca::new("ca");
    let far = acceptor(&ca.leaf(&["up.example"]), (ClientCertificate::None, None), TlsVersion::V1_3);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let up = listener.local_addr().unwrap();
    let asked = tokio::spawn(async move {
        let stream = far.accept(listener.accept().await.unwrap().0).await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        respond.send_response(http::Response::new(()), true).unwrap();
        tokio::spawn(async move { while connection.accept().await.is_some() {} });
        request.uri().to_string()
    });
    let rest =
        routes("up.example").replace("number: 80", "number: 82") + &rule("tls: {mode: SIMPLE, caCertificates: ca.pem}");
    let gateway = Running::start(&yaml(PLAIN, up, &rest), 80).await;
    gateway.secrets.set(&roots_file(), ca.roots());
    let answer = get(&mut gateway.connect().await, "up.example").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(asked.await.unwrap(), "https://up.example/x");
}

#[tokio::test]
async fn a27_a_server_of_another_authority() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let up = tls_upstream(&ca.leaf(&["up.example"]), None, TlsVersion::V1_3).await;
    let material = [(roots_file(), other.roots())];
    let (answer, flags, details) = through("tls: {mode: SIMPLE, caCertificates: ca.pem}", up, &material).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with(UF), "{answer}");
    assert_eq!(flags, "UF");
    let begins = "upstream_reset_before_response_started{remote_connection_failure|TLS_error:|268435581:SSL_routines:\
                  OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_X509_verify_cert:_";
    assert!(details.starts_with(begins) && details.ends_with(":TLS_error_end}"), "{details}");
}

#[tokio::test]
async fn a28_a_server_of_another_name() {
    let ca = Ca::new("ca");
    let up = tls_upstream(&ca.leaf(&["spiffe://x/y"]), None, TlsVersion::V1_3).await;
    let material = [(roots_file(), ca.roots())];
    let (answer, flags, details) = through("tls: {mode: SIMPLE, caCertificates: ca.pem}", up, &material).await;
    assert!(answer.ends_with(UF), "{answer}");
    assert_eq!(flags, "UF");
    assert_eq!(
        details,
        "upstream_reset_before_response_started{remote_connection_failure|TLS_error:|268435581:SSL_routines:\
         OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_SAN_matcher,_certificate_SANs_are_\
         [spiffe://x/y]:TLS_error_end}"
    );
    // The names of the rule replace the host.
    let policy = "tls: {mode: SIMPLE, caCertificates: ca.pem, subjectAltNames: ['spiffe://x/y']}";
    let (answer, ..) = through(policy, up, &material).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a29_a30_a_server_that_wants_a_client_certificate() {
    let ca = Ca::new("ca");
    let policy = "tls: {mode: SIMPLE, caCertificates: ca.pem}";
    let material = [(roots_file(), ca.roots())];
    let up = tls_upstream(&ca.leaf(&["up.example"]), Some(&ca), TlsVersion::V1_2).await;
    let (answer, flags, details) = through(policy, up, &material).await;
    assert!(answer.ends_with(UF), "{answer}");
    assert_eq!(flags, "UF");
    assert!(details.contains("remote_connection_failure|TLS_error:|"), "{details}");
    let up = tls_upstream(&ca.leaf(&["up.example"]), Some(&ca), TlsVersion::V1_3).await;
    let (answer, flags, details) = through(policy, up, &material).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("connection termination"), "{answer}");
    assert_eq!((&*flags, &*details), ("UC", "upstream_reset_before_response_started{connection_termination}"));
}

#[tokio::test]
async fn mutual_shows_the_certificate_of_the_secret() {
    let ca = Ca::new("ca");
    let up = tls_upstream(&ca.leaf(&["up.example"]), Some(&ca), TlsVersion::V1_3).await;
    let (namespace, name): (Arc<str>, Arc<str>) = ("istio-system".into(), "c".into());
    let material = [
        (SecretRef::Credential { namespace: namespace.clone(), name: name.clone() }, ca.leaf(&["me"]).material()),
        (SecretRef::CredentialRoots { namespace, name }, ca.roots()),
    ];
    let (answer, ..) = through("tls: {mode: MUTUAL, credentialName: c}", up, &material).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn the_meshs_own_tls_never_falls_back_to_plaintext() {
    let up = plain_upstream().await;
    let missing = SecretState::Missing(mesh_tls::SecretError("no identities yet".into()));
    let material = [(SecretRef::Workload, missing.clone()), (SecretRef::MeshRoots, missing)];
    let (answer, flags, details) = through("tls: {mode: ISTIO_MUTUAL}", up, &material).await;
    assert!(answer.ends_with(UF), "{answer}");
    assert_eq!(flags, "UF");
    assert!(details.contains("Secret_is_not_supplied_by_SDS"), "{details}");
}

#[tokio::test]
async fn a_proxy_header_goes_before_everything() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rest = routes("up.example") + &rule("proxyProtocol: {version: V1}");
    let gateway = Running::start(&yaml(PLAIN, listener.local_addr().unwrap(), &rest), 80).await;
    let mut client = gateway.connect().await;
    let own = client.local_addr().unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: up.example\r\n\r\n").await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut got = Vec::new();
    while !got.windows(4).any(|w| w == b"\r\n\r\n") {
        assert!(stream.read_buf(&mut got).await.unwrap() > 0);
    }
    let text = String::from_utf8(got).unwrap();
    let header = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\nGET / HTTP/1.1\r\n", own.port(), gateway.at.port());
    assert!(text.starts_with(&header), "{text}");
}

#[tokio::test]
async fn a_tunnel_through_the_endpoint() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let servers = "  - {port: {number: 81, name: tcp, protocol: TCP}, hosts: ['*']}";
    let rules = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: default}
spec:
  hosts: ['*']
  gateways: [gw]
  tcp: [{route: [{destination: {host: up.example, port: {number: 81}}}]}]
";
    let policy = rule("tunnel: {targetHost: db.example.com, targetPort: 5432}");
    let gateway =
        Running::start(&yaml(servers, listener.local_addr().unwrap(), &(rules.to_owned() + &policy)), 81).await;
    let mut client = gateway.connect().await;
    client.write_all(b"hello").await.unwrap();
    let (mut far, _) = listener.accept().await.unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\n") {
        assert!(far.read_buf(&mut got).await.unwrap() > 0);
    }
    assert_eq!(got, b"CONNECT db.example.com:5432 HTTP/1.1\r\nhost: db.example.com:5432\r\n\r\n");
    far.write_all(b"HTTP/1.1 200 Connection established\r\n\r\nfirst").await.unwrap();
    let (mut first, mut sent) = ([0; 5], [0; 5]);
    client.read_exact(&mut first).await.unwrap();
    far.read_exact(&mut sent).await.unwrap();
    assert_eq!((&first, &sent), (b"first", b"hello"));
}
