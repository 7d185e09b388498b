use serde_json::json;

use super::*;
use crate::api::{DestinationRule, VirtualService};
use crate::fixtures::{istio, kube_service, workload};

fn world() -> World {
    World::of([
        Change::VirtualService(istio(
            "VirtualService",
            "a",
            "vs",
            json!({"hosts": ["x"], "http": [{"timeout": "3s"}]}),
        )),
        Change::DestinationRule(istio("DestinationRule", "a", "dr", json!({"host": "x"}))),
        Change::Gateway(istio("Gateway", "a", "gw", json!({"selector": {"a": "b"}}))),
        Change::Sidecar(istio("Sidecar", "a", "sc", json!({"egress": [{"hosts": ["*/*"]}]}))),
        Change::Service(kube_service("a", "x", json!({"clusterIP": "10.0.0.1", "ports": [{"port": 80}]}))),
        Change::Workload(workload("a", "x-1", [10, 1, 1, 1], &[("app", "x")])),
    ])
}

fn all(world: &World) -> ResourceSet {
    Encoded::of(world, &Encoded::default()).objects.into_iter().map(|(n, e)| (n, e.resource)).collect()
}

#[test]
fn what_is_sent_is_what_arrives() {
    let world = world();
    let set = all(&world);
    assert_eq!(set.len(), 7);
    let (arrived, rejected) = World::from_wire(&set);
    assert_eq!(rejected, []);
    assert_eq!(**arrived.virtual_services(), **world.virtual_services());
    assert_eq!(**arrived.services(), **world.services());
    assert_eq!(**arrived.workloads(), **world.workloads());
    let vs: &Object<VirtualService> = &arrived.virtual_services()[0];
    assert_eq!(vs.origin.location("spec.http[0].timeout").unwrap(), "vs.yaml:5");
    assert_eq!(all(&arrived), set, "and is encoded to the same bytes again");
}

#[test]
fn each_object_is_encoded_once() {
    let first = world();
    let before = Encoded::of(&first, &Encoded::default());
    let second = first.with([Change::DestinationRule(istio::<DestinationRule>(
        "DestinationRule",
        "a",
        "dr",
        json!({"host": "y"}),
    ))]);
    let after = Encoded::of(&second, &before);
    for (name, e) in &after.objects {
        let same = Arc::ptr_eq(&e.resource, before.get(name).unwrap());
        assert_eq!(same, &*name.kind != kind::DESTINATION_RULE, "{name:?}");
    }
}

#[test]
fn unknown_kinds_and_fields_are_refused_by_name() {
    let set = all(&world());
    let mut delta = Delta { changed: set.values().cloned().collect(), ..Delta::default() };
    for r in &mut delta.changed {
        let change = |from: &str, to: &str| String::from_utf8(r.body.bytes().to_vec()).unwrap().replace(from, to);
        match &*r.name.kind {
            kind::VIRTUAL_SERVICE => {
                let body = change("\"timeout\"", "\"timeOut\"").into_bytes().into();
                *r = Arc::new(WireResource { body, ..(**r).clone() });
            }
            kind::SIDECAR => {
                let name = ResourceName { kind: "networking.istio.io/Sidecar2".into(), name: r.name.name.clone() };
                *r = Arc::new(WireResource { name, ..(**r).clone() });
            }
            _ => {}
        }
    }
    let (got, rejected) = World::new().with_delta(&delta);
    let said: Vec<_> = rejected.iter().map(|r| (&*r.name.name, &*r.message)).collect();
    assert_eq!(
        said,
        [
            ("a/sc", "kind networking.istio.io/Sidecar2 is not known to this proxy"),
            ("a/vs", "field spec.http.0.timeOut is not known to this proxy"),
        ]
    );
    assert_eq!((got.virtual_services().len(), got.gateways().len(), got.services().len()), (0, 1, 1));
}

#[test]
fn a_bad_change_keeps_the_last_good_one_and_removals_remove() {
    let first = world();
    let good = all(&first);
    let bad = good.values().find(|r| &*r.name.kind == kind::GATEWAY).unwrap();
    let bad = Arc::new(WireResource { body: b"{}".to_vec().into(), ..(**bad).clone() });
    let delta = Delta {
        changed: vec![bad],
        removed: good.keys().filter(|n| &*n.kind != kind::GATEWAY).cloned().collect(),
        ..Delta::default()
    };
    let (next, rejected) = first.with_delta(&delta);
    assert!(rejected.len() == 1 && rejected[0].message.contains("missing field `key`"), "{rejected:?}");
    let counts = [next.virtual_services().len(), next.services().len(), next.workloads().len(), next.sidecars().len()];
    assert_eq!((next.gateways().len(), counts), (1, [0; 4]));
}
