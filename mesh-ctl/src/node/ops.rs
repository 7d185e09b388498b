//! What users ask of the objects: apply, delete, get, patch, restart.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_core::analyze::{INERT, NOT_IN_FORCE, OVERRIDDEN, account_of};
use mesh_core::api::Key;
use mesh_core::convert::Range;
use mesh_core::report::{Level, Report};
use mesh_tls::SecretData;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::mesh::{Mesh, Phase};
use super::store::{Applied, strip_server_fields};
use super::{builtin, ca, fill, publish, reconcile};
use crate::control::{Change, Changes, Live, PatchKind, Selection, SourceFile};
use crate::kinds;
use crate::manifest::{self, Document};

/// Longest wait for the proxies' acknowledgements.
const IN_FORCE: Duration = Duration::from_secs(30);

/// Creates or replaces the objects of files.
pub(super) async fn apply(mesh: &Arc<Mesh>, files: &[SourceFile], namespace: &str) -> Changes {
    let started = Instant::now();
    let documents = files.iter().flat_map(|f| manifest::read(f, namespace)).collect();
    let objects = put(mesh, documents);
    in_force(mesh, started, objects).await
}

/// Puts documents into the store and looks what is to be done about them.
pub(super) fn put(mesh: &Arc<Mesh>, documents: Vec<Document>) -> Vec<Change> {
    let now = rfc3339(now());
    let changes = documents.into_iter().map(|d| put_one(mesh, d, &now)).collect();
    reconcile::look(mesh);
    changes
}

fn put_one(mesh: &Mesh, document: Document, now: &str) -> Change {
    let name = object_name(&document.key);
    let mut messages = messages(&document);
    if document.refused() {
        return Change { name, namespace: document.key.namespace.to_string(), change: "refused".into(), messages };
    }
    // What the CA began with is no news to it.
    if ca::is_cacerts(&document.key) && mesh.state().started {
        messages.push(mesh.ca.replace(&SecretData(document.data_bytes())));
    }
    let mut state = mesh.state();
    let state = &mut *state;
    let namespace = document.key.namespace.to_string();
    if !namespace.is_empty() && &*document.key.kind.kind != "Namespace" {
        let space = manifest::live(builtin::namespace(&namespace));
        if state.store.get(&space.key).is_none() {
            state.store.apply(space, now, &uid(), |_, _| {});
        }
    }
    let key = document.key.clone();
    let addresses = &mut state.addresses;
    let used = match document.service() {
        Some(_) => fill::node_ports(state.store.iter().filter_map(|s| s.document.service()).filter(|s| s.key != key)),
        None => BTreeSet::new(),
    };
    let done = state.store.apply(document, now, &uid(), |value, old| fill::service(value, old, &key, addresses, &used));
    Change { name, namespace, change: done.word().into(), messages }
}

/// Waits until every proxy has acknowledged what is published now.
async fn in_force(mesh: &Arc<Mesh>, started: Instant, mut objects: Vec<Change>) -> Changes {
    publish::publish(mesh);
    let everywhere = mesh.wait_for(IN_FORCE, |s| publish::behind(s).is_empty().then_some(())).await.is_some();
    let took = started.elapsed();
    explain_fields(mesh, &mut objects).await;
    let state = mesh.state();
    let proxies: Vec<_> = state.pods.values().filter_map(|p| p.proxy.as_ref()).filter(|p| p.connected).collect();
    // Once in force everywhere, what others change meanwhile is not ours to wait for.
    let late = if everywhere { Vec::new() } else { publish::behind(&state) };
    let mut rejected = Vec::new();
    for proxy in &proxies {
        for r in &proxy.rejected {
            rejected.push(format!(
                "{}.{}: {} {}: {}",
                proxy.id.name, proxy.id.namespace, r.name.kind, r.name.name, r.message
            ));
        }
    }
    Changes {
        objects,
        proxies: proxies.len() - late.len(),
        took_ms: took.as_secs_f64() * 1000.0,
        behind: late,
        rejected,
    }
}

/// Adds to each object that was changed which of its fields have no effect, or none yet.
async fn explain_fields(mesh: &Mesh, objects: &mut [Change]) {
    let changed = |o: &&mut Change| ["created", "configured", "patched"].contains(&o.change.as_str());
    let mut changed: Vec<&mut Change> = objects.iter_mut().filter(changed).collect();
    if changed.is_empty() {
        return;
    }
    let world = mesh.state().published.world.clone();
    let names: BTreeSet<(String, String)> = changed.iter().map(|o| (o.namespace.clone(), o.name.clone())).collect();
    // It compiles every kind of proxy, which must not hold up the streams.
    let about = move |key: &Key| names.contains(&(key.namespace.to_string(), object_name(key)));
    let Ok(reports) = tokio::task::spawn_blocking(move || account_of(&world, about)).await else { return };
    let said = |r: &&Report| [NOT_IN_FORCE, INERT, OVERRIDDEN].iter().any(|c| *r.code == *c.code);
    for report in reports.iter().filter(said) {
        if let Some(object) = changed
            .iter_mut()
            .find(|o| o.namespace == *report.object.namespace && o.name == object_name(&report.object))
        {
            object.messages.push(report.to_string());
        }
    }
}

/// Deletes objects.
///
/// # Errors
/// The kind is unknown, or the object is not there.
pub(super) async fn delete(mesh: &Arc<Mesh>, what: &Selection, namespace: &str) -> Result<Changes, String> {
    let started = Instant::now();
    let keys: Vec<Key> = match what {
        Selection::Files(files) => files.iter().flat_map(|f| manifest::read(f, namespace)).map(|d| d.key).collect(),
        Selection::Named { kind, names } => {
            names.iter().map(|name| find(mesh, kind, name, namespace)).collect::<Result<_, _>>()?
        }
    };
    let mut objects = Vec::new();
    for key in keys {
        let gone = mesh.state().store.delete(&key);
        if let Some(gone) = &gone
            && gone.document.service().is_some()
        {
            let name = format!("{}/{}", key.namespace, key.name);
            mesh.state().addresses.release(Range::Services, &name);
        }
        let change = if gone.is_some() { "deleted" } else { "not found" };
        objects.push(Change {
            name: object_name(&key),
            namespace: key.namespace.to_string(),
            change: change.into(),
            messages: Vec::new(),
        });
    }
    reconcile::look(mesh);
    Ok(in_force(mesh, started, objects).await)
}

/// The key of an object that a user names.
fn find(mesh: &Mesh, kind: &str, name: &str, namespace: &str) -> Result<Key, String> {
    let info = kinds::find(kind)?;
    let namespace = if info.namespaced { namespace } else { "" };
    let key = Key::new(mesh_core::api::Kind::new(info.group, info.kind), namespace, name);
    if mesh.state().store.get(&key).is_none() {
        return Err(format!(
            "{} {name:?} not found in namespace {namespace:?}; see `meshctl get {}`",
            info.kind, info.plural
        ));
    }
    Ok(key)
}

/// Objects of a kind with what the mesh knows about them, as JSON values.
///
/// # Errors
/// The kind is unknown, or the named object is not there.
pub(super) fn get(mesh: &Mesh, kind: &str, name: Option<&str>, namespace: Option<&str>) -> Result<Vec<Value>, String> {
    let info = match kind {
        "all" => None,
        kind => Some(kinds::find(kind)?),
    };
    let fits = |key: &Key| {
        info.is_none_or(|i| *key.kind.kind == *i.kind && *key.kind.group == *i.group)
            && name.is_none_or(|n| *key.name == *n)
            && namespace.is_none_or(|n| key.namespace.is_empty() || *key.namespace == *n)
    };
    let state = mesh.state();
    let mut found: Vec<Value> = Vec::new();
    for stored in state.store.iter().filter(|s| fits(&s.document.key)) {
        let key = &stored.document.key;
        if &*key.kind.kind != "Pod" {
            let mut value = stored.document.value.clone();
            super::status::of_object(&state, key, &mut value);
            found.push(value);
        }
    }
    found.extend(state.pods.values().filter(|p| fits(&p.plan.key)).map(super::status::pod_value));
    match (found.is_empty(), name, info) {
        (true, Some(name), Some(info)) => Err(format!("{} {name:?} not found", info.plural)),
        _ => Ok(found),
    }
}

/// Changes one object.
///
/// # Errors
/// It is not there, the patch can't be read or applied, or the result is refused.
pub(super) async fn patch(
    mesh: &Arc<Mesh>,
    (kind, name, namespace): (&str, &str, &str),
    how: PatchKind,
    patch: &str,
) -> Result<Changes, String> {
    let started = Instant::now();
    let key = find(mesh, kind, name, namespace)?;
    let patch = manifest::value(patch).map_err(|e| format!("the patch: {e}"))?;
    let (mut value, origin) = {
        let state = mesh.state();
        let stored = state.store.get(&key).ok_or("the object is gone")?;
        (stored.document.value.clone(), stored.document.origin.clone())
    };
    patched(&mut value, how, &patch)?;
    strip_server_fields(&mut value);
    // Fields that the patch did not touch keep the place where they were written.
    let document = Document::new(value, origin);
    if document.key != key {
        return Err("a patch can't change kind, name or namespace".into());
    }
    if document.refused() {
        return Err(format!("the patched object is refused: {}", messages(&document).join("; ")));
    }
    let mut objects = put(mesh, vec![document]);
    for object in objects.iter_mut().filter(|o| o.change == Applied::Configured.word()) {
        object.change = "patched".into();
    }
    Ok(in_force(mesh, started, objects).await)
}

/// Applies a patch to a value.
fn patched(value: &mut Value, how: PatchKind, patch: &Value) -> Result<(), String> {
    match how {
        PatchKind::Merge if patch.is_object() => {
            json_patch::merge(value, patch);
            Ok(())
        }
        PatchKind::Merge => {
            Err("a merge patch is an object, like {\"spec\": {…}}; for a list of operations use --type json".into())
        }
        PatchKind::Json => {
            let operations: json_patch::Patch = serde_json::from_value(patch.clone()).map_err(|e| {
                format!("{e}; write a list like [{{\"op\": \"replace\", \"path\": \"/spec/…\", \"value\": …}}]")
            })?;
            json_patch::patch(value, &operations).map_err(|e| e.to_string())
        }
    }
}

/// Replaces the pods of a workload: a Deployment gets a new template hash, as `kubectl rollout restart` does it.
///
/// # Errors
/// There is no such workload, or the new pods are not ready in time.
pub(super) async fn restart(mesh: &Arc<Mesh>, workload: &str) -> Result<Value, String> {
    let (pod, owner) = super::workload::find(&mesh.state(), workload)?;
    let before: BTreeSet<String> = pods_like(mesh, &pod, owner.as_ref());
    match &owner {
        Some(owner) => {
            let stored = mesh.state().store.get(owner).cloned().ok_or("the Deployment is gone")?;
            let mut value = stored.document.value.clone();
            strip_server_fields(&mut value);
            let stamp = json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": rfc3339_nanos(now())}}}}});
            json_patch::merge(&mut value, &stamp);
            put(mesh, vec![Document::new(value, stored.document.origin.clone())]);
        }
        None => {
            let stop = mesh.state().pods.get(&pod).map(|p| p.stop.clone()).ok_or("the pod is gone")?;
            stop.send_replace(super::mesh::Stop::Gracefully);
            let gone = |s: &super::mesh::State| {
                s.pods.get(&pod).is_none_or(|p| p.phase != Phase::Terminating && p.id.is_none()).then_some(())
            };
            mesh.wait_for(IN_FORCE, gone).await;
        }
    }
    let settled = |s: &super::mesh::State| {
        let current = s.pods.values().filter(|p| p.phase != Phase::Terminating);
        let mut own = current.filter(|p| p.plan.key == pod || p.plan.owner.is_some() && p.plan.owner == owner);
        let mut any = false;
        let all = own.all(|p| {
            any = true;
            p.ready() && (owner.is_none() || !before.contains(&*p.plan.key.name))
        });
        (any && all).then_some(())
    };
    match mesh.wait_for(IN_FORCE, settled).await {
        Some(()) => Ok(json!({"restarted": pods_like(mesh, &pod, owner.as_ref())})),
        None => Err(format!(
            "the new pods of {workload} are not ready after {} s; see `meshctl status`",
            IN_FORCE.as_secs()
        )),
    }
}

fn pods_like(mesh: &Mesh, pod: &Key, owner: Option<&Key>) -> BTreeSet<String> {
    let state = mesh.state();
    let own = state.pods.values().filter(|p| p.plan.key == *pod || owner.is_some() && p.plan.owner.as_ref() == owner);
    own.map(|p| p.plan.key.name.to_string()).collect()
}

/// Every object in force, with each Pod as it is, for `explain` on a running mesh.
pub(super) fn dump(mesh: &Mesh) -> Vec<Live> {
    let state = mesh.state();
    let documents = state.store.iter().map(|s| &s.document);
    documents.map(|d| Live { value: without_keys(d), origin: d.origin.clone() }).collect()
}

/// An object as others may read it: of a Secret only the names of what it holds.
fn without_keys(document: &Document) -> Value {
    let mut value = document.value.clone();
    if &*document.key.kind.kind == "Secret" {
        for field in ["data", "stringData"] {
            for content in value[field].as_object_mut().into_iter().flat_map(|o| o.values_mut()) {
                *content = Value::String(String::new());
            }
        }
    }
    value
}

/// As kubectl names an object.
pub(super) fn object_name(key: &Key) -> String {
    format!("{}/{}", kinds::long_name(&key.kind), key.name)
}

fn messages(document: &Document) -> Vec<String> {
    document.reports.iter().filter(|r| r.level > Level::Info).map(ToString::to_string).collect()
}

#[expect(clippy::disallowed_methods, reason = "creation times are wall-clock times, and the node is a program")]
fn now() -> SystemTime {
    SystemTime::now()
}

pub(super) fn rfc3339(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).map(|t| t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default()
}

fn rfc3339_nanos(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).map(|t| t.to_string()).unwrap_or_default()
}

/// A unique id in the form of Kubernetes' ones.
fn uid() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/uuid").map(|u| u.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
