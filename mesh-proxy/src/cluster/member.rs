//! One endpoint's connections and counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use mesh_core::balance::Host;
use mesh_core::outlier;
use mesh_core::snapshot::Endpoint;

use super::shard_index;
use crate::net::Net;
use crate::pool::{Peer, Shard};

/// An endpoint with its state.
pub struct Member<N: Net> {
    endpoint: Arc<Endpoint>,
    state: Arc<State>,
    _net: std::marker::PhantomData<fn() -> N>,
}

struct State {
    active: AtomicU32,
    /// Virtual time of the next turn, for weighted balancing.
    turn: AtomicU64,
    /// When it came to the cluster, on the cluster's clock.
    joined: Duration,
    outlier: Arc<outlier::Host>,
    shards: Box<[Arc<Shard>]>,
}

impl<N: Net> Member<N> {
    pub(super) fn new(endpoint: Arc<Endpoint>, workers: usize, joined: Duration) -> Self {
        let peer = Arc::new(Peer::default());
        let shards = (0..workers).map(|_| Arc::new(Shard::new(Arc::clone(&peer)))).collect();
        let (active, turn, outlier) = Default::default();
        let state = Arc::new(State { active, turn, joined, outlier, shards });
        Self { endpoint, state, _net: std::marker::PhantomData }
    }

    /// The same instance with other properties: connections and counters stay.
    pub(super) fn with_endpoint(&self, endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint, state: Arc::clone(&self.state), _net: std::marker::PhantomData }
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Requests and connections that it has now.
    pub fn active(&self) -> u32 {
        self.state.active.load(Ordering::Relaxed)
    }

    pub(super) fn is_active(&self) -> bool {
        self.active() > 0
    }

    pub(super) fn outlier(&self) -> &Arc<outlier::Host> {
        &self.state.outlier
    }

    pub(crate) fn shard(&self) -> &Arc<Shard> {
        &self.state.shards[shard_index(self.state.shards.len())]
    }
}

impl<N: Net> Host for Member<N> {
    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn active(&self) -> u32 {
        self.active()
    }

    fn turn(&self) -> &AtomicU64 {
        &self.state.turn
    }

    fn is_ejected(&self) -> bool {
        self.state.outlier.is_ejected()
    }

    fn joined(&self) -> Duration {
        self.state.joined
    }
}

/// A member that is being used; it counts as active until this is dropped.
pub struct Active<N: Net> {
    member: Arc<Member<N>>,
}

impl<N: Net> Active<N> {
    pub(super) fn new(member: Arc<Member<N>>) -> Self {
        member.state.active.fetch_add(1, Ordering::Relaxed);
        Self { member }
    }

    /// The member.
    pub fn member(&self) -> &Arc<Member<N>> {
        &self.member
    }
}

impl<N: Net> Drop for Active<N> {
    fn drop(&mut self) {
        self.member.state.active.fetch_sub(1, Ordering::Relaxed);
    }
}
