//! Rules for TLS that is passed through and for TCP.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Destination;
use crate::api::values::is_default;

/// A destination of TCP or TLS connections with its share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RouteDestination {
    /// Where to.
    #[serde(skip_serializing_if = "is_default")]
    pub destination: Option<Destination>,
    /// Share, relative to the sum of the weights.
    #[serde(skip_serializing_if = "is_default")]
    pub weight: i32,
}

/// Rule for TLS connections that are passed through.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct TlsRoute {
    /// Conditions, any of which is enough.
    #[serde(skip_serializing_if = "is_default")]
    pub r#match: Vec<TlsMatchAttributes>,
    /// Weighted destinations.
    #[serde(skip_serializing_if = "is_default")]
    pub route: Vec<RouteDestination>,
}

/// Conditions on a TLS connection, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct TlsMatchAttributes {
    /// Server names, also `*.suffix`.
    #[serde(skip_serializing_if = "is_default")]
    pub sni_hosts: Vec<String>,
    /// Addresses or CIDRs that the client dialled.
    #[serde(skip_serializing_if = "is_default")]
    pub destination_subnets: Vec<String>,
    /// Port of the listener; 0 is any.
    #[serde(skip_serializing_if = "is_default")]
    pub port: u32,
    /// Labels that the client's workload must have.
    #[serde(skip_serializing_if = "is_default")]
    pub source_labels: BTreeMap<String, String>,
    /// Gateways this applies to, instead of those of the VirtualService.
    #[serde(skip_serializing_if = "is_default")]
    pub gateways: Vec<String>,
    /// Namespace of the client's workload.
    #[serde(skip_serializing_if = "is_default")]
    pub source_namespace: String,
}

/// Rule for TCP connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct TcpRoute {
    /// Conditions, any of which is enough; empty matches everything.
    #[serde(skip_serializing_if = "is_default")]
    pub r#match: Vec<L4MatchAttributes>,
    /// Weighted destinations.
    #[serde(skip_serializing_if = "is_default")]
    pub route: Vec<RouteDestination>,
}

/// Conditions on a connection, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct L4MatchAttributes {
    /// Addresses or CIDRs that the client dialled.
    #[serde(skip_serializing_if = "is_default")]
    pub destination_subnets: Vec<String>,
    /// Port of the listener; 0 is any.
    #[serde(skip_serializing_if = "is_default")]
    pub port: u32,
    /// Deprecated, without effect.
    #[serde(skip_serializing_if = "is_default")]
    pub source_subnet: String,
    /// Labels that the client's workload must have.
    #[serde(skip_serializing_if = "is_default")]
    pub source_labels: BTreeMap<String, String>,
    /// Gateways this applies to, instead of those of the VirtualService.
    #[serde(skip_serializing_if = "is_default")]
    pub gateways: Vec<String>,
    /// Namespace of the client's workload.
    #[serde(skip_serializing_if = "is_default")]
    pub source_namespace: String,
}
