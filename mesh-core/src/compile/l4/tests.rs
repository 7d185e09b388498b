use std::net::SocketAddr;

use crate::compile::sim::{Sim, connection};
use crate::decide::Detected;

fn tls(sni: &str) -> Option<Detected> {
    Some(Detected::Tls { sni: Some(sni.into()), alpn: Vec::new() })
}

fn vs(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v, namespace: other}}\nspec: {{hosts: [c], {spec}}}\n"
    )
}

/// Connects to service `c` at a port.
fn connect(yaml: &str, port: u16, detected: Option<Detected>) -> String {
    let sim = Sim::of(yaml);
    let to = SocketAddr::new(sim.vip("c.other.svc.cluster.local"), port);
    connection(&sim.compile("a-1").snapshot, to, detected)
}

#[test]
fn services_by_address_and_port() {
    for (port, detected, want) in [
        (9000, None, "9000||c.other"),
        (9443, None, "9443||c.other"),
        (7000, None, "need bytes"),
        (7000, Some(Detected::Http1), "http c.other.svc.cluster.local:7000"),
        (7000, Some(Detected::Other), "7000||c.other"),
        (7000, tls("x"), "7000||c.other"),
        (8080, None, "need bytes"),
        (8080, Some(Detected::Http2), "http 8080"),
        // Bytes that are not HTTP on an HTTP port go where the client wanted.
        (8080, tls("x"), "PassthroughCluster"),
        (4242, None, "PassthroughCluster"),
    ] {
        assert_eq!(connect("", port, detected.clone()), want, "{port} {detected:?}");
    }
}

#[test]
fn tcp_rules() {
    let to = "route: [{destination: {host: b.ns.svc.cluster.local}}]";
    for (tcp, want) in [
        (format!("tcp: [{{{to}}}]"), "8080||b.ns"),
        (format!("tcp: [{{match: [{{port: 9000}}], {to}}}]"), "8080||b.ns"),
        (format!("tcp: [{{match: [{{port: 9001}}], {to}}}]"), "9000||c.other"),
        (format!("tcp: [{{match: [{{sourceLabels: {{tier: db}}}}], {to}}}]"), "9000||c.other"),
        (format!("tcp: [{{match: [{{sourceNamespace: ns, gateways: [gw]}}], {to}}}]"), "9000||c.other"),
        (format!("tcp: [{{match: [{{destinationSubnets: [1.0.0.0/8]}}], {to}}}]"), "9000||c.other"),
        (format!("tcp: [{{match: [{{destinationSubnets: [0.0.0.0/0]}}], {to}}}]"), "8080||b.ns"),
        (format!("tls: [{{match: [{{sniHosts: [c.other.svc.cluster.local]}}], {to}}}]"), "9000||c.other"),
        (format!("http: [{{{to}}}]"), "9000||c.other"),
        ("tcp: [{route: [{destination: {host: a.ns.svc.cluster.local}, weight: 1}, {destination: {host: b.ns.svc.cluster.local}, weight: 3}]}]".into(), "8080||a.ns*1,8080||b.ns*3"),
    ] {
        assert_eq!(connect(&vs(&tcp), 9000, None), want, "{tcp}");
    }
}

#[test]
fn tls_rules_by_server_name() {
    let rule = |sni: &str, host: &str| {
        format!("{{match: [{{sniHosts: [{sni}]}}], route: [{{destination: {{host: {host}.ns.svc.cluster.local}}}}]}}")
    };
    let yaml = vs(&format!("tls: [{}, {}]", rule("'*.cluster.local'", "a"), rule("c.other.svc.cluster.local", "b")));
    assert_eq!(connect(&yaml, 9443, None), "need bytes");
    assert_eq!(connect(&yaml, 9443, tls("C.other.svc.cluster.local")), "8080||b.ns", "names before wildcards");
    assert_eq!(connect(&yaml, 9443, tls("x.cluster.local")), "8080||a.ns");
    assert_eq!(connect(&yaml, 9443, tls("elsewhere")), "closed filter_chain_not_found");
    assert_eq!(connect(&yaml, 9443, Some(Detected::Other)), "closed filter_chain_not_found");
}

#[test]
fn without_an_address_the_server_name_tells_services_apart() {
    let entry = |name: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: ns}}\nspec: {{hosts: [{name}.example], ports: [{{number: 443, name: tls, protocol: TLS}}], resolution: NONE}}\n"
        )
    };
    let sim = Sim::of(&(entry("one") + &entry("two")));
    let snapshot = sim.compile("a-1").snapshot;
    let to = "9.9.9.9:443".parse().unwrap();
    assert_eq!(connection(&snapshot, to, None), "need bytes");
    assert_eq!(connection(&snapshot, to, tls("one.example")), "443||one.example");
    assert_eq!(connection(&snapshot, to, tls("two.example")), "443||two.example");
    assert_eq!(connection(&snapshot, to, tls("three.example")), "PassthroughCluster");
}

#[test]
fn headless_services_are_listened_for_at_each_instance_but_the_own() {
    let yaml = "
apiVersion: v1
kind: Service
metadata: {name: h, namespace: ns}
spec: {clusterIP: None, selector: {app: b}, ports: [{name: tcp, port: 5000}]}";
    let sim = Sim::of(yaml);
    let pods: Vec<_> = sim.world.workloads_in("ns").iter().filter(|w| w.labels["app"] == "b").cloned().collect();
    let (first, second) = (pods[0].addresses[0], pods[1].addresses[0]);
    let from_a = sim.compile("a-1").snapshot;
    for ip in [first, second] {
        assert_eq!(connection(&from_a, SocketAddr::new(ip, 5000), None), "5000||h.ns");
    }
    let from_first = sim.compile(&pods[0].name).snapshot;
    assert_eq!(connection(&from_first, SocketAddr::new(first, 5000), None), "PassthroughCluster");
    assert_eq!(connection(&from_first, SocketAddr::new(second, 5000), None), "5000||h.ns");
    let names = &from_a.names;
    assert_eq!(names["h"].addresses.len(), 2);
    assert_eq!(names[&format!("{}.h.ns.svc.cluster.local", pods[0].name) as &str].addresses, [first]);
}
