//! Gateways.

use std::sync::Arc;

use mesh_core::snapshot::{ClientCertificate, TlsVersion};
use mesh_tls::{SecretError, SecretState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::certificates::{Ca, TlsClient, acceptor};
use crate::running::{Running, get, plain_upstream, routes, upstream, yaml};

/// HTTPS servers on port 443, one for each host.
fn https(servers: &[(&str, &str)]) -> String {
    let one = |(i, (host, tls)): (usize, &(&str, &str))| {
        format!("  - {{port: {{number: 443, name: s{i}, protocol: HTTPS}}, hosts: [{host}], tls: {{{tls}}}}}\n")
    };
    servers.iter().enumerate().map(one).collect()
}

async fn closed(mut stream: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest).await {
        Ok(_) => "end".into(),
        Err(error) => format!("{:?}", error.kind()),
    }
}

#[tokio::test]
async fn a_request_over_https_reaches_the_upstream_as_one() {
    let ca = Ca::new("ca");
    let servers = https(&[("a.example.com", "mode: SIMPLE, credentialName: a")]);
    let up = plain_upstream().await;
    let gateway = Running::start(&yaml(&servers, up, &routes("a.example.com")), 443).await;
    gateway.deliver("a", ca.leaf(&["a.example.com"]).material());
    let mut stream = TlsClient::new(&ca, "a.example.com").connect(gateway.connect().await).await.unwrap();
    assert_eq!(&*stream.info().alpn, "http/1.1");
    let answer = get(&mut stream, "a.example.com").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\nx-forwarded-proto: https\r\n"), "{answer}");
}

#[tokio::test]
async fn a_port_that_is_renamed_keeps_its_connections() {
    let ca = Ca::new("ca");
    let up = plain_upstream().await;
    let with = |servers: &str| yaml(servers, up, &routes("'*.example.com'"));
    let servers = https(&[("a.example.com", "mode: SIMPLE, credentialName: a")]);
    for (change, stays) in [(("name: s0", "name: other"), true), (("mode: SIMPLE", "mode: MUTUAL"), false)] {
        let gateway = Running::start(&with(&servers), 443).await;
        gateway.deliver("a", ca.leaf(&["a.example.com"]).material());
        let mut stream = TlsClient::new(&ca, "a.example.com").connect(gateway.connect().await).await.unwrap();
        stream.write_all(b"GET /x HTTP/1.1\r\nhost: a.example.com\r\n\r\n").await.unwrap();
        stream.flush().await.unwrap();
        let mut answer = Vec::new();
        while answer.windows(4).filter(|w| w == b"\r\n\r\n").count() < 2 {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
        }
        // Under another name it is a stranger's server, unless it is the same in all but its name.
        let renamed = servers.replace("name: s0", "name: other").replace(change.0, change.1);
        gateway.configure(&with(&renamed));
        let answer = get(&mut stream, "a.example.com").await;
        assert_eq!(answer.clone().is_ok_and(|a| a.starts_with("HTTP/1.1 200")), stays, "{change:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_missing_secret_resets_and_the_other_servers_go_on_until_it_comes() {
    let ca = Ca::new("ca");
    let servers = https(&[
        ("a.example.com", "mode: SIMPLE, credentialName: a"),
        ("b.example.com", "mode: SIMPLE, credentialName: b"),
    ]);
    let up = plain_upstream().await;
    let gateway = Running::start(&yaml(&servers, up, &routes("'*.example.com'")), 443).await;
    gateway.deliver("a", ca.leaf(&["a.example.com"]).material());
    gateway.deliver("b", SecretState::Missing(SecretError("there is no such Secret".into())));
    let ask = async |host: &'static str| {
        let mut stream = TlsClient::new(&ca, host).connect(gateway.connect().await).await?;
        get(&mut stream, host).await
    };
    assert!(ask("b.example.com").await.is_err());
    assert!(ask("a.example.com").await.unwrap().starts_with("HTTP/1.1 200"));
    gateway.deliver("b", ca.leaf(&["b.example.com"]).material());
    assert!(ask("b.example.com").await.unwrap().starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn s3_no_server_for_the_name_or_no_tls_is_reset_and_logged() {
    let ca = Ca::new("ca");
    let servers = https(&[("a.example.com", "mode: SIMPLE, credentialName: a")]);
    let up = plain_upstream().await;
    let mut gateway = Running::start(&yaml(&servers, up, &routes("a.example.com")), 443).await;
    gateway.deliver("a", ca.leaf(&["a.example.com"]).material());
    let chain = ("NR".to_owned(), "filter_chain_not_found".to_owned());
    assert!(TlsClient::new(&ca, "Other.example.com").connect(gateway.connect().await).await.is_err());
    assert_eq!(gateway.record().await, chain);
    let mut plain = gateway.connect().await;
    plain.write_all(b"GET / HTTP/1.1\r\nhost: a.example.com\r\n\r\n").await.unwrap();
    assert_eq!(closed(plain).await, "ConnectionReset");
    assert_eq!(gateway.record().await, chain);
    // The case of a name does not matter.
    let stream = TlsClient::new(&ca, "A.Example.com").connect(gateway.connect().await).await;
    assert!(stream.is_ok(), "{:?}", stream.err());
}

#[tokio::test]
async fn s1_clients_without_a_certificate_are_refused() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let servers = https(&[("a.example.com", "mode: MUTUAL, credentialName: a")]);
    let up = plain_upstream().await;
    let gateway = Running::start(&yaml(&servers, up, &routes("a.example.com")), 443).await;
    gateway.deliver("a", ca.leaf(&["a.example.com"]).material());
    gateway.deliver_roots("a", ca.roots());
    let (own, foreign) = (ca.leaf(&["client"]), other.leaf(&["client"]));
    for (shows, answered) in [(None, false), (Some(&foreign), false), (Some(&own), true)] {
        let client = TlsClient { shows, ..TlsClient::new(&ca, "a.example.com") };
        let answer = match client.connect(gateway.connect().await).await {
            Ok(mut stream) => get(&mut stream, "a.example.com").await.is_ok_and(|a| a.starts_with("HTTP/1.1 200")),
            Err(_) => false,
        };
        assert_eq!(answer, answered);
    }
}

/// The upstream's view of `x-forwarded-client-cert`: what came of one that a client made up.
async fn forwarded_client_cert<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(stream: &mut S) -> String {
    let request = "GET /x HTTP/1.1\r\nhost: a.example.com\r\nconnection: close\r\n\
                   x-forwarded-client-cert: By=x;URI=spiffe://cluster.local/ns/a/sa/admin\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let values = answer.lines().filter_map(|l| l.strip_prefix("x-forwarded-client-cert: "));
    values.collect::<Vec<_>>().join(" AND ")
}

#[tokio::test]
async fn n4_a_gateway_says_who_the_client_is_and_believes_nobody_else() {
    let ca = Ca::new("ca");
    let servers = https(&[("a.example.com", "mode: OPTIONAL_MUTUAL, credentialName: a")]);
    let up = plain_upstream().await;
    let gateway = Running::start(&yaml(&servers, up, &routes("a.example.com")), 443).await;
    gateway.deliver("a", ca.leaf(&["a.example.com", "spiffe://cluster.local/ns/gw/sa/gw"]).material());
    gateway.deliver_roots("a", ca.roots());
    let own = ca.leaf(&["client.example.com", "spiffe://cluster.local/ns/a/sa/a"]);
    let client = TlsClient { shows: Some(&own), ..TlsClient::new(&ca, "a.example.com") };
    let said = forwarded_client_cert(&mut client.connect(gateway.connect().await).await.unwrap()).await;
    let read = mesh_tls::xfcc_read(&said).unwrap();
    assert_eq!(read.len(), 1, "{said}");
    assert_eq!(read[0].get("By"), Some("spiffe://cluster.local/ns/gw/sa/gw"));
    assert_eq!(read[0].get("Hash").map(str::len), Some(64));
    assert!(read[0].get("Cert").is_some_and(|c| c.starts_with("-----BEGIN%20CERTIFICATE-----%0A")), "{said}");
    let rest = "Subject=\"CN=leaf\";URI=spiffe://cluster.local/ns/a/sa/a;DNS=client.example.com";
    assert!(said.ends_with(rest), "{said}");
    let anonymous = TlsClient::new(&ca, "a.example.com");
    let said = forwarded_client_cert(&mut anonymous.connect(gateway.connect().await).await.unwrap()).await;
    assert_eq!(said, "");
}

#[tokio::test]
async fn a_server_for_the_mesh_wants_the_meshs_certificates() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let up = plain_upstream().await;
    let servers = https(&[("a.example.com", "mode: ISTIO_MUTUAL")]);
    let gateway = Running::start(&yaml(&servers, up, &routes("a.example.com")), 443).await;
    let workload = ca.leaf(&["spiffe://cluster.local/ns/gw/sa/gw", "a.example.com"]);
    gateway.secrets.set(&mesh_tls::SecretRef::Workload, workload.material());
    gateway.secrets.set(&mesh_tls::SecretRef::MeshRoots, ca.roots());
    let own = ca.leaf(&["spiffe://cluster.local/ns/a/sa/a"]);
    let foreign = other.leaf(&["spiffe://cluster.local/ns/a/sa/a"]);
    for (shows, welcome) in [(Some(&own), true), (Some(&foreign), false), (None, false)] {
        let client = TlsClient { shows, ..TlsClient::new(&ca, "a.example.com") };
        let answer = match client.connect(gateway.connect().await).await {
            Ok(mut stream) => get(&mut stream, "a.example.com").await.unwrap_or_default(),
            Err(error) => error,
        };
        assert_eq!(answer.starts_with("HTTP/1.1 200"), welcome, "{answer}");
        assert_eq!(answer.contains("URI=spiffe://cluster.local/ns/a/sa/a"), welcome, "{answer}");
    }
}

#[tokio::test]
async fn a_request_for_another_servers_host_is_misdirected() {
    let ca = Ca::new("ca");
    let tls = "mode: SIMPLE, credentialName: a";
    let servers = https(&[("a.example.com", tls), ("b.example.com", tls)]);
    let up = plain_upstream().await;
    let mut gateway = Running::start(&yaml(&servers, up, &routes("'*.example.com'")), 443).await;
    gateway.deliver("a", ca.leaf(&["*.example.com"]).material());
    for (host, status) in [("b.example.com", "421 Misdirected Request"), ("c.example.org", "404 Not Found")] {
        let mut stream = TlsClient::new(&ca, "a.example.com").connect(gateway.connect().await).await.unwrap();
        let answer = get(&mut stream, host).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert_eq!(gateway.record().await, ("NR".into(), "route_not_found".into()));
    }
}

#[tokio::test]
async fn tls_that_is_passed_on_is_the_upstreams() {
    let ca = Ca::new("ca");
    let far = Arc::new(acceptor(&ca.leaf(&["a.example.com"]), (ClientCertificate::None, None), TlsVersion::V1_3));
    let up = upstream(move |stream| {
        let far = far.clone();
        async move { far.accept(stream).await.ok() }
    })
    .await;
    let servers =
        "  - {port: {number: 443, name: tls, protocol: TLS}, hosts: [a.example.com], tls: {mode: PASSTHROUGH}}";
    let rules = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: default}
spec:
  hosts: [a.example.com]
  gateways: [gw]
  tls: [{match: [{sniHosts: [a.example.com]}], route: [{destination: {host: up.example, port: {number: 81}}}]}]
";
    let gateway = Running::start(&yaml(servers, up, rules), 443).await;
    let mut stream = TlsClient::new(&ca, "a.example.com").connect(gateway.connect().await).await.unwrap();
    // The upstream keeps the connection: its answer is the head that it got, which ends in an empty line.
    stream.write_all(b"GET /x HTTP/1.1\r\nhost: a.example.com\r\n\r\n").await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = Vec::new();
    while answer.windows(4).filter(|w| w == b"\r\n\r\n").count() < 2 {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
}

#[tokio::test]
async fn bytes_inside_tls_that_a_gateway_ends() {
    let ca = Ca::new("ca");
    let up = plain_upstream().await;
    let servers = "  - {port: {number: 443, name: tls, protocol: TLS}, hosts: [a.example.com], tls: {mode: SIMPLE, credentialName: a}}";
    let rules = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: default}
spec:
  hosts: [a.example.com]
  gateways: [gw]
  tcp: [{route: [{destination: {host: up.example, port: {number: 81}}}]}]
";
    let gateway = Running::start(&yaml(servers, up, rules), 443).await;
    gateway.deliver("a", ca.leaf(&["a.example.com"]).material());
    let mut stream = TlsClient::new(&ca, "a.example.com").connect(gateway.connect().await).await.unwrap();
    stream.write_all(b"as it is\r\n\r\n").await.unwrap();
    stream.flush().await.unwrap();
    let mut got = vec![0; 256];
    let n = stream.read(&mut got).await.unwrap();
    assert!(String::from_utf8_lossy(&got[..n]).contains("200 OK"));
}

#[tokio::test]
async fn m7_a_proxy_header_says_who_the_client_is() {
    let up = plain_upstream().await;
    let servers = "  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}";
    let topology = "apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    defaultConfig:
      gatewayTopology:
        proxyProtocol: {}
";
    let rest = format!("{}---\n{topology}", routes("'*'"));
    let gateway = Running::start(&yaml(servers, up, &rest), 80).await;
    let mut stream = gateway.connect().await;
    stream.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\r\n").await.unwrap();
    let answer = get(&mut stream, "a.example.com").await.unwrap();
    assert!(answer.contains("\r\nx-forwarded-for: 192.0.2.7\r\n"), "{answer}");
    let mut stream = gateway.connect().await;
    assert!(get(&mut stream, "a.example.com").await.is_err(), "without a header the connection is reset");
}

#[tokio::test]
async fn c20_a_client_that_says_nothing_is_let_go() {
    let ca = Ca::new("ca");
    let up = plain_upstream().await;
    let servers = https(&[("a.example.com", "mode: SIMPLE, credentialName: a")]);
    let gateway = Running::start(&yaml(&servers, up, &routes("a.example.com")), 443).await;
    gateway.deliver("a", ca.leaf(&["a.example.com"]).material());
    // The beginning of a handshake, without the end.
    let (near, mut far) = tokio::io::duplex(1 << 16);
    let client = TlsClient::new(&ca, "a.example.com");
    let mut hello = vec![0; 1 << 14];
    let length = tokio::select! {
        _ = client.connect(near) => unreachable!("nobody answers"),
        length = far.read(&mut hello) => length.unwrap(),
    };
    for said in [&hello[..length], b""] {
        let mut stream = gateway.connect().await;
        stream.write_all(said).await.unwrap();
        if !said.is_empty() {
            assert!(stream.read(&mut [0; 512]).await.unwrap() > 0, "it answers, and waits for the rest");
        }
        tokio::time::pause();
        let ended = async { while stream.read(&mut [0; 512]).await.is_ok_and(|n| n > 0) {} };
        let minute = std::time::Duration::from_secs(60);
        tokio::time::timeout(minute, ended).await.unwrap_or_else(|_| panic!("after {} bytes", said.len()));
        tokio::time::resume();
    }
}
