//! What is in use of one destination: counted for all workers of a process, kept across snapshots.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::snapshot::PoolPlan;

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resource {
    /// Connections, from the attempt to make one to its close.
    Connections,
    /// Requests that wait for a connection.
    Pending,
    /// Requests that have one, until their response has ended.
    Requests,
    /// Retries, from the decision to the response.
    Retries,
}

/// Counts of one destination.
#[derive(Debug)]
pub struct Usage {
    counts: [AtomicU32; 4],
    recent: Recent,
}

impl Default for Usage {
    fn default() -> Self {
        Self { counts: Default::default(), recent: Recent { made: Instant::now(), slots: Default::default() } }
    }
}

impl Usage {
    /// How many there are now.
    pub fn now(&self, of: Resource) -> u32 {
        self.counts[of as usize].load(Ordering::Relaxed)
    }

    /// One more, unless there are `max`; it counts until the permit is dropped.
    pub fn take(self: &Arc<Self>, of: Resource, max: u32) -> Option<Permit> {
        let one_more = |n: u32| (n < max).then_some(n + 1);
        let taken = self.counts[of as usize].fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.ok().map(|_| Permit { usage: Arc::clone(self), of })
    }

    /// One more, whatever there are.
    pub fn take_always(self: &Arc<Self>, of: Resource) -> Permit {
        self.counts[of as usize].fetch_add(1, Ordering::Relaxed);
        Permit { usage: Arc::clone(self), of }
    }

    /// One more retry, within the plan's number or budget.
    pub fn take_retry(self: &Arc<Self>, plan: &PoolPlan) -> Option<Permit> {
        let in_flight = self.now(Resource::Requests).saturating_add(self.now(Resource::Pending));
        let requests = match plan.retry_budget.as_ref().filter(|b| !b.interval.is_zero()) {
            Some(budget) => in_flight.max(self.recent.count(budget.interval)),
            None => in_flight,
        };
        self.take(Resource::Retries, plan.retries_allowed(requests))
    }

    /// Notes that a request begins, where the plan's budget looks back.
    pub fn began(&self, plan: &PoolPlan) {
        if let Some(budget) = plan.retry_budget.as_ref().filter(|b| !b.interval.is_zero()) {
            self.recent.add(budget.interval);
        }
    }
}

/// Counts as one of a [`Resource`] until it is dropped.
#[derive(Debug)]
pub struct Permit {
    usage: Arc<Usage>,
    of: Resource,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.usage.counts[self.of as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

/// Requests by the time at which they began: as many slots as make up the interval, each with its number and count.
#[derive(Debug)]
struct Recent {
    made: Instant,
    slots: [AtomicU64; SLOTS as usize],
}

const SLOTS: u64 = 10;

impl Recent {
    /// Number of the slot of now, from 1 on: 0 is a slot that was never used.
    fn slot(&self, interval: Duration) -> u64 {
        let width = (interval.as_nanos() / u128::from(SLOTS)).max(1);
        u64::try_from(self.made.elapsed().as_nanos() / width).unwrap_or(u64::MAX).saturating_add(1) & 0xffff_ffff
    }

    fn add(&self, interval: Duration) {
        let now = self.slot(interval);
        let one_more = |old: u64| {
            let count = if old >> 32 == now { old & 0xffff_ffff } else { 0 };
            Some((now << 32) | (count + 1).min(0xffff_ffff))
        };
        let slot = &self.slots[(now % SLOTS) as usize];
        let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
    }

    fn count(&self, interval: Duration) -> u32 {
        let now = self.slot(interval);
        let in_time = |slot: &u64| *slot != 0 && now.saturating_sub(slot >> 32) < SLOTS;
        let sum: u64 =
            self.slots.iter().map(|s| s.load(Ordering::Relaxed)).filter(in_time).map(|s| s & 0xffff_ffff).sum();
        u32::try_from(sum).unwrap_or(u32::MAX)
    }
}
