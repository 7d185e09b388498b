//! How many connections of clients are open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mesh_core::snapshot::Direction;

/// Open connections by direction. Clones are the same counters.
#[derive(Clone, Debug, Default)]
pub struct OpenConnections(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    inbound: AtomicU64,
    outbound: AtomicU64,
    gateway: AtomicU64,
}

impl Counts {
    fn of(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
            Direction::Gateway => &self.gateway,
        }
    }
}

impl OpenConnections {
    /// How many are open now.
    pub fn count(&self, direction: Direction) -> u64 {
        self.0.of(direction).load(Ordering::Relaxed)
    }

    /// Counts a connection until what is returned is dropped.
    pub(super) fn enter(&self, direction: Direction) -> Counted {
        self.0.of(direction).fetch_add(1, Ordering::Relaxed);
        Counted { counts: Arc::clone(&self.0), direction }
    }
}

/// A connection that is counted.
pub(super) struct Counted {
    counts: Arc<Counts>,
    direction: Direction,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counts.of(self.direction).fetch_sub(1, Ordering::Relaxed);
    }
}
