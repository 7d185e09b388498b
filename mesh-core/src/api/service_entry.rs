//! `networking.istio.io` ServiceEntry and WorkloadEntry: services and instances that Kubernetes does not know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::values::is_default;

/// Spec of a ServiceEntry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceEntry {
    /// Host names of the service.
    #[serde(skip_serializing_if = "is_default")]
    pub hosts: Vec<String>,
    /// Virtual addresses or CIDRs.
    #[serde(skip_serializing_if = "is_default")]
    pub addresses: Vec<String>,
    /// Ports.
    #[serde(skip_serializing_if = "is_default")]
    pub ports: Vec<ServicePort>,
    /// In the mesh or outside.
    #[serde(skip_serializing_if = "is_default")]
    pub location: ServiceLocation,
    /// How endpoints are found.
    #[serde(skip_serializing_if = "is_default")]
    pub resolution: ServiceResolution,
    /// Endpoints; excludes `workloadSelector`.
    #[serde(skip_serializing_if = "is_default")]
    pub endpoints: Vec<WorkloadEntry>,
    /// Pods and WorkloadEntries of the same namespace that are its endpoints.
    #[serde(skip_serializing_if = "is_default")]
    pub workload_selector: Option<WorkloadSelector>,
    /// Namespaces that may use it: `*`, `.`, names, or `~` for nobody; empty means the mesh's default.
    #[serde(skip_serializing_if = "is_default")]
    pub export_to: Vec<String>,
    /// Names, one of which a server's certificate must have.
    #[serde(skip_serializing_if = "is_default")]
    pub subject_alt_names: Vec<String>,
}

/// A port of a ServiceEntry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    /// Port number that clients use.
    #[serde(skip_serializing_if = "is_default")]
    pub number: u32,
    /// Protocol; empty is detected from the first bytes.
    #[serde(skip_serializing_if = "is_default")]
    pub protocol: String,
    /// Name, unique in the object.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// Port of the endpoints; 0 means `number`.
    #[serde(skip_serializing_if = "is_default")]
    pub target_port: u32,
}

/// Whether a service is part of the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum ServiceLocation {
    /// Outside: no mutual TLS.
    #[default]
    #[serde(rename = "MESH_EXTERNAL")]
    MeshExternal,
    /// Inside.
    #[serde(rename = "MESH_INTERNAL")]
    MeshInternal,
}

/// How a service's endpoints are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum ServiceResolution {
    /// The address that the client dialled.
    #[default]
    #[serde(rename = "NONE")]
    None,
    /// The listed endpoints.
    #[serde(rename = "STATIC")]
    Static,
    /// Every address of each name.
    #[serde(rename = "DNS")]
    Dns,
    /// The first address of the name.
    #[serde(rename = "DNS_ROUND_ROBIN")]
    DnsRoundRobin,
    /// From Host or SNI when a request comes.
    #[serde(rename = "DYNAMIC_DNS")]
    DynamicDns,
}

/// A selector of workloads by labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadSelector {
    /// Labels that a workload must have.
    #[serde(skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
}

/// An instance: spec of a WorkloadEntry, and endpoint of a ServiceEntry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadEntry {
    /// IP address, host name, or `unix://…`.
    #[serde(skip_serializing_if = "is_default")]
    pub address: String,
    /// Port numbers by name of the service port.
    #[serde(skip_serializing_if = "is_default")]
    pub ports: BTreeMap<String, u32>,
    /// Labels.
    #[serde(skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
    /// Network id.
    #[serde(skip_serializing_if = "is_default")]
    pub network: String,
    /// `region/zone/subzone`.
    #[serde(skip_serializing_if = "is_default")]
    pub locality: String,
    /// Load-balancing weight; 0 means 1.
    #[serde(skip_serializing_if = "is_default")]
    pub weight: u32,
    /// Service account.
    #[serde(skip_serializing_if = "is_default")]
    pub service_account: String,
}
