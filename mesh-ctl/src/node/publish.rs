//! From objects and pods to what each proxy is sent.

use std::sync::Arc;

use mesh_core::api::{ContentHash, Key, Kind, Resource};
use mesh_core::convert::{self, Addresses, Options, Owner, Placement};
use mesh_core::model::Health;
use mesh_core::scope::{replace, replaced, scope_of};
use mesh_core::wire::ResourceName;
use mesh_core::world::Change;

use super::mesh::{Mesh, Pod, Published, Sources, State};
use crate::manifest::Document;

/// Brings the World up to date and gives every proxy its part.
///
/// It costs what changed: only objects that the store names are read again, and a proxy whose scope can't be another one
/// keeps it, with new content.
pub(super) fn publish(mesh: &Mesh) {
    bring_up_to_date(&mut mesh.state());
    mesh.note();
}

fn bring_up_to_date(state: &mut State) {
    let before = state.published.revision;
    let mut replaced = Some(Vec::new());
    // The mesh's settings are among the objects: what depends on them is made again when they change.
    for _ in 0..2 {
        let options = Mesh::convert_options(&state.published.world);
        let changes = collect(state, &options);
        if changes.is_empty() {
            break;
        }
        let names = state.published.apply(changes);
        replaced = replaced.zip(names).map(|(all, names)| [all, names].concat());
    }
    let Published { world, encoded, revision, .. } = &state.published;
    for proxy in state.pods.values_mut().filter_map(|p| p.proxy.as_mut()) {
        let known = replaced.as_ref().filter(|_| proxy.scoped == Some(before));
        proxy.target.send_if_modified(|(at, current)| {
            let differs = match known {
                Some(names) => replace(current, encoded, names),
                None => {
                    let set = scope_of(world, encoded, &proxy.id);
                    let differs = *at == 0 || **current != set;
                    if differs {
                        *current = Arc::new(set);
                    }
                    differs
                }
            };
            if differs {
                *at = *revision;
            }
            differs
        });
        proxy.scoped = Some(*revision);
    }
}

/// Proxies with an open stream that have not acknowledged everything: `NAME.NAMESPACE`.
pub(super) fn behind(state: &State) -> Vec<String> {
    let late = |p: &&Pod| p.proxy.as_ref().is_some_and(|x| x.connected && !x.synced());
    state.pods.values().filter(late).map(|p| format!("{}.{}", p.plan.key.name, p.plan.key.namespace)).collect()
}

impl Published {
    /// Names what has new content, if scopes stay as they are apart from that.
    fn apply(&mut self, changes: Vec<Change>) -> Option<Vec<ResourceName>> {
        let next = self.world.with(changes.iter().cloned());
        self.encoded.apply(&next, &changes);
        let names = replaced(&self.world, &next, &changes);
        self.world = next;
        self.revision += 1;
        names
    }
}

/// What turns the World into the one of these objects and pods.
fn collect(state: &mut State, options: &Options<'_>) -> Vec<Change> {
    let State { store, pods, addresses, published, .. } = state;
    let Published { objects, workloads, namespaces, settings, .. } = published;
    let mut touched = store.take_touched();
    if touched.iter().any(|k| &*k.kind.kind == "Namespace") {
        *namespaces = store.iter().filter_map(|s| convert::namespace_labels(s.document.resource.as_ref()?)).collect();
    }
    let base = ContentHash::default().with_str(&format!("{:?}", options.settings));
    let all = base.with_str(&format!("{:?} {namespaces:?}", options.selectors));
    if std::mem::replace(settings, all) != all {
        touched.extend(store.iter().map(|s| s.document.key.clone()));
    }
    let discovered = |key: &Key| options.discovers(&key.namespace, namespaces.get(&key.namespace));
    // Addresses that objects name themselves go before those that are given out.
    for stored in touched.iter().filter_map(|k| store.get(k)) {
        if let Some(resource) = &stored.document.resource {
            convert::set_aside(resource, addresses);
        }
    }
    let mut changes = Vec::new();
    for key in &touched {
        let document = store.get(key).map(|s| &s.document).filter(|d| !d.refused() && discovered(key));
        match document.and_then(|d| Some((d, d.resource.as_ref()?))) {
            Some((document, resource)) => {
                let hash = base.with(resource.hash()).with_str(&format!("{:?}", resource.origin().source));
                put(objects, key, hash, &mut changes, || of_document(document, options, addresses));
            }
            None => take(objects, key, &mut changes),
        }
    }
    for (key, pod) in pods.iter().filter(|(key, _)| discovered(key)) {
        let hash = base.with(pod.plan.hash).with_str(&format!("{} {}", pod.ip, pod.ready()));
        put(workloads, key, hash, &mut changes, || Some(vec![workload(pod, options)]));
    }
    let gone = |key: &&Key| !pods.contains_key(*key) || !discovered(key);
    let gone: Vec<Key> = workloads.keys().filter(gone).cloned().collect();
    gone.iter().for_each(|key| take(workloads, key, &mut changes));
    changes
}

fn put(
    sources: &mut Sources,
    key: &Key,
    hash: ContentHash,
    changes: &mut Vec<Change>,
    make: impl FnOnce() -> Option<Vec<Change>>,
) {
    if sources.get(key).is_some_and(|(h, _)| *h == hash) {
        return;
    }
    let Some(new) = make() else { return };
    // A ServiceEntry may have lost a host: first away with the old, then in with the new.
    take(sources, key, changes);
    sources.insert(key.clone(), (hash, new.clone()));
    changes.extend(new);
}

fn take(sources: &mut Sources, key: &Key, changes: &mut Vec<Change>) {
    if let Some((_, old)) = sources.remove(key) {
        changes.extend(old.iter().filter_map(undo));
    }
}

/// What an object puts into the World; `None`: it can't be read, the last good one stays in force.
fn of_document(document: &Document, options: &Options<'_>, addresses: &mut Addresses) -> Option<Vec<Change>> {
    Some(match document.resource.as_ref()? {
        // Pods come from what runs, not from what is asked for.
        Resource::Deployment(_) | Resource::Pod(_) => Vec::new(),
        Resource::ConfigMap(o) if is_mesh_config(&o.key) => {
            vec![Change::Mesh(Some(Arc::new(convert::mesh_config(o).ok()?.0)))]
        }
        other => convert::changes(other, options, addresses),
    })
}

/// The ConfigMap with the settings of the mesh.
pub(super) fn is_mesh_config(key: &Key) -> bool {
    *key.kind.kind == *"ConfigMap" && *key.name == *"istio" && *key.namespace == *"istio-system"
}

fn workload(pod: &Pod, options: &Options<'_>) -> Change {
    let health = if pod.ready() { Health::Healthy } else { Health::Unhealthy };
    let sidecar = pod.plan.role.is_member();
    let placement = Placement { addresses: vec![pod.ip.into()], health, sidecar };
    let kind = pod.plan.owner.as_ref().map(|o| o.kind.kind.to_lowercase());
    let owner = pod.plan.owner.as_ref().zip(kind.as_deref()).map(|(o, kind)| Owner { kind, name: &o.name });
    Change::Workload(Arc::new(convert::pod(&pod.plan.object, owner, &placement, &options.settings)))
}

fn undo(change: &Change) -> Option<Change> {
    Some(match change {
        Change::VirtualService(o) => Change::Remove(o.key.clone()),
        Change::DestinationRule(o) => Change::Remove(o.key.clone()),
        Change::Gateway(o) => Change::Remove(o.key.clone()),
        Change::Sidecar(o) => Change::Remove(o.key.clone()),
        Change::LocalRateLimit(o) => Change::Remove(o.key.clone()),
        Change::ProxyConfig(o) => Change::Remove(o.key.clone()),
        Change::PeerAuthentication(o) => Change::Remove(o.key.clone()),
        Change::RequestAuthentication(o) => Change::Remove(o.key.clone()),
        Change::AuthorizationPolicy(o) => Change::Remove(o.key.clone()),
        Change::EgressPolicy(o) => Change::Remove(o.key.clone()),
        Change::Service(s) => Change::RemoveService(s.namespace.clone(), s.hostname.clone()),
        Change::Workload(w) => Change::RemoveWorkload(w.uid.clone()),
        Change::Mesh(_) => Change::Mesh(None),
        Change::Namespace(name, _) => Change::Remove(Key::new(Kind::new("", "Namespace"), "", name)),
        Change::Remove(_) | Change::RemoveService(..) | Change::RemoveWorkload(_) => return None,
    })
}

#[cfg(test)]
mod tests;
