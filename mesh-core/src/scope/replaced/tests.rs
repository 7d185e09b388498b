use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::compile::sim::{BASE, Sim};
use crate::fixtures::{istio, kube_service, security, workload};
use crate::scope::scope_of;

/// Each object in several forms, of which some put other names into scopes.
fn pool() -> Vec<Change> {
    let vs = |spec| Change::VirtualService(istio("VirtualService", "ns", "v", spec));
    let to = |host: &str| json!([{"route": [{"destination": {"host": host}}]}]);
    let dr = |spec| Change::DestinationRule(istio("DestinationRule", "ns", "d", spec));
    let service = |spec| Change::Service(kube_service("ns", "s", spec));
    let peer = |spec| Change::PeerAuthentication(security("PeerAuthentication", "ns", "p", spec));
    let tokens = |spec| Change::RequestAuthentication(security("RequestAuthentication", "ns", "r", spec));
    let policy = |spec| Change::AuthorizationPolicy(security("AuthorizationPolicy", "ns", "p", spec));
    let ports = json!([{"port": 80, "name": "http"}]);
    vec![
        vs(json!({"hosts": ["a"], "http": to("a")})),
        vs(json!({"hosts": ["a"], "http": [{"timeout": "3s", "route": [{"destination": {"host": "a"}}]}]})),
        vs(json!({"hosts": ["a"], "http": to("s")})),
        vs(json!({"hosts": ["a"], "gateways": ["gw"], "http": to("s")})),
        vs(json!({"hosts": ["a"], "exportTo": ["."], "http": to("a")})),
        vs(json!({"hosts": ["a"], "http": [{"delegate": {"name": "inner"}}]})),
        vs(json!({"hosts": ["a"], "tls": [{"match": [{"sniHosts": ["a"], "gateways": ["gw"]}],
            "route": [{"destination": {"host": "s"}}]}]})),
        Change::VirtualService(istio("VirtualService", "ns", "inner", json!({"http": to("s")}))),
        dr(json!({"host": "a"})),
        dr(json!({"host": "a", "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}}})),
        dr(json!({"host": "s"})),
        dr(json!({"host": "a", "exportTo": ["."]})),
        service(json!({"selector": {"app": "a"}, "ports": ports})),
        service(json!({"selector": {"app": "a"}, "clusterIP": "10.9.0.1", "ports": ports})),
        service(json!({"selector": {"app": "x"}, "ports": ports})),
        Change::Workload(workload("ns", "x-1", [10, 9, 9, 1], &[("app", "x")])),
        Change::Workload(workload("ns", "x-1", [10, 9, 9, 2], &[("app", "x")])),
        Change::Workload(workload("ns", "x-1", [10, 9, 9, 2], &[("app", "y")])),
        Change::Gateway(istio("Gateway", "ns", "gw", json!({"selector": {"app": "gw"}}))),
        Change::Sidecar(istio("Sidecar", "ns", "sc", json!({"egress": [{"hosts": ["./a.ns.svc.cluster.local"]}]}))),
        peer(json!({"mtls": {"mode": "STRICT"}})),
        peer(json!({"selector": {"matchLabels": {"app": "a"}}})),
        tokens(json!({"selector": {"matchLabels": {"app": "a"}}})),
        tokens(json!({"selector": {"matchLabels": {"app": "a"}}, "jwtRules": [{"issuer": "i"}]})),
        tokens(json!({"selector": {"matchLabels": {"app": "b"}}})),
        policy(json!({"selector": {"matchLabels": {"app": "a"}}})),
        policy(json!({"selector": {"matchLabels": {"app": "a"}}, "action": "DENY", "rules": [{}]})),
        policy(json!({})),
    ]
}

fn undo(change: &Change) -> Change {
    match change {
        Change::VirtualService(o) => Change::Remove(o.key.clone()),
        Change::DestinationRule(o) => Change::Remove(o.key.clone()),
        Change::Gateway(o) => Change::Remove(o.key.clone()),
        Change::Sidecar(o) => Change::Remove(o.key.clone()),
        Change::PeerAuthentication(o) => Change::Remove(o.key.clone()),
        Change::RequestAuthentication(o) => Change::Remove(o.key.clone()),
        Change::AuthorizationPolicy(o) => Change::Remove(o.key.clone()),
        Change::Service(s) => Change::RemoveService(s.namespace.clone(), s.hostname.clone()),
        Change::Workload(w) => Change::RemoveWorkload(w.uid.clone()),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn scopes_that_follow_are_those_made_anew(steps in prop::collection::vec((0..64_usize, 0..4_u8), 1..24)) {
        let pool = pool();
        let sim = Sim::bare(BASE);
        let ids = ["a-1", "b-1", "gw-1"].map(|n| sim.id(n));
        let mut world = sim.world.clone();
        let mut encoded = Encoded::of(&world, &Encoded::default());
        let mut sets = ids.clone().map(|id| Arc::new(scope_of(&world, &encoded, &id)));
        for (index, how) in steps {
            let change = &pool[index % pool.len()];
            let changes = match how {
                0 => vec![undo(change)],
                // A change of what is there comes as its removal and what is to be there instead.
                _ => vec![undo(change), change.clone()],
            };
            let next = world.with(changes.clone());
            encoded.apply(&next, &changes);
            let same = replaced(&world, &next, &changes);
            for (id, set) in ids.iter().zip(&mut sets) {
                let fresh = scope_of(&next, &Encoded::of(&next, &Encoded::default()), id);
                match &same {
                    Some(names) => {
                        let before = set.clone();
                        let changed = replace(set, &encoded, names);
                        prop_assert_eq!(changed, before != *set);
                    }
                    None => *set = Arc::new(scope_of(&next, &encoded, id)),
                }
                prop_assert_eq!(&**set, &fresh);
            }
            world = next;
        }
    }
}

#[test]
fn new_content_is_replaced_and_other_names_are_not() {
    let pool = pool();
    let sim = Sim::bare(BASE);
    let after = |at: &World, change: &Change| at.with([change.clone()]);
    let first = after(&sim.world, &pool[0]);
    let name =
        object_name(kind::VIRTUAL_SERVICE, &first.virtual_services().iter().find(|v| &*v.key.name == "v").unwrap().key);
    let changed = |i: usize| replaced(&first, &after(&first, &pool[i]), &[pool[i].clone()]);
    assert_eq!(changed(1), Some(vec![name]), "another timeout");
    for other in [2, 3, 4, 5, 6, 7] {
        assert_eq!(changed(other), None, "{:?}", pool[other]);
    }
}
