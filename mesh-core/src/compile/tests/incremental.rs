//! Any sequence of changes gives what a fresh compilation of the result gives.

use std::sync::Arc;

use proptest::prelude::*;

use crate::api::{ContentHash, Key, Resource};
use crate::compile::compile;
use crate::compile::sim::{BASE, Sim};
use crate::convert::{Addresses, Options, changes, mesh_config};
use crate::fixtures::workload;
use crate::scope::scope;
use crate::snapshot::ProxyId;
use crate::world::{Change, World};

/// Objects in two forms each, so that a change is an addition, a modification or a removal.
const POOL: &str = include_str!("pool.yaml");

fn pool() -> Vec<Resource> {
    let (resources, reports) = crate::yaml::read("pool.yaml", POOL);
    assert!(reports.iter().all(|r| r.level < crate::report::Level::Error), "{reports:#?}");
    resources
}

fn set(resource: &Resource, addresses: &mut Addresses) -> Vec<Change> {
    if let Resource::ConfigMap(map) = resource {
        let (mesh, _) = mesh_config(map).expect("settings that are good");
        return vec![Change::Mesh(Some(Arc::new(mesh)))];
    }
    changes(resource, &Options::default(), addresses)
}

fn remove(world: &World, key: &Key) -> Vec<Change> {
    let services = world.services().iter().filter(|s| s.key == *key);
    let mut out: Vec<Change> =
        services.map(|s| Change::RemoveService(s.namespace.clone(), s.hostname.clone())).collect();
    out.push(match &*key.kind.kind {
        "ConfigMap" => Change::Mesh(None),
        _ => Change::Remove(key.clone()),
    });
    out
}

/// Sets or removes a pod, in two forms.
fn pod(index: usize, add: bool) -> Change {
    let labels: &[(&str, &str)] = if index % 4 < 2 { &[("app", "b"), ("version", "v2")] } else { &[("app", "x")] };
    let pod = workload("ns", "d-1", [10, 7, 7, u8::try_from(index % 3).unwrap()], labels);
    if add { Change::Workload(pod) } else { Change::RemoveWorkload(pod.uid.clone()) }
}

/// What makes the World anew.
fn all(world: &World) -> Vec<Change> {
    let mut all: Vec<Change> = vec![Change::Mesh(Some(world.mesh().clone()))];
    all.extend(world.virtual_services().iter().cloned().map(Change::VirtualService));
    all.extend(world.destination_rules().iter().cloned().map(Change::DestinationRule));
    all.extend(world.gateways().iter().cloned().map(Change::Gateway));
    all.extend(world.sidecars().iter().cloned().map(Change::Sidecar));
    all.extend(world.services().iter().cloned().map(Change::Service));
    all.extend(world.workloads().iter().cloned().map(Change::Workload));
    all
}

fn lists(world: &World) -> [ContentHash; 4] {
    [
        world.virtual_services().hash(),
        world.destination_rules().hash(),
        world.services().hash(),
        world.workloads().hash(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_changes_equal_a_fresh_build(steps in prop::collection::vec((0..64_usize, any::<bool>()), 1..14)) {
        let pool = pool();
        let sim = Sim::bare(BASE);
        let ids: Vec<ProxyId> = ["a-1", "b-1", "gw-1"].map(|n| sim.id(n)).into();
        let mut world = sim.world.clone();
        let mut addresses = Addresses::default();
        let mut previous: Vec<_> = ids.iter().map(|id| compile(&world, id, None)).collect();
        for (index, add) in steps {
            let change = match pool.get(index % (pool.len() + 4)) {
                Some(resource) if add => set(resource, &mut addresses),
                Some(resource) => remove(&world, resource.key()),
                None => vec![pod(index, add)],
            };
            world = world.with(change);
            let anew = World::of(all(&world));
            prop_assert_eq!(lists(&world), lists(&anew), "hashes follow from contents");
            for (id, before) in ids.iter().zip(&mut previous) {
                let next = compile(&world, id, Some(before));
                let fresh = compile(&anew, id, None);
                prop_assert_eq!(&next.snapshot, &fresh.snapshot);
                // What the proxy makes of the part that it is sent, in another process, has the same name.
                let (sent, rejected) = World::from_wire(&scope(&world, id));
                prop_assert!(rejected.is_empty());
                prop_assert_eq!(&compile(&sent, id, None).snapshot, &fresh.snapshot);
                prop_assert_eq!(next.account.merged().digest(), fresh.account.merged().digest());
                // What is equal is the same.
                for (name, cluster) in next.snapshot.clusters.iter() {
                    let old = before.snapshot.clusters.get(name);
                    prop_assert!(old.is_none_or(|o| Arc::ptr_eq(o, cluster) || **o != **cluster));
                }
                for (key, listener) in &next.snapshot.listeners {
                    let old = before.snapshot.listeners.get(key);
                    prop_assert!(old.is_none_or(|o| Arc::ptr_eq(o, listener) || **o != **listener));
                }
                if next.snapshot.hash == before.snapshot.hash {
                    prop_assert_eq!(&next.snapshot.listeners, &before.snapshot.listeners);
                }
                *before = next;
            }
        }
    }
}
