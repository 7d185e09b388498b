//! Balancers. State is atomics, shared by all workers of the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use mesh_core::env::Env;
use mesh_core::model::Health;
use mesh_core::snapshot::Balancer;

use super::Member;
use crate::net::Net;

/// Where a balancer is.
#[derive(Default)]
pub(super) struct Turn {
    next: AtomicUsize,
    clock: AtomicU64,
}

/// One turn of a member with weight 1.
const TURN: u64 = 1 << 20;

pub(super) fn pick<N: Net>(
    balancer: Balancer,
    members: &[Arc<Member<N>>],
    turn: &Turn,
    env: &dyn Env,
) -> Option<Arc<Member<N>>> {
    let healthy = |m: &&Arc<Member<N>>| m.endpoint().health == Health::Healthy;
    if members.iter().all(|m| healthy(&m)) {
        return among(balancer, members, turn, env).cloned();
    }
    let members: Vec<_> = members.iter().filter(healthy).cloned().collect();
    among(balancer, &members, turn, env).cloned()
}

fn among<'a, N: Net>(
    balancer: Balancer,
    members: &'a [Arc<Member<N>>],
    turn: &Turn,
    env: &dyn Env,
) -> Option<&'a Arc<Member<N>>> {
    let first = members.first()?;
    if members.len() == 1 {
        return Some(first);
    }
    let random = || members.get(env.below(members.len() as u64) as usize);
    let equal = members.iter().all(|m| m.endpoint().weight == first.endpoint().weight);
    match (balancer, equal) {
        (Balancer::RoundRobin, true) => members.get(turn.next.fetch_add(1, Ordering::Relaxed) % members.len()),
        // Two choices with repetition, as Envoy makes them.
        (Balancer::LeastRequest, true) => {
            let (a, b) = (random()?, random()?);
            Some(if b.active() < a.active() { b } else { a })
        }
        (Balancer::Random, true) => random(),
        (Balancer::RoundRobin, false) => Some(weighted(members, turn, |_| 1)),
        (Balancer::LeastRequest, false) => Some(weighted(members, turn, |m| u64::from(m.active()) + 1)),
        (Balancer::Random, false) => {
            let total: u64 = members.iter().map(|m| u64::from(m.endpoint().weight)).sum();
            let mut at = env.below(total);
            members.iter().find(|m| {
                let weight = u64::from(m.endpoint().weight);
                let hit = at < weight;
                at = at.saturating_sub(weight);
                hit
            })
        }
    }
}

/// Earliest deadline first: a turn costs a member `TURN * load / weight`, and who has paid least is next.
fn weighted<'a, N: Net>(
    members: &'a [Arc<Member<N>>],
    turn: &Turn,
    load: impl Fn(&Member<N>) -> u64,
) -> &'a Arc<Member<N>> {
    let now = turn.clock.load(Ordering::Relaxed);
    let cost = |m: &Arc<Member<N>>| TURN * load(m) / u64::from(m.endpoint().weight.max(1));
    // Someone new, or who has been away, starts now instead of catching up.
    let due = |m: &Arc<Member<N>>| {
        let next = m.turn().load(Ordering::Relaxed).max(now.saturating_sub(cost(m)));
        next + cost(m)
    };
    let chosen = members.iter().min_by_key(|m| due(m)).expect("invariant: called with at least two members");
    let at = due(chosen);
    chosen.turn().store(at, Ordering::Relaxed);
    turn.clock.fetch_max(at, Ordering::Relaxed);
    chosen
}
