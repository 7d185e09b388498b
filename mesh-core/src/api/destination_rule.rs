//! `networking.istio.io` DestinationRule: subsets of a service and how clients talk to it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::values::{Duration, is_default};
use super::virtual_service::PortSelector;

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
