//! Endpoints: the instances behind a cluster. They change without the configuration changing.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::model::{Health, Workload};

/// Where an instance is reached.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Address {
    /// By TCP.
    Ip(SocketAddr),
    /// By a unix socket beside the proxy: an absolute path, or `@NAME` in the abstract namespace.
    Unix(Arc<str>),
}

impl Address {
    /// The address of TCP; `None`: it is a unix socket.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(at) => Some(*at),
            Self::Unix(_) => None,
        }
    }

    /// What `unix://…` names; `None`: the text is something else.
    pub fn unix(text: &str) -> Option<Self> {
        text.strip_prefix("unix://").filter(|path| !path.is_empty()).map(|path| Self::Unix(path.into()))
    }
}

impl From<SocketAddr> for Address {
    fn from(at: SocketAddr) -> Self {
        Self::Ip(at)
    }
}

impl std::str::FromStr for Address {
    type Err = std::net::AddrParseError;

    /// What `Display` writes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.starts_with(['/', '@']) {
            true => Ok(Self::Unix(text.into())),
            false => text.parse().map(Self::Ip),
        }
    }
}

impl std::fmt::Display for Address {
    /// As Envoy writes it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(at) => at.fmt(f),
            Self::Unix(path) => f.write_str(path),
        }
    }
}

/// One address of one instance.
#[derive(Clone, PartialEq, Debug)]
pub struct Endpoint {
    /// Where to connect.
    pub address: Address,
    /// Weight, at least 1.
    pub weight: u32,
    /// Health as configuration knows it.
    pub health: Health,
    /// The instance.
    pub workload: Arc<Workload>,
    /// The mesh's own TLS with it.
    pub mesh: MeshPeer,
}

/// What a client knows of the mesh's own TLS with an endpoint.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct MeshPeer {
    /// It takes it: there is a proxy beside it that ends TLS on this port, and its mode is not DISABLE.
    pub takes: bool,
    /// What its certificate may say that it is: the identity of its service account, under each name of its trust domain.
    /// Empty: its account is not known.
    pub identities: Arc<[Arc<str>]>,
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
