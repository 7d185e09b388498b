//! What Kubernetes' API server would fill in: a Service's type, virtual address and node ports.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use mesh_core::api::kube::ServiceSpec;
use mesh_core::api::{ContentHash, Key, Object};
use mesh_core::convert::{Addresses, Range};
use serde_json::{Value, json};

/// Kubernetes' range of node ports.
const NODE_PORTS: std::ops::Range<u16> = 30_000..32_768;

/// Node ports that are taken.
pub(super) fn node_ports<'a>(services: impl Iterator<Item = &'a Arc<Object<ServiceSpec>>>) -> BTreeSet<u16> {
    services.flat_map(|s| &s.spec.ports).filter_map(|p| u16::try_from(p.node_port).ok().filter(|n| *n != 0)).collect()
}

/// Fills in a Service; other kinds stay as they are. What an object had before (`old`) it keeps.
pub(super) fn service(
    value: &mut Value,
    old: Option<&Value>,
    key: &Key,
    addresses: &mut Addresses,
    used: &BTreeSet<u16>,
) {
    if &*key.kind.kind != "Service" || !key.kind.group.is_empty() {
        return;
    }
    let Some(object) = value.as_object_mut() else { return };
    let spec = object.entry("spec").or_insert_with(|| json!({}));
    if spec["type"].as_str().unwrap_or_default().is_empty() {
        spec["type"] = "ClusterIP".into();
    }
    if spec["type"] == "NodePort" {
        fill_node_ports(spec, old.map(|o| &o["spec"]), key, used);
    }
    if spec["type"] != "ExternalName" {
        virtual_address(spec, old.map(|o| &o["spec"]), key, addresses);
    }
}

fn virtual_address(spec: &mut Value, old: Option<&Value>, key: &Key, addresses: &mut Addresses) {
    match spec["clusterIP"].as_str() {
        Some("None") => return,
        Some(own) if !own.is_empty() => {
            if let Ok(ip) = own.parse::<Ipv4Addr>() {
                addresses.take(ip);
            }
            return;
        }
        _ => {}
    }
    let kept = old.and_then(|o| o["clusterIP"].as_str()).filter(|a| a.parse::<IpAddr>().is_ok()).map(str::to_owned);
    let given = || addresses.of(Range::Services, &format!("{}/{}", key.namespace, key.name)).map(|ip| ip.to_string());
    if let Some(address) = kept.or_else(given) {
        spec["clusterIP"] = address.into();
    }
}

/// A port's number follows from the Service's name and the port, so that it is the same in every run.
fn fill_node_ports(spec: &mut Value, old: Option<&Value>, key: &Key, used: &BTreeSet<u16>) {
    let mut used = used.clone();
    for port in spec["ports"].as_array_mut().into_iter().flatten() {
        if port["nodePort"].as_u64().is_some_and(|n| n != 0) {
            continue;
        }
        let before = old.and_then(|o| o["ports"].as_array()).into_iter().flatten();
        let kept =
            before.filter(|p| p["port"] == port["port"]).find_map(|p| u16::try_from(p["nodePort"].as_u64()?).ok());
        let seed = ContentHash::of(key.to_string().as_bytes()).with_str(&port["port"].to_string()).0;
        let count = u64::from(NODE_PORTS.end - NODE_PORTS.start);
        let place = |i: u64| NODE_PORTS.start + u16::try_from((seed % count + i) % count).unwrap_or_default();
        if let Some(number) = kept.or_else(|| (0..count).map(place).find(|n| !used.contains(n))) {
            used.insert(number);
            port["nodePort"] = number.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;

    fn object(spec: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "n"}, "spec": spec})
    }

    fn filled(spec: Value, old: Option<Value>, used: &[u16]) -> Value {
        let mut value = object(spec);
        let key = manifest::live(value.clone()).key;
        service(&mut value, old.map(object).as_ref(), &key, &mut Addresses::default(), &used.iter().copied().collect());
        value["spec"].clone()
    }

    #[test]
    fn services_get_and_keep_a_virtual_address() {
        let first = filled(json!({"ports": []}), None, &[]);
        assert!(first["clusterIP"].as_str().unwrap().starts_with("10.96."), "{first}");
        assert_eq!(first["type"], "ClusterIP");
        let again = filled(json!({"ports": [{"port": 1}]}), Some(json!({"clusterIP": "10.96.7.7"})), &[]);
        assert_eq!(again["clusterIP"], "10.96.7.7");
        for own in ["None", "10.96.1.1"] {
            assert_eq!(filled(json!({"clusterIP": own}), None, &[])["clusterIP"], own);
        }
        let external = filled(json!({"type": "ExternalName", "externalName": "x"}), None, &[]);
        assert!(external["clusterIP"].is_null());
    }

    #[test]
    fn node_ports_are_given_kept_and_unique() {
        let spec = json!({"type": "NodePort", "ports": [{"port": 80}, {"port": 443, "nodePort": 31000}]});
        let first = filled(spec.clone(), None, &[]);
        let given = u16::try_from(first["ports"][0]["nodePort"].as_u64().unwrap()).unwrap();
        assert!(NODE_PORTS.contains(&given));
        assert_eq!(first["ports"][1]["nodePort"], 31000);
        let other = filled(spec.clone(), None, &[given]);
        assert_ne!(other["ports"][0]["nodePort"], given);
        let kept = filled(spec, Some(json!({"ports": [{"port": 80, "nodePort": 30123}]})), &[]);
        assert_eq!(kept["ports"][0]["nodePort"], 30123);
    }
}
