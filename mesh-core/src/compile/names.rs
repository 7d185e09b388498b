//! Names that the DNS proxy answers.

use std::net::IpAddr;
use std::sync::Arc;

use super::Run;
use super::memo::{Notes, Planned};
use super::table::alternates;
use crate::api::ContentHash;
use crate::model::Service;
use crate::snapshot::{NameEntry, ProxyId};

/// Every service that a proxy sees, by full name and by the shorter names valid in its namespace; instances of a
/// headless service also by `instance.service…`. Services without address are left to the resolver behind the proxy.
/// ExternalName services are names of what they stand for, if the proxy sees that, too.
pub(super) fn compile(run: &mut Run<'_>, services: &[&Arc<Service>], aliases: &[&Arc<Service>]) {
    for service in services {
        if !service.headless {
            let input = service.hash.with_str(&service.hostname).with(run.place);
            let make = || named(run.id, &service.hostname, &service.hostname, service.addresses.clone());
            let names = run.name_memo.get(input, || Planned::new(make().into(), Notes::default())).plan;
            insert(run, &names);
            continue;
        }
        let all = instances(run, service);
        let addresses = all.iter().flat_map(|(_, a)| a.clone()).collect();
        let own = named(run.id, &service.hostname, &service.hostname, addresses);
        insert(run, &own);
        for (name, addresses) in all {
            let names = named(run.id, &format!("{name}.{}", service.hostname), &service.hostname, addresses);
            insert(run, &names);
        }
    }
    for alias in aliases {
        let target = alias.external_name.as_ref().and_then(|t| run.names.get(t)).map(|(e, _)| e.clone());
        if let Some(target) = target {
            let names = named(run.id, &alias.hostname, &target.hostname, target.addresses.clone());
            insert(run, &names);
        }
    }
}

fn instances(run: &Run<'_>, service: &Service) -> Vec<(Arc<str>, Vec<IpAddr>)> {
    run.world.selected_workloads(service).map(|w| (w.name.clone(), w.addresses.clone())).collect()
}

/// A name with what it stands for, and the hash of both.
pub(super) type Named = (Arc<str>, Arc<NameEntry>, ContentHash);

/// A full name and then its shorter forms; nothing without addresses.
fn named(id: &ProxyId, name: &str, hostname: &Arc<str>, addresses: Vec<IpAddr>) -> Vec<Named> {
    if addresses.is_empty() {
        return Vec::new();
    }
    let entry = Arc::new(NameEntry { hostname: hostname.clone(), addresses });
    let shorter = alternates(name, &id.namespace, &id.domain).into_iter().map(Arc::from);
    let all = std::iter::once(Arc::from(name)).chain(shorter);
    all.map(|n: Arc<str>| (n.clone(), entry.clone(), hash(&n, &entry))).collect()
}

/// A full name is that service's whatever was there before; a shorter one is the first service's that has it.
fn insert(run: &mut Run<'_>, names: &[Named]) {
    let Some(((name, entry, hash), shorter)) = names.split_first() else { return };
    for (name, entry, hash) in shorter {
        run.names.entry(name.clone()).or_insert_with(|| (entry.clone(), *hash));
    }
    run.names.insert(name.clone(), (entry.clone(), *hash));
}

fn hash(name: &str, entry: &NameEntry) -> ContentHash {
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
