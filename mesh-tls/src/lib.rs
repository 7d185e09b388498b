//! Identity and transport security of the mesh.
//!
//! Workloads are named by [`SpiffeId`]s. Keys and certificates come through three traits, so that who issues them and
//! where they are kept is the binary's choice: [`CertSource`] (the own identity, rotated), [`CertSigner`] (a CA),
//! [`SecretSource`] (materials that configuration names, such as a gateway's `credentialName`). [`Acceptor`] and
//! [`Connector`] speak TLS over any byte stream, as a plan of `mesh-core` says. Private keys are never
//! part of resources, plans or logs: plans hold a [`SecretRef`], and [`PrivateKey`] can't be printed.

#![forbid(unsafe_code)]

mod accept;
mod connect;
mod error;
mod follow;
mod kubernetes;
mod material;
mod peer;
mod secrets;
mod spiffe;
mod stream;
mod suites;
mod verify;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use accept::Acceptor;
pub use connect::{Carries, Connector};
pub use error::TlsError;
pub use kubernetes::SecretData;
pub use material::{Identity, Material, Roots};
pub use mesh_core::snapshot::SecretRef;
pub use secrets::{SecretError, SecretSource, SecretState, Secrets};
pub use spiffe::{SpiffeId, SpiffeIdError};
pub use stream::TlsStream;

/// A private key in PEM form. It is neither printed nor compared.
#[derive(Clone)]
pub struct PrivateKey(Arc<[u8]>);

impl PrivateKey {
    /// Wraps PEM bytes.
    pub fn from_pem(pem: &[u8]) -> Self {
        Self(pem.into())
    }

    /// The PEM bytes, for the TLS stack.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

/// A workload's certificate with its key.
#[derive(Clone, Debug)]
pub struct WorkloadCert {
    /// Identity in the certificate.
    pub id: SpiffeId,
    /// Chain in PEM, leaf first, without the root.
    pub chain: Arc<[u8]>,
    /// Trusted roots in PEM.
    pub roots: Arc<[u8]>,
    /// Key of the leaf.
    pub key: PrivateKey,
    /// When it stops being valid.
    pub not_after: SystemTime,
}

/// The proxy's own identity, kept fresh.
pub trait CertSource: Send + Sync + 'static {
    /// The certificate now in force; `None` until the first one is there: nothing may be served then.
    fn current(&self) -> Option<Arc<WorkloadCert>>;
    /// Completes when [`CertSource::current`] has changed.
    fn changed(&self) -> impl Future<Output = ()> + Send;
}

/// A certificate authority: signs for an authenticated caller. The SAN is the caller's, whatever the request asks.
pub trait CertSigner: Send + Sync + 'static {
    /// Signs the public key of a PEM request. Returns the chain, leaf first, root bundle last.
    fn sign(
        &self,
        caller: &SpiffeId,
        csr: &[u8],
        validity: Duration,
    ) -> impl Future<Output = Result<Vec<String>, SecretError>> + Send;
}

#[cfg(test)]
mod tests;
