//! `networking.istio.io` Sidecar: what the proxies of some workloads listen on and may see.

use serde::{Deserialize, Serialize};

use super::destination_rule::{ClientTlsSettings, ConnectionPoolSettings};
use super::gateway::ServerTlsSettings;
use super::service_entry::WorkloadSelector;
use super::values::is_default;
use super::virtual_service::Destination;

/// Spec of a Sidecar.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Sidecar {
    /// Workloads of the namespace; absent means all that no other Sidecar selects.
    #[serde(skip_serializing_if = "is_default")]
    pub workload_selector: Option<WorkloadSelector>,
    /// Inbound listeners, instead of those made from services.
    #[serde(skip_serializing_if = "is_default")]
    pub ingress: Vec<IstioIngressListener>,
    /// Outbound listeners and what they may see; empty means everything.
    #[serde(skip_serializing_if = "is_default")]
    pub egress: Vec<IstioEgressListener>,
    /// Limits of inbound traffic.
    #[serde(skip_serializing_if = "is_default")]
    pub inbound_connection_pool: Option<ConnectionPoolSettings>,
    /// Traffic to unknown destinations; replaces the mesh's.
    #[serde(skip_serializing_if = "is_default")]
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
}

/// An inbound listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct IstioIngressListener {
    /// The port.
    #[serde(skip_serializing_if = "is_default")]
    pub port: Option<SidecarPort>,
    /// Address to listen on.
    #[serde(skip_serializing_if = "is_default")]
    pub bind: String,
    /// How traffic gets here.
    #[serde(skip_serializing_if = "is_default")]
    pub capture_mode: CaptureMode,
    /// Where the application listens: `127.0.0.1:PORT`, `0.0.0.0:PORT`, `[::1]:PORT`, `[::]:PORT`, `unix://path`;
    /// empty means the same port.
    #[serde(skip_serializing_if = "is_default")]
    pub default_endpoint: String,
    /// TLS of this listener.
    #[serde(skip_serializing_if = "is_default")]
    pub tls: Option<ServerTlsSettings>,
    /// Limits of this listener.
    #[serde(skip_serializing_if = "is_default")]
    pub connection_pool: Option<ConnectionPoolSettings>,
}

/// An outbound listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct IstioEgressListener {
    /// The port; absent applies to every port that no other listener has.
    #[serde(skip_serializing_if = "is_default")]
    pub port: Option<SidecarPort>,
    /// Address to listen on, or `unix://…`.
    #[serde(skip_serializing_if = "is_default")]
    pub bind: String,
    /// How traffic gets here.
    #[serde(skip_serializing_if = "is_default")]
    pub capture_mode: CaptureMode,
    /// What it may see, as `namespace/host`.
    #[serde(skip_serializing_if = "is_default")]
    pub hosts: Vec<String>,
}

/// A port of a Sidecar.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct SidecarPort {
    /// Port number.
    #[serde(skip_serializing_if = "is_default")]
    pub number: u32,
    /// Protocol.
    #[serde(skip_serializing_if = "is_default")]
    pub protocol: String,
    /// Name.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// Without effect.
    #[serde(skip_serializing_if = "is_default")]
    pub target_port: u32,
}

/// How traffic gets to a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum CaptureMode {
    /// As the environment does it.
    #[default]
    #[serde(rename = "DEFAULT")]
    Default,
    /// Captured.
    #[serde(rename = "IPTABLES")]
    Iptables,
    /// Not captured; the application dials the listener.
    #[serde(rename = "NONE")]
    None,
}

/// Traffic to destinations that the mesh does not know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct OutboundTrafficPolicy {
    /// What happens to it. An empty block means `REGISTRY_ONLY`.
    #[serde(skip_serializing_if = "is_default")]
    pub mode: OutboundTrafficPolicyMode,
    /// Service that gets all of it; needs `ALLOW_ANY`.
    #[serde(skip_serializing_if = "is_default")]
    pub egress_proxy: Option<Destination>,
    /// TLS origination for `ALLOW_ANY_DYNAMIC_DNS` (mesh-wide setting only).
    #[serde(skip_serializing_if = "is_default")]
    pub tls: Option<ClientTlsSettings>,
}

/// What happens to traffic to unknown destinations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum OutboundTrafficPolicyMode {
    /// Refused.
    #[default]
    #[serde(rename = "REGISTRY_ONLY")]
    RegistryOnly,
    /// Forwarded to the address that the client dialled.
    #[serde(rename = "ALLOW_ANY")]
    AllowAny,
    /// Forwarded by Host or SNI; in the mesh's settings only.
    #[serde(rename = "ALLOW_ANY_DYNAMIC_DNS")]
    AllowAnyDynamicDns,
}
