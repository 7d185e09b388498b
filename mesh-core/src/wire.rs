//! What a proxy is sent: one resource per user object, plus services and workloads; and the channel it comes by.
//!
//! A proxy builds its own [`crate::world::World`] from these and compiles it with the same code as `explain`. The
//! version of a resource is the hash of its content, so a delta holds exactly what changed.

mod codec;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use codec::{Encoded, decode, kind, object_name, removal, service_name, workload_name};

use crate::api::ContentHash;
use crate::world::Change;

/// Name of a resource: its type and, inside it, `namespace/name` (services: `namespace/hostname`, workloads: uid).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ResourceName {
    /// Type: `networking.istio.io/VirtualService`, `mesh/Service`, `mesh/Workload`, `mesh/MeshConfig`.
    pub kind: Arc<str>,
    /// Name inside the type.
    pub name: Arc<str>,
}

/// A resource.
#[derive(Clone, PartialEq, Debug)]
pub struct WireResource {
    /// Name.
    pub name: ResourceName,
    /// Hash of the content: the version.
    pub version: ContentHash,
    /// The content.
    pub body: Body,
}

/// Content of a resource.
#[derive(Clone, PartialEq, Debug)]
pub enum Body {
    /// Encoded, as it is sent to another process.
    Encoded(Arc<[u8]>),
    /// The object itself, for a proxy in the process that has it.
    Here(Change),
}

impl Body {
    /// It encoded.
    pub fn bytes(&self) -> Arc<[u8]> {
        match self {
            Self::Encoded(bytes) => Arc::clone(bytes),
            Self::Here(change) => change.encode().into(),
        }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Encoded(bytes.into())
    }
}

impl From<&[u8]> for Body {
    fn from(bytes: &[u8]) -> Self {
        Self::Encoded(bytes.into())
    }
}

/// Everything a proxy has been sent, by name.
pub type ResourceSet = BTreeMap<ResourceName, Arc<WireResource>>;

/// The same without the contents: what it takes to tell a change.
pub type Versions = BTreeMap<ResourceName, ContentHash>;

/// A change to a [`ResourceSet`].
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Delta {
    /// Names this delta in the acknowledgement.
    pub nonce: String,
    /// Added or changed.
    pub changed: Vec<Arc<WireResource>>,
    /// Removed.
    pub removed: Vec<ResourceName>,
}

impl Delta {
    /// What turns `from` into `to`.
    pub fn between(from: &ResourceSet, to: &ResourceSet) -> Self {
        Self::to(to, from, |held| held.version)
    }

    /// The same from what is only known by its versions.
    pub fn since(from: &Versions, to: &ResourceSet) -> Self {
        Self::to(to, from, |held| *held)
    }

    fn to<H>(to: &ResourceSet, from: &BTreeMap<ResourceName, H>, version: impl Fn(&H) -> ContentHash) -> Self {
        let changed = to.iter().filter(|(n, r)| from.get(n).is_none_or(|held| version(held) != r.version));
        let removed = from.keys().filter(|n| !to.contains_key(n));
        Self {
            nonce: String::new(),
            changed: changed.map(|(_, r)| r.clone()).collect(),
            removed: removed.cloned().collect(),
        }
    }

    /// Applies it.
    pub fn apply(&self, set: &mut ResourceSet) {
        for n in &self.removed {
            set.remove(n);
        }
        for r in &self.changed {
            set.insert(r.name.clone(), r.clone());
        }
    }

    /// Nothing changes.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }
}

/// Why a resource was not taken. The others of the delta are in force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rejection {
    /// The resource.
    pub name: ResourceName,
    /// Why.
    pub message: String,
}

/// Acknowledgement of a delta: what of it is now in force for new requests.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Ack {
    /// [`Delta::nonce`].
    pub nonce: String,
    /// [`crate::snapshot::Snapshot::hash`] now in force.
    pub config: ContentHash,
    /// Resources that were refused by name.
    pub rejected: Vec<Rejection>,
}

/// A stream of deltas for one proxy, and the way to acknowledge them. Implementations: delta ADS over gRPC, and an
/// in-process one that scopes a World read from files.
pub trait ConfigSource: Send + 'static {
    /// The next delta; the first one is the whole set. `None`: the source is gone for good. Implementations that can
    /// reconnect do so themselves, with back-off, and then deliver the difference to what they had delivered.
    fn next(&mut self) -> impl Future<Output = Option<Delta>> + Send;

    /// Says that a delta is in force.
    fn ack(&mut self, ack: Ack) -> impl Future<Output = ()> + Send;
}
