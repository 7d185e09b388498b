//! Names that the DNS proxy answers.

use std::net::IpAddr;
use std::sync::Arc;

use super::imported::{Imported, Visible};
use super::memo::{Notes, Planned, hash_set};
use super::table::alternates;
use super::{Run, keep_equal};
use crate::api::ContentHash;
use crate::model::Service;
use crate::snapshot::{Map, NameEntry, ProxyId};

/// All names, with the hash of them.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) map: Arc<Map<Arc<str>, Arc<NameEntry>>>,
    pub(super) hash: ContentHash,
}

/// Every service that a proxy sees, by full name and by the shorter names valid in its namespace; instances of a
/// headless service also by `instance.service…`. Services without address are left to the resolver behind the proxy.
/// ExternalName services are names of what they stand for, if the proxy sees that, too.
pub(super) fn compile(run: &mut Run<'_>, imported: &[Arc<Imported>], before: Option<&Map<Arc<str>, Arc<NameEntry>>>) {
    let headless = imported.iter().any(|i| i.headless);
    let instances = if headless { run.world.workloads().hash() } else { ContentHash(0) };
    let input = imported.iter().fold(run.place.with(instances), |h, i| h.with(i.hash));
    if let Some(known) = run.all_names_memo.find(input) {
        run.name_memo.keep();
        run.names = Some(known.plan);
        return;
    }
    let mut all = All::default();
    for Visible { service, domains, .. } in imported.iter().flat_map(|i| &i.services) {
        if !service.headless {
            let input = service.hash.with_str(&service.hostname).with(run.place);
            let make =
                || named(run.id, (&*service.hostname, &domains[..]), &service.hostname, service.addresses.clone());
            all.insert(&run.name_memo.get(input, || Planned::new(make().into(), Notes::default())).plan);
            continue;
        }
        let instances = instances_of(run, service);
        let addresses = instances.iter().flat_map(|(_, a)| a.clone()).collect();
        all.insert(&named(run.id, (&*service.hostname, &domains[..]), &service.hostname, addresses));
        for (name, addresses) in instances {
            let name = format!("{name}.{}", service.hostname);
            all.insert(&named(run.id, (&*name, &[][..]), &service.hostname, addresses));
        }
    }
    for alias in imported.iter().flat_map(|i| &i.aliases) {
        let target = alias.external_name.as_ref().and_then(|t| all.0.get(t)).map(|(e, _)| e.clone());
        if let Some(target) = target {
            all.insert(&named(run.id, (&*alias.hostname, &[][..]), &target.hostname, target.addresses.clone()));
        }
    }
    let hash = hash_set(all.0.values().map(|(_, hash)| *hash));
    let mut map: Map<_, _> = all.0.into_iter().map(|(name, (entry, _))| (name, entry)).collect();
    keep_equal(&mut map, before, |_| ContentHash(0));
    let made = Arc::new(Names { map: Arc::new(map), hash });
    run.all_names_memo.put(input, Planned::new(made.clone(), Notes::default()));
    run.names = Some(made);
}

fn instances_of(run: &Run<'_>, service: &Service) -> Vec<(Arc<str>, Vec<IpAddr>)> {
    run.world.selected_workloads(service).map(|w| (w.name.clone(), w.addresses.clone())).collect()
}

/// A name with what it stands for, and the hash of both.
pub(super) type Named = (Arc<str>, Arc<NameEntry>, ContentHash);

/// A full name and then its shorter forms; nothing without addresses. Of `texts` are those that are there already.
fn named(id: &ProxyId, (name, texts): (&str, &[Arc<str>]), hostname: &Arc<str>, addresses: Vec<IpAddr>) -> Vec<Named> {
    if addresses.is_empty() {
        return Vec::new();
    }
    let entry = Arc::new(NameEntry { hostname: hostname.clone(), addresses });
    let text = |name: &str| texts.iter().find(|t| ***t == *name).cloned().unwrap_or_else(|| name.into());
    let shorter = alternates(name, &id.namespace, &id.domain).into_iter().map(|name| text(&name));
    let all = std::iter::once(text(name)).chain(shorter);
    all.map(|n: Arc<str>| (n.clone(), entry.clone(), hash(&n, &entry))).collect()
}

#[derive(Default)]
struct All(Map<Arc<str>, (Arc<NameEntry>, ContentHash)>);

impl All {
    /// A full name is that service's whatever was there before; a shorter one is the first service's that has it.
    fn insert(&mut self, names: &[Named]) {
        let Some(((name, entry, hash), shorter)) = names.split_first() else { return };
        for (name, entry, hash) in shorter {
            self.0.entry(name.clone()).or_insert_with(|| (entry.clone(), *hash));
        }
        self.0.insert(name.clone(), (entry.clone(), *hash));
    }
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
