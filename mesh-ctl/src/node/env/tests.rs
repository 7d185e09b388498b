use mesh_core::api::{ContentHash, Key, Kind, Meta, Origin};

use super::*;

fn object<S>(kind: &str, name: &str, spec: S) -> Object<S> {
    let labels = BTreeMap::from([("version".to_owned(), "v2".to_owned())]);
    Object {
        key: Key::new(Kind::new("", kind), "shop", name),
        meta: Meta { name: name.into(), namespace: "shop".into(), labels, ..Meta::default() },
        origin: Origin::generated("test"),
        hash: ContentHash::default(),
        spec,
    }
}

fn parse<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn run(pod: serde_json::Value, container: serde_json::Value) -> Result<BTreeMap<String, String>, String> {
    let pod = object("Pod", "reviews-1", parse(pod));
    let service = object("Service", "my-db", parse(serde_json::json!({"ports": [{"port": 5432, "name": "tcp-db"}]})));
    let facts = Facts {
        pod: &pod,
        ip: "10.244.1.2".parse().unwrap(),
        config_maps: BTreeMap::from([("cm".into(), BTreeMap::from([("k".into(), "from map".into())]))]),
        secrets: BTreeMap::new(),
        services: vec![(&service, Some("10.96.1.1".parse().unwrap()))],
    };
    environment(&facts, &parse(container), &BTreeMap::from([("A".into(), "base".into()), ("B".into(), "base".into())]))
}

#[test]
fn values_references_and_service_links() {
    let env = run(
        serde_json::json!({"serviceAccountName": "sa"}),
        serde_json::json!({
            "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "x", "optional": true}}],
            "env": [
                {"name": "A", "value": "own"},
                {"name": "C", "value": "$(A)/$(POD_IP) $(NOPE) $$(A) $5"},
                {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['version']"}}},
                {"name": "S", "valueFrom": {"fieldRef": {"fieldPath": "spec.serviceAccountName"}}},
                {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}},
                {"name": "O", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "none", "optional": true}}}
            ]
        }),
    )
    .unwrap();
    for (name, value) in [
        ("A", "own"),
        ("B", "base"),
        ("C", "own/10.244.1.2 $(NOPE) $(A) $5"),
        ("HOSTNAME", "reviews-1"),
        ("K", "from map"),
        ("L", "v2"),
        ("MY_DB_SERVICE_HOST", "10.96.1.1"),
        ("MY_DB_SERVICE_PORT", "5432"),
        ("MY_DB_SERVICE_PORT_TCP_DB", "5432"),
        ("N", "reviews-1"),
        ("POD_NAMESPACE", "shop"),
        ("P_k", "from map"),
        ("S", "sa"),
    ] {
        assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!env.contains_key("O"));
}

#[test]
fn what_is_missing_is_named() {
    let missing =
        serde_json::json!({"env": [{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "z"}}}]});
    let e = run(serde_json::json!({}), missing).unwrap_err();
    assert_eq!(e, "env K: ConfigMap cm has no key z; apply it or set optional: true");
    let e = run(serde_json::json!({}), serde_json::json!({"envFrom": [{"secretRef": {"name": "s"}}]})).unwrap_err();
    assert_eq!(e, "envFrom: Secret s does not exist; apply it or set optional: true");
}
