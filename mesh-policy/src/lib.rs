//! Authentication and authorization decisions of the mesh.
//!
//! A decision is a pure function from what is known about a request ([`PolicyInput`]) to a [`Decision`]; the compilers
//! that turn policies into it and the Layers that ask for it are here. Transport that a decision needs (fetching JSON Web
//! Key Sets, asking an external authorizer) is behind [`KeySetSource`](jwt::KeySetSource) and [`ExternalAuthorizer`](ext_authz::ExternalAuthorizer),
//! which mesh-proxy implements.
//!
//! When in doubt, closed: [`Decision`] has no default, and an error on the way to one is a denial.

#![forbid(unsafe_code)]

pub mod authz;
pub mod egress;
pub mod ext_authz;
mod input;
pub mod judge;
pub mod jwt;
pub mod layers;
pub mod refusal;

pub use authz::{Decision, Denial, Policies};
pub use input::{Peer, PolicyInput};
pub use mesh_core::{attach, peer};
pub use refusal::{Notice, Observer, Reasons, Refusal};
