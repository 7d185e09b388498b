//! The mesh's own TLS, between workloads.

use std::fmt;
use std::sync::Arc;

use super::{DownstreamTls, Provenance};
use crate::record::TlsInfo;

/// Mode of a port, resolved (`PeerAuthentication.mtls.mode`; UNSET has been replaced by what it inherits).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum MtlsMode {
    /// No TLS of the mesh.
    Disable,
    /// Both.
    #[default]
    Permissive,
    /// TLS of the mesh only.
    Strict,
}

impl fmt::Display for MtlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disable => "DISABLE",
            Self::Permissive => "PERMISSIVE",
            Self::Strict => "STRICT",
        })
    }
}

/// How an inbound listener takes the mesh's own TLS.
#[derive(Clone, PartialEq, Debug)]
pub struct MeshTls {
    /// Whether it does.
    pub mode: MtlsMode,
    /// What ends it; of no use when the mode is [`MtlsMode::Disable`].
    pub tls: Arc<DownstreamTls>,
    /// The policy that says so.
    pub origin: Provenance,
}

impl MeshTls {
    /// Whether a connection that came in may be used: by whether TLS was ended on it, and for whom.
    pub fn allows(&self, tls: Option<&TlsInfo>) -> bool {
        match (self.mode, tls) {
            (MtlsMode::Disable | MtlsMode::Permissive, None) => true,
            (MtlsMode::Strict, None) | (MtlsMode::Disable, Some(_)) => false,
            (MtlsMode::Permissive | MtlsMode::Strict, Some(tls)) => {
                tls.identity.as_ref().is_some_and(|peer| self.tls.welcomes(peer))
            }
        }
    }
}

/// Authorities of the mesh beside its own CA's (`caCertificates`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeshAuthority {
    /// Certificates.
    pub pem: Arc<str>,
    /// Whose workloads they vouch for, and nobody else does; empty: they vouch for those that the mesh's CA does.
    pub trust_domains: Vec<Arc<str>>,
}
