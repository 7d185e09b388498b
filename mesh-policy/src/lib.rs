//! Authentication and authorization decisions of the mesh.
//!
//! A decision is a pure function from what is known about a request ([`PolicyInput`]) to a [`Decision`]; the compilers
//! that turn policies into it and the Layers that ask for it are here. Transport that a decision needs (fetching JSON Web
//! Key Sets, asking an external authorizer) is behind [`KeySetSource`](jwt::KeySetSource) and [`ExternalAuthorizer`],
//! which mesh-proxy implements.
//!
//! When in doubt, closed: [`Decision`] has no default, and an error on the way to one is a denial.

#![forbid(unsafe_code)]

pub mod attach;
pub mod authz;
mod input;
pub mod jwt;
pub mod layers;

use std::future::Future;

pub use authz::{Decision, Denial, Policies};
pub use input::{Peer, PolicyInput};
pub use mesh_core::peer;

/// Asks an external authorizer (`CUSTOM`).
pub trait ExternalAuthorizer: Send + Sync + 'static {
    /// Decides, or says why it can't; the caller treats that as a denial unless the provider is configured open.
    fn check(&self, provider: &str, input: &PolicyInput<'_>) -> impl Future<Output = Result<Decision, String>> + Send;
}
