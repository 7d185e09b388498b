//! Objects for tests, from JSON.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::{ContentHash, Key, Kind, Meta, Object, Origin, Source, Span};
use crate::convert::{Owner, Placement, Settings, pod, service};
use crate::model::{Service, Workload};

pub(crate) fn object<S: DeserializeOwned>(
    group: &str,
    kind: &str,
    namespace: &str,
    name: &str,
    spec: Value,
) -> Object<S> {
    let key = Key::new(Kind::new(group, kind), namespace, name);
    let meta = Meta { name: name.into(), namespace: namespace.into(), ..Meta::default() };
    let path = format!("{name}.yaml").into();
    let spans = [("spec", Span { line: 5, column: 1 })].into_iter().collect();
    let origin = Origin {
        source: Source::File { path, document: 0 },
        span: Span { line: 1, column: 1 },
        spans: Arc::new(spans),
    };
    let hash = ContentHash::of(spec.to_string().as_bytes()).with_str(&key.to_string());
    let spec = serde_json::from_value(spec).expect("a good spec");
    Object { key, meta, origin, hash, spec }
}

pub(crate) fn istio<S: DeserializeOwned>(kind: &str, namespace: &str, name: &str, spec: Value) -> Arc<Object<S>> {
    Arc::new(object("networking.istio.io", kind, namespace, name, spec))
}

pub(crate) fn security<S: DeserializeOwned>(kind: &str, namespace: &str, name: &str, spec: Value) -> Arc<Object<S>> {
    Arc::new(object("security.istio.io", kind, namespace, name, spec))
}

pub(crate) fn kube_service(namespace: &str, name: &str, spec: Value) -> Arc<Service> {
    Arc::new(service(&object("", "Service", namespace, name, spec), None, &Settings::default()))
}

pub(crate) fn workload(namespace: &str, name: &str, ip: [u8; 4], labels: &[(&str, &str)]) -> Arc<Workload> {
    let mut o = object("", "Pod", namespace, name, serde_json::json!({}));
    o.meta.labels = labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    let placement = Placement { addresses: vec![ip.into()], ..Placement::default() };
    Arc::new(pod(&o, Some(Owner { kind: "deployment", name }), &placement, &Settings::default()))
}
