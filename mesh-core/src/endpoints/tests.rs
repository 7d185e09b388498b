use serde_json::json;

use super::*;
use crate::compile::sim::Sim;
use crate::convert::{Settings, service_entry};
use crate::fixtures::{kube_service, object, workload};
use crate::model::Health;
use crate::world::Change;

fn subset(v: &str) -> BTreeMap<String, String> {
    [("version".to_owned(), v.to_owned())].into()
}

fn shown(endpoints: &[Endpoint]) -> Vec<String> {
    endpoints.iter().map(|e| e.address.to_string()).collect()
}

#[test]
fn selector_namespace_subset_and_named_port() {
    let mut named = (*workload("a", "r-3", [10, 0, 0, 3], &[("app", "r"), ("version", "v2")])).clone();
    named.ports.insert("web".into(), 8081);
    named.health = Health::Unhealthy;
    let service = kube_service(
        "a",
        "r",
        json!({"selector": {"app": "r"}, "ports": [{"port": 80, "targetPort": 8080}, {"port": 81, "targetPort": "web"}]}),
    );
    let world = World::of([
        Change::Service(service.clone()),
        Change::Workload(workload("a", "r-2", [10, 0, 0, 2], &[("app", "r"), ("version", "v1")])),
        Change::Workload(workload("a", "r-1", [10, 0, 0, 1], &[("app", "r"), ("version", "v2")])),
        Change::Workload(Arc::new(named)),
        Change::Workload(workload("b", "r-1", [10, 0, 0, 4], &[("app", "r")])),
        Change::Workload(workload("a", "other", [10, 0, 0, 5], &[("app", "x")])),
    ]);
    let of = |port, labels: &BTreeMap<_, _>| of_service(&world, &service, port, labels);
    assert_eq!(shown(&of(80, &BTreeMap::new())), ["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"]);
    assert_eq!(shown(&of(80, &subset("v1"))), ["10.0.0.2:8080"]);
    assert_eq!(shown(&of(81, &BTreeMap::new())), ["10.0.0.3:8081"], "only where the container names the port");
    assert_eq!(of(81, &BTreeMap::new())[0].health, Health::Unhealthy);
    assert!(of(99, &BTreeMap::new()).is_empty());
}

#[test]
fn listed_endpoints_have_their_own_ports() {
    let spec = json!({
        "hosts": ["db.example.com"],
        "resolution": "STATIC",
        "ports": [{"number": 5432, "name": "tcp", "protocol": "TCP", "targetPort": 15432}],
        "endpoints": [
            {"address": "10.9.0.2", "ports": {"tcp": 6000}, "weight": 5},
            {"address": "10.9.0.1", "labels": {"version": "v1"}},
        ],
    });
    let made =
        service_entry(&object("networking.istio.io", "ServiceEntry", "a", "db", spec), &Settings::default(), |_| None);
    let world = World::of([Change::Service(Arc::new(made[0].clone()))]);
    let all = of_service(&world, &made[0], 5432, &BTreeMap::new());
    assert_eq!(shown(&all), ["10.9.0.1:15432", "10.9.0.2:6000"]);
    assert_eq!(all[1].weight, 5);
    assert_eq!(shown(&of_service(&world, &made[0], 5432, &subset("v1"))), ["10.9.0.1:15432"]);
}

#[test]
fn unix_sockets_have_no_ports() {
    let spec = json!({
        "hosts": ["db.example.com"],
        "resolution": "STATIC",
        "ports": [{"number": 5432, "name": "tcp", "protocol": "TCP", "targetPort": 15432}],
        "endpoints": [
            {"address": "unix://@db", "labels": {"version": "v1"}},
            {"address": "unix:///run/db.sock", "weight": 2},
            {"address": "10.9.0.1"},
        ],
    });
    let made =
        service_entry(&object("networking.istio.io", "ServiceEntry", "a", "db", spec), &Settings::default(), |_| None);
    let world = World::of([Change::Service(Arc::new(made[0].clone()))]);
    let all = of_service(&world, &made[0], 5432, &BTreeMap::new());
    assert_eq!(shown(&all), ["10.9.0.1:15432", "/run/db.sock", "@db"]);
    assert_eq!(all[1].weight, 2);
    assert_eq!(shown(&of_service(&world, &made[0], 5432, &subset("v1"))), ["@db"]);
}

#[test]
fn who_takes_the_meshs_own_tls() {
    let b = "outbound|8080||b.ns.svc.cluster.local";
    let peer = |spec: &str| {
        let head = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n";
        format!("{head}metadata: {{name: p, namespace: ns}}\nspec: {{{spec}}}\n")
    };
    let takes = |yaml: &str| {
        let sim = Sim::of(yaml);
        let snapshot = sim.compile("a-1").snapshot;
        endpoints(&sim.world, &snapshot.clusters[b]).iter().map(|e| e.mesh.takes).collect::<Vec<_>>()
    };
    assert_eq!(takes(""), [true, true]);
    assert_eq!(takes(&peer("mtls: {mode: STRICT}")), [true, true]);
    assert_eq!(takes(&peer("mtls: {mode: DISABLE}")), [false, false]);
    // By the port of the instance, 8081, and only where the selector holds.
    let narrow = |port: u16| {
        peer(&format!("selector: {{matchLabels: {{version: v2}}}}, portLevelMtls: {{'{port}': {{mode: DISABLE}}}}"))
    };
    assert_eq!(takes(&narrow(8081)), [true, false]);
    assert_eq!(takes(&narrow(8080)), [true, true]);
    let pod = |more: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: b-3, namespace: ns, labels: {{app: b{more}}}, annotations: \
             {{traffic.sidecar.istio.io/excludeInboundPorts: '8081'}}}}\nspec: {{serviceAccountName: robot}}\n"
        )
    };
    let third = |more: &str| {
        let sim = Sim::of(&pod(more));
        let snapshot = sim.compile("a-1").snapshot;
        let all = endpoints(&sim.world, &snapshot.clusters[b]);
        let found = all.iter().find(|e| &*e.workload.name == "b-3").unwrap();
        (found.mesh.takes, found.mesh.identities.join(" "))
    };
    let robot = "spiffe://cluster.local/ns/ns/sa/robot".to_owned();
    assert_eq!(third(""), (false, robot.clone()), "its sidecar does not take the port");
    assert_eq!(third(", sidecar.istio.io/inject: 'false'"), (false, robot));
}

#[test]
fn who_instances_are() {
    let sim = Sim::of(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: \"trustDomain: \
         td\\ntrustDomainAliases: [old]\"}\n",
    );
    let snapshot = sim.compile("a-1").snapshot;
    let all = endpoints(&sim.world, &snapshot.clusters["outbound|8080||b.ns.svc.cluster.local"]);
    let names = ["spiffe://old/ns/ns/sa/default", "spiffe://td/ns/ns/sa/default"];
    assert!(all.iter().all(|e| e.mesh.identities.iter().map(|i| &**i).eq(names)), "{all:?}");
    assert!(Arc::ptr_eq(&all[0].mesh.identities, &all[1].mesh.identities), "one list for one account");
}

/// Of a headless service the client chooses the instance, and what is known of it says how it is spoken to.
#[test]
fn instances_that_clients_choose() {
    let headless = "apiVersion: v1\nkind: Service\nmetadata: {name: h, namespace: ns}\nspec: {clusterIP: None, selector: \
                    {app: b}, ports: [{name: tcp, port: 9000}, {name: http, port: 80, targetPort: 8000}]}\n";
    let sim = Sim::of(headless);
    let snapshot = sim.compile("a-1").snapshot;
    let cluster = &snapshot.clusters["outbound|9000||h.ns.svc.cluster.local"];
    assert!(matches!(cluster.source, EndpointSource::OriginalDst { .. }) && cluster.auto_tls.is_some());
    let all = endpoints(&sim.world, cluster);
    let mut ports: Vec<u16> = all.iter().filter_map(|e| Some(e.address.ip()?.port())).collect();
    ports.sort_unstable();
    assert_eq!(ports, [8000, 8000, 9000, 9000]);
    assert!(all.iter().all(|e| e.mesh.takes));
    assert_eq!(endpoints(&sim.world, &snapshot.clusters["PassthroughCluster"]), []);
}
