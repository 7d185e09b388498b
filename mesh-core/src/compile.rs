//! World -> Snapshot of one proxy, with the account of every field.
//!
//! Each part of a plan is made by a pure step of one input struct. The results are kept by the hash of the input, so
//! that a change makes again only what it concerns; there is no other invalidation. `compile` with what came before
//! gives the same Snapshot as without, and the same `Arc`s for parts that did not change.

mod account;
mod cluster;
pub(crate) mod codes;
mod gateway;
mod inbound;
mod l4;
mod memo;
mod mesh;
mod names;
mod outbound;
mod rate_limit;
#[cfg(test)]
pub(crate) mod sim;
mod table;
mod virtual_host;
mod virtual_service;
mod visible;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;

pub use account::{Account, Leaf, Merged};
pub use memo::Notes;
pub(crate) use mesh::outbound_policy;
pub(crate) use visible::exported_to;

use account::Ledger;
use cluster::{ClusterDefaults, ClusterInput, RuleIndex};
use memo::{Memo, Remembered, hash_set};
use virtual_host::{Client, Destination, RouteDefaults, VirtualHostInput};

use crate::api::{ContentHash, Key, ProxyConfig};
use crate::model::{Resolution, Route, Service, Workload};
use crate::proxy_config;
use crate::report::Report;
use crate::snapshot::{
    Bind, ClusterPlan, ListenerKey, ListenerPlan, Map, NameEntry, ProxyId, ProxyKind, ProxyPlan, RouteTable, Snapshot,
    VirtualHostPlan,
};
use crate::world::World;

/// What compilation gives.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The plan.
    pub snapshot: Arc<Snapshot>,
    /// What became of every field.
    pub account: Account,
    cache: Arc<Cache>,
}

impl Compiled {
    /// What is wrong or worth knowing.
    pub fn reports(&self) -> impl Iterator<Item = &Report> {
        self.account.parts.iter().flat_map(|p| p.reports.iter())
    }
}

/// Results of the steps by input hash, and routes of the compilation before.
#[derive(Debug, Default)]
struct Cache {
    routes: Remembered<Arc<Route>>,
    delegated: Remembered<Arc<Route>>,
    virtual_hosts: Remembered<Arc<VirtualHostPlan>>,
    tables: Remembered<Arc<RouteTable>>,
    clusters: Remembered<Arc<[Arc<ClusterPlan>]>>,
    listeners: Remembered<Arc<ListenerPlan>>,
    domains: Remembered<Arc<[Arc<str>]>>,
    names: Remembered<Arc<[names::Named]>>,
}

/// Compiles the plan of a proxy. `previous` only makes it faster, and keeps what is equal.
pub fn compile(world: &World, id: &ProxyId, previous: Option<&Compiled>) -> Compiled {
    let mut run = Run::new(world, id, previous);
    run.routes();
    run.rate_limits();
    match id.kind {
        ProxyKind::Sidecar => {
            outbound::compile(&mut run);
            inbound::compile(&mut run);
        }
        ProxyKind::Gateway => gateway::compile(&mut run),
    }
    run.clusters();
    run.finish(previous)
}

/// One compilation: what is fixed for it, the remembered steps, and what has been made so far.
struct Run<'a> {
    world: &'a World,
    id: &'a ProxyId,
    workload: Option<&'a Arc<Workload>>,
    client: Arc<Client>,
    client_hash: ContentHash,
    /// Hash of the namespace and the domain, on which names depend.
    place: ContentHash,
    route_defaults: Arc<RouteDefaults>,
    cluster_defaults: ClusterDefaults,
    /// ProxyConfig in force for the workload.
    config: Arc<ProxyConfig>,
    proxy: Arc<ProxyPlan>,

    route_memo: Memo<Arc<Route>>,
    delegate_memo: Memo<Arc<Route>>,
    virtual_host_memo: Memo<Arc<VirtualHostPlan>>,
    table_memo: Memo<Arc<RouteTable>>,
    cluster_memo: Memo<Arc<[Arc<ClusterPlan>]>>,
    listener_memo: Memo<Arc<ListenerPlan>>,
    domain_memo: Memo<Arc<[Arc<str>]>>,
    name_memo: Memo<Arc<[names::Named]>>,

    /// Limits of rules and of the whole proxy.
    rate_limits: rate_limit::RateLimits,
    /// Routes of all visible objects with hosts, oldest first, delegates merged.
    routes: Vec<Arc<Route>>,
    /// Services by host that the proxy uses; each gets its clusters.
    used_services: Map<Arc<str>, &'a Arc<Service>>,
    /// Objects that are part of a plan.
    used: HashSet<Key, RandomState>,
    listeners: Map<ListenerKey, Arc<ListenerPlan>>,
    binds: Vec<Bind>,
    clusters: Map<Arc<str>, Arc<ClusterPlan>>,
    names: Map<Arc<str>, (Arc<NameEntry>, ContentHash)>,
    parts: Vec<Arc<Notes>>,
}

impl<'a> Run<'a> {
    fn new(world: &'a World, id: &'a ProxyId, previous: Option<&Compiled>) -> Self {
        let old = previous.map(|p| &p.cache);
        let workload = world.workload(&id.workload);
        let labels = workload.map(|w| w.labels.clone()).unwrap_or_default();
        let client = Client { labels, namespace: id.namespace.clone(), gateways: vec!["mesh".into()] };
        let none = BTreeMap::new();
        let (config, wrong) = proxy_config::effective(
            world,
            proxy_config::Asker {
                namespace: &id.namespace,
                labels: &client.labels,
                annotations: workload.map_or(&none, |w| &w.annotations),
            },
        );
        let balancing = cluster::BalancingClient::of(world, id, workload);
        let (proxy, mut notes) = mesh::plan_proxy(world, id, workload, &config, &balancing);
        notes.reports.extend(wrong.map(|why| mesh::wrong_annotation(id, why)));
        Self {
            world,
            id,
            workload,
            client_hash: client.hash(),
            place: ContentHash::default().with_str(&id.namespace).with_str(&id.domain),
            client: Arc::new(client),
            route_defaults: Arc::new(RouteDefaults::of(world.mesh(), &config)),
            cluster_defaults: ClusterDefaults::of(world.mesh(), balancing),
            config: Arc::new(config),
            proxy: Arc::new(proxy),
            route_memo: Memo::after(old.map(|c| &c.routes)),
            delegate_memo: Memo::after(old.map(|c| &c.delegated)),
            virtual_host_memo: Memo::after(old.map(|c| &c.virtual_hosts)),
            table_memo: Memo::after(old.map(|c| &c.tables)),
            cluster_memo: Memo::after(old.map(|c| &c.clusters)),
            listener_memo: Memo::after(old.map(|c| &c.listeners)),
            domain_memo: Memo::after(old.map(|c| &c.domains)),
            name_memo: Memo::after(old.map(|c| &c.names)),
            rate_limits: rate_limit::RateLimits::default(),
            routes: Vec::new(),
            used_services: Map::default(),
            used: HashSet::default(),
            listeners: Map::default(),
            binds: Vec::new(),
            clusters: Map::default(),
            names: Map::default(),
            parts: vec![Arc::new(notes)],
        }
    }

    /// Converts the VirtualServices that are exported to this proxy and merges delegates into them.
    fn routes(&mut self) {
        let default = &self.world.mesh().spec.default_virtual_service_export_to;
        let domain = ContentHash::of(self.id.domain.as_bytes());
        let mut all: Vec<Arc<Route>> = Vec::new();
        for object in self.world.virtual_services().iter() {
            let input = object.hash.with_str(&object.key.namespace).with_str(&object.key.name).with(domain);
            let planned = self.route_memo.get(input, || virtual_service::convert(object, &self.id.domain));
            self.parts.push(planned.notes);
            all.push(planned.plan);
        }
        let by_name: Map<(&str, &str), &Arc<Route>> =
            all.iter().map(|r| ((&*r.key.namespace, &*r.key.name), r)).collect();
        for route in &all {
            if route.hosts.is_empty() {
                continue;
            }
            let namespace = &*route.key.namespace;
            let mut delegates = Vec::new();
            let mut input = route.hash.with_str(namespace).with_str(&route.key.name);
            for rule in &route.http {
                let crate::model::RuleAction::Delegate(ns, name) = &rule.action else { continue };
                let found = by_name.get(&(&**ns, &**name)).copied();
                let found = found
                    .filter(|d| d.hosts.is_empty() && exported_to(&d.export_to, default, &d.key.namespace, namespace));
                input = input.with_str(ns).with_str(name).with(found.map_or(ContentHash(0), |d| d.hash));
                delegates.push(((ns.clone(), name.clone()), found.cloned()));
            }
            if delegates.is_empty() {
                self.routes.push(route.clone());
                continue;
            }
            let planned = self.delegate_memo.get(input, || virtual_service::with_delegates(route, &delegates));
            self.parts.push(planned.notes);
            self.routes.push(planned.plan);
        }
    }

    /// Reads the LocalRateLimits, once all routes are known.
    fn rate_limits(&mut self) {
        let (limits, notes) = rate_limit::RateLimits::of(self.world, self.id, self.workload, &self.routes);
        self.rate_limits = limits;
        self.parts.push(Arc::new(notes));
    }

    /// Plans a virtual host, remembered.
    fn virtual_host(&mut self, input: &VirtualHostInput<'_>) -> Arc<VirtualHostPlan> {
        let planned = self.virtual_host_memo.get(input.hash(), || virtual_host::plan_virtual_host(input));
        self.parts.push(planned.notes);
        planned.plan
    }

    /// Notes that a route is part of a plan.
    fn use_route(&mut self, route: &Route) {
        if !self.used.contains(&route.key) {
            self.used.insert(route.key.clone());
            self.used.extend(route.includes.iter().cloned());
        }
    }

    /// The destinations that routes name, which thereby become visible to this proxy.
    fn destinations(&mut self, routes: &[&Arc<Route>]) -> BTreeMap<Arc<str>, Destination> {
        let mut out = BTreeMap::new();
        for backend in routes.iter().flat_map(|r| backends(r)) {
            if !out.contains_key(&backend.host) {
                let destination = self.destination(&backend.host);
                out.insert(backend.host.clone(), destination);
            }
        }
        out
    }

    fn destination(&mut self, host: &Arc<str>) -> Destination {
        let find = |host: &str| visible::service_of(self.world, &self.id.namespace, host);
        let service = find(host);
        let target = service.and_then(|s| s.external_name.clone());
        let (host, service) = match target {
            Some(target) => (target.clone(), find(&target)),
            None => (host.clone(), service),
        };
        if let Some(service) = service {
            self.used_services.entry(host.clone()).or_insert(service);
        }
        let only_port = service.and_then(|s| match &s.ports[..] {
            [only] => Some(only.number),
            _ => None,
        });
        Destination { host, only_port }
    }

    /// Clusters of every service in use.
    fn clusters(&mut self) {
        let world = self.world;
        let labels = self.client.labels.clone();
        let index = RuleIndex::new(world, &self.id.namespace, &labels);
        let mut rules_used: HashSet<Key> = HashSet::new();
        let mut services: Vec<_> = std::mem::take(&mut self.used_services).into_values().collect();
        services.sort_unstable_by(|a, b| a.hostname.cmp(&b.hostname));
        for service in services {
            let rules = index.rules(service);
            rules_used.extend(rules.iter().map(|r| r.key.clone()));
            let by_dns = matches!(service.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
            let selected = world.selected_workloads(service).filter(|_| by_dns).cloned().collect::<Vec<_>>();
            for port in service.ports.iter().filter(|p| p.protocol != crate::model::AppProtocol::Udp) {
                let input = ClusterInput {
                    service,
                    port,
                    rules: rules.clone(),
                    defaults: &self.cluster_defaults,
                    selected: &selected,
                    gateway: self.id.kind == ProxyKind::Gateway,
                    namespace: &self.id.namespace,
                };
                let planned = self.cluster_memo.get(input.hash(), || cluster::plan_clusters(&input));
                self.parts.push(planned.notes);
                self.clusters.extend(planned.plan.iter().map(|c| (c.name.clone(), c.clone())));
            }
        }
        for rule in world.destination_rules().iter().filter(|r| !rules_used.contains(&r.key)) {
            let mut ledger = Ledger::new(rule);
            let host = crate::world::full_host(&rule.spec.host, &rule.key.namespace, &self.id.domain);
            ledger.inert("spec", &format!("it does not apply to a service that this proxy uses (host {host})"));
            self.parts.push(Arc::new(ledger.notes));
        }
    }

    fn finish(mut self, previous: Option<&Compiled>) -> Compiled {
        for object in self.world.virtual_services().iter().filter(|o| !self.used.contains(&o.key)) {
            let mut ledger = Ledger::new(object);
            ledger.inert("spec", &unused(object, self.id));
            self.parts.push(Arc::new(ledger.notes));
        }
        self.binds.sort_unstable();
        self.binds.dedup_by_key(|b| b.at);
        keep_equal(&mut self.listeners, previous.map(|p| &p.snapshot.listeners), |l| l.hash);
        keep_equal(&mut self.clusters, previous.map(|p| &p.snapshot.clusters), |c| c.hash);
        let hash_of_names = hash_set(self.names.values().map(|(_, hash)| *hash));
        let mut names: Map<_, _> = self.names.into_iter().map(|(name, (entry, _))| (name, entry)).collect();
        keep_equal(&mut names, previous.map(|p| &p.snapshot.names), |_| ContentHash(0));
        if let Some(old) = previous.map(|p| &p.snapshot.proxy).filter(|old| **old == self.proxy) {
            self.proxy = old.clone();
        }
        let parts = [
            self.proxy.hash,
            hash_set(self.listeners.values().map(|l| l.hash)),
            hash_set(self.clusters.values().map(|c| c.hash)),
            memo::hash_debug(&self.binds),
            hash_of_names,
        ];
        let snapshot = Snapshot {
            hash: parts.into_iter().fold(ContentHash::default(), ContentHash::with),
            proxy: self.proxy,
            listeners: self.listeners,
            binds: self.binds,
            clusters: self.clusters,
            names,
        };
        let cache = Cache {
            routes: self.route_memo.finish(),
            delegated: self.delegate_memo.finish(),
            virtual_hosts: self.virtual_host_memo.finish(),
            tables: self.table_memo.finish(),
            clusters: self.cluster_memo.finish(),
            listeners: self.listener_memo.finish(),
            domains: self.domain_memo.finish(),
            names: self.name_memo.finish(),
        };
        Compiled { snapshot: Arc::new(snapshot), account: Account { parts: self.parts }, cache: Arc::new(cache) }
    }
}

fn unused(object: &crate::api::Object<crate::api::VirtualService>, id: &ProxyId) -> String {
    if object.spec.hosts.is_empty() {
        return "no VirtualService that this proxy uses delegates to it".into();
    }
    match id.kind {
        ProxyKind::Sidecar => "it is not bound to mesh, not exported to this namespace, or none of its hosts is one \
                               that a listener of this proxy routes"
            .into(),
        ProxyKind::Gateway => "it is not bound to a Gateway of this workload, not exported to its namespace, or none \
                               of its hosts is one of a server"
            .into(),
    }
}

/// Keeps the old `Arc` of what is equal, so that what was built for it is kept, too.
/// Of the rest most has another hash, so that few are compared in depth.
fn keep_equal<K: Eq + std::hash::Hash, V: PartialEq>(
    new: &mut Map<K, Arc<V>>,
    old: Option<&Map<K, Arc<V>>>,
    hash: impl Fn(&V) -> ContentHash,
) {
    let Some(old) = old else { return };
    for (key, value) in new {
        if let Some(same) = old.get(key).filter(|o| !Arc::ptr_eq(o, value) && hash(o) == hash(value) && **o == *value) {
            *value = same.clone();
        }
    }
}

/// Every destination that a route names, mirrors included.
fn backends(route: &Route) -> impl Iterator<Item = &crate::model::Backend> {
    let http = route.http.iter().filter_map(|r| match &r.action {
        crate::model::RuleAction::Forward(b) => Some(b),
        _ => None,
    });
    let mirrors = route.http.iter().flat_map(|r| r.filters.all_mirrors().map(|(backend, _)| backend));
    http.chain(route.tls.iter().chain(&route.tcp).map(|r| &r.backends)).flatten().chain(mirrors)
}

#[cfg(test)]
mod tests;
