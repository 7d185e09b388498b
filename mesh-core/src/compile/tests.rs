//! Which object decides a request of a sidecar: hosts, names, ages, exportTo, Sidecar.

mod accounted;
mod fields;
mod incremental;
mod plan;
mod scale;
mod shown;
mod tls;

use super::sim::Sim;

pub(super) fn check(yaml: &str, workload: &str, table: &[(&str, &str)]) {
    let sim = Sim::of(yaml);
    for (request, want) in table {
        assert_eq!(sim.request(workload, request), *want, "{request} of {workload} with {yaml}");
    }
}

/// A VirtualService with one rule to a host.
fn vs(meta: &str, hosts: &str, to: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{{meta}}}\n\
         spec:\n  hosts: [{hosts}]\n  http:\n  - route: [{{destination: {{host: {to}}}}}]\n"
    )
}

#[test]
fn without_objects_everything_goes_to_its_service() {
    let table = [
        ("GET http://b:8080/x", "8080||b.ns"),
        ("GET http://b.ns:8080/x", "8080||b.ns"),
        ("GET http://b.ns.svc:8080/x", "8080||b.ns"),
        ("GET http://b.ns.svc.cluster.local:8080/x", "8080||b.ns"),
        ("GET http://B.ns.svc.cluster.local.:8080/x", "8080||b.ns"),
        ("GET http://c.other:8080/x", "8080||c.other"),
        ("GET http://c:8080/x", "PassthroughCluster"),
        ("GET http://example.com:8080/x", "PassthroughCluster"),
        ("GET http://example.com:4242/x", "tcp PassthroughCluster"),
    ];
    check("", "a-1", &table);
    check("", "c-1", &[("GET http://c:8080/", "8080||c.other"), ("GET http://b:8080/", "PassthroughCluster")]);
}

#[test]
fn a_virtual_host_is_also_its_address() {
    let sim = Sim::of("");
    let ip = sim.vip("b.ns.svc.cluster.local");
    assert_eq!(sim.request("a-1", &format!("GET http://{ip}:8080/")), "8080||b.ns");
}

#[test]
fn registry_only_blocks_what_is_unknown() {
    let sidecar = "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: ns}
spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}";
    let table = [
        ("GET http://b:8080/x", "8080||b.ns"),
        ("GET http://example.com:8080/x", "502 \"\""), // A3
        ("GET http://example.com:4242/x", "tcp BlackHoleCluster"),
    ];
    check(sidecar, "a-1", &table);
    // An empty policy means REGISTRY_ONLY; without one ALLOW_ANY is in force.
    check(&sidecar.replace("mode: REGISTRY_ONLY", ""), "a-1", &table[1..2]);
    check(
        &sidecar.replace("mode: REGISTRY_ONLY", "mode: ALLOW_ANY"),
        "a-1",
        &[("GET http://x:8080/", "PassthroughCluster")],
    );
    let proxy = "mode: ALLOW_ANY, egressProxy: {host: c.other.svc.cluster.local, port: {number: 8080}}";
    check(&sidecar.replace("mode: REGISTRY_ONLY", proxy), "a-1", &[("GET http://x:8080/", "8080||c.other")]);
}

#[test]
fn exact_hosts_beat_wildcards_and_the_most_specific_wildcard_wins() {
    let yaml = vs("name: any, namespace: ns", "'*.local'", "c.other.svc.cluster.local")
        + &vs("name: ns, namespace: ns", "'*.ns.svc.cluster.local'", "a");
    check(&yaml, "a-1", &[("GET http://b:8080/", "8080||a.ns"), ("GET http://c.other:8080/", "8080||c.other")]);
    let yaml = yaml + &vs("name: z, namespace: ns", "b", "b");
    check(&yaml, "a-1", &[("GET http://b:8080/", "8080||b.ns"), ("GET http://a:8080/", "8080||a.ns")]);
}

#[test]
fn of_two_for_one_host_the_older_wins_and_the_rest_is_dropped() {
    let yaml = vs("name: a, namespace: ns, creationTimestamp: '2026-01-02T00:00:00Z'", "b", "a")
        + &vs("name: z, namespace: ns, creationTimestamp: '2026-01-01T00:00:00Z'", "b", "c.other.svc.cluster.local");
    check(&yaml, "a-1", &[("GET http://b:8080/", "8080||c.other")]);
}

#[test]
fn own_private_objects_come_before_older_public_ones() {
    let public =
        vs("name: a, namespace: other, creationTimestamp: '2020-01-01T00:00:00Z'", "b.ns.svc.cluster.local", "c");
    let private = vs("name: z, namespace: ns", "b", "a").replace("spec:\n", "spec:\n  exportTo: ['.']\n");
    check(&(public.clone() + &private), "a-1", &[("GET http://b:8080/", "8080||a.ns")]);
    check(&(public + &private), "c-1", &[("GET http://b.ns:8080/", "8080||c.other")]);
}

#[test]
fn short_names_are_of_the_objects_namespace() {
    check(&vs("name: v, namespace: other", "b", "c"), "a-1", &[("GET http://b:8080/", "8080||b.ns")]);
    check(&vs("name: v, namespace: ns", "b", "c"), "a-1", &[("GET http://b:8080/", "8080||c.ns")]);
}

#[test]
fn hosts_that_are_no_service_are_routed_on_port_80() {
    let yaml = vs("name: v, namespace: ns", "www.example.com, '*.example.org'", "b");
    let table = [
        ("GET http://www.example.com/", "8080||b.ns"),
        ("GET http://x.y.example.org/", "8080||b.ns"),
        ("GET http://example.org/", "PassthroughCluster"),
        ("GET http://www.example.com:8080/", "PassthroughCluster"),
    ];
    check(&yaml, "a-1", &table);
}

#[test]
fn only_objects_bound_to_mesh_are_for_sidecars() {
    for (gateways, want) in [("[mesh]", "8080||a.ns"), ("[gw]", "8080||b.ns"), ("[ns/gw, mesh]", "8080||a.ns")] {
        let yaml =
            vs("name: v, namespace: ns", "b", "a").replace("spec:\n", &format!("spec:\n  gateways: {gateways}\n"));
        check(&yaml, "a-1", &[("GET http://b:8080/", want)]);
    }
}

#[test]
fn a_rule_that_fits_nobody_leaves_the_service_its_default() {
    let yaml = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: ns}
spec:
  hosts: [b]
  http:
  - match: [{sourceLabels: {tier: db}}, {port: 1}, {sourceNamespace: other}, {gateways: [gw]}]
    route: [{destination: {host: c}}]";
    check(yaml, "a-1", &[("GET http://b:8080/", "8080||b.ns")]);
    for fits in [
        "sourceLabels: {tier: web}",
        "port: 8080",
        "sourceNamespace: ns",
        "gateways: [mesh]",
        // With gateways, conditions on the client are ignored.
        "gateways: [mesh], sourceNamespace: other",
    ] {
        let yaml = yaml.replace("port: 1", fits);
        check(&yaml, "a-1", &[("GET http://b:8080/", "8080||c.ns")]);
    }
}

#[test]
fn a_sidecar_limits_what_is_seen_but_not_destinations() {
    let yaml = "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: ns}
spec: {egress: [{hosts: [./*]}]}
"
    .to_owned()
        + &vs("name: v, namespace: ns", "b", "c.other.svc.cluster.local");
    let sim = Sim::of(&yaml);
    let table = [("GET http://b:8080/", "8080||c.other"), ("GET http://c.other:8080/", "PassthroughCluster")];
    for (request, want) in table {
        assert_eq!(sim.request("a-1", request), want);
    }
    let snapshot = sim.compile("a-1").snapshot;
    assert!(snapshot.clusters.contains_key("outbound|8080||c.other.svc.cluster.local"));
    assert!(!snapshot.names.contains_key("c.other"), "names follow what is imported");
    assert!(snapshot.names.contains_key("b") && snapshot.names.contains_key("b.ns.svc.cluster.local"));
}

#[test]
fn the_right_sidecar_is_in_force() {
    let sidecar = |ns: &str, name: &str, selector: &str, hosts: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: {name}, namespace: {ns}}}\n\
             spec:\n  {selector}\n  egress: [{{hosts: [{hosts}]}}]\n"
        )
    };
    let root = sidecar("istio-system", "default", "", "./*");
    check(&root, "a-1", &[("GET http://b:8080/", "8080||b.ns"), ("GET http://c.other:8080/", "PassthroughCluster")]);
    let all = root + &sidecar("ns", "all", "", "'*/*'");
    check(&all, "a-1", &[("GET http://c.other:8080/", "8080||c.other")]);
    let one = all + &sidecar("ns", "z", "workloadSelector: {labels: {app: a}}", "'~/*'");
    check(&one, "a-1", &[("GET http://b:8080/", "tcp PassthroughCluster")]);
    check(&one, "b-1", &[("GET http://b:8080/", "8080||b.ns")]);
}

#[test]
fn an_egress_listener_with_a_port_takes_that_port() {
    let yaml = "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: ns}
spec:
  egress:
  - {port: {number: 8080, protocol: HTTP, name: h}, hosts: [other/*]}
  - {hosts: [ns/*]}";
    let table = [("GET http://b:8080/", "PassthroughCluster"), ("GET http://c.other:8080/", "8080||c.other")];
    check(yaml, "a-1", &table);
}

#[test]
fn inbound_goes_to_the_application_and_virtual_services_do_not_apply() {
    let sim = Sim::of(&vs("name: v, namespace: ns", "b", "c.other.svc.cluster.local"));
    let snapshot = sim.compile("b-1").snapshot;
    let http = snapshot.inbound(8081).http.clone().unwrap();
    let request = super::sim::Request::parse("GET http://anything/");
    assert_eq!(super::sim::route_outcome(&http.routes, &request), "inbound|8081||");
    let cluster = &snapshot.clusters["inbound|8081||"];
    assert_eq!(cluster.source, crate::snapshot::EndpointSource::LocalApp { port: 8081, ip: None });
    assert_eq!(&*snapshot.inbound(9999).name, "virtualInbound");
    assert_eq!(&*snapshot.inbound(15006).fallback.as_ref().unwrap().clusters[0].cluster, "BlackHoleCluster");
    assert_eq!(&*snapshot.outbound(None, 15001).fallback.as_ref().unwrap().clusters[0].cluster, "BlackHoleCluster");
}

#[test]
fn sidecar_ingress_replaces_the_ports_of_services() {
    let yaml = "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: ns}
spec:
  ingress: [{port: {number: 9000, protocol: HTTP, name: h}, defaultEndpoint: '127.0.0.1:7070'}]";
    let snapshot = Sim::of(yaml).compile("b-1").snapshot;
    assert_eq!(&*snapshot.inbound(8081).name, "virtualInbound");
    assert_eq!(&*snapshot.inbound(9000).name, "0.0.0.0_9000");
    let source = &snapshot.clusters["inbound|9000||"].source;
    assert_eq!(*source, crate::snapshot::EndpointSource::LocalApp { port: 7070, ip: Some([127, 0, 0, 1].into()) });
    let snapshot = Sim::of(&yaml.replace("127.0.0.1:7070", "unix:///run/app.sock")).compile("b-1").snapshot;
    let source = &snapshot.clusters["inbound|9000||"].source;
    assert_eq!(*source, crate::snapshot::EndpointSource::LocalSocket("/run/app.sock".into()));
}

#[test]
fn external_names_stand_for_their_target() {
    let yaml = "
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: ns}
spec: {type: ExternalName, externalName: c.other.svc.cluster.local, ports: [{port: 8080}]}
---
"
    .to_owned()
        + &vs("name: v, namespace: ns", "b", "alias");
    check(&yaml, "a-1", &[("GET http://alias:8080/", "8080||c.other"), ("GET http://b:8080/", "8080||c.other")]);
}
