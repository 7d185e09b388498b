//! Names of workloads, and whose names count: pure parts, for plans, policies and TLS alike.

mod spiffe;
mod trust;

pub use spiffe::{SpiffeId, SpiffeIdError};
pub use trust::TrustDomains;
