//! Every object of the mesh, as Kubernetes' API server would keep it: with versions, creation times and what the mesh
//! fills in (virtual addresses).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_core::api::Key;
use serde_json::{Map, Value, json};

use crate::manifest::Document;

/// Where applied content is put beside what the mesh fills in.
const SERVER_FIELDS: &[&str] = &["uid", "creationTimestamp", "resourceVersion", "generation"];

/// One object.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// The document with its parsed form; its value has the server's fields.
    pub document: Document,
    /// Content as the user applied it, to tell whether another apply changes anything.
    applied: Value,
}

/// What an apply did to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    /// It is new.
    Created,
    /// It was there and is different now.
    Configured,
    /// It was there and is the same.
    Unchanged,
}

impl Applied {
    /// As kubectl says it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        }
    }
}

/// All objects by key.
#[derive(Debug, Default)]
pub(super) struct Store {
    objects: BTreeMap<Key, Arc<Stored>>,
    version: u64,
    /// Changed since [`Store::take_touched`].
    touched: BTreeSet<Key>,
}

impl Store {
    /// Creates or replaces an object. `now` is RFC 3339, `uid` is used if it is new; `fill` puts in what the mesh adds to
    /// the value (a virtual address), given the object's old value.
    pub(super) fn apply(
        &mut self,
        mut document: Document,
        now: &str,
        uid: &str,
        fill: impl FnOnce(&mut Value, Option<&Value>),
    ) -> Applied {
        let mut applied = document.value.clone();
        strip_server_fields(&mut applied);
        let old = self.objects.get(&document.key).cloned();
        if old.as_ref().is_some_and(|o| o.applied == applied) {
            return Applied::Unchanged;
        }
        self.version += 1;
        let old_value = old.as_ref().map(|o| &o.document.value);
        let generation = match old_value {
            Some(o) if same_but_metadata(o, &applied) => number(o, "generation"),
            Some(o) => number(o, "generation") + 1,
            None => 1,
        };
        let text =
            |field: &str, new: &str| old_value.and_then(|o| o["metadata"][field].as_str()).unwrap_or(new).to_owned();
        let server = json!({
            "uid": text("uid", uid),
            "creationTimestamp": text("creationTimestamp", now),
            "resourceVersion": self.version.to_string(),
            "generation": generation,
        });
        if let (Some(meta), Value::Object(server)) = (metadata(&mut document.value), server) {
            meta.extend(server);
        }
        fill(&mut document.value, old_value);
        document.refresh();
        self.touched.insert(document.key.clone());
        self.objects.insert(document.key.clone(), Arc::new(Stored { document, applied }));
        if old.is_some() { Applied::Configured } else { Applied::Created }
    }

    /// Removes an object.
    pub(super) fn delete(&mut self, key: &Key) -> Option<Arc<Stored>> {
        let gone = self.objects.remove(key)?;
        self.version += 1;
        self.touched.insert(key.clone());
        Some(gone)
    }

    /// Objects that were set or removed since the last call.
    pub(super) fn take_touched(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.touched)
    }

    /// An object.
    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Stored>> {
        self.objects.get(key)
    }

    /// All objects in the order of their keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Stored>> {
        self.objects.values()
    }
}

#[cfg(test)]
impl Store {
    /// The same objects, of which nobody has heard.
    pub(super) fn untold(&self) -> Self {
        let Self { objects, version, .. } = self;
        Self { objects: objects.clone(), version: *version, touched: objects.keys().cloned().collect() }
    }
}

fn metadata(value: &mut Value) -> Option<&mut Map<String, Value>> {
    value.as_object_mut()?.entry("metadata").or_insert_with(|| json!({})).as_object_mut()
}

fn number(value: &Value, field: &str) -> i64 {
    value["metadata"][field].as_i64().unwrap_or_default()
}

/// Takes out what the server fills in, so that the output of `get -o yaml` can be applied again.
pub(super) fn strip_server_fields(value: &mut Value) {
    if let Some(meta) = metadata(value) {
        for field in SERVER_FIELDS {
            meta.remove(*field);
        }
    }
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
    }
}

fn same_but_metadata(a: &Value, b: &Value) -> bool {
    let rest = |v: &Value| {
        v.as_object().map(|o| {
            o.iter().filter(|(k, _)| *k != "metadata").map(|(k, v)| (k.clone(), v.clone())).collect::<BTreeMap<_, _>>()
        })
    };
    rest(a) == rest(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;

    fn service(port: u16, labels: Value) -> Document {
        manifest::live(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "s", "namespace": "n", "labels": labels},
            "spec": {"ports": [{"port": port}]},
        }))
    }

    #[test]
    fn versions_and_generations_move_as_on_kubernetes() {
        let mut store = Store::default();
        let mut apply = |document: Document, now: &str| {
            let key = document.key.clone();
            let done = store.apply(document, now, now, |value, _| value["spec"]["clusterIP"] = "10.96.0.5".into());
            (done, store.get(&key).unwrap().document.value["metadata"].clone())
        };
        let (done, first) = apply(service(80, json!({})), "t1");
        assert_eq!(
            (done, &first["generation"], &first["creationTimestamp"]),
            (Applied::Created, &json!(1), &json!("t1"))
        );
        // What the mesh filled in is no change by the user.
        let (done, same) = apply(service(80, json!({})), "t2");
        assert_eq!((done, &same), (Applied::Unchanged, &first));
        let (done, labelled) = apply(service(80, json!({"a": "b"})), "t3");
        assert_eq!(
            (done, &labelled["creationTimestamp"], &labelled["uid"]),
            (Applied::Configured, &json!("t1"), &json!("t1"))
        );
        assert_ne!(labelled["resourceVersion"], first["resourceVersion"]);
        let (_, moved) = apply(service(81, json!({"a": "b"})), "t4");
        assert!(moved["generation"].as_i64() > labelled["generation"].as_i64());
    }

    #[test]
    fn deleted_objects_are_gone_and_printed_ones_can_be_applied_again() {
        let mut store = Store::default();
        let key = service(80, json!({})).key;
        store.apply(service(80, json!({})), "t", "u", |_, _| {});
        let mut printed = store.get(&key).unwrap().document.value.clone();
        strip_server_fields(&mut printed);
        assert_eq!(store.apply(manifest::live(printed), "t2", "u2", |_, _| {}), Applied::Unchanged);
        assert_eq!(store.take_touched(), BTreeSet::from([key.clone()]));
        assert!(store.delete(&key).is_some());
        assert!(store.get(&key).is_none());
        assert_eq!(store.take_touched(), BTreeSet::from([key.clone()]));
        assert!(store.delete(&key).is_none() && store.take_touched().is_empty());
    }
}
