//! The controllers: what Kubernetes would make of the objects. One look compares what should be with what is, starts what
//! is missing and ends what is too much; it is repeated whenever something changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_core::api::{Key, Resource};
use mesh_core::convert::pods_of;

use super::mesh::{Mesh, Phase, State, Stop, image_map};
use super::plan::{PodPlan, address, plan};
use super::{hostports, pod, publish};

/// Looks again each time somebody says that there is work.
pub(super) async fn run(mesh: Arc<Mesh>) {
    loop {
        mesh.work.notified().await;
        look(&mesh);
    }
}

/// One look.
pub(super) fn look(mesh: &Arc<Mesh>) {
    let fresh = {
        let mut state = mesh.state();
        let wanted = wanted(mesh, &state);
        retire(&mut state, &wanted);
        launch(mesh, &mut state, wanted)
    };
    for (plan, ip) in fresh {
        pod::start(mesh, plan, ip);
    }
    hostports::look(mesh);
    publish::publish(mesh);
}

/// Every pod that the objects ask for.
fn wanted(mesh: &Mesh, state: &State) -> BTreeMap<Key, PodPlan> {
    let (images, _) = image_map(&mesh.settings, &state.store);
    let mut pods = BTreeMap::new();
    for document in state.store.iter().map(|s| &s.document).filter(|d| !d.refused()) {
        let (objects, owner) = match &document.resource {
            Some(Resource::Deployment(o)) => (pods_of(o), Some(o.key.clone())),
            Some(Resource::Pod(o)) => (vec![(**o).clone()], None),
            _ => continue,
        };
        for object in objects {
            let plan = plan(object, owner.clone(), &state.store, &images, &mesh.settings);
            pods.insert(plan.key.clone(), plan);
        }
    }
    pods
}

/// Ends pods that nobody wants or that have changed. A pod that another one of the same owner replaces goes once the new
/// ones are ready, so that a rollout loses no request.
fn retire(state: &mut State, wanted: &BTreeMap<Key, PodPlan>) {
    let settled = |owner: &Key| {
        let mut own = wanted.values().filter(|p| p.owner.as_ref() == Some(owner));
        own.all(|p| state.pods.get(&p.key).is_some_and(|p| p.ready() || p.phase == Phase::NotStarted))
    };
    let replaced: BTreeSet<Key> = state
        .pods
        .iter()
        .filter(|(key, pod)| match (wanted.get(*key), &pod.plan.owner) {
            (Some(plan), _) => plan.hash != pod.plan.hash,
            (None, Some(owner)) => !pod.ready() || settled(owner),
            (None, None) => true,
        })
        .map(|(key, _)| key.clone())
        .collect();
    for key in replaced {
        if let Some(pod) = state.pods.get_mut(&key) {
            pod.stop.send_if_modified(|s| std::mem::replace(s, Stop::Gracefully) == Stop::No);
        }
    }
}

/// Pods to start. One whose predecessor of the same name is still going waits for it.
fn launch(mesh: &Mesh, state: &mut State, wanted: BTreeMap<Key, PodPlan>) -> Vec<(Arc<PodPlan>, std::net::Ipv4Addr)> {
    let mut fresh = Vec::new();
    if *mesh.ending.borrow() {
        return fresh;
    }
    for (key, plan) in wanted {
        if state.pods.contains_key(&key) {
            continue;
        }
        match address(&mut state.addresses, &key, mesh.mode()) {
            Some(ip) => fresh.push((Arc::new(plan), ip)),
            None => tracing::error!(pod = %key, "there is no address left for the pod"),
        }
    }
    fresh
}
