//! `networking.istio.io` DestinationRule: subsets of a service and how clients talk to it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::values::{Duration, is_default};
use super::virtual_service::PortSelector;

mod load_balancer;

pub use load_balancer::*;

/// Spec of a DestinationRule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct DestinationRule {
    /// Service it applies to; a short name is completed with the object's namespace, `*.suffix` is a wildcard.
    #[serde(skip_serializing_if = "is_default")]
    pub host: String,
    /// Policy for all endpoints.
    #[serde(skip_serializing_if = "is_default")]
    pub traffic_policy: Option<TrafficPolicy>,
    /// Named groups of endpoints.
    #[serde(skip_serializing_if = "is_default")]
    pub subsets: Vec<Subset>,
    /// Namespaces that may use it: `*`, `.` or names; empty means the mesh's default.
    #[serde(skip_serializing_if = "is_default")]
    pub export_to: Vec<String>,
    /// Client workloads in the object's namespace that it is limited to.
    #[serde(skip_serializing_if = "is_default")]
    pub workload_selector: Option<LabelSelector>,
}

/// A selector of workloads by `matchLabels`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Labels that a workload must have.
    #[serde(skip_serializing_if = "is_default")]
    pub match_labels: BTreeMap<String, String>,
}

/// A named group of endpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Subset {
    /// Name, which destinations refer to.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// Labels that an endpoint must have.
    #[serde(skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
    /// Policy for this subset; each block replaces that of the rule.
    #[serde(skip_serializing_if = "is_default")]
    pub traffic_policy: Option<TrafficPolicy>,
}

/// How clients talk to a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficPolicy {
    /// Choice of the endpoint.
    #[serde(skip_serializing_if = "is_default")]
    pub load_balancer: Option<LoadBalancerSettings>,
    /// Limits.
    #[serde(skip_serializing_if = "is_default")]
    pub connection_pool: Option<ConnectionPoolSettings>,
    /// Ejection of endpoints that fail.
    #[serde(skip_serializing_if = "is_default")]
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS towards the service; a present block turns automatic mutual TLS off.
    #[serde(skip_serializing_if = "is_default")]
    pub tls: Option<ClientTlsSettings>,
    /// Policies for single ports; one replaces the above blocks for its port.
    #[serde(skip_serializing_if = "is_default")]
    pub port_level_settings: Vec<PortTrafficPolicy>,
    /// HTTP tunnel through the chosen endpoint.
    #[serde(skip_serializing_if = "is_default")]
    pub tunnel: Option<TunnelSettings>,
    /// PROXY header towards the service.
    #[serde(skip_serializing_if = "is_default")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Limit of concurrent retries relative to active requests.
    #[serde(skip_serializing_if = "is_default")]
    pub retry_budget: Option<RetryBudget>,
}

/// Policy for one service port.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct PortTrafficPolicy {
    /// The service port.
    #[serde(skip_serializing_if = "is_default")]
    pub port: Option<PortSelector>,
    /// Choice of the endpoint.
    #[serde(skip_serializing_if = "is_default")]
    pub load_balancer: Option<LoadBalancerSettings>,
    /// Limits.
    #[serde(skip_serializing_if = "is_default")]
    pub connection_pool: Option<ConnectionPoolSettings>,
    /// Ejection of endpoints that fail.
    #[serde(skip_serializing_if = "is_default")]
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS towards the service.
    #[serde(skip_serializing_if = "is_default")]
    pub tls: Option<ClientTlsSettings>,
}

/// HTTP tunnel for TCP and TLS routes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct TunnelSettings {
    /// `CONNECT` or `POST`; empty means `CONNECT`.
    #[serde(skip_serializing_if = "is_default")]
    pub protocol: String,
    /// Host name or IP address to tunnel to.
    #[serde(skip_serializing_if = "is_default")]
    pub target_host: String,
    /// Port to tunnel to.
    #[serde(skip_serializing_if = "is_default")]
    pub target_port: u32,
}

/// PROXY protocol header.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyProtocol {
    /// Version of the header.
    #[serde(skip_serializing_if = "is_default")]
    pub version: ProxyProtocolVersion,
}

/// Version of the PROXY protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum ProxyProtocolVersion {
    /// Text form.
    #[default]
    #[serde(rename = "V1")]
    V1,
    /// Binary form.
    #[serde(rename = "V2")]
    V2,
}

/// Limit of concurrent retries; replaces `maxRetries`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RetryBudget {
    /// Retries in percent of the active and pending requests; default 20.
    #[serde(skip_serializing_if = "is_default")]
    pub percent: Option<f64>,
    /// Retries that are always allowed; 0 means the default of 3.
    #[serde(skip_serializing_if = "is_default")]
    pub min_retry_concurrency: u32,
    /// Time over which requests are counted; default 0, only those in flight.
    #[serde(skip_serializing_if = "is_default")]
    pub budget_interval: Option<Duration>,
}

/// Limits of one proxy towards one cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionPoolSettings {
    /// Limits of connections.
    #[serde(skip_serializing_if = "is_default")]
    pub tcp: Option<TcpSettings>,
    /// Limits of requests.
    #[serde(skip_serializing_if = "is_default")]
    pub http: Option<HttpSettings>,
}

/// Limits of connections; 0 means the default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct TcpSettings {
    /// Connections; default 2^32-1.
    #[serde(skip_serializing_if = "is_default")]
    pub max_connections: i32,
    /// Time to connect; default is the mesh's, 10 s.
    #[serde(skip_serializing_if = "is_default")]
    pub connect_timeout: Option<Duration>,
    /// TCP keep-alive probes.
    #[serde(skip_serializing_if = "is_default")]
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Lifetime of a connection; default unlimited.
    #[serde(skip_serializing_if = "is_default")]
    pub max_connection_duration: Option<Duration>,
    /// Idle time after which a connection is closed; default 1 h, zero disables.
    #[serde(skip_serializing_if = "is_default")]
    pub idle_timeout: Option<Duration>,
}

/// TCP keep-alive; 0 means the system's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct TcpKeepalive {
    /// Unanswered probes until the connection counts as dead.
    #[serde(skip_serializing_if = "is_default")]
    pub probes: u32,
    /// Idle time before the first probe.
    #[serde(skip_serializing_if = "is_default")]
    pub time: Option<Duration>,
    /// Time between probes.
    #[serde(skip_serializing_if = "is_default")]
    pub interval: Option<Duration>,
}

/// Limits of requests; 0 means the default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HttpSettings {
    /// Requests that wait for a connection; default 2^32-1.
    #[serde(skip_serializing_if = "is_default")]
    pub http1_max_pending_requests: i32,
    /// Active requests, of HTTP/1.1 too; default 2^32-1.
    #[serde(skip_serializing_if = "is_default")]
    pub http2_max_requests: i32,
    /// Requests after which a connection is closed; default unlimited.
    #[serde(skip_serializing_if = "is_default")]
    pub max_requests_per_connection: i32,
    /// Concurrent retries; default 2^32-1.
    #[serde(skip_serializing_if = "is_default")]
    pub max_retries: i32,
    /// Time without requests after which a connection is closed; default 1 h.
    #[serde(skip_serializing_if = "is_default")]
    pub idle_timeout: Option<Duration>,
    /// Whether HTTP/1.1 is upgraded to HTTP/2.
    #[serde(skip_serializing_if = "is_default")]
    pub h2_upgrade_policy: H2UpgradePolicy,
    /// Use the HTTP version of the client's connection.
    #[serde(skip_serializing_if = "is_default")]
    pub use_client_protocol: bool,
    /// Concurrent streams of an HTTP/2 connection; default 2^31-1.
    #[serde(skip_serializing_if = "is_default")]
    pub max_concurrent_streams: i32,
    /// HTTP/2 PING probes.
    #[serde(skip_serializing_if = "is_default")]
    pub http2_keep_alive: Option<Http2KeepAlive>,
}

/// Whether requests are upgraded to HTTP/2 towards a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum H2UpgradePolicy {
    /// As the mesh says.
    #[default]
    #[serde(rename = "DEFAULT")]
    Default,
    /// Never.
    #[serde(rename = "DO_NOT_UPGRADE")]
    DoNotUpgrade,
    /// Always.
    #[serde(rename = "UPGRADE")]
    Upgrade,
}

/// HTTP/2 PING probes; both are needed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Http2KeepAlive {
    /// Time between probes.
    #[serde(skip_serializing_if = "is_default")]
    pub interval: Option<Duration>,
    /// Time for the answer.
    #[serde(skip_serializing_if = "is_default")]
    pub timeout: Option<Duration>,
}

/// Ejection of endpoints that fail.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct OutlierDetection {
    /// Deprecated, without effect.
    #[serde(skip_serializing_if = "is_default")]
    pub consecutive_errors: i32,
    /// Count errors of the proxy itself (connect failures, timeouts) separately.
    #[serde(skip_serializing_if = "is_default")]
    pub split_external_local_origin_errors: bool,
    /// Errors of the proxy itself until ejection; default 5 if split.
    #[serde(skip_serializing_if = "is_default")]
    pub consecutive_local_origin_failures: Option<u32>,
    /// Statuses 502, 503, 504 until ejection; off by default.
    #[serde(skip_serializing_if = "is_default")]
    pub consecutive_gateway_errors: Option<u32>,
    /// 5xx until ejection; default 5, 0 disables.
    #[serde(skip_serializing_if = "is_default")]
    pub consecutive_5xx_errors: Option<u32>,
    /// Time between sweeps; default 10 s.
    #[serde(skip_serializing_if = "is_default")]
    pub interval: Option<Duration>,
    /// Length of the first ejection; default 30 s.
    #[serde(skip_serializing_if = "is_default")]
    pub base_ejection_time: Option<Duration>,
    /// Share of the endpoints that may be ejected; 0 means 10.
    #[serde(skip_serializing_if = "is_default")]
    pub max_ejection_percent: i32,
    /// Below this share of healthy endpoints all are used; default 0, never.
    #[serde(skip_serializing_if = "is_default")]
    pub min_health_percent: i32,
    /// Statuses that count as errors, instead of 5xx.
    #[serde(skip_serializing_if = "is_default")]
    pub outlier_detection_http_error_codes: Vec<u32>,
}

/// TLS towards a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ClientTlsSettings {
    /// Kind of TLS.
    #[serde(skip_serializing_if = "is_default")]
    pub mode: ClientTlsMode,
    /// File with the client certificate.
    #[serde(skip_serializing_if = "is_default")]
    pub client_certificate: String,
    /// File with its key.
    #[serde(skip_serializing_if = "is_default")]
    pub private_key: String,
    /// File with the authorities that may sign the server's certificate; empty means the system's.
    #[serde(skip_serializing_if = "is_default")]
    pub ca_certificates: String,
    /// Secret with certificate, key and authorities; excludes the files.
    #[serde(skip_serializing_if = "is_default")]
    pub credential_name: String,
    /// Names, one of which the server's certificate must have.
    #[serde(skip_serializing_if = "is_default")]
    pub subject_alt_names: Vec<String>,
    /// Server name to send; empty means Host.
    #[serde(skip_serializing_if = "is_default")]
    pub sni: String,
    /// Accept any server certificate.
    #[serde(skip_serializing_if = "is_default")]
    pub insecure_skip_verify: Option<bool>,
    /// File with a revocation list.
    #[serde(skip_serializing_if = "is_default")]
    pub ca_crl: String,
}

/// Kind of TLS towards a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum ClientTlsMode {
    /// Plaintext.
    #[default]
    #[serde(rename = "DISABLE")]
    Disable,
    /// TLS without client certificate.
    #[serde(rename = "SIMPLE")]
    Simple,
    /// TLS with the given client certificate.
    #[serde(rename = "MUTUAL")]
    Mutual,
    /// TLS with the mesh's own certificate.
    #[serde(rename = "ISTIO_MUTUAL")]
    IstioMutual,
}
