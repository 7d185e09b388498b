//! Endpoints: the instances behind a cluster. They change without the configuration changing.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::model::{Health, Workload};

/// One address of one instance.
#[derive(Clone, PartialEq, Debug)]
pub struct Endpoint {
    /// Where to connect.
    pub address: SocketAddr,
    /// Weight, at least 1.
    pub weight: u32,
    /// Health as configuration knows it.
    pub health: Health,
    /// The instance.
    pub workload: Arc<Workload>,
}

/// The current endpoints of one cluster: one per cluster name, shared by all snapshots.
#[derive(Debug)]
pub struct EndpointSet {
    current: ArcSwap<Vec<Arc<Endpoint>>>,
}

impl EndpointSet {
    /// A set with these endpoints.
    pub fn new(endpoints: Vec<Arc<Endpoint>>) -> Self {
        Self { current: ArcSwap::from_pointee(endpoints) }
    }

    /// The endpoints now; one load for one decision.
    pub fn load(&self) -> Arc<Vec<Arc<Endpoint>>> {
        self.current.load_full()
    }

    /// Replaces them. An endpoint equal to one in the old list keeps its `Arc`, so that pools and counters that hang on
    /// it survive. Says whether anything changed.
    pub fn store(&self, mut endpoints: Vec<Arc<Endpoint>>) -> bool {
        let old = self.current.load();
        for e in &mut endpoints {
            if let Some(same) = old.iter().find(|o| ***o == **e) {
                *e = Arc::clone(same);
            }
        }
        if endpoints == **old {
            return false;
        }
        self.current.store(Arc::new(endpoints));
        true
    }
}
