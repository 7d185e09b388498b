use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use mesh_core::convert::pods_of;
use mesh_core::wire::Encoded;
use proptest::prelude::*;
use tokio::sync::watch;

use super::*;
use crate::control::SourceFile;
use crate::manifest;
use crate::node::images::ImageMap;
use crate::node::inject::Inject;
use crate::node::mesh::{Phase, Settings};
use crate::node::plan::plan;
use crate::node::{fill, pod};

/// Objects, some in two forms, of which each may be there or not.
const POOL: &str = include_str!("pool.yaml");

fn documents() -> Vec<Document> {
    let file = SourceFile { path: "pool.yaml".into(), text: POOL.into() };
    let all = manifest::read(&file, "default");
    assert!(all.iter().all(|d| !d.refused()), "{:#?}", all.iter().map(|d| &d.reports).collect::<Vec<_>>());
    all
}

fn settings() -> Settings {
    Settings {
        name: "test".into(),
        files: Vec::new(),
        images: Vec::new(),
        inject: Inject::All,
        gateway_ports: BTreeMap::new(),
        programs: "/".into(),
        path: String::new(),
        home: String::new(),
    }
}

fn apply(state: &mut State, document: Document) {
    let key = document.key.clone();
    let State { store, addresses, .. } = state;
    store.apply(document, "2026-01-01T00:00:00Z", "uid", |value, old| {
        fill::service(value, old, &key, addresses, &std::collections::BTreeSet::new());
    });
}

/// Starts the pods that the Deployments ask for and ends those of others, half of them ready.
fn reconcile(state: &mut State, ready: bool) {
    let (settings, images) = (settings(), ImageMap::default());
    let deployments = state.store.iter().filter_map(|s| match &s.document.resource {
        Some(Resource::Deployment(o)) => Some(o.clone()),
        _ => None,
    });
    let wanted: BTreeMap<Key, _> = deployments
        .flat_map(|o| pods_of(&o))
        .map(|p| (p.key.clone(), plan(p, None, &state.store, &images, &settings)))
        .collect();
    state.pods.retain(|key, pod| wanted.get(key).is_some_and(|plan| plan.hash == pod.plan.hash));
    for (i, (key, plan)) in wanted.into_iter().enumerate() {
        let ip = Ipv4Addr::new(10, 244, 0, u8::try_from(plan.hash.0 % 200).unwrap() + 1);
        let fresh = || pod::fresh(Arc::new(plan), ip, watch::Sender::new(crate::node::mesh::Stop::No));
        let pod = state.pods.entry(key).or_insert_with(fresh);
        if i % 2 == 0 {
            pod.phase = if ready { Phase::Running } else { Phase::Starting };
            pod.proxy_ready = ready;
            pod.ready_containers = pod.plan.containers.iter().map(|c| c.container.name.clone()).collect();
        }
    }
}

/// The same objects, pods and addresses, published by somebody who knows nothing of before.
fn anew(state: &State) -> State {
    let (store, addresses) = (state.store.untold(), state.addresses.clone());
    let mut fresh = State { store, addresses, ..State::default() };
    for (key, pod) in &state.pods {
        let mut same = pod::fresh(pod.plan.clone(), pod.ip, pod.stop.clone());
        (same.phase, same.proxy_ready) = (pod.phase, pod.proxy_ready);
        same.ready_containers = pod.ready_containers.clone();
        fresh.pods.insert(key.clone(), same);
    }
    bring_up_to_date(&mut fresh);
    fresh
}

/// What a proxy is sent, by name and version.
fn sent(pod: &Pod) -> Vec<(ResourceName, ContentHash)> {
    let proxy = pod.proxy.as_ref().expect("every pod has a proxy here");
    let set = proxy.target.borrow().1.clone();
    set.iter().map(|(name, r)| (name.clone(), r.version)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_follows_changes_is_what_would_be_made_anew(steps in prop::collection::vec((0..64_usize, 0..4_u8), 1..20)) {
        let documents = documents();
        let mut state = State::default();
        for (index, how) in steps {
            let document = documents[index % documents.len()].clone();
            match how {
                0 => drop(state.store.delete(&document.key)),
                _ => apply(&mut state, document),
            }
            reconcile(&mut state, how % 2 == 1);
            bring_up_to_date(&mut state);
            let fresh = anew(&state);
            for (key, pod) in &state.pods {
                prop_assert_eq!(sent(pod), sent(&fresh.pods[key]), "{}", key);
                let Published { world, .. } = &state.published;
                let proxy = pod.proxy.as_ref().expect("every pod has a proxy here");
                let whole = scope_of(world, &Encoded::of(world, &Encoded::default()), &proxy.id);
                prop_assert_eq!(&*proxy.target.borrow().1, &whole);
            }
        }
    }
}
