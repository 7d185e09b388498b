//! Streams of changes: a World that was changed step by step is the World that was built at once, and so are the plans.
//!
//! The input is YAML files, one a step, separated by lines `===`; a line `- KIND NAMESPACE/NAME` removes an object.

use std::net::Ipv4Addr;

use mesh_core::api::{ContentHash, Key, Kind, Resource};
use mesh_core::compile::{Compiled, compile};
use mesh_core::convert::{Addresses, Options, changes};
use mesh_core::scope::scope;
use mesh_core::snapshot::{ProxyId, ProxyKind};
use mesh_core::wire::{Delta, ResourceSet};
use mesh_core::world::{Change, World};
use mesh_core::yaml::read;

/// Applies the steps one by one, here and at the other end of the channel, and compares with building everything at once.
pub fn deltas(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut addresses = Addresses::default();
    let mut stepwise = World::new();
    let mut all = Vec::new();
    let mut proxies = [Proxy::new(ProxyKind::Sidecar, "client"), Proxy::new(ProxyKind::Gateway, "gateway")];
    for step in text.split("\n===").take(8) {
        let changes = changes_of(step, &mut addresses);
        stepwise = stepwise.with(changes.iter().cloned());
        all.extend(changes);
        for proxy in &mut proxies {
            proxy.follow(&stepwise);
        }
    }
    assert_eq!(contents(&stepwise), contents(&World::of(all)));
}

/// The other end: what it was sent, and what it made of it.
struct Proxy {
    id: ProxyId,
    set: ResourceSet,
    world: World,
    compiled: Option<Compiled>,
}

impl Proxy {
    /// A proxy of the namespace `default`, whether or not there is such a pod.
    fn new(kind: ProxyKind, name: &str) -> Self {
        let id = ProxyId {
            kind,
            workload: format!("Kubernetes//Pod/default/{name}").into(),
            name: name.into(),
            namespace: "default".into(),
            addresses: vec![Ipv4Addr::new(10, 0, 0, 1).into()],
            domain: "cluster.local".into(),
        };
        Self { id, set: ResourceSet::new(), world: World::new(), compiled: None }
    }

    fn follow(&mut self, whole: &World) {
        let next = scope(whole, &self.id);
        let delta = Delta::between(&self.set, &next);
        let (world, rejected) = self.world.with_delta(&delta);
        assert!(rejected.is_empty(), "{rejected:?}");
        self.world = world;
        delta.apply(&mut self.set);
        assert_eq!(self.set, next);
        let (fresh, _) = World::from_wire(&next);
        assert_eq!(contents(&self.world), contents(&fresh));

        let compiled = compile(&self.world, &self.id, self.compiled.as_ref());
        let naive = compile(&fresh, &self.id, None);
        assert_eq!(compiled.snapshot, naive.snapshot, "a change gave another plan than a fresh build");
        let unscoped = compile(whole, &self.id, None);
        assert_eq!(naive.snapshot, unscoped.snapshot, "what was not sent has changed the plan");
        self.compiled = Some(compiled);
    }
}

/// Everything in a World by hash, in its order.
fn contents(world: &World) -> Vec<ContentHash> {
    let mut all: Vec<ContentHash> = world.virtual_services().iter().map(|o| o.hash).collect();
    all.extend(world.destination_rules().iter().map(|o| o.hash));
    all.extend(world.gateways().iter().map(|o| o.hash));
    all.extend(world.sidecars().iter().map(|o| o.hash));
    all.extend(world.rate_limits().iter().map(|o| o.hash));
    all.extend(world.proxy_configs().iter().map(|o| o.hash));
    all.extend(world.peer_authentications().iter().map(|o| o.hash));
    all.extend(world.request_authentications().iter().map(|o| o.hash));
    all.extend(world.authorization_policies().iter().map(|o| o.hash));
    all.extend(world.egress_policies().iter().map(|o| o.hash));
    all.extend(world.services().iter().map(|s| s.hash));
    all.extend(world.workloads().iter().map(|w| w.hash));
    all.push(world.mesh().hash);
    all
}

fn changes_of(step: &str, addresses: &mut Addresses) -> Vec<Change> {
    let (resources, _) = read("step.yaml", step);
    let mut all: Vec<Change> = step.lines().filter_map(removal).collect();
    // The replica count of an input is no promise to have room for as many.
    let few = |r: &&Resource| !matches!(r, Resource::Deployment(d) if d.spec.replicas.is_some_and(|n| n > 10));
    all.extend(resources.iter().filter(few).flat_map(|r| changes(r, &Options::default(), addresses)));
    all
}

fn removal(line: &str) -> Option<Change> {
    let (kind, name) = line.strip_prefix("- ")?.split_once(' ')?;
    let (namespace, name) = name.split_once('/')?;
    Some(match kind {
        "Service" => {
            let host = format!("{name}.{namespace}.svc.cluster.local");
            Change::RemoveService(namespace.into(), host.into())
        }
        "Pod" => Change::RemoveWorkload(format!("Kubernetes//Pod/{namespace}/{name}").into()),
        "PeerAuthentication" | "RequestAuthentication" | "AuthorizationPolicy" => {
            Change::Remove(Key::new(Kind::new("security.istio.io", kind), namespace, name))
        }
        kind => Change::Remove(Key::new(Kind::new("networking.istio.io", kind), namespace, name)),
    })
}
