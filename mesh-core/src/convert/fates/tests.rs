use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::fixtures::object;

/// Leaves of a spec, as paths.
fn leaves(path: &str, value: &serde_json::Value, out: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(map) => map.iter().for_each(|(k, v)| leaves(&child(path, k), v, out)),
        serde_json::Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, v)| leaves(&item(path, i), v, out));
        }
        _ => {
            out.insert(path.to_owned());
        }
    }
}

fn endpoint() -> serde_json::Value {
    json!({"address": "1.2.3.4", "ports": {"http": 81}, "labels": {"a": "b"}, "network": "n", "locality": "r/z",
        "weight": 3, "serviceAccount": "sa"})
}

#[test]
fn every_field_has_a_fate() {
    let group = "networking.istio.io";
    let se = json!({"hosts": ["a.example"], "addresses": ["1.2.3.0/24"],
        "ports": [{"number": 80, "protocol": "HTTP", "name": "http", "targetPort": 81}], "location": "MESH_INTERNAL",
        "resolution": "STATIC", "endpoints": [endpoint()], "workloadSelector": {"labels": {"a": "b"}},
        "exportTo": ["*"], "subjectAltNames": ["x"]});
    let wg = json!({"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}, "template": endpoint(),
        "probe": {"httpGet": {"port": 80}, "periodSeconds": 3}});
    let pc = json!({"selector": {"matchLabels": {"a": "b"}}, "concurrency": 2,
        "environmentVariables": {"A": "b"}, "image": {"imageType": "debug"}});
    let all = [
        (Resource::ServiceEntry(Arc::new(object(group, "ServiceEntry", "ns", "o", se.clone()))), se),
        (Resource::WorkloadEntry(Arc::new(object(group, "WorkloadEntry", "ns", "o", endpoint()))), endpoint()),
        (Resource::WorkloadGroup(Arc::new(object(group, "WorkloadGroup", "ns", "o", wg.clone()))), wg),
        (Resource::ProxyConfig(Arc::new(object(group, "ProxyConfig", "ns", "o", pc.clone()))), pc),
    ];
    for (resource, spec) in all {
        let fates = fates(&resource);
        let mut fields = BTreeSet::new();
        leaves("spec", &spec, &mut fields);
        for field in fields {
            let spoken_for = fates.iter().any(|f| {
                let rest = field.strip_prefix(&*f.field);
                rest.is_some_and(|r| r.is_empty() || (r.starts_with(['.', '[']) && f.outcome != Outcome::Consumed))
            });
            assert!(spoken_for, "{}: {field} has no fate", resource.key());
        }
        assert!(!fates.iter().any(|f| matches!(f.outcome, Outcome::NotInForceYet { .. })));
    }
}

#[test]
fn unix_sockets_are_for_static_endpoints() {
    let fate = |resolution: &str| {
        let spec = json!({"hosts": ["a.example"], "resolution": resolution,
            "ports": [{"number": 80, "protocol": "HTTP", "name": "http"}], "endpoints": [{"address": "unix:///a"}]});
        let all =
            fates(&Resource::ServiceEntry(Arc::new(object("networking.istio.io", "ServiceEntry", "ns", "o", spec))));
        all.into_iter().find(|f| f.field.starts_with("spec.endpoints[0]")).map(|f| (f.field.to_string(), f.outcome))
    };
    assert_eq!(fate("STATIC").unwrap(), ("spec.endpoints[0].address".into(), Outcome::Consumed));
    let (field, outcome) = fate("DNS").unwrap();
    assert!(field == "spec.endpoints[0]" && matches!(outcome, Outcome::Inert { .. }), "{field} {outcome:?}");
}
