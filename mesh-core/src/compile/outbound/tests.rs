use std::sync::Arc;

use crate::compile::sim::{Request, Sim, connection, route_outcome};
use crate::decide::Detected;
use crate::snapshot::{Action, BindDoor, Direction, EndpointSource, ListenerKey, Snapshot};

fn entry(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: ns}}\nspec: {{{spec}}}\n"
    )
}

fn sidecar(spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: s, namespace: ns}}\nspec:\n{spec}\n"
    )
}

fn mesh(text: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata: {{mesh: '{text}'}}\n"
    )
}

fn of(yaml: &str) -> Arc<Snapshot> {
    Sim::of(yaml.trim_start_matches("---\n")).compile("a-1").snapshot
}

fn to(snapshot: &Snapshot, at: &str, detected: Option<Detected>) -> String {
    connection(snapshot, at.parse().unwrap(), detected)
}

fn tls(sni: &str) -> Option<Detected> {
    Some(Detected::Tls { sni: Some(sni.into()), alpn: Vec::new() })
}

/// `502` for unknown hosts of a port, else the cluster.
fn http(snapshot: &Snapshot, url: &str) -> String {
    let request = Request::parse(url);
    let port = request.authority.rsplit_once(':').map_or(80, |(_, p)| p.parse().unwrap());
    let listener = snapshot.outbound(None, port);
    route_outcome(&listener.http.as_ref().expect("an HTTP listener").routes, &request)
}

#[test]
fn networks_of_a_service_entry() {
    for resolution in ["NONE", "STATIC, endpoints: [{address: 192.0.2.1}]"] {
        let spec = "hosts: [db.example], addresses: [10.1.0.0/16, 10.9.9.9/32], ports: [{number: 5000, name: tcp, protocol: TCP}]";
        let snapshot = of(&entry("db", &format!("{spec}, resolution: {resolution}")));
        assert_eq!(to(&snapshot, "10.1.2.3:5000", None), "5000||db.example");
        assert_eq!(to(&snapshot, "10.9.9.9:5000", None), "5000||db.example");
        assert_eq!(to(&snapshot, "10.2.0.1:5000", None), "PassthroughCluster");
    }
}

#[test]
fn hosts_that_share_an_address_are_told_apart_by_server_name() {
    let shared = "hosts: [one.example, two.example], addresses: [10.9.9.9], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS";
    let snapshot = of(&entry("e", shared));
    assert_eq!(to(&snapshot, "10.9.9.9:443", None), "need bytes");
    assert_eq!(to(&snapshot, "10.9.9.9:443", tls("two.example")), "443||two.example");
    assert_eq!(to(&snapshot, "10.9.9.9:443", tls("one.example")), "443||one.example");
    assert_eq!(to(&snapshot, "10.9.9.9:443", Some(Detected::Other)), "443||one.example", "the first, as before");
}

#[test]
fn unknown_hosts() {
    let only = mesh("{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}");
    let snapshot = of(&only);
    assert_eq!(http(&snapshot, "GET http://nobody.example/"), "502 \"\"");
    assert_eq!(to(&snapshot, "192.0.2.1:443", tls("nobody.example")), "BlackHoleCluster");
    assert_eq!(to(&snapshot, "192.0.2.1:9999", None), "BlackHoleCluster");
    let snapshot = of(&(only + &sidecar("  outboundTrafficPolicy: {mode: ALLOW_ANY}")));
    assert_eq!(http(&snapshot, "GET http://nobody.example/"), "PassthroughCluster", "the Sidecar decides");
    let proxied =
        "  outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: b.ns.svc.cluster.local, port: {number: 8080}}}";
    let snapshot = of(&sidecar(proxied));
    assert_eq!(http(&snapshot, "GET http://nobody.example/"), "8080||b.ns");
    assert_eq!(to(&snapshot, "192.0.2.1:9999", None), "8080||b.ns");
}

#[test]
fn unknown_hosts_by_name() {
    let snapshot = of(&mesh("{outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}}"));
    assert_eq!(snapshot.clusters["PassthroughCluster"].source, EndpointSource::DynamicDns { port: None });
    assert_eq!(http(&snapshot, "GET http://nobody.example/"), "AllowAnyDynamicDNSCluster");
    assert_eq!(snapshot.clusters["AllowAnyDynamicDNSCluster"].tls, None);
    assert_eq!(to(&snapshot, "192.0.2.1:9999", None), "need bytes", "TLS clients tell a name");
    assert_eq!(to(&snapshot, "192.0.2.1:9999", Some(Detected::Other)), "PassthroughCluster");
}

#[test]
fn each_workload_its_own_sites() {
    let sites = "hosts: [a-cup-of.coffee, une-tasse-de.cafe], ports: [{number: 443, name: https, protocol: TLS}], resolution: DNS";
    let own = "  outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n  egress: [{hosts: ['./*.svc.cluster.local', './a-cup-of.coffee']}]";
    let snapshot = of(&(entry("coffee", sites) + &sidecar(own)));
    assert_eq!(to(&snapshot, "192.0.2.1:443", tls("a-cup-of.coffee")), "443||a-cup-of.coffee");
    assert_eq!(to(&snapshot, "192.0.2.1:443", tls("une-tasse-de.cafe")), "BlackHoleCluster");
    assert_eq!(http(&snapshot, "GET http://b.ns:8080/"), "8080||b.ns");
    assert_eq!(http(&snapshot, "GET http://une-tasse-de.cafe:8080/"), "502 \"\"");
    let excluded = "  egress: [{hosts: ['*/*', '~ns/*.cafe']}]";
    let snapshot = of(&(entry("coffee", sites) + &sidecar(excluded)));
    assert_eq!(to(&snapshot, "192.0.2.1:443", tls("a-cup-of.coffee")), "443||a-cup-of.coffee");
    assert_eq!(to(&snapshot, "192.0.2.1:443", tls("une-tasse-de.cafe")), "PassthroughCluster");
}

#[test]
fn listeners_that_applications_dial() {
    let spec = "  egress:
  - {port: {number: 8080, protocol: HTTP, name: h}, captureMode: NONE, hosts: ['./*']}
  - {port: {number: 9000, protocol: TCP, name: t}, bind: 127.0.0.7, captureMode: NONE, hosts: ['other/*']}
  - {port: {number: 9443, protocol: TCP, name: u}, bind: 10.9.9.9, hosts: ['other/*']}
  - {port: {number: 3128, protocol: HTTP_PROXY, name: p}, hosts: ['*/*']}
  - {hosts: ['./*']}";
    let snapshot = of(&sidecar(spec));
    let binds: Vec<_> = snapshot.binds.iter().map(|b| (b.at.to_string(), b.door)).collect();
    let expected = [
        ("127.0.0.1:3128".to_owned(), BindDoor::HttpProxy),
        ("127.0.0.1:8080".to_owned(), BindDoor::Outbound),
        ("127.0.0.7:9000".to_owned(), BindDoor::Outbound),
    ];
    assert_eq!(binds, expected);
    let key = ListenerKey::new(Direction::Outbound, Some([127, 0, 0, 1].into()), 8080);
    let table = &snapshot.listeners[&key].http.as_ref().unwrap().routes;
    assert_eq!(route_outcome(table, &Request::parse("GET http://b/")), "8080||b.ns");
    assert_eq!(to(&snapshot, "127.0.0.7:9000", None), "9000||c.other");
    assert_eq!(to(&snapshot, "10.9.9.9:9443", None), "9443||c.other", "its protocol is the listener's");
    assert_eq!(to(&snapshot, "10.9.9.8:9443", None), "PassthroughCluster");
}

#[test]
fn unix_sockets_that_applications_dial() {
    let spec = "  egress:
  - {port: {number: 0, protocol: HTTP, name: h}, bind: 'unix:///run/http.sock', hosts: ['other/*', './*']}
  - {port: {number: 9000, protocol: TCP, name: t}, bind: 'unix://@bytes', hosts: ['other/*']}
  - {port: {number: 7, protocol: TCP, name: none}, bind: 'unix://@nothing', hosts: ['./*']}";
    let sim = Sim::of(sidecar(spec).trim_start_matches("---\n"));
    let compiled = sim.compile("a-1");
    let snapshot = &compiled.snapshot;
    let c = std::net::SocketAddr::new(sim.vip("c.other.svc.cluster.local"), 9000);
    let binds: Vec<_> = snapshot.binds.iter().map(|b| (b.at.to_string(), b.door)).collect();
    let expected = [("/run/http.sock".to_owned(), BindDoor::HttpProxy), ("@bytes".to_owned(), BindDoor::Service(c))];
    assert_eq!(binds, expected);
    assert_eq!(to(snapshot, &c.to_string(), None), "9000||c.other", "what a socket stands for has a listener");
    assert_eq!(http(snapshot, "GET http://b.ns:8080/"), "8080||b.ns", "and what its clients may name");
    let inert = |field: &str| {
        let mut fates = compiled.account.fates().filter(|f| &*f.field == field);
        fates.find_map(|f| match &f.outcome {
            crate::report::Outcome::Inert { because } => Some(because.to_string()),
            _ => None,
        })
    };
    assert_eq!(inert("spec.egress[2].bind").unwrap(), "no service that it imports has a port for bytes");
    assert_eq!(inert("spec.egress[1].bind"), None);
}

#[test]
fn tls_around_what_goes_to_unknown_hosts() {
    let of = |tls: &str| {
        let policy = format!("{{mode: ALLOW_ANY_DYNAMIC_DNS, tls: {{{tls}}}}}");
        let snapshot = of(&mesh(&format!("{{outboundTrafficPolicy: {policy}}}")));
        assert_eq!(snapshot.clusters["PassthroughCluster"].tls, None, "bytes stay as they are");
        snapshot.clusters["AllowAnyDynamicDNSCluster"].tls.as_ref().map(ToString::to_string)
    };
    let simple =
        "SIMPLE, sni: the authority, the server must be the authority, verified by the system\u{27}s authorities";
    assert_eq!(of("mode: SIMPLE").unwrap(), simple);
    assert_eq!(of("mode: DISABLE"), None);
    let named = "MUTUAL, sni: s.example, the server must be one of a.example, verified by authorities of Secret ns/k, \
                 showing Secret ns/k";
    assert_eq!(of("mode: MUTUAL, credentialName: k, sni: s.example, subjectAltNames: [a.example]").unwrap(), named);
    let files = "mode: MUTUAL, clientCertificate: c.pem, privateKey: k.pem, caCertificates: r.pem, caCrl: l.pem";
    let shown = "MUTUAL, sni: the authority, the server must be the authority, verified by r.pem with l.pem, \
                 showing files c.pem and k.pem";
    assert_eq!(of(files).unwrap(), shown);
    let skips = "SIMPLE, sni: the authority, the server is not verified";
    assert_eq!(of("mode: SIMPLE, insecureSkipVerify: true").unwrap(), skips);
    let shows = "MUTUAL, sni: the authority, the server is not verified, showing files c.pem and k.pem";
    let files = "mode: MUTUAL, insecureSkipVerify: true, clientCertificate: c.pem, privateKey: k.pem";
    assert_eq!(of(files).unwrap(), shows);
}

#[test]
fn ports_of_the_proxy() {
    let snapshot = of(&mesh("{proxyListenPort: 16001, proxyInboundListenPort: 16006, proxyHttpPort: 3128}"));
    let ports = snapshot.proxy.ports;
    assert_eq!((ports.outbound, ports.inbound, ports.http), (16001, 16006, Some(3128)));
    assert_eq!(to(&snapshot, "192.0.2.1:16001", None), "BlackHoleCluster", "not round and round");
    assert_eq!(&*snapshot.inbound(16006).name, "virtualInbound-blackhole");
}

#[test]
fn applications_on_loopback() {
    let snapshot =
        Sim::of(mesh("{inboundTrafficPolicy: {mode: LOCALHOST}}").trim_start_matches("---\n")).compile("b-1").snapshot;
    let localhost = Some([127, 0, 0, 1].into());
    assert_eq!(snapshot.clusters["inbound|8081||"].source, EndpointSource::LocalApp { port: 8081, ip: localhost });
    assert_eq!(snapshot.clusters["InboundPassthroughCluster"].source, EndpointSource::LocalOriginalDst);
}

#[test]
fn headers_follow_the_pods_annotation() {
    let yaml = "apiVersion: v1
kind: Pod
metadata:
  name: quiet
  namespace: ns
  annotations: {proxy.istio.io/config: '{proxyHeaders: {attemptCount: {disabled: true}}}'}
spec: {containers: [{name: main, image: x}]}";
    let sim = Sim::of(yaml);
    let made = |proxy: &str| {
        let snapshot = sim.compile(proxy).snapshot;
        let listener = snapshot.outbound(None, 8080).http.clone().unwrap();
        let host = listener.routes.lookup("b").unwrap().clone();
        assert!(matches!(host.routes[0].action, Action::Forward(_)));
        host.routes[0].headers.attempt_count
    };
    assert_eq!((made("a-1"), made("quiet")), (true, false));
}
