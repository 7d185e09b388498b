//! From objects and pods to what each proxy is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_core::api::{ContentHash, Key, Kind, Resource};
use mesh_core::convert::{self, Addresses, Options, Owner, Placement};
use mesh_core::model::Health;
use mesh_core::scope::scope_of;
use mesh_core::wire::Encoded;
use mesh_core::world::Change;

use super::mesh::{Mesh, Pod, Published, State};
use crate::manifest::Document;

/// Brings the World up to date and gives every proxy its part. Returns the revision that is now to be in force.
pub(super) fn publish(mesh: &Mesh) -> u64 {
    let mut state = mesh.state();
    let state = &mut *state;
    let options = Mesh::convert_options(&state.published.world);
    let mut changes = collect(state, &options);
    if !changes.is_empty() {
        state.published.apply(changes);
        // The mesh's settings are among the objects: what depends on them is made again when they change.
        let now = Mesh::convert_options(&state.published.world);
        if (&now.settings, &now.selectors) != (&options.settings, &options.selectors) {
            changes = collect(state, &now);
            state.published.apply(changes);
        }
    }
    let Published { world, encoded, revision, .. } = &state.published;
    for proxy in state.pods.values_mut().filter_map(|p| p.proxy.as_mut()) {
        let set = scope_of(world, encoded, &proxy.id);
        proxy.target.send_if_modified(|(at, current)| {
            let differs = *at == 0 || **current != set;
            if differs {
                (*at, *current) = (*revision, Arc::new(set));
            }
            differs
        });
    }
    let revision = state.published.revision;
    mesh.note();
    revision
}

/// Proxies with an open stream that have not acknowledged everything: `NAME.NAMESPACE`.
pub(super) fn behind(state: &State) -> Vec<String> {
    let late = |p: &&Pod| p.proxy.as_ref().is_some_and(|x| x.connected && !x.synced());
    state.pods.values().filter(late).map(|p| format!("{}.{}", p.plan.key.name, p.plan.key.namespace)).collect()
}

impl Published {
    fn apply(&mut self, changes: Vec<Change>) {
        self.world = self.world.with(changes);
        self.encoded = Encoded::of(&self.world, &self.encoded);
        self.revision += 1;
    }
}

/// What turns the World into the one of these objects and pods.
fn collect(state: &mut State, options: &Options<'_>) -> Vec<Change> {
    let State { store, pods, addresses, published, .. } = state;
    let base = ContentHash::default().with_str(&format!("{:?}", options.settings));
    let mut changes = Vec::new();
    let mut seen = BTreeSet::new();
    // Addresses that objects name themselves go before those that are given out.
    for resource in store.iter().filter_map(|s| s.document.resource.as_ref()) {
        convert::set_aside(resource, addresses);
    }
    let namespaces: BTreeMap<_, _> =
        store.iter().filter_map(|s| convert::namespace_labels(s.document.resource.as_ref()?)).collect();
    let discovered = |key: &Key| options.discovers(&key.namespace, namespaces.get(&key.namespace));
    for stored in store.iter().filter(|s| !s.document.refused() && discovered(&s.document.key)) {
        let document = &stored.document;
        let Some(resource) = &document.resource else { continue };
        let hash = base.with(resource.hash()).with_str(&format!("{:?}", resource.origin().source));
        seen.insert(document.key.clone());
        published.source(&document.key, hash, &mut changes, || of_document(document, options, addresses));
    }
    for (key, pod) in pods.iter().filter(|(key, _)| discovered(key)) {
        let ready = pod.ready();
        let hash = base.with(pod.plan.hash).with_str(&format!("{} {ready}", pod.ip));
        seen.insert(key.clone());
        published.source(key, hash, &mut changes, || Some(vec![workload(pod, options)]));
    }
    let gone: Vec<Key> = published.sources.keys().filter(|k| !seen.contains(k)).cloned().collect();
    for key in gone {
        let (_, old) = published.sources.remove(&key).expect("invariant: the key is from the map");
        changes.extend(old.iter().filter_map(undo));
    }
    changes
}

impl Published {
    fn source(
        &mut self,
        key: &Key,
        hash: ContentHash,
        changes: &mut Vec<Change>,
        make: impl FnOnce() -> Option<Vec<Change>>,
    ) {
        if self.sources.get(key).is_some_and(|(h, _)| *h == hash) {
            return;
        }
        let Some(new) = make() else { return };
        // A ServiceEntry may have lost a host: first away with the old, then in with the new.
        if let Some((_, old)) = self.sources.insert(key.clone(), (hash, new.clone())) {
            changes.extend(old.iter().filter_map(undo));
        }
        changes.extend(new);
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
    let placement = Placement { addresses: vec![pod.ip.into()], health };
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
        Change::Service(s) => Change::RemoveService(s.namespace.clone(), s.hostname.clone()),
        Change::Workload(w) => Change::RemoveWorkload(w.uid.clone()),
        Change::Mesh(_) => Change::Mesh(None),
        Change::Namespace(name, _) => Change::Remove(Key::new(Kind::new("", "Namespace"), "", name)),
        Change::Remove(_) | Change::RemoveService(..) | Change::RemoveWorkload(_) => return None,
    })
}
