//! `networking.istio.io` WorkloadGroup: what machines that register themselves have in common.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::kube::Probe;
use super::service_entry::WorkloadEntry;
use super::values::is_default;

/// Spec of a WorkloadGroup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadGroup {
    /// Metadata of the WorkloadEntries that are made.
    #[serde(skip_serializing_if = "is_default")]
    pub metadata: Option<WorkloadGroupMeta>,
    /// Their spec; without address and labels.
    #[serde(skip_serializing_if = "is_default")]
    pub template: Option<WorkloadEntry>,
    /// How a machine's own agent checks its health.
    #[serde(skip_serializing_if = "is_default")]
    pub probe: Option<Probe>,
}

/// Metadata of WorkloadEntries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadGroupMeta {
    /// Labels.
    #[serde(skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "is_default")]
    pub annotations: BTreeMap<String, String>,
}
