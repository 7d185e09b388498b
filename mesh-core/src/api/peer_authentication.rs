//! `security.istio.io` PeerAuthentication: which connections a workload accepts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::LabelSelector;
use super::values::is_default;

/// Spec of a PeerAuthentication.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct PeerAuthentication {
    /// Workloads of the namespace; absent or empty: all, in the root namespace those of the mesh.
    #[serde(skip_serializing_if = "is_default")]
    pub selector: Option<LabelSelector>,
    /// Setting of all ports; absent: that of the wider scope.
    #[serde(skip_serializing_if = "is_default")]
    pub mtls: Option<MutualTls>,
    /// Settings by port of the workload (not of a Service). Keys are decimal.
    #[serde(skip_serializing_if = "is_default")]
    pub port_level_mtls: Option<BTreeMap<String, MutualTls>>,
}

/// What a port takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct MutualTls {
    /// The mode.
    #[serde(skip_serializing_if = "is_default")]
    pub mode: MutualTlsMode,
}

/// Which connections a port takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum MutualTlsMode {
    /// As the wider scope says; without one, [`MutualTlsMode::Permissive`].
    #[default]
    #[serde(rename = "UNSET")]
    Unset,
    /// Plaintext only.
    #[serde(rename = "DISABLE")]
    Disable,
    /// Plaintext and mutual TLS.
    #[serde(rename = "PERMISSIVE")]
    Permissive,
    /// Mutual TLS only.
    #[serde(rename = "STRICT")]
    Strict,
}
