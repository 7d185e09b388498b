//! Priorities: which endpoints are tried first, and how much spills over to the next ones.

use std::collections::BTreeMap;

use super::choose::Group;
use super::{Ask, Host, Table, locality};
use crate::env::Env;
use crate::model::Health;
use crate::snapshot::{Address, Balancer, LocalityPlan};

/// A priority takes its load as long as this times its healthy share is 100 %; Envoy's overprovisioning factor.
const OVERPROVISIONING: u32 = 140;

/// One priority.
pub(super) struct Level<H> {
    /// All of it, healthy or not.
    all: Vec<H>,
    /// Percent of the requests.
    pub(super) load: u32,
    /// Healthy share times the factor, at most 100.
    available: u32,
    pub(super) panic: bool,
    groups: Vec<Group<H>>,
    total: u64,
    /// The hosts of the table.
    pub(super) flat: Vec<H>,
    /// Table of a consistent hash.
    pub(super) table: Option<Table>,
}

impl<H: Host + Clone> Level<H> {
    /// One of the groups, by weight.
    pub(super) fn group(&self, env: &dyn Env) -> Option<&Group<H>> {
        if let [only] = &self.groups[..] {
            return Some(only);
        }
        let mut at = env.below(self.total);
        self.groups.iter().find(|g| {
            let hit = at < g.weight;
            at = at.saturating_sub(g.weight);
            hit
        })
    }
}

impl<H: Host + Clone> Level<H> {
    /// Whether an address is of this priority, healthy or not.
    pub(super) fn has(&self, address: &Address) -> bool {
        self.all.iter().any(|h| h.endpoint().address == *address)
    }

    /// Part of the level's requests that an address gets, 0 to 1.
    pub(super) fn share(&self, address: &Address) -> f64 {
        let of_group = |g: &Group<H>| {
            let mine: u64 = g.hosts.iter().filter(|h| h.endpoint().address == *address).map(weight).sum();
            let all: u64 = g.hosts.iter().map(weight).sum();
            mine as f64 / all.max(1) as f64 * g.weight as f64 / self.total.max(1) as f64
        };
        self.groups.iter().map(of_group).sum()
    }
}

fn weight<H: Host>(host: &H) -> u64 {
    u64::from(host.endpoint().weight)
}

fn is_usable<H: Host + Clone>(host: &H) -> bool {
    host.endpoint().health == Health::Healthy && !host.is_ejected()
}

/// Hosts by priority, with the loads.
pub(super) fn build<'a, H: Host + Clone + 'a>(
    hosts: impl Iterator<Item = &'a H>,
    balancer: Balancer,
    plan: &LocalityPlan,
    panic_below: u32,
    seed: u64,
) -> Vec<Level<H>> {
    let mut by_priority: BTreeMap<u32, Vec<H>> = BTreeMap::new();
    for host in hosts {
        if let Some(priority) = locality::priority(plan, &host.endpoint().workload) {
            by_priority.entry(priority).or_default().push(host.clone());
        }
    }
    let levels: Vec<Vec<H>> = by_priority.into_values().collect();
    let shares: Vec<(u32, u32)> = levels.iter().map(|l| health(l)).collect();
    let loads = loads(&shares, panic_below);
    let make = |(hosts, load): (Vec<H>, Load)| level(hosts, load, balancer, plan, seed);
    levels.into_iter().zip(loads).map(make).collect()
}

/// Healthy hosts and all hosts.
fn health<H: Host + Clone>(hosts: &[H]) -> (u32, u32) {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    (count(hosts.iter().filter(|h| is_usable(*h)).count()), count(hosts.len()))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Load {
    pub(super) percent: u32,
    pub(super) available: u32,
    pub(super) panic: bool,
}

/// Envoy's distribution: each priority takes what it can, in order; while together they can't take everything, those
/// below the panic threshold use all their hosts.
pub(super) fn loads(health: &[(u32, u32)], panic_below: u32) -> Vec<Load> {
    let available = |(healthy, all): &(u32, u32)| match (*healthy, u64::from(*all)) {
        (0, _) | (_, 0) => 0,
        // Rounded down, but somebody healthy is never nobody.
        (n, all) => u32::try_from((u64::from(OVERPROVISIONING) * u64::from(n) / all).clamp(1, 100)).unwrap_or(100),
    };
    let each: Vec<u32> = health.iter().map(available).collect();
    let sum: u32 = each.iter().sum();
    let total = sum.min(100);
    let few = |(healthy, all): &(u32, u32)| u64::from(*healthy) * 100 < u64::from(panic_below) * u64::from(*all);
    let panics: Vec<bool> = health.iter().map(|h| total < 100 && few(h)).collect();
    let mut out: Vec<Load> = each
        .iter()
        .zip(&panics)
        .map(|(available, panic)| Load { percent: 0, available: *available, panic: *panic })
        .collect();
    // Everyone panics: health says nothing any more, the numbers of hosts do.
    let all_panic = !panics.is_empty() && panics.iter().all(|p| *p);
    let hosts: u64 = health.iter().map(|(_, all)| u64::from(*all)).sum();
    let mut left = 100;
    for (i, load) in out.iter_mut().enumerate() {
        let part = match all_panic {
            true => u64::from(health[i].1) * 100 / hosts.max(1),
            false if total == 0 => 0,
            false => u64::from(each[i]) * 100 / u64::from(total),
        };
        load.percent = u32::try_from(part).unwrap_or(100).min(left);
        left -= load.percent;
    }
    // What rounding left over goes to the first that takes anything.
    if let Some(first) = out.iter_mut().find(|l| l.percent > 0) {
        first.percent += left;
    }
    out
}

fn level<H: Host + Clone>(hosts: Vec<H>, load: Load, balancer: Balancer, plan: &LocalityPlan, seed: u64) -> Level<H> {
    let Load { percent, available, panic } = load;
    let shares = locality::groups(plan, &hosts, is_usable, panic, OVERPROVISIONING);
    let mut groups: Vec<Group<H>> = Vec::new();
    match shares {
        None => {
            let used: Vec<H> = hosts.iter().filter(|h| panic || is_usable(*h)).cloned().collect();
            groups.extend((!used.is_empty()).then(|| Group::new(used, 1, seed)));
        }
        Some(shares) => {
            for (weight, members) in shares {
                let members: Vec<H> = members.into_iter().filter(|h| panic || is_usable(h)).collect();
                if !members.is_empty() && weight > 0 {
                    groups.push(Group::new(members, weight, seed));
                }
            }
        }
    }
    let total = groups.iter().map(|g| g.weight).sum();
    let (flat, table) = table(&groups, total, balancer);
    Level { all: hosts, load: percent, available, panic, groups, total, flat, table }
}

/// The table of a consistent hash: a host's weight in it is its share of its group times the group's.
fn table<H: Host + Clone>(groups: &[Group<H>], total: u64, balancer: Balancer) -> (Vec<H>, Option<Table>) {
    if !balancer.hashes() {
        return (Vec::new(), None);
    }
    let mut flat = Vec::new();
    let mut weighted = Vec::new();
    for group in groups {
        let sum: u64 = group.hosts.iter().map(weight).sum();
        for host in &group.hosts {
            let own = f64::from(host.endpoint().weight) / sum.max(1) as f64;
            weighted.push((host.endpoint().address.to_string(), own * group.weight as f64 / total.max(1) as f64));
            flat.push(host.clone());
        }
    }
    let table = match balancer {
        Balancer::RingHash(minimum) => Table::ring(&weighted, minimum),
        Balancer::Maglev(size) => Table::maglev(&weighted, size),
        Balancer::LeastRequest | Balancer::RoundRobin | Balancer::Random => return (flat, None),
    };
    (flat, Some(table))
}

/// A priority by load: at random, or by the hash, so that one key stays at one priority.
pub(super) fn choose<'a, H: Host + Clone>(levels: &'a [Level<H>], ask: &Ask<'_>) -> Option<&'a Level<H>> {
    if let [only] = levels {
        return (only.load > 0).then_some(only);
    }
    let mut at = u32::try_from(ask.hash.map_or_else(|| ask.env.below(100), |h| h % 100)).unwrap_or(0);
    levels.iter().find(|l| {
        let hit = at < l.load;
        at = at.saturating_sub(l.load);
        hit
    })
}

/// A priority that none of these endpoints is of; if all were tried, any.
pub(super) fn choose_other<'a, H: Host + Clone>(
    levels: &'a [Level<H>],
    tried: &[Address],
    ask: &Ask<'_>,
) -> Option<&'a Level<H>> {
    let others: Vec<&Level<H>> = levels.iter().filter(|l| !tried.iter().any(|t| l.has(t))).collect();
    let total: u32 = others.iter().map(|l| l.available).sum();
    if total == 0 {
        return choose(levels, ask);
    }
    // Their shares as if there were only they, each up to what it can take.
    let mut at = u32::try_from(ask.env.below(u64::from(total.min(100)))).unwrap_or(0);
    others.into_iter().find(|l| {
        let hit = at < l.available;
        at = at.saturating_sub(l.available);
        hit
    })
}
