//! Names that the DNS proxy answers.

use std::net::IpAddr;
use std::sync::Arc;

use super::Run;
use super::table::alternates;
use crate::api::ContentHash;
use crate::model::Service;
use crate::snapshot::NameEntry;

/// Every service that a proxy sees, by full name and by the shorter names valid in its namespace; instances of a
/// headless service also by `instance.service…`. Services without address are left to the resolver behind the proxy.
pub(super) fn compile(run: &mut Run<'_>, services: &[&Arc<Service>]) {
    for service in services {
        let addresses = match service.headless {
            true => instances(run, service).into_iter().flat_map(|(_, a)| a).collect(),
            false => service.addresses.clone(),
        };
        insert(run, &service.hostname, &service.hostname, addresses);
        if service.headless {
            for (name, addresses) in instances(run, service) {
                insert(run, &format!("{name}.{}", service.hostname), &service.hostname, addresses);
            }
        }
    }
    let aliases: Vec<_> = run.world.services().iter().filter(|s| s.external_name.is_some()).cloned().collect();
    for alias in aliases {
        let target = alias.external_name.as_ref().and_then(|t| run.names.get(t)).cloned();
        let visible = super::service_exported(&alias, &run.id.namespace);
        if let Some(target) = target.filter(|_| visible) {
            insert(run, &alias.hostname, &target.hostname, target.addresses.clone());
        }
    }
}

fn instances(run: &Run<'_>, service: &Service) -> Vec<(Arc<str>, Vec<IpAddr>)> {
    run.world.selected_workloads(service).map(|w| (w.name.clone(), w.addresses.clone())).collect()
}

fn insert(run: &mut Run<'_>, name: &str, hostname: &Arc<str>, addresses: Vec<IpAddr>) {
    if addresses.is_empty() {
        return;
    }
    let entry = Arc::new(NameEntry { hostname: hostname.clone(), addresses });
    for alternate in alternates(name, &run.id.namespace, &run.id.domain) {
        run.names.entry(alternate.into()).or_insert_with(|| entry.clone());
    }
    run.names.insert(name.into(), entry);
}

pub(super) fn hash(name: &str, entry: &NameEntry) -> ContentHash {
    let NameEntry { hostname, addresses } = entry;
    let mut h = ContentHash::of(name.as_bytes()).with_str(hostname);
    for a in addresses {
        h = match a {
            IpAddr::V4(a) => h.with(ContentHash::of(&a.octets())),
            IpAddr::V6(a) => h.with(ContentHash::of(&a.octets())),
        };
    }
    h
}
