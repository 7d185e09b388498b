//! Services that a proxy uses, and their clusters.

use std::collections::HashSet;
use std::sync::Arc;

use super::account::Ledger;
use super::cluster::{self, ClusterInput, RuleIndex};
use super::imported::Imported;
use super::memo::{Notes, Planned, hash_set};
use super::{Run, keep_equal};
use crate::api::{ContentHash, Key};
use crate::model::{AppProtocol, Service};
use crate::snapshot::{ClusterPlan, Map, ProxyKind};

/// Services with the hosts that they are meant by.
pub(super) type Named = Vec<(Arc<str>, Arc<Service>)>;

/// Services by host; each gets its clusters.
#[derive(Default)]
pub(super) struct Used {
    /// All of these, except those of whose host there is another one in `more`.
    first: Option<Arc<Imported>>,
    more: Map<Arc<str>, Arc<Service>>,
}

impl Used {
    /// Adds a service, unless there is one of that host.
    pub(super) fn add(&mut self, host: &Arc<str>, service: &Arc<Service>) {
        if !self.imports(host) && !self.more.contains_key(host) {
            self.more.insert(host.clone(), service.clone());
        }
    }

    /// Adds all that a listener imports.
    pub(super) fn import(&mut self, imported: &Arc<Imported>) {
        match self.first {
            None => self.first = Some(imported.clone()),
            Some(_) => imported.services.iter().for_each(|s| self.add(&s.service.hostname, &s.service)),
        }
    }

    /// Whether a host is one of the first listener's.
    pub(super) fn imports(&self, host: &str) -> bool {
        self.first.as_ref().is_some_and(|f| f.by_host.contains_key(host))
    }

    /// Hash of what the first listener imports.
    pub(super) fn first(&self) -> ContentHash {
        self.first.as_ref().map_or(ContentHash(0), |f| f.hash)
    }

    fn further(&self) -> Vec<(&Arc<str>, &Arc<Service>)> {
        let mut more: Vec<_> = self.more.iter().collect();
        more.sort_unstable_by_key(|(host, _)| *host);
        more
    }

    fn hash(&self) -> ContentHash {
        let more = self.further().into_iter();
        more.fold(self.first(), |h, (host, s)| {
            h.with(s.hash).with_str(host).with_str(&s.namespace).with_str(&s.hostname)
        })
    }

    /// All of them by name.
    fn all(&self) -> Vec<&Arc<Service>> {
        let first = self.first.iter().flat_map(|f| &f.services).map(|s| &s.service);
        let mut all: Vec<_> =
            first.filter(|s| !self.more.contains_key(&s.hostname)).chain(self.more.values()).collect();
        all.sort_by(|a, b| a.hostname.cmp(&b.hostname));
        all
    }
}

/// Clusters by name.
pub(super) type ByName = Map<Arc<str>, Arc<ClusterPlan>>;

/// Clusters of all services in use, and what their making said.
#[derive(Debug)]
pub(super) struct OfServices {
    input: ContentHash,
    clusters: ByName,
    notes: Arc<[Arc<Notes>]>,
}

/// All clusters of a snapshot.
#[derive(Clone, Debug)]
pub(super) struct All {
    /// Of services, by the hash of what they were made from, and of the others.
    input: ContentHash,
    pub(super) clusters: Arc<ByName>,
    pub(super) hash: ContentHash,
}

impl Run<'_> {
    /// Clusters of every service in use and those that are no service's.
    pub(super) fn clusters(&mut self, before: Option<&All>) -> All {
        let of_services = self.of_services(before.map(|b| &*b.clusters));
        self.groups.push(of_services.notes.clone());
        let mut specials = std::mem::take(&mut self.clusters);
        for name in std::mem::take(&mut self.as_they_come) {
            if let Some(plan) = of_services.clusters.get(&name) {
                let plan = cluster::as_it_comes(plan);
                specials.insert(plan.name.clone(), Arc::new(plan));
            }
        }
        let input = of_services.input.with(hash_set(specials.values().map(|c| c.hash.with_str(&c.name))));
        let same = |all: &&All| {
            all.input == input && specials.iter().all(|(name, c)| all.clusters.get(name).is_some_and(|o| **o == **c))
        };
        if let Some(same) = before.filter(same) {
            return same.clone();
        }
        let mut clusters = specials;
        clusters.extend(of_services.clusters.iter().map(|(name, c)| (name.clone(), c.clone())));
        keep_equal(&mut clusters, before.map(|b| &*b.clusters), |c| c.hash);
        let hash = hash_set(clusters.values().map(|c| c.hash));
        All { input, clusters: Arc::new(clusters), hash }
    }

    /// Wants a cluster that sends bytes on as they come, beside the one of this name; says what it is called.
    pub(super) fn as_it_comes(&mut self, name: Arc<str>) -> Arc<str> {
        let dotted = cluster::dotted(&name);
        self.as_they_come.push(name);
        dotted
    }

    /// The clusters of services are made again if one of these, a rule or the proxy itself changes.
    fn of_services(&mut self, before: Option<&ByName>) -> Arc<OfServices> {
        let world = self.world;
        let services = std::mem::take(&mut self.used_services);
        let by_dns = services.all().into_iter().any(|s| Imported::by_dns(s));
        let instances = match by_dns {
            true => world.workloads().hash().with(world.peer_authentications().hash()),
            false => ContentHash(0),
        };
        let input = [
            services.hash(),
            world.destination_rules().hash(),
            world.mesh().hash,
            self.cluster_defaults.hash,
            self.client_hash,
            self.place,
            ContentHash((self.id.kind == ProxyKind::Gateway).into()),
            instances,
        ];
        let input = input.into_iter().fold(ContentHash::default(), ContentHash::with);
        if let Some(known) = self.service_cluster_memo.find(input) {
            self.cluster_memo.keep();
            return known.plan;
        }
        let (mut clusters, mut notes) = (ByName::default(), Vec::new());
        let client = self.client.clone();
        let index = RuleIndex::new(world, &self.id.namespace, &client.labels);
        let mut rules_used: HashSet<Key> = HashSet::new();
        for service in services.all() {
            let rules = index.rules(service);
            rules_used.extend(rules.iter().map(|r| r.key.clone()));
            let selected = world.selected_workloads(service).filter(|_| Imported::by_dns(service)).cloned();
            let selected = selected.collect::<Vec<_>>();
            for port in service.ports.iter().filter(|p| p.protocol != AppProtocol::Udp) {
                let input = ClusterInput {
                    service,
                    port,
                    rules: rules.clone(),
                    defaults: &self.cluster_defaults,
                    selected: &selected,
                    world,
                    modes: match Imported::by_dns(service) {
                        true => world.peer_authentications().hash(),
                        false => ContentHash(0),
                    },
                    gateway: self.id.kind == ProxyKind::Gateway,
                    namespace: &self.id.namespace,
                };
                let planned = self.cluster_memo.get(input.hash(), || cluster::plan_clusters(&input));
                notes.extend(planned.notes);
                clusters.extend(planned.plan.iter().map(|c| (c.name.clone(), c.clone())));
            }
        }
        for rule in world.destination_rules().iter().filter(|r| !rules_used.contains(&r.key)) {
            let mut ledger = Ledger::new(rule);
            let host = crate::world::full_host(&rule.spec.host, &rule.key.namespace, &self.id.domain);
            ledger.inert("spec", &format!("it does not apply to a service that this proxy uses (host {host})"));
            notes.push(Arc::new(ledger.notes));
        }
        keep_equal(&mut clusters, before, |c| c.hash);
        let made = Arc::new(OfServices { input, clusters, notes: notes.into() });
        self.service_cluster_memo.put(input, Planned::new(made.clone(), Notes::default()));
        made
    }
}
