//! Choice of the endpoint.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::api::values::{Duration, is_default};

/// Choice of the endpoint: `simple` or `consistentHash`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancerSettings {
    /// A standard algorithm.
    #[serde(skip_serializing_if = "is_default")]
    pub simple: Option<SimpleLb>,
    /// Same key, same endpoint.
    #[serde(skip_serializing_if = "is_default")]
    pub consistent_hash: Option<ConsistentHashLb>,
    /// Preference by locality; replaces the mesh's setting.
    #[serde(skip_serializing_if = "is_default")]
    pub locality_lb_setting: Option<LocalityLoadBalancerSetting>,
    /// Zone-aware routing; excludes `localityLbSetting`.
    #[serde(skip_serializing_if = "is_default")]
    pub zone_aware_lb_setting: Option<ZoneAwareLoadBalancerSetting>,
    /// Deprecated form of `warmup.duration`.
    #[serde(skip_serializing_if = "is_default")]
    pub warmup_duration_secs: Option<Duration>,
    /// Slow start of new endpoints.
    #[serde(skip_serializing_if = "is_default")]
    pub warmup: Option<WarmupConfiguration>,
}

/// Standard load-balancing algorithms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum SimpleLb {
    /// As `LEAST_REQUEST`.
    #[default]
    #[serde(rename = "UNSPECIFIED")]
    Unspecified,
    /// Deprecated name of `LEAST_REQUEST`.
    #[serde(rename = "LEAST_CONN")]
    LeastConn,
    /// Any healthy endpoint.
    #[serde(rename = "RANDOM")]
    Random,
    /// The address that the client dialled; endpoints are ignored.
    #[serde(rename = "PASSTHROUGH")]
    Passthrough,
    /// In turn.
    #[serde(rename = "ROUND_ROBIN")]
    RoundRobin,
    /// The less busy of two random endpoints.
    #[serde(rename = "LEAST_REQUEST")]
    LeastRequest,
}

/// Hashing: one key and at most one algorithm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ConsistentHashLb {
    /// Key: a request header.
    #[serde(skip_serializing_if = "is_default")]
    pub http_header_name: Option<String>,
    /// Key: a cookie.
    #[serde(skip_serializing_if = "is_default")]
    pub http_cookie: Option<HttpCookie>,
    /// Key: the client's address.
    #[serde(skip_serializing_if = "is_default")]
    pub use_source_ip: Option<bool>,
    /// Key: a query parameter.
    #[serde(skip_serializing_if = "is_default")]
    pub http_query_parameter_name: Option<String>,
    /// Ring hash; the default.
    #[serde(skip_serializing_if = "is_default")]
    pub ring_hash: Option<RingHash>,
    /// Maglev.
    #[serde(skip_serializing_if = "is_default")]
    pub maglev: Option<MagLev>,
    /// Deprecated form of `ringHash.minimumRingSize`.
    #[serde(skip_serializing_if = "is_default")]
    pub minimum_ring_size: Option<u64>,
}

/// A cookie as hash key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HttpCookie {
    /// Name of the cookie.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// Path of a cookie that the proxy makes.
    #[serde(skip_serializing_if = "is_default")]
    pub path: String,
    /// Lifetime of a cookie that the proxy makes; zero is a session cookie; absent: none is made.
    #[serde(skip_serializing_if = "is_default")]
    pub ttl: Option<Duration>,
    /// Further attributes of a cookie that the proxy makes.
    #[serde(skip_serializing_if = "is_default")]
    pub attributes: Vec<CookieAttribute>,
}

/// An attribute of a cookie.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct CookieAttribute {
    /// Name.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// Value; may be empty.
    #[serde(skip_serializing_if = "is_default")]
    pub value: String,
}

/// Ring hash.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RingHash {
    /// Least number of points on the ring; 0 means 1024.
    #[serde(skip_serializing_if = "is_default")]
    pub minimum_ring_size: u64,
}

/// Maglev.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct MagLev {
    /// Size of the table, a prime; the validator wants it given.
    #[serde(skip_serializing_if = "is_default")]
    pub table_size: u64,
}

/// Slow start of new endpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct WarmupConfiguration {
    /// Time until an endpoint has its full share.
    #[serde(skip_serializing_if = "is_default")]
    pub duration: Option<Duration>,
    /// Share at the start, 0 to 100; default 10.
    #[serde(skip_serializing_if = "is_default")]
    pub minimum_percent: Option<f64>,
    /// Shape of the ramp; 1 is linear, the default.
    #[serde(skip_serializing_if = "is_default")]
    pub aggression: Option<f64>,
}

/// Preference by locality (`region/zone/subzone`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct LocalityLoadBalancerSetting {
    /// Explicit shares.
    #[serde(skip_serializing_if = "is_default")]
    pub distribute: Vec<LocalityDistribute>,
    /// Region that takes over.
    #[serde(skip_serializing_if = "is_default")]
    pub failover: Vec<LocalityFailover>,
    /// Labels by which endpoints are preferred, most important first.
    #[serde(skip_serializing_if = "is_default")]
    pub failover_priority: Vec<String>,
    /// Whether it is on; default true.
    #[serde(skip_serializing_if = "is_default")]
    pub enabled: Option<bool>,
}

/// Shares for clients of one locality.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct LocalityDistribute {
    /// Locality of the client, also with `*` as last segment.
    #[serde(skip_serializing_if = "is_default")]
    pub from: String,
    /// Percent by locality of the endpoint; the sum is 100.
    #[serde(skip_serializing_if = "is_default")]
    pub to: BTreeMap<String, u32>,
}

/// Region that takes over from another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct LocalityFailover {
    /// Region of the client.
    #[serde(skip_serializing_if = "is_default")]
    pub from: String,
    /// Region that takes over.
    #[serde(skip_serializing_if = "is_default")]
    pub to: String,
}

/// Zone-aware routing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ZoneAwareLoadBalancerSetting {
    /// Whether it is on.
    #[serde(skip_serializing_if = "is_default")]
    pub enabled: Option<bool>,
    /// Region that takes over.
    #[serde(skip_serializing_if = "is_default")]
    pub failover: Vec<LocalityFailover>,
    /// Labels by which endpoints are preferred.
    #[serde(skip_serializing_if = "is_default")]
    pub failover_priority: Vec<String>,
    /// Least number of endpoints for it to apply; default 6.
    #[serde(skip_serializing_if = "is_default")]
    pub min_cluster_size: Option<u32>,
}
