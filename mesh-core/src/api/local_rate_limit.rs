//! `policy.mesh.local` LocalRateLimit: how many requests a proxy lets through.

use serde::{Deserialize, Serialize};

use super::LabelSelector;
use super::values::{Duration, is_default};

/// Spec of a LocalRateLimit: a token bucket in each proxy that it applies to. Each request takes a token; without one it
/// is answered 429.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct LocalRateLimit {
    /// Workloads of the namespace (of all namespaces, in the root namespace) whose requests are limited: what comes in at
    /// a sidecar, everything at a gateway. Absent, without `targetRefs`: all of them.
    #[serde(skip_serializing_if = "is_default")]
    pub selector: Option<LabelSelector>,
    /// Rules that are limited instead, in each proxy that uses them.
    #[serde(skip_serializing_if = "is_default")]
    pub target_refs: Vec<RateLimitTarget>,
    /// The bucket.
    #[serde(skip_serializing_if = "is_default")]
    pub token_bucket: Option<RateLimitBucket>,
    /// Status of the answer; 0: 429.
    #[serde(skip_serializing_if = "is_default")]
    pub status_code: u32,
    /// Responses say what is left: `x-ratelimit-limit`, `x-ratelimit-remaining`, `x-ratelimit-reset`.
    #[serde(skip_serializing_if = "is_default")]
    pub response_headers: bool,
}

/// A VirtualService of the same namespace, or one of its HTTP rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RateLimitTarget {
    /// `networking.istio.io`.
    #[serde(skip_serializing_if = "is_default")]
    pub group: String,
    /// `VirtualService`.
    #[serde(skip_serializing_if = "is_default")]
    pub kind: String,
    /// Name of the object.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// Name of the HTTP rule; empty: all rules together.
    #[serde(skip_serializing_if = "is_default")]
    pub section_name: String,
}

/// A token bucket. It is full at the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RateLimitBucket {
    /// Most tokens that it holds: the largest burst.
    #[serde(skip_serializing_if = "is_default")]
    pub max_tokens: u32,
    /// Tokens that come in each interval; 0: one.
    #[serde(skip_serializing_if = "is_default")]
    pub tokens_per_fill: u32,
    /// The interval, at least 50 ms. Tokens come evenly spread over it.
    #[serde(skip_serializing_if = "is_default")]
    pub fill_interval: Option<Duration>,
}
