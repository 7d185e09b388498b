//! Identity and transport security of the mesh.
//!
//! Workloads are named by [`SpiffeId`]s. Keys and certificates come through three traits, so that who issues them and
//! where they are kept is the binary's choice: [`CertSource`] (the own identity, rotated), [`CertSigner`] (a CA),
//! [`SecretSource`] (materials that configuration names, such as a gateway's `credentialName`). Private keys are never
//! part of resources, plans or logs: plans hold a [`SecretRef`], and [`PrivateKey`] can't be printed.

#![forbid(unsafe_code)]

mod spiffe;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use spiffe::{SpiffeId, SpiffeIdError};

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

/// Name of key material that configuration refers to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SecretRef {
    /// `credentialName`: a Secret in the proxy's own namespace.
    Credential {
        /// Namespace of the proxy.
        namespace: Arc<str>,
        /// Name of the Secret.
        name: Arc<str>,
    },
    /// Files beside the proxy: certificate chain, key, and trusted roots where given.
    Files {
        /// `serverCertificate` or `clientCertificate`.
        certificate: Arc<str>,
        /// `privateKey`.
        key: Arc<str>,
        /// `caCertificates`.
        roots: Option<Arc<str>>,
    },
}

/// Why key material is not there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SecretError(pub String);

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SecretError {}

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

/// Key material by reference.
pub trait SecretSource: Send + Sync + 'static {
    /// Certificate chain, key and roots of a reference.
    fn get(&self, secret: &SecretRef) -> impl Future<Output = Result<Arc<WorkloadCert>, SecretError>> + Send;
}
