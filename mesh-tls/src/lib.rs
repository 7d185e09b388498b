//! Identity and transport security of the mesh.
//!
//! Workloads are named by [`SpiffeId`]s. Keys and certificates come through three traits, so that who issues them and
//! where they are kept is the binary's choice: [`CertSource`] (the own identity, rotated), [`CertSigner`] (a CA),
//! [`SecretSource`] (materials that configuration names, such as a gateway's `credentialName`). [`Acceptor`] and
//! [`Connector`] speak TLS over any byte stream, as a plan of `mesh-core` says. Private keys are never
//! part of resources, plans or logs: plans hold a [`SecretRef`], and [`PrivateKey`] can't be printed.

#![forbid(unsafe_code)]

mod accept;
mod ahead;
mod ca;
mod connect;
mod describe;
mod error;
mod follow;
mod key;
mod kubernetes;
mod layers;
mod material;
mod mtls;
mod peer;
mod pem;
mod secrets;
mod stream;
mod suites;
mod through;
mod token;
mod verify;
mod workload;
mod xfcc;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use accept::Acceptor;
pub use ca::{Authority, AuthorityConfig, CaError, Rotation};
pub use connect::{Carries, Connector, Server};
pub use describe::CertificateInfo;
pub use error::TlsError;
pub use key::{KeyKind, PrivateKey};
pub use kubernetes::SecretData;
pub use layers::{
    MtlsAccept, MtlsAcceptConfig, MtlsAcceptFuture, MtlsAcceptLayer, MtlsConnect, MtlsConnectConfig, MtlsConnectFuture,
    MtlsConnectLayer,
};
pub use material::{Authorities, Identity, Material, Roots};
pub use mesh_core::identity::{SpiffeId, SpiffeIdError, TrustDomains};
pub use mesh_core::record::PeerIdentity;
pub use mesh_core::snapshot::SecretRef;
pub use mesh_core::snapshot::XfccDetails;
pub use mtls::{
    Arrival, MtlsAcceptor, MtlsConfig, MtlsConnector, MtlsMode, MtlsUpstream, PortProtocol, decide_arrival,
    is_mesh_protocol,
};
pub use secrets::{SecretError, SecretSource, SecretState, Secrets};
pub use stream::TlsStream;
pub use token::{Token, Tokens};
pub use workload::{
    CertHandle, CertManager, CertState, CertStatus, RotationConfig, WorkloadCert, deliver, deliver_with,
};
pub use xfcc::{XfccElement, xfcc_element, xfcc_read};

/// The proxy's own identity, kept fresh. The receiver is the reader's end: it sees each change.
pub trait CertSource: Send + Sync + 'static {
    /// The certificate now in force, or why there is none: nothing may be served or dialled then.
    fn watch(&self) -> watch::Receiver<CertState>;
}

/// A certificate authority: signs for an authenticated caller. The SAN is the caller's, whatever the request asks.
///
/// A signer that is reached over the network authenticates the caller itself, by what it shows there; `caller` is then
/// only who this side claims to be.
pub trait CertSigner: Send + Sync + 'static {
    /// Signs the public key of a PEM request. Returns the chain in PEM: leaf first, each intermediate, root bundle last.
    fn sign(
        &self,
        caller: &SpiffeId,
        csr: &[u8],
        validity: Duration,
    ) -> impl Future<Output = Result<Vec<String>, CaError>> + Send;
}

impl<S: CertSigner> CertSigner for Arc<S> {
    async fn sign(&self, caller: &SpiffeId, csr: &[u8], validity: Duration) -> Result<Vec<String>, CaError> {
        (**self).sign(caller, csr, validity).await
    }
}

#[cfg(test)]
mod tests;
