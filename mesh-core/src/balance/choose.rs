//! One endpoint of several that are as good as each other.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Ask, Host};
use crate::snapshot::Balancer;

/// Endpoints of one locality, or of a whole priority.
pub(super) struct Group<H> {
    pub(super) hosts: Vec<H>,
    /// Its share of the priority.
    pub(super) weight: u64,
    /// All hosts have the same weight.
    equal: bool,
    next: AtomicUsize,
}

/// One turn of a host with weight 1.
const TURN: u64 = 1 << 20;

impl<H: Host + Clone> Group<H> {
    pub(super) fn new(hosts: Vec<H>, weight: u64, seed: u64) -> Self {
        let first = hosts.first().map(|h| h.endpoint().weight);
        let equal = hosts.iter().all(|h| Some(h.endpoint().weight) == first);
        let next = seed % (hosts.len() as u64).max(1);
        Self { hosts, weight, equal, next: AtomicUsize::new(usize::try_from(next).unwrap_or(0)) }
    }

    pub(super) fn choose(&self, balancer: Balancer, ask: &Ask<'_>) -> Option<&H> {
        let hosts = &self.hosts[..];
        if let [only] = hosts {
            return Some(only);
        }
        match (balancer, self.equal) {
            (Balancer::RoundRobin, true) => hosts.get(self.next.fetch_add(1, Ordering::Relaxed) % hosts.len().max(1)),
            // Two choices with repetition, as Envoy makes them.
            (Balancer::LeastRequest, true) => {
                let (a, b) = (self.random(ask)?, self.random(ask)?);
                Some(if b.active() < a.active() { b } else { a })
            }
            (Balancer::RoundRobin | Balancer::LeastRequest, false) => self.warming(balancer, ask, |_| 1.0),
            // A consistent hash without a key: anyone.
            (Balancer::Random | Balancer::RingHash(_) | Balancer::Maglev(_), true) => self.random(ask),
            (Balancer::Random | Balancer::RingHash(_) | Balancer::Maglev(_), false) => {
                let total: u64 = hosts.iter().map(|h| u64::from(h.endpoint().weight)).sum();
                let mut at = ask.env.below(total);
                hosts.iter().find(|h| {
                    let weight = u64::from(h.endpoint().weight);
                    let hit = at < weight;
                    at = at.saturating_sub(weight);
                    hit
                })
            }
        }
    }

    fn random(&self, ask: &Ask<'_>) -> Option<&H> {
        self.hosts.get(usize::try_from(ask.env.below(self.hosts.len() as u64)).unwrap_or(0))
    }

    /// In turn, by weight times `factor`; under least request a host's load makes its turns longer.
    ///
    /// Earliest deadline first: a turn costs a host `TURN * load / weight`, and who has paid least is next.
    pub(super) fn warming(&self, balancer: Balancer, ask: &Ask<'_>, factor: impl Fn(&H) -> f64) -> Option<&H> {
        let now = ask.clock.load(Ordering::Relaxed);
        let load = |h: &H| match balancer {
            Balancer::LeastRequest => f64::from(h.active()) + 1.0,
            _ => 1.0,
        };
        let cost = |h: &H| {
            let weight = f64::from(h.endpoint().weight.max(1)) * factor(h);
            // Positive and far below 2^63 for the weights and loads that occur; `as` saturates.
            (TURN as f64 * load(h) / weight.max(f64::MIN_POSITIVE)) as u64
        };
        // Someone new, or who has been away, starts now instead of catching up.
        let due = |h: &H| {
            let cost = cost(h);
            h.turn().load(Ordering::Relaxed).max(now.saturating_sub(cost)).saturating_add(cost)
        };
        let (at, chosen) = self.hosts.iter().map(|h| (due(h), h)).min_by_key(|(at, _)| *at)?;
        chosen.turn().store(at, Ordering::Relaxed);
        ask.clock.fetch_max(at, Ordering::Relaxed);
        Some(chosen)
    }
}
