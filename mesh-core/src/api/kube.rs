//! Kubernetes' own kinds, as far as the mesh reads them. What is not here is reported as inert in the local mesh.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::mesh_config::MeshLabelSelector;
use super::values::{IntOrString, is_default};

mod pod;

pub use pod::*;

/// Spec of a Service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// `ClusterIP` (the default), `NodePort`, `LoadBalancer` or `ExternalName`.
    #[serde(skip_serializing_if = "is_default")]
    pub r#type: String,
    /// Virtual address; `None` is a headless service, empty means that the mesh gives one.
    #[serde(rename = "clusterIP", skip_serializing_if = "is_default")]
    pub cluster_ip: String,
    /// Virtual addresses of both families.
    #[serde(rename = "clusterIPs", skip_serializing_if = "is_default")]
    pub cluster_ips: Vec<String>,
    /// Ports.
    #[serde(skip_serializing_if = "is_default")]
    pub ports: Vec<ServicePort>,
    /// Labels of the pods; empty: endpoints are not made.
    #[serde(skip_serializing_if = "is_default")]
    pub selector: BTreeMap<String, String>,
    /// Host name behind an ExternalName service.
    #[serde(skip_serializing_if = "is_default")]
    pub external_name: String,
    /// `PreferClose`, `PreferSameZone` or `PreferSameNode`.
    #[serde(skip_serializing_if = "is_default")]
    pub traffic_distribution: String,
    /// Pods count as ready always.
    #[serde(skip_serializing_if = "is_default")]
    pub publish_not_ready_addresses: bool,
}

/// A port of a Service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    /// Name, which tells the protocol (`http-web`).
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// `TCP` (the default) or `UDP`.
    #[serde(skip_serializing_if = "is_default")]
    pub protocol: String,
    /// Protocol; beats the name.
    #[serde(skip_serializing_if = "is_default")]
    pub app_protocol: Option<String>,
    /// Port number that clients use.
    #[serde(skip_serializing_if = "is_default")]
    pub port: u32,
    /// Port number or container port name; default is `port`.
    #[serde(skip_serializing_if = "is_default")]
    pub target_port: Option<IntOrString>,
    /// Port on the host; 0 is none.
    #[serde(skip_serializing_if = "is_default")]
    pub node_port: u32,
}

/// Spec of a Deployment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentSpec {
    /// Number of pods; default 1.
    #[serde(skip_serializing_if = "is_default")]
    pub replicas: Option<i32>,
    /// Pods that belong to it.
    #[serde(skip_serializing_if = "is_default")]
    pub selector: Option<MeshLabelSelector>,
    /// The pods.
    #[serde(skip_serializing_if = "is_default")]
    pub template: PodTemplateSpec,
}

/// Metadata and spec of the pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct PodTemplateSpec {
    /// Metadata.
    #[serde(skip_serializing_if = "is_default")]
    pub metadata: TemplateMeta,
    /// Spec.
    #[serde(skip_serializing_if = "is_default")]
    pub spec: PodSpec,
}

/// Labels and annotations of the pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct TemplateMeta {
    /// Without effect in a template.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// Without effect in a template.
    #[serde(skip_serializing_if = "is_default")]
    pub namespace: String,
    /// Labels.
    #[serde(skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "is_default")]
    pub annotations: BTreeMap<String, String>,
}

/// A ConfigMap; its parts are next to the metadata, not in a spec.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigMap {
    /// Text by key.
    #[serde(skip_serializing_if = "is_default")]
    pub data: BTreeMap<String, String>,
    /// Base64 by key.
    #[serde(skip_serializing_if = "is_default")]
    pub binary_data: BTreeMap<String, String>,
    /// It is never changed.
    #[serde(skip_serializing_if = "is_default")]
    pub immutable: Option<bool>,
}

/// A ServiceAccount; only its name matters to the mesh.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceAccount {}

/// A Namespace; only its name and labels matter to the mesh.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Namespace {}
