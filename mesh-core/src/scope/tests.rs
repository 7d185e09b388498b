use serde_json::json;

use super::*;
use crate::fixtures::{istio, kube_service, security, workload};
use crate::world::Change;

fn shown(set: &ResourceSet) -> Vec<String> {
    set.keys().map(|n| format!("{} {}", n.kind.rsplit('/').next().unwrap(), n.name)).collect()
}

fn vs(namespace: &str, name: &str, spec: serde_json::Value) -> Change {
    Change::VirtualService(istio("VirtualService", namespace, name, spec))
}

fn to(host: &str) -> serde_json::Value {
    json!([{"route": [{"destination": {"host": host}}]}])
}

fn mesh() -> World {
    let ports = json!([{"port": 80, "name": "http"}]);
    World::of([
        Change::Service(kube_service("a", "one", json!({"selector": {"app": "one"}, "ports": ports}))),
        Change::Service(kube_service("b", "two", json!({"selector": {"app": "two"}, "ports": ports}))),
        Change::Service(kube_service("b", "three", json!({"selector": {"app": "three"}, "ports": ports}))),
        Change::Workload(workload("a", "one-1", [10, 0, 0, 1], &[("app", "one")])),
        Change::Workload(workload("b", "two-1", [10, 0, 0, 2], &[("app", "two")])),
        Change::Workload(workload("b", "three-1", [10, 0, 0, 3], &[("app", "three")])),
        Change::Workload(workload("istio-system", "gw-1", [10, 0, 0, 9], &[("istio", "ingressgateway")])),
        vs("b", "public", json!({"hosts": ["two"], "http": to("two")})),
        vs("b", "private", json!({"hosts": ["two"], "exportTo": ["."], "http": to("two")})),
        vs("b", "edge", json!({"hosts": ["shop.example.com"], "gateways": ["gw"], "http": to("three")})),
        Change::Gateway(istio("Gateway", "b", "gw", json!({"selector": {"istio": "ingressgateway"}}))),
        Change::Gateway(istio("Gateway", "b", "other", json!({"selector": {"istio": "egressgateway"}}))),
        Change::DestinationRule(istio("DestinationRule", "b", "two", json!({"host": "two"}))),
        Change::DestinationRule(istio("DestinationRule", "b", "hidden", json!({"host": "two", "exportTo": ["."]}))),
    ])
}

fn of(world: &World, kind: ProxyKind, namespace: &str, name: &str) -> Vec<String> {
    let uid = format!("Kubernetes//Pod/{namespace}/{name}");
    shown(&scope(world, &ProxyId::of(kind, world.workload(&uid).unwrap())))
}

#[test]
fn a_sidecar_sees_what_is_exported_to_it() {
    assert_eq!(
        of(&mesh(), ProxyKind::Sidecar, "a", "one-1"),
        [
            "MeshConfig istio-system/istio",
            "Service a/one.a.svc.cluster.local",
            "Service b/three.b.svc.cluster.local",
            "Service b/two.b.svc.cluster.local",
            "Workload Kubernetes//Pod/a/one-1",
            "Workload Kubernetes//Pod/b/three-1",
            "Workload Kubernetes//Pod/b/two-1",
            "DestinationRule b/two",
            "VirtualService b/public",
        ]
    );
    let own = of(&mesh(), ProxyKind::Sidecar, "b", "two-1");
    assert!(own.contains(&"VirtualService b/private".into()) && own.contains(&"DestinationRule b/hidden".into()));
}

#[test]
fn a_gateway_sees_its_routes_and_what_they_name() {
    assert_eq!(
        of(&mesh(), ProxyKind::Gateway, "istio-system", "gw-1"),
        [
            "MeshConfig istio-system/istio",
            "Service b/three.b.svc.cluster.local",
            "Workload Kubernetes//Pod/b/three-1",
            "Workload Kubernetes//Pod/istio-system/gw-1",
            "Gateway b/gw",
            "VirtualService b/edge",
        ]
    );
}

/// The modes of servers are for their clients to know; who may do what is for the server alone.
#[test]
fn policies_go_to_whom_they_select_and_peer_modes_to_clients_too() {
    let of_two = json!({"selector": {"matchLabels": {"app": "two"}}});
    let peer = |ns, spec| Change::PeerAuthentication(security("PeerAuthentication", ns, "peer", spec));
    let tokens = |ns, spec| Change::RequestAuthentication(security("RequestAuthentication", ns, "tokens", spec));
    let policy = |ns, spec| Change::AuthorizationPolicy(security("AuthorizationPolicy", ns, "policy", spec));
    let world = mesh().with([
        peer("istio-system", json!({})),
        peer("b", of_two.clone()),
        peer("elsewhere", json!({})),
        tokens("istio-system", json!({})),
        tokens("b", of_two.clone()),
        policy("istio-system", json!({})),
        policy("b", of_two),
        policy("elsewhere", json!({})),
    ]);
    let policies = |kind, namespace, name| {
        let all = of(&world, kind, namespace, name);
        all.into_iter().filter(|n| ["Peer", "Request", "Auth"].iter().any(|k| n.starts_with(k))).collect::<Vec<_>>()
    };
    let everyones = ["AuthorizationPolicy istio-system/policy", "RequestAuthentication istio-system/tokens"];
    let modes = ["PeerAuthentication b/peer", "PeerAuthentication istio-system/peer"];
    let client = policies(ProxyKind::Sidecar, "a", "one-1");
    assert_eq!(client, [everyones[0], modes[0], modes[1], everyones[1]]);
    assert_eq!(policies(ProxyKind::Gateway, "istio-system", "gw-1"), client);
    assert_eq!(policies(ProxyKind::Sidecar, "b", "three-1"), client, "not selected");
    let own = ["AuthorizationPolicy b/policy", "RequestAuthentication b/tokens"];
    assert_eq!(
        policies(ProxyKind::Sidecar, "b", "two-1"),
        [own[0], everyones[0], modes[0], modes[1], own[1], everyones[1]]
    );
}

#[test]
fn a_sidecar_resource_narrows_and_destinations_widen() {
    let narrow = json!({"egress": [{"hosts": ["./*", "b/two.b.svc.cluster.local"]}]});
    let world = mesh().with([
        Change::Sidecar(istio("Sidecar", "a", "default", narrow)),
        vs("a", "detour", json!({"hosts": ["one"], "http": to("three.b.svc.cluster.local")})),
    ]);
    let got = of(&world, ProxyKind::Sidecar, "a", "one-1");
    for wanted in ["Sidecar a/default", "Service b/two.b.svc.cluster.local", "VirtualService b/public"] {
        assert!(got.iter().any(|n| n == wanted), "{wanted} is missing in {got:?}");
    }
    assert!(got.contains(&"Service b/three.b.svc.cluster.local".into()), "named by a VirtualService in scope");
    let world = world.with([Change::Remove(crate::api::Key::new(
        crate::api::Kind::new("networking.istio.io", "VirtualService"),
        "a",
        "detour",
    ))]);
    assert!(!of(&world, ProxyKind::Sidecar, "a", "one-1").iter().any(|n| n.contains("three")));
}

#[test]
fn what_takes_unknown_traffic_is_sent_though_no_listener_imports_it() {
    let policy =
        json!({"mode": "ALLOW_ANY", "egressProxy": {"host": "three.b.svc.cluster.local", "port": {"number": 80}}});
    let narrow = json!({"egress": [{"hosts": ["./*"]}]});
    let own = json!({"egress": [{"hosts": ["./*"]}], "outboundTrafficPolicy": policy});
    let sidecar = |spec| Change::Sidecar(istio("Sidecar", "a", "default", spec));
    let settings = json!({"outboundTrafficPolicy": policy});
    let has = |world: &World| of(world, ProxyKind::Sidecar, "a", "one-1").iter().any(|n| n.contains("b/three"));
    assert!(!has(&mesh().with([sidecar(narrow.clone())])));
    assert!(has(&mesh().with([sidecar(own)])), "by the Sidecar");
    assert!(has(
        &mesh().with([sidecar(narrow), Change::Mesh(Some(istio("MeshConfig", "istio-system", "istio", settings)))])
    ));
}

#[test]
fn what_one_listener_excludes_another_may_import() {
    let of = |egress: serde_json::Value| {
        let spec = json!({"egress": egress});
        let world = mesh().with([Change::Sidecar(istio("Sidecar", "a", "default", spec))]);
        let names = of(&world, ProxyKind::Sidecar, "a", "one-1");
        let service = |n: &String| Some(n.strip_prefix("Service ")?.split('.').next()?.to_owned());
        names.iter().filter_map(service).collect::<Vec<_>>().join(" ")
    };
    let port = json!({"number": 80, "name": "http", "protocol": "HTTP"});
    let but_two = json!(["*/*", "~b/two.b.svc.cluster.local"]);
    assert_eq!(of(json!([{"hosts": ["*/*"]}])), "a/one b/three b/two");
    assert_eq!(of(json!([{"hosts": but_two}])), "a/one b/three");
    assert_eq!(of(json!([{"port": port, "hosts": but_two}, {"hosts": ["b/*"]}])), "a/one b/three b/two");
    assert_eq!(of(json!([{"hosts": ["~/*"]}])), "a/one", "its own, for inbound");
}

#[test]
fn a_rule_counts_in_its_own_namespace_whoever_it_is_exported_to() {
    let rule = json!({"host": "two", "exportTo": ["elsewhere"], "subsets": [{"name": "v1"}]});
    let world = mesh().with([Change::DestinationRule(istio("DestinationRule", "b", "two", rule))]);
    let got = of(&world, ProxyKind::Sidecar, "b", "two-1");
    assert!(got.contains(&"DestinationRule b/two".into()), "{got:?}");
}

#[test]
fn an_alias_as_a_destination_brings_what_it_stands_for() {
    let alias = json!({"type": "ExternalName", "externalName": "two.b.svc.cluster.local"});
    let world = mesh().with([
        Change::Service(kube_service("b", "alias", alias)),
        vs("b", "edge", json!({"hosts": ["shop.example.com"], "gateways": ["gw"], "http": to("alias")})),
    ]);
    let got = of(&world, ProxyKind::Gateway, "istio-system", "gw-1");
    assert!(got.contains(&"Service b/two.b.svc.cluster.local".into()), "{got:?}");
}
