//! What of a World has to do with some objects: enough of it to say what becomes of their fields.

use std::collections::BTreeSet;

use crate::api::{Destination, Key, Object, VirtualService};
use crate::matching::HostPattern;
use crate::scope::http_destinations;
use crate::world::{Change, World, full_host};

/// The World without rules and services that have nothing to do with these objects. `None` if one of them is of a kind
/// that may concern everything.
pub(super) fn narrowed(world: &World, keys: &BTreeSet<Key>) -> Option<World> {
    if keys.iter().any(|k| !matches!(&*k.kind.kind, "VirtualService" | "DestinationRule" | "Service" | "ServiceEntry"))
    {
        return None;
    }
    let mut hosts = Hosts::default();
    let changed = |k: &Key| keys.contains(k);
    for v in world.virtual_services().iter().filter(|v| changed(&v.key)) {
        v.spec.hosts.iter().for_each(|h| hosts.add(h, v));
    }
    for r in world.destination_rules().iter().filter(|r| changed(&r.key)) {
        hosts.add(&r.spec.host, r);
    }
    hosts.0.extend(world.services().iter().filter(|s| changed(&s.key)).map(|s| HostPattern::parse(&s.hostname)));

    let changed_names: BTreeSet<_> = keys.iter().map(|k| (&*k.namespace, &*k.name)).collect();
    let concerned = |v: &Object<VirtualService>| {
        changed(&v.key)
            || v.spec.hosts.iter().any(|h| hosts.has(h, v))
            || destinations(&v.spec).any(|d| hosts.has(&d.host, v))
            || delegates(v).any(|d| changed_names.contains(&d))
    };
    let mut kept: BTreeSet<&Key> = BTreeSet::new();
    let all = || world.virtual_services().iter();
    kept.extend(all().filter(|v| concerned(v)).map(|v| &v.key));
    let inner: BTreeSet<_> = all().filter(|v| kept.contains(&v.key)).flat_map(|v| delegates(v)).collect();
    kept.extend(all().map(|v| &v.key).filter(|k| inner.contains(&(&*k.namespace, &*k.name))));

    // What a rule leads to may be visible because another host has that rule.
    let leads_here = |v: &Object<VirtualService>| destinations(&v.spec).any(|d| hosts.has(&d.host, v));
    let for_services = |v: &VirtualService| v.gateways.is_empty() || v.gateways.iter().any(|g| g == "mesh");
    let mut reached = hosts.clone();
    for v in all().filter(|v| kept.contains(&v.key)) {
        if for_services(&v.spec) && leads_here(v) {
            v.spec.hosts.iter().for_each(|h| reached.add(h, v));
        }
        destinations(&v.spec).for_each(|d| reached.add(&d.host, v));
    }
    let mut away: Vec<Change> = Vec::new();
    away.extend(all().filter(|v| !kept.contains(&v.key)).map(|v| Change::Remove(v.key.clone())));
    let rules = world.destination_rules().iter().filter(|r| !reached.has(&r.spec.host, r));
    away.extend(rules.map(|r| Change::Remove(r.key.clone())));
    let services = world.services().iter().filter(|s| !reached.any(&HostPattern::parse(&s.hostname)));
    away.extend(services.map(|s| Change::RemoveService(s.namespace.clone(), s.hostname.clone())));
    Some(world.with(away))
}

/// Hosts that are looked at.
#[derive(Clone, Default)]
struct Hosts(BTreeSet<HostPattern>);

impl Hosts {
    fn add<S>(&mut self, host: &str, of: &Object<S>) {
        self.0.insert(complete(host, of));
    }

    fn has<S>(&self, host: &str, of: &Object<S>) -> bool {
        self.any(&complete(host, of))
    }

    fn any(&self, host: &HostPattern) -> bool {
        self.0.contains(host) || self.0.iter().any(|h| !(h.is_exact() && host.is_exact()) && h.overlaps(host))
    }
}

fn complete<S>(host: &str, of: &Object<S>) -> HostPattern {
    HostPattern::parse(&full_host(host, &of.key.namespace, super::super::index::DOMAIN))
}

/// Namespace and name of each.
fn delegates(v: &Object<VirtualService>) -> impl Iterator<Item = (&str, &str)> {
    let own = &*v.key.namespace;
    let all = v.spec.http.iter().filter_map(|r| r.delegate.as_ref());
    all.map(move |d| (if d.namespace.is_empty() { own } else { d.namespace.as_str() }, d.name.as_str()))
}

fn destinations(v: &VirtualService) -> impl Iterator<Item = &Destination> {
    let l4 = v.tls.iter().flat_map(|r| &r.route).chain(v.tcp.iter().flat_map(|r| &r.route));
    v.http.iter().flat_map(http_destinations).chain(l4.filter_map(|d| d.destination.as_ref()))
}

#[cfg(test)]
mod tests;
