//! Istio's certificate signing service (`istio.v1.auth.IstioCertificateService/CreateCertificate`), both ends: how a proxy
//! gets its identity. Messages as `security/v1alpha1/ca.proto` of Istio's API has them; what we neither send nor read is left
//! out, and decoding skips it.
//!
//! | Message | Field | Content |
//! |---|---|---|
//! | request | `authorization` (header) | `Bearer TOKEN`: who asks |
//! | | `clusterid` (header) | whose token it is |
//! | | `csr` | PEM; only its key counts |
//! | | `validity_duration` | seconds; 0: the CA's default |
//! | response | `cert_chain[]` | PEM: leaf, each intermediate, all roots in the last one |

mod client;
mod server;
#[cfg(test)]
mod tests;

use crate::discovery::proto::Struct;

pub use client::{CsrClient, Redial};
pub use server::{CsrServer, NoCa, serve};
pub(crate) use server::{answer, is_csr};

/// Where the service is.
pub const METHOD: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";
/// Where Kubernetes, and the local mesh, put a sidecar's token.
pub const TOKEN_FILE: &str = "/var/run/secrets/tokens/istio-token";

/// Variable by which the node tells a proxy where its token is. Without it the connection alone says who asks.
pub const ENV_TOKEN_PATH: &str = "MESH_CA_TOKEN_PATH";

/// `IstioCertificateRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CertificateRequest {
    /// PKCS#10 in PEM.
    #[prost(string, tag = "1")]
    pub csr: String,
    /// Seconds.
    #[prost(int64, tag = "3")]
    pub validity_duration: i64,
    /// `ImpersonatedIdentity`, `CertSigner`.
    #[prost(message, optional, tag = "4")]
    pub metadata: Option<Struct>,
}

/// `IstioCertificateResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CertificateResponse {
    /// PEM: leaf first, roots last.
    #[prost(string, repeated, tag = "1")]
    pub cert_chain: Vec<String>,
}

impl CertificateRequest {
    /// The identity that a node's proxy asks for on behalf of a workload.
    pub fn impersonated(&self) -> Option<&str> {
        self.metadata.as_ref()?.fields.get("ImpersonatedIdentity")?.string_value.as_deref()
    }
}
