//! MeshNetworks, claims and ambient mode: what other kinds say that these kinds depend on.

use std::collections::BTreeSet;

use super::index::{Index, full_name};
use super::messages::{INEFFECTIVE_POLICY, NO_CLAIMS, UNKNOWN_REGISTRY};
use crate::api::{Key, Kind, Object};
use crate::report::Report;
use crate::scope::gateway_name;
use crate::world::covers;

/// Registries that Istio has built in.
const REGISTRIES: [&str; 3] = ["Mock", "Kubernetes", "External"];

/// `fromRegistry` of the mesh's networks (key `meshNetworks` of its ConfigMap) that nothing is registered for.
pub(super) fn registries(index: &Index<'_>) -> Vec<Report> {
    let settings = crate::convert::MESH_CONFIG_MAP;
    let map = index.config_maps.iter().find(|m| (&*m.key.namespace, &*m.key.name) == settings);
    let Some((map, text)) = map.and_then(|m| Some((m, m.spec.data.get("meshNetworks")?))) else { return Vec::new() };
    let remote = |u: &&&Object<serde_json::Value>| u.meta.labels.get("istio/multiCluster").is_some_and(|v| v == "true");
    let secrets = index.unread.iter().filter(|u| &*u.key.kind.kind == "Secret").filter(remote);
    let keys = |u: &&Object<serde_json::Value>| -> Vec<String> {
        let all = ["data", "stringData"].into_iter().filter_map(|f| u.spec.get(f)?.as_object());
        all.flat_map(|m| m.keys().cloned()).collect()
    };
    let known: BTreeSet<String> = secrets.flat_map(keys).collect();
    let (documents, _) = crate::yaml::documents(text);
    let networks = documents.first().and_then(|d| d.value.get("networks")?.as_object());
    let key = Key::new(Kind::new("", "MeshNetworks"), settings.0, "meshnetworks");
    let mut found = Vec::new();
    for (network, value) in networks.into_iter().flatten() {
        for endpoint in value.get("endpoints").and_then(|e| e.as_array()).into_iter().flatten() {
            let Some(registry) = endpoint.get("fromRegistry").and_then(|r| r.as_str()) else { continue };
            if REGISTRIES.contains(&registry) || known.contains(registry) {
                continue;
            }
            let text = format!("Unknown service registry {registry} in network {network}");
            let report = UNKNOWN_REGISTRY.report((&key, &map.origin), "data.meshNetworks", text);
            found.push(report.fix("write Kubernetes, or the name of a remote cluster's secret key"));
        }
    }
    found
}

/// Rules on claims of a token at gateways where nothing looks at tokens.
pub(super) fn claims(index: &Index<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    for o in &index.virtual_services {
        let mut keys = BTreeSet::new();
        for (r, route) in o.spec.http.iter().enumerate() {
            for (m, matches) in route.r#match.iter().enumerate() {
                for (list, name) in [("headers", &matches.headers), ("withoutHeaders", &matches.without_headers)] {
                    for key in name.keys().filter(|k| k.starts_with("@request.auth.claims")) {
                        let at = crate::yaml::child(&format!("spec.http[{r}].match[{m}].{list}"), key);
                        keys.insert((key.clone(), at));
                    }
                }
            }
        }
        if keys.is_empty() {
            continue;
        }
        for reference in o.spec.gateways.iter().filter(|g| *g != "mesh") {
            let (namespace, name) = gateway_name(reference, &o.key.namespace);
            let gateway = index.gateways.iter().find(|g| *g.key.namespace == *namespace && *g.key.name == *name);
            let Some(gateway) = gateway else { continue };
            for pod in index.select(&gateway.spec.selector, None) {
                if authenticated(index, &pod.namespace, &pod.labels) {
                    continue;
                }
                for (key, at) in &keys {
                    let text = format!(
                        "The virtual service uses the JWT claim based routing (key: {key}) but found no request authentication for the gateway ({reference}) pod ({}). The request authentication must first be applied for the gateway pods to validate the JWT token and make the claims available for routing.",
                        pod.name
                    );
                    let report = NO_CLAIMS.report((&o.key, &o.origin), at, text);
                    found.push(report.fix("write a RequestAuthentication with the gateway's selector"));
                }
            }
        }
    }
    found
}

fn authenticated(index: &Index<'_>, namespace: &str, labels: &std::collections::BTreeMap<String, String>) -> bool {
    let root = match index.mesh.root_namespace.as_str() {
        "" => super::index::SYSTEM,
        name => name,
    };
    index.request_authentications.iter().any(|a| {
        let here = *a.key.namespace == *namespace || *a.key.namespace == *root;
        here && a.spec.selector.as_ref().is_none_or(|s| covers(&s.match_labels, labels))
    })
}

/// Sidecars for pods that have none, because they are in ambient mode.
pub(super) fn ambient(index: &Index<'_>) -> Vec<Report> {
    const MODE: &str = "istio.io/dataplane-mode";
    let is = |labels: &std::collections::BTreeMap<String, String>| labels.get(MODE).is_some_and(|v| v == "ambient");
    let mut found = Vec::new();
    for o in &index.sidecars {
        let namespace = index.namespace_labels(&o.key.namespace).is_some_and(&is);
        let selector = o.spec.workload_selector.as_ref().filter(|s| !s.labels.is_empty());
        let reason = match selector {
            None if namespace => Some("namespace is in ambient mode, the policy has no impact".to_owned()),
            None => None,
            Some(s) => {
                let mut pods =
                    index.pods.iter().filter(|p| *p.namespace == *o.key.namespace && covers(&s.labels, &p.labels));
                let pod = pods.find(|p| is(&p.labels) || (namespace && p.labels.get(MODE).is_none_or(|v| v != "none")));
                pod.map(|p| format!("selected pod {}/{} is in ambient mode", p.namespace, p.name))
            }
        };
        if let Some(reason) = reason {
            let text = format!("The policy has no impact: {reason}.");
            let report = INEFFECTIVE_POLICY.report((&o.key, &o.origin), "spec", text);
            found.push(report.fix(format!("delete {}; ambient pods have no sidecar", full_name(o))));
        }
    }
    found
}
