//! What localities mean: priorities of instances, and shares of localities.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::Host;
use crate::model::Workload;
use crate::snapshot::{FailoverPlan, LocalityPlan, Near, Place, ZoneAwarePlan};

const NETWORK: &str = "topology.istio.io/network";

/// A label of an instance, also of those that are not labels but properties: network, cluster, region, zone, subzone.
pub fn label<'a>(workload: &'a Workload, name: &str) -> Option<Cow<'a, str>> {
    let some = |text: &'a str| Some(Cow::Borrowed(text)).filter(|t| !t.is_empty());
    let part = |i: usize| workload.locality.split('/').nth(i).and_then(some);
    let property = match name {
        NETWORK => some(&workload.network),
        "topology.istio.io/cluster" => some(&workload.cluster),
        "topology.kubernetes.io/region" => part(0),
        "topology.kubernetes.io/zone" => part(1),
        "topology.istio.io/subzone" => part(2),
        _ => None,
    };
    property.or_else(|| workload.labels.get(name).map(|v| Cow::Borrowed(v.as_str())))
}

/// Whether a locality is one of a pattern: `region`, `region/zone`, `region/*`, `*`…
pub fn matches(pattern: &str, place: &Place) -> bool {
    let mut parts = [&place.region, &place.zone, &place.subzone].into_iter();
    for segment in pattern.split('/') {
        match (segment, parts.next()) {
            ("*", _) => return true,
            (segment, Some(part)) if segment == &**part => {}
            _ => return false,
        }
    }
    true
}

/// Priority of an instance, 0 first, not yet without gaps; `None`: it gets nothing.
pub fn priority(plan: &LocalityPlan, workload: &Workload) -> Option<u32> {
    match plan {
        LocalityPlan::Ignored => Some(0),
        LocalityPlan::Distribute(to) => {
            let place = Place::parse(&workload.locality);
            to.iter().any(|(pattern, _)| matches(pattern, &place)).then_some(0)
        }
        LocalityPlan::Failover(plan) | LocalityPlan::ZoneAware(ZoneAwarePlan { failover: plan, .. }) => {
            Some(failover(plan, workload))
        }
    }
}

/// Kinds of nearness: with labels, too, each priority by labels has room for them.
const NEARNESS: u32 = 5;

fn failover(plan: &FailoverPlan, workload: &Workload) -> u32 {
    let FailoverPlan { labels, near } = plan;
    let by_near = near.as_ref().map_or(0, |n| nearness(n, &Place::parse(&workload.locality)));
    by_labels(labels, workload) * NEARNESS + by_near
}

/// Labels are compared in order: the later the first one that differs, the better. Another network, named first, puts
/// an instance behind all of the own one, but the rest is compared all the same.
fn by_labels(labels: &[(std::sync::Arc<str>, Option<std::sync::Arc<str>>)], workload: &Workload) -> u32 {
    let count = u32::try_from(labels.len()).unwrap_or(u32::MAX);
    let mut behind = 0;
    for (i, (name, wanted)) in (0..).zip(labels) {
        if label(workload, name).as_deref() == wanted.as_deref() {
            continue;
        }
        if i == 0 && &**name == NETWORK {
            behind = count;
            continue;
        }
        return behind + count - i;
    }
    behind
}

fn nearness(near: &Near, place: &Place) -> u32 {
    let Near { client, to, regions_only } = near;
    if place.region != client.region {
        let takes_over = to.as_ref().is_none_or(|to| *to == place.region);
        return match (regions_only, takes_over) {
            (true, true) if to.is_some() => 1,
            (true, _) => 2,
            (false, true) => 3,
            (false, false) => 4,
        };
    }
    match (place.zone == client.zone, place.subzone == client.subzone) {
        _ if *regions_only => 0,
        (true, true) => 0,
        (true, false) => 1,
        (false, _) => 2,
    }
}

/// Localities of one priority with their shares; `None`: they don't count, the hosts are one group.
pub(super) fn groups<H: Host + Clone>(
    plan: &LocalityPlan,
    hosts: &[H],
    usable: impl Fn(&H) -> bool,
    panic: bool,
    overprovisioning: u32,
) -> Option<Vec<(u64, Vec<H>)>> {
    let by_place = |zones_only: bool| {
        let mut all: BTreeMap<Place, Vec<H>> = BTreeMap::new();
        for host in hosts {
            let mut place = Place::parse(&host.endpoint().workload.locality);
            if zones_only {
                place.subzone = "".into();
            }
            all.entry(place).or_default().push(host.clone());
        }
        all
    };
    match plan {
        LocalityPlan::Ignored | LocalityPlan::Failover(_) => None,
        LocalityPlan::ZoneAware(_) if panic => None,
        LocalityPlan::Distribute(to) => {
            let places = by_place(false);
            let mut out = Vec::new();
            for (pattern, percent) in to {
                let covered: Vec<_> = places.iter().filter(|(p, _)| matches(pattern, p)).collect();
                let weight = |hosts: &[H]| hosts.iter().map(|h| u64::from(h.endpoint().weight)).sum::<u64>();
                let total: u64 = covered.iter().map(|(_, hosts)| weight(hosts)).sum();
                for (_, members) in covered {
                    // Of several localities of one pattern each has its part, rounded up.
                    let share = (u64::from(*percent) * weight(members)).div_ceil(total.max(1));
                    let healthy = members.iter().filter(|h| usable(h)).count() as u64;
                    // Rounded down, but somebody healthy is never nobody.
                    let available = u64::from(overprovisioning) * healthy / members.len() as u64;
                    let available = available.clamp(u64::from(healthy > 0), 100);
                    out.push((share * if panic { 100 } else { available }, members.clone()));
                }
            }
            Some(out)
        }
        LocalityPlan::ZoneAware(plan) => zones(plan, by_place(true), hosts.len(), usable),
    }
}

/// Envoy's zone-aware routing: if the own zone has at least the share of the capacity that it has of the clients, it
/// takes everything; else it takes what it can, and the rest goes where capacity is left.
fn zones<H: Host + Clone>(
    plan: &ZoneAwarePlan,
    places: BTreeMap<Place, Vec<H>>,
    hosts: usize,
    usable: impl Fn(&H) -> bool,
) -> Option<Vec<(u64, Vec<H>)>> {
    const WHOLE: u64 = 10_000;
    let zone_of = |p: &Place| Place { subzone: "".into(), ..p.clone() };
    let own = zone_of(&plan.client);
    if (hosts as u64) < u64::from(plan.min_cluster_size) || !places.contains_key(&own) {
        return None;
    }
    let mut peers: BTreeMap<Place, u64> = BTreeMap::new();
    for (place, count) in &plan.peers {
        *peers.entry(zone_of(place)).or_default() += u64::from(*count);
    }
    let clients: u64 = peers.values().sum();
    let healthy = |members: &[H]| members.iter().filter(|h| usable(h)).count() as u64;
    let all: u64 = places.values().map(|m| healthy(m)).sum();
    if clients == 0 || all == 0 {
        return None;
    }
    let clients_in = |p: &Place| peers.get(p).copied().unwrap_or(0) * WHOLE / clients;
    let capacity = |members: &[H]| healthy(members) * WHOLE / all;
    let (here, there) = (clients_in(&own), capacity(&places[&own]));
    let local = if here == 0 || there >= here { WHOLE } else { there * WHOLE / here };
    let left: BTreeMap<&Place, u64> = places
        .iter()
        .filter(|(p, _)| **p != own)
        .map(|(p, members)| (p, capacity(members).saturating_sub(clients_in(p))))
        .collect();
    let total: u64 = left.values().sum();
    let share = |place: &Place| match (*place == own, total) {
        (true, _) => local,
        (false, 0) => (WHOLE - local) / (left.len() as u64).max(1),
        (false, total) => (WHOLE - local) * left.get(place).copied().unwrap_or(0) / total,
    };
    let shares: BTreeMap<Place, u64> = places.keys().map(|p| (p.clone(), share(p))).collect();
    Some(places.into_iter().map(|(place, members)| (shares[&place], members)).collect())
}
