//! Services that one egress listener imports, with all that does not depend on routes. While services stay as they are
//! it is made once, whatever becomes of routes.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::Run;
use super::memo::{Notes, Planned, hash_debug};
use super::visible::{self, Egress};
use crate::api::ContentHash;
use crate::model::{AppProtocol, Resolution, Service};
use crate::snapshot::Map;

/// What an egress listener imports.
#[derive(Debug)]
pub(super) struct Imported {
    /// Of what it was made from.
    pub(super) hash: ContentHash,
    /// Services, one for each host, without those that stand for others.
    pub(super) services: Vec<Visible>,
    /// Places in `services`.
    pub(super) by_host: Map<Arc<str>, usize>,
    /// ExternalName services: each is another name of what it stands for.
    pub(super) aliases: Vec<Arc<Service>>,
    /// By port number.
    pub(super) ports: BTreeMap<u16, Port>,
    /// A service's names or addresses are those of its instances.
    pub(super) headless: bool,
}

/// A service and its names.
#[derive(Debug)]
pub(super) struct Visible {
    pub(super) service: Arc<Service>,
    /// Domains that it answers to.
    pub(super) domains: Arc<[Arc<str>]>,
    /// Hash of both.
    pub(super) hash: ContentHash,
}

/// The services that have a port, in order.
#[derive(Debug, Default)]
pub(super) struct Port {
    pub(super) entries: Vec<Entry>,
    /// Two of them answer to the same domain, or one to every.
    pub(super) overlap: bool,
}

/// A port of a service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Place in [`Imported::services`].
    pub(super) service: usize,
    /// Place in its ports.
    pub(super) port: usize,
    pub(super) protocol: AppProtocol,
}

impl Imported {
    fn new(hash: ContentHash, services: Vec<Visible>, aliases: Vec<Arc<Service>>) -> Self {
        let by_host = services.iter().enumerate().map(|(i, s)| (s.service.hostname.clone(), i)).collect();
        let headless = services.iter().any(|s| s.service.headless);
        let mut ports: BTreeMap<u16, Port> = BTreeMap::new();
        for (service, visible) in services.iter().enumerate() {
            for (port, p) in visible.service.ports.iter().enumerate().filter(|(_, p)| p.protocol != AppProtocol::Udp) {
                ports.entry(p.number).or_default().entries.push(Entry { service, port, protocol: p.protocol });
            }
        }
        for port in ports.values_mut() {
            let mut all: HashSet<&str, RandomState> = HashSet::from_iter(["*"]);
            let mut domains = port.entries.iter().flat_map(|e| services[e.service].domains.iter());
            port.overlap = !domains.all(|d| all.insert(d));
        }
        Self { hash, services, by_host, aliases, ports, headless }
    }

    /// The place of a service's entry for a port.
    pub(super) fn entry(&self, port: u16, hostname: &str) -> Option<usize> {
        let service = *self.by_host.get(hostname)?;
        self.ports.get(&port)?.entries.binary_search_by_key(&service, |e| e.service).ok()
    }

    /// Whether DNS finds the instances of a service, so that they are configuration.
    pub(super) fn by_dns(service: &Service) -> bool {
        matches!(service.resolution, Resolution::Dns | Resolution::DnsRoundRobin)
    }
}

impl Run<'_> {
    /// What an egress listener imports, remembered.
    pub(super) fn imported(&mut self, egress: &Egress) -> Arc<Imported> {
        let input = self.world.services().hash().with(self.place).with(hash_debug(egress));
        if let Some(known) = self.imported_memo.find(input) {
            self.domain_memo.keep();
            return known.plan;
        }
        let all = visible::services(self.world, &self.id.namespace, egress);
        let mut names: Map<Arc<str>, Vec<&Arc<Service>>> = Map::default();
        for service in &all {
            if let Some(target) = &service.external_name {
                names.entry(target.clone()).or_default().push(service);
            }
        }
        let (services, aliases): (Vec<_>, Vec<_>) = all.iter().copied().partition(|s| s.external_name.is_none());
        let visible = |service: &Arc<Service>| {
            let aliases = names.get(&service.hostname).map_or(&[][..], Vec::as_slice);
            let (domains, hash) = self.domains(service, aliases);
            Visible { service: service.clone(), domains, hash }
        };
        let services = services.into_iter().map(visible).collect();
        let made = Arc::new(Imported::new(input, services, aliases.into_iter().cloned().collect()));
        self.imported_memo.put(input, Planned::new(made.clone(), Notes::default()));
        made
    }
}
