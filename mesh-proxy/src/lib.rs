//! The data plane: everything that touches the network on the way of a request, for sidecars, gateways and embedders.
//!
//! ```text
//! listener -> detect -> HTTP stack (tower Layers) -> pool -> net
//!                    \-> tcp (bytes)                      -> net
//! ```
//!
//! What to do is decided by `mesh-core`'s plan; this crate acts on it. [`net`] is the only module with unsafe
//! code, besides the allocator that the programs' heap profiles come from (`profile::heap`).

pub mod admin;
mod chunked;
pub mod cluster;
pub mod csr;
pub mod detect;
pub mod dial;
pub mod discovery;
pub mod dns;
pub mod drain;
mod embed;
mod errand;
pub(crate) mod explicit;
mod ext_authz;
mod force;
pub mod http;
mod identity;
mod jwks;
pub mod listener;
pub mod net;
mod pool;
#[cfg(feature = "bin")]
pub mod profile;
mod proxy_protocol;
#[cfg(feature = "bin")]
pub mod run;
pub mod secrets;
pub mod source;
pub mod stack;
pub mod tcp;
pub mod telemetry;
pub mod tls;
#[cfg(feature = "bin")]
mod worker;

pub use embed::{
    Application, Builder, Client, ConfigWatch, Connect, Mesh, MeshLayer, MeshService, MeshStream, ResponseBody,
};
pub use mesh_core::error::Error;
pub use mesh_core::layers::Body;
pub use mesh_core::record::{RequestRecord, Sink};
