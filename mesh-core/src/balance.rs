//! Load balancing: from a cluster's endpoints and their health to the one that a request goes to.
//!
//! A [`Layout`] is built when endpoints, their health or the configuration change: priorities by locality with the load
//! that each takes, groups inside a priority, and the tables of consistent hashes. [`Layout::pick`] only reads it, without
//! a lock: round robin is one atomic addition, least request two random numbers, a hash one look-up. Whoever embeds it
//! keeps the hosts' counters and hands them in as [`Host`].

mod choose;
mod levels;
pub mod locality;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::env::Env;
use crate::model::Health;
use crate::snapshot::{Address, Balancer, Balancing, Endpoint, Warmup};
use choose::Group;
use levels::Level;
pub use table::{Table, hash};

/// An endpoint with its counters, as the balancer sees it. A [`Layout`] holds clones: it is meant for `Arc`s.
pub trait Host {
    /// Address, weight, health and instance.
    fn endpoint(&self) -> &Endpoint;
    /// Requests and connections that it has now.
    fn active(&self) -> u32;
    /// Virtual time of its next turn; only the balancer writes it.
    fn turn(&self) -> &AtomicU64;
    /// Taken out by outlier detection.
    fn is_ejected(&self) -> bool;
    /// When it came to the cluster, on the clock of [`Ask::now`].
    fn joined(&self) -> Duration;
}

impl<T: Host + ?Sized> Host for Arc<T> {
    fn endpoint(&self) -> &Endpoint {
        (**self).endpoint()
    }

    fn active(&self) -> u32 {
        (**self).active()
    }

    fn turn(&self) -> &AtomicU64 {
        (**self).turn()
    }

    fn is_ejected(&self) -> bool {
        (**self).is_ejected()
    }

    fn joined(&self) -> Duration {
        (**self).joined()
    }
}

/// What the tries before mean for the next one; a retrying Layer puts it into the request's extensions as `Arc<Tried>`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tried {
    /// Endpoints of the tries before, in order.
    pub endpoints: Vec<Address>,
    /// `retryIgnorePreviousHosts`; `None`: unset, which is yes, but no under a consistent hash.
    pub ignore_previous_hosts: Option<bool>,
    /// `retryRemoteLocalities`: after two tries at a priority others are tried.
    pub remote_localities: bool,
}

impl Tried {
    /// Priorities are left after so many tries, as Istio configures Envoy.
    const UPDATE_FREQUENCY: usize = 2;

    /// The endpoints whose priorities are to be left.
    fn remote(&self) -> &[Address] {
        let whole = self.endpoints.len() / Self::UPDATE_FREQUENCY * Self::UPDATE_FREQUENCY;
        if self.remote_localities { &self.endpoints[..whole] } else { &[] }
    }
}

/// One question to a [`Layout`].
pub struct Ask<'a> {
    /// Randomness.
    pub env: &'a dyn Env,
    /// Time on a clock of the embedder's choice; asked only while endpoints warm up.
    pub now: &'a dyn Fn() -> Duration,
    /// Virtual time of weighted choices; kept by the embedder, one for each cluster, so that it outlives layouts.
    pub clock: &'a AtomicU64,
    /// Consistent hash of the request; `None`: it has no key, and any endpoint will do.
    pub hash: Option<u64>,
    /// The tries before.
    pub tried: Option<&'a Tried>,
}

/// Times that a choice is made again to get an endpoint that was not tried before, as Istio configures Envoy.
const RESELECTIONS: usize = 5;

/// Endpoints in the order in which they are used.
pub struct Layout<H> {
    balancer: Balancer,
    levels: Vec<Level<H>>,
    warmup: Option<Warmup>,
    /// When the last endpoint is warm.
    warm_at: Duration,
}

/// Where a host stands in a [`Layout`], for the config dump.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Standing {
    /// Priority by locality, 0 first.
    pub priority: usize,
    /// Percent of the requests that its priority takes.
    pub load: u32,
    /// The priority uses all its endpoints, healthy or not.
    pub panic: bool,
    /// Percent of the requests that it gets itself while nobody is busier than others.
    pub share: f64,
}

impl<H: Host + Clone> Layout<H> {
    /// No endpoint.
    pub fn empty() -> Self {
        Self { balancer: Balancer::default(), levels: Vec::new(), warmup: None, warm_at: Duration::ZERO }
    }

    /// Orders hosts. `seed` is any number: where rounds begin.
    pub fn build(hosts: &[H], balancer: Balancer, balancing: &Balancing, seed: u64) -> Self {
        let panic_below = balancing.outlier.as_ref().map_or(0, |o| o.min_health_percent);
        // Istio does not even tell a proxy that may panic about instances that are not ready.
        let known = hosts.iter().filter(|h| panic_below == 0 || h.endpoint().health == Health::Healthy);
        let levels = levels::build(known, balancer, &balancing.locality, panic_below, seed);
        let warmup = balancing.warmup.filter(|_| matches!(balancer, Balancer::LeastRequest | Balancer::RoundRobin));
        let newest = hosts.iter().map(Host::joined).max().unwrap_or_default();
        let warm_at = warmup.map_or(Duration::ZERO, |w| newest.saturating_add(w.duration));
        Self { balancer, levels, warmup, warm_at }
    }

    /// Chooses an endpoint; `None`: none is healthy.
    pub fn pick(&self, ask: &Ask<'_>) -> Option<&H> {
        let level = match ask.tried.map(Tried::remote) {
            Some(left) if !left.is_empty() => levels::choose_other(&self.levels, left, ask)?,
            _ => levels::choose(&self.levels, ask)?,
        };
        let avoid = ask.tried.filter(|t| t.ignore_previous_hosts.unwrap_or(!self.balancer.hashes()));
        let avoid = avoid.map_or(&[][..], |t| &t.endpoints);
        if let (Some(table), Some(hash)) = (&level.table, ask.hash) {
            let mut found = table.walk(hash).filter_map(|i| level.flat.get(i));
            let first = found.next();
            return match first {
                Some(h) if avoid.contains(&h.endpoint().address) => {
                    found.take(table.len()).find(|h| !avoid.contains(&h.endpoint().address)).or(first)
                }
                first => first,
            };
        }
        let group = level.group(ask.env)?;
        let mut chosen = self.among(group, ask)?;
        for _ in 0..RESELECTIONS {
            if !avoid.contains(&chosen.endpoint().address) {
                break;
            }
            chosen = self.among(level.group(ask.env)?, ask)?;
        }
        Some(chosen)
    }

    fn among<'a>(&'a self, group: &'a Group<H>, ask: &Ask<'_>) -> Option<&'a H> {
        if let Some(warmup) = &self.warmup {
            let now = (ask.now)();
            if now < self.warm_at {
                return group.warming(self.balancer, ask, |h| warmup.factor(now.saturating_sub(h.joined())));
            }
        }
        group.choose(self.balancer, ask)
    }

    /// Where the host of an address stands; `None`: it gets nothing at all (`distribute`).
    pub fn standing(&self, address: &Address) -> Option<Standing> {
        let at = self.levels.iter().position(|l| l.has(address))?;
        let level = &self.levels[at];
        let share = level.share(address) * f64::from(level.load);
        Some(Standing { priority: at, load: level.load, panic: level.panic, share })
    }

    /// Some priority uses all its endpoints because too few are healthy.
    pub fn panics(&self) -> bool {
        self.levels.iter().any(|l| l.panic)
    }
}
