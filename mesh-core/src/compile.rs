//! World -> Snapshot of one proxy, with the account of every field.
//!
//! Each part of a plan is made by a pure step of one input struct. The results are kept by the hash of the input, so
//! that a change makes again only what it concerns; there is no other invalidation. `compile` with what came before
//! gives the same Snapshot as without, and the same `Arc`s for parts that did not change.

mod account;
mod cluster;
pub(crate) mod codes;
mod gateway;
mod imported;
mod inbound;
mod l4;
mod memo;
mod mesh;
mod mtls;
mod names;
mod outbound;
mod rate_limit;
mod routes;
mod security;
#[cfg(test)]
pub(crate) mod sim;
mod table;
mod used;
mod virtual_host;
mod virtual_service;
pub(crate) mod visible;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use account::{Account, Leaf, Merged};
pub use memo::Notes;
pub(crate) use mesh::outbound_policy;
#[cfg(feature = "layers")]
pub(crate) use mtls::defaults as tls_defaults;
pub(crate) use security::{asked, authorizers, key_host, service};
pub(crate) use visible::exported_to;

use account::Ledger;
use cluster::ClusterDefaults;
use imported::Imported;
use memo::{Memo, Remembered, hash_set};
use outbound::PortHosts;
use routes::{InUse, Routes};
use used::Used;
use virtual_host::{Client, Destination, RouteDefaults, VirtualHostInput};

use crate::api::{ContentHash, ProxyConfig};
use crate::identity::TrustDomains;
use crate::model::{Route, Service, Workload};
use crate::proxy_config;
use crate::report::Report;
use crate::snapshot::{
    Bind, ClusterPlan, Domains, ListenerKey, ListenerPlan, Map, ProxyId, ProxyKind, ProxyPlan, RouteTable,
    SecurityPlan, Snapshot, VirtualHostPlan, Workloads,
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
        self.account.notes().flat_map(|p| p.reports.iter())
    }
}

/// Results of the steps by input hash, and larger parts of the compilation before.
#[derive(Debug)]
struct Cache {
    delegated: Remembered<Arc<Route>>,
    imported: Remembered<Arc<Imported>>,
    hosts: Map<(usize, u16), Arc<PortHosts>>,
    virtual_hosts: Remembered<Arc<VirtualHostPlan>>,
    tables: Remembered<Arc<RouteTable>>,
    table_domains: Remembered<Arc<Domains>>,
    clusters: Remembered<Arc<[Arc<ClusterPlan>]>>,
    service_clusters: Remembered<Arc<used::OfServices>>,
    all_clusters: used::All,
    listeners: Remembered<Arc<ListenerPlan>>,
    domains: Remembered<Arc<[Arc<str>]>>,
    names: Remembered<Arc<[names::Named]>>,
    all_names: Remembered<Arc<names::Names>>,
    security: Remembered<Arc<SecurityPlan>>,
}

/// Compiles the plan of a proxy. `previous` only makes it faster, and keeps what is equal.
pub fn compile(world: &World, id: &ProxyId, previous: Option<&Compiled>) -> Compiled {
    let mut run = Run::new(world, id, previous);
    run.routes(previous.map(|p| &*p.account.routes));
    run.rate_limits();
    run.security = security::compile(&mut run);
    match id.kind {
        ProxyKind::Sidecar => {
            outbound::compile(&mut run, previous.map(|p| &*p.snapshot));
            inbound::compile(&mut run);
        }
        ProxyKind::Gateway => gateway::compile(&mut run),
    }
    mtls::account(&mut run);
    run.finish(previous)
}

/// One compilation: what is fixed for it, the remembered steps, and what has been made so far.
struct Run<'a> {
    world: &'a World,
    id: &'a ProxyId,
    workload: Option<&'a Arc<Workload>>,
    /// Whose workloads may be clients where the mesh ends TLS.
    workloads: Workloads,
    client: Arc<Client>,
    client_hash: ContentHash,
    /// Hash of the namespace and the domain, on which names depend.
    place: ContentHash,
    route_defaults: Arc<RouteDefaults>,
    cluster_defaults: ClusterDefaults,
    /// ProxyConfig in force for the workload.
    config: Arc<ProxyConfig>,
    proxy: Arc<ProxyPlan>,

    /// What the compilation before made.
    old: Option<&'a Cache>,
    delegate_memo: Memo<Arc<Route>>,
    imported_memo: Memo<Arc<Imported>>,
    virtual_host_memo: Memo<Arc<VirtualHostPlan>>,
    table_memo: Memo<Arc<RouteTable>>,
    table_domain_memo: Memo<Arc<Domains>>,
    cluster_memo: Memo<Arc<[Arc<ClusterPlan>]>>,
    service_cluster_memo: Memo<Arc<used::OfServices>>,
    listener_memo: Memo<Arc<ListenerPlan>>,
    domain_memo: Memo<Arc<[Arc<str>]>>,
    name_memo: Memo<Arc<[names::Named]>>,
    all_names_memo: Memo<Arc<names::Names>>,
    security_memo: Memo<Arc<SecurityPlan>>,

    /// Limits of rules and of the whole proxy.
    rate_limits: rate_limit::RateLimits,
    /// Routes of all visible objects.
    routes: Arc<Routes>,
    /// Services that the proxy uses; each gets its clusters.
    used_services: Used,
    /// Routes that are part of a plan.
    used: InUse,
    /// Virtual hosts of services by listener and port.
    hosts: Map<(usize, u16), Arc<PortHosts>>,
    listeners: Map<ListenerKey, Arc<ListenerPlan>>,
    binds: Vec<Bind>,
    /// Clusters of services that are also needed without TLS of their own, for bytes that are TLS already.
    as_they_come: Vec<Arc<str>>,
    /// Clusters that are no service's.
    clusters: Map<Arc<str>, Arc<ClusterPlan>>,
    names: Option<Arc<names::Names>>,
    security: Arc<SecurityPlan>,
    parts: Vec<Arc<Notes>>,
    groups: Vec<Arc<[Arc<Notes>]>>,
}

impl<'a> Run<'a> {
    fn new(world: &'a World, id: &'a ProxyId, previous: Option<&'a Compiled>) -> Self {
        let old = previous.map(|p| &*p.cache);
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
            workloads: Workloads::Of(TrustDomains::of(&world.mesh().spec)),
            client_hash: client.hash(),
            place: ContentHash::default().with_str(&id.namespace).with_str(&id.domain),
            client: Arc::new(client),
            route_defaults: Arc::new(RouteDefaults::of(world.mesh(), &config)),
            cluster_defaults: ClusterDefaults::of(world.mesh(), balancing),
            config: Arc::new(config),
            proxy: Arc::new(proxy),
            old,
            delegate_memo: Memo::after(old.map(|c| &c.delegated)),
            imported_memo: Memo::after(old.map(|c| &c.imported)),
            virtual_host_memo: Memo::after(old.map(|c| &c.virtual_hosts)),
            table_memo: Memo::after(old.map(|c| &c.tables)),
            table_domain_memo: Memo::after(old.map(|c| &c.table_domains)),
            cluster_memo: Memo::after(old.map(|c| &c.clusters)),
            service_cluster_memo: Memo::after(old.map(|c| &c.service_clusters)),
            listener_memo: Memo::after(old.map(|c| &c.listeners)),
            domain_memo: Memo::after(old.map(|c| &c.domains)),
            name_memo: Memo::after(old.map(|c| &c.names)),
            all_names_memo: Memo::after(old.map(|c| &c.all_names)),
            security_memo: Memo::after(old.map(|c| &c.security)),
            rate_limits: rate_limit::RateLimits::default(),
            routes: Arc::default(),
            used_services: Used::default(),
            used: InUse::default(),
            hosts: Map::default(),
            listeners: Map::default(),
            binds: Vec::new(),
            as_they_come: Vec::new(),
            clusters: Map::default(),
            names: None,
            security: Arc::default(),
            parts: vec![Arc::new(notes)],
            groups: Vec::new(),
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
        self.parts.extend(planned.notes);
        planned.plan
    }

    /// The destinations that routes name, which thereby become visible to this proxy.
    fn destinations(&mut self, routes: &[&Arc<Route>]) -> BTreeMap<Arc<str>, Destination> {
        let (destinations, services) = self.find_destinations(routes);
        services.iter().for_each(|(host, service)| self.used_services.add(host, service));
        destinations
    }

    /// The same, with the services that become visible.
    fn find_destinations(&self, routes: &[&Arc<Route>]) -> (BTreeMap<Arc<str>, Destination>, used::Named) {
        let (mut out, mut services) = (BTreeMap::new(), Vec::new());
        for backend in routes.iter().flat_map(|r| backends(r)) {
            if !out.contains_key(&backend.host) {
                let (destination, service) = self.find_destination(&backend.host);
                services.extend(service.map(|s| (destination.host.clone(), s.clone())));
                out.insert(backend.host.clone(), destination);
            }
        }
        (out, services)
    }

    fn destination(&mut self, host: &Arc<str>) -> Destination {
        let (destination, service) = self.find_destination(host);
        if let Some(service) = service {
            self.used_services.add(&destination.host, service);
        }
        destination
    }

    fn find_destination(&self, host: &Arc<str>) -> (Destination, Option<&'a Arc<Service>>) {
        let find = |host: &str| visible::service_of(self.world, &self.id.namespace, host);
        let service = find(host);
        let target = service.and_then(|s| s.external_name.clone());
        let (host, service) = match target {
            Some(target) => (target.clone(), find(&target)),
            None => (host.clone(), service),
        };
        let only_port = service.and_then(|s| match &s.ports[..] {
            [only] => Some(only.number),
            _ => None,
        });
        (Destination { host, only_port }, service)
    }

    fn finish(mut self, previous: Option<&Compiled>) -> Compiled {
        let all_clusters = self.clusters(previous.map(|p| &p.cache.all_clusters));
        self.note_unused();
        self.binds.sort_unstable();
        self.binds.dedup_by(|a, b| a.at == b.at);
        keep_equal(&mut self.listeners, previous.map(|p| &p.snapshot.listeners), |l| l.hash);
        let names = self.names.unwrap_or_default();
        if let Some(old) = previous.map(|p| &p.snapshot.proxy).filter(|old| **old == self.proxy) {
            self.proxy = old.clone();
        }
        if let Some(old) = previous.map(|p| &p.snapshot.security).filter(|old| **old == self.security) {
            self.security = old.clone();
        }
        let parts = [
            self.proxy.hash,
            hash_set(self.listeners.values().map(|l| l.hash)),
            all_clusters.hash,
            memo::hash_debug(&self.binds),
            names.hash,
            self.security.hash,
        ];
        let snapshot = Snapshot {
            hash: parts.into_iter().fold(ContentHash::default(), ContentHash::with),
            proxy: self.proxy,
            listeners: self.listeners,
            binds: self.binds,
            clusters: all_clusters.clusters.clone(),
            names: names.map.clone(),
            security: self.security,
        };
        let cache = Cache {
            delegated: self.delegate_memo.finish(),
            imported: self.imported_memo.finish(),
            hosts: self.hosts,
            virtual_hosts: self.virtual_host_memo.finish(),
            tables: self.table_memo.finish(),
            table_domains: self.table_domain_memo.finish(),
            clusters: self.cluster_memo.finish(),
            service_clusters: self.service_cluster_memo.finish(),
            all_clusters,
            listeners: self.listener_memo.finish(),
            domains: self.domain_memo.finish(),
            names: self.name_memo.finish(),
            all_names: self.all_names_memo.finish(),
            security: self.security_memo.finish(),
        };
        let account = Account { parts: self.parts, groups: self.groups, routes: self.routes };
        Compiled { snapshot: Arc::new(snapshot), account, cache: Arc::new(cache) }
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
