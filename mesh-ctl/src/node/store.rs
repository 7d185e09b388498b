//! Every object of the mesh, as Kubernetes' API server would keep it: with versions, creation times and what the mesh
//! fills in (virtual addresses).

use std::collections::BTreeMap;
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
        self.objects.insert(document.key.clone(), Arc::new(Stored { document, applied }));
        if old.is_some() { Applied::Configured } else { Applied::Created }
    }

    /// Removes an object.
    pub(super) fn delete(&mut self, key: &Key) -> Option<Arc<Stored>> {
        let gone = self.objects.remove(key);
        self.version += u64::from(gone.is_some());
        gone
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
