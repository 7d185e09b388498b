use serde_json::json;

use super::*;
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
