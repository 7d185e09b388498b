//! ProxyConfig: settings of one proxy (`defaultConfig` of MeshConfig, annotation `proxy.istio.io/config`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::kube::Probe;
use super::values::{Duration, is_default};

/// Settings of a proxy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyConfig {
    /// Directory for generated configuration.
    #[serde(skip_serializing_if = "is_default")]
    pub config_path: String,
    /// Path of the proxy binary.
    #[serde(skip_serializing_if = "is_default")]
    pub binary_path: String,
    /// Name of the service for tracing.
    #[serde(skip_serializing_if = "is_default")]
    pub service_cluster: Option<String>,
    /// How the tracing name is made, instead of `serviceCluster`.
    #[serde(skip_serializing_if = "is_default")]
    pub tracing_service_name: Option<TracingServiceName>,
    /// Time for connections to end when the proxy stops; default 45 s.
    #[serde(skip_serializing_if = "is_default")]
    pub drain_duration: Option<Duration>,
    /// Control plane; default `istiod.istio-system.svc:15012`.
    #[serde(skip_serializing_if = "is_default")]
    pub discovery_address: String,
    /// Administration port; default 15000.
    #[serde(skip_serializing_if = "is_default")]
    pub proxy_admin_port: i32,
    /// Port of health checks and merged metrics; default 15020.
    #[serde(skip_serializing_if = "is_default")]
    pub status_port: i32,
    /// How the control plane is authenticated.
    #[serde(skip_serializing_if = "is_default")]
    pub control_plane_auth_policy: AuthenticationPolicy,
    /// Longest name in statistics; default 189.
    #[serde(skip_serializing_if = "is_default")]
    pub stat_name_length: i32,
    /// Worker threads; absent means from the CPU limit, 0 all cores.
    #[serde(skip_serializing_if = "is_default")]
    pub concurrency: Option<i32>,
    /// How inbound connections are captured.
    #[serde(skip_serializing_if = "is_default")]
    pub interception_mode: InboundInterceptionMode,
    /// Environment of the proxy.
    #[serde(skip_serializing_if = "is_default")]
    pub proxy_metadata: BTreeMap<String, String>,
    /// Time to drain after SIGTERM; default 5 s.
    #[serde(skip_serializing_if = "is_default")]
    pub termination_drain_duration: Option<Duration>,
    /// The application starts after its proxy; default false.
    #[serde(skip_serializing_if = "is_default")]
    pub hold_application_until_proxy_starts: Option<bool>,
    /// Id of the mesh.
    #[serde(skip_serializing_if = "is_default")]
    pub mesh_id: String,
    /// Probe of the proxy itself.
    #[serde(skip_serializing_if = "is_default")]
    pub readiness_probe: Option<Probe>,
    /// What stands in front of a gateway.
    #[serde(skip_serializing_if = "is_default")]
    pub gateway_topology: Option<Topology>,
    /// Headers that the proxy adds.
    #[serde(skip_serializing_if = "is_default")]
    pub proxy_headers: Option<ProxyHeaders>,
    /// Statistics that are made in addition.
    #[serde(skip_serializing_if = "is_default")]
    pub proxy_stats_matcher: Option<ProxyStatsMatcher>,
    /// Tracing; kept as written.
    #[serde(skip_serializing_if = "is_default")]
    pub tracing: Option<serde_json::Value>,
    /// TLS of the connection to the control plane; kept as written.
    #[serde(skip_serializing_if = "is_default")]
    pub tls: Option<serde_json::Value>,
    /// Image of the proxy.
    #[serde(skip_serializing_if = "is_default")]
    pub image: Option<ProxyImage>,
    /// Key provider; kept as written.
    #[serde(skip_serializing_if = "is_default")]
    pub private_key_provider: Option<serde_json::Value>,
    /// Envoy's runtime values.
    #[serde(skip_serializing_if = "is_default")]
    pub runtime_values: BTreeMap<String, String>,
    /// Further accepted authorities.
    #[serde(skip_serializing_if = "is_default")]
    pub ca_certificates_pem: Vec<String>,
    /// Limits of downstream connections.
    #[serde(skip_serializing_if = "is_default")]
    pub connection_settings: Option<ConnectionSettings>,
    /// Access log service; kept as written.
    #[serde(skip_serializing_if = "is_default")]
    pub envoy_access_log_service: Option<serde_json::Value>,
    /// Metrics service; kept as written.
    #[serde(skip_serializing_if = "is_default")]
    pub envoy_metrics_service: Option<serde_json::Value>,
    /// Deprecated address of the metrics service.
    #[serde(skip_serializing_if = "is_default")]
    pub envoy_metrics_service_address: String,
    /// Address of a statsd server.
    #[serde(skip_serializing_if = "is_default")]
    pub statsd_udp_address: String,
    /// Deprecated address of a Zipkin server.
    #[serde(skip_serializing_if = "is_default")]
    pub zipkin_address: String,
    /// Further tags of statistics.
    #[serde(skip_serializing_if = "is_default")]
    pub extra_stat_tags: Vec<String>,
    /// Envoy bootstrap file; without effect here.
    #[serde(skip_serializing_if = "is_default")]
    pub custom_config_file: String,
    /// Envoy bootstrap template; without effect here.
    #[serde(skip_serializing_if = "is_default")]
    pub proxy_bootstrap_template_path: String,
    /// Time after which a log buffer is written; default 1 s.
    #[serde(skip_serializing_if = "is_default")]
    pub file_flush_interval: Option<Duration>,
    /// Size at which a log buffer is written; default 64 KiB.
    #[serde(skip_serializing_if = "is_default")]
    pub file_flush_min_size_kb: Option<u32>,
    /// Compress metrics; default true.
    #[serde(skip_serializing_if = "is_default")]
    pub stats_compression: Option<bool>,
    /// Time after which unused statistics are dropped.
    #[serde(skip_serializing_if = "is_default")]
    pub stats_eviction_interval: Option<Duration>,
}

/// How the service's name for tracing is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum TracingServiceName {
    /// `app.namespace`.
    #[default]
    #[serde(rename = "APP_LABEL_AND_NAMESPACE")]
    AppLabelAndNamespace,
    /// Canonical name.
    #[serde(rename = "CANONICAL_NAME_ONLY")]
    CanonicalNameOnly,
    /// Canonical name and namespace.
    #[serde(rename = "CANONICAL_NAME_AND_NAMESPACE")]
    CanonicalNameAndNamespace,
}

/// How the control plane is authenticated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum AuthenticationPolicy {
    /// Not at all.
    #[default]
    #[serde(rename = "NONE")]
    None,
    /// By mutual TLS.
    #[serde(rename = "MUTUAL_TLS")]
    MutualTls,
    /// As elsewhere.
    #[serde(rename = "INHERIT")]
    Inherit,
}

/// How inbound connections are captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum InboundInterceptionMode {
    /// By address translation.
    #[default]
    #[serde(rename = "REDIRECT")]
    Redirect,
    /// Transparently, with the client's address.
    #[serde(rename = "TPROXY")]
    Tproxy,
    /// Not at all.
    #[serde(rename = "NONE")]
    None,
}

/// What stands in front of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Topology {
    /// Trusted proxies in front, whose `x-forwarded-for` entries count.
    #[serde(skip_serializing_if = "is_default")]
    pub num_trusted_proxies: u32,
    /// What happens to `x-forwarded-client-cert`.
    #[serde(skip_serializing_if = "is_default")]
    pub forward_client_cert_details: ForwardClientCertDetails,
    /// The proxy in front sends PROXY headers.
    #[serde(skip_serializing_if = "is_default")]
    pub proxy_protocol: Option<ProxyProtocolTopology>,
}

/// Marks PROXY headers; has no fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyProtocolTopology {}

/// What happens to `x-forwarded-client-cert`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum ForwardClientCertDetails {
    /// The default.
    #[default]
    #[serde(rename = "UNDEFINED")]
    Undefined,
    /// Removed.
    #[serde(rename = "SANITIZE")]
    Sanitize,
    /// Forwarded if the connection is mutual TLS.
    #[serde(rename = "FORWARD_ONLY")]
    ForwardOnly,
    /// Appended to if the connection is mutual TLS.
    #[serde(rename = "APPEND_FORWARD")]
    AppendForward,
    /// Replaced.
    #[serde(rename = "SANITIZE_SET")]
    SanitizeSet,
    /// Always forwarded.
    #[serde(rename = "ALWAYS_FORWARD_ONLY")]
    AlwaysForwardOnly,
}

/// Headers that the proxy adds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyHeaders {
    /// What happens to `x-forwarded-client-cert`.
    #[serde(skip_serializing_if = "is_default")]
    pub forwarded_client_cert: ForwardClientCertDetails,
    /// Parts of that header.
    #[serde(skip_serializing_if = "is_default")]
    pub set_current_client_cert_details: Option<SetCurrentClientCertDetails>,
    /// `x-request-id`.
    #[serde(skip_serializing_if = "is_default")]
    pub request_id: Option<DisabledHeader>,
    /// `server`.
    #[serde(skip_serializing_if = "is_default")]
    pub server: Option<ServerHeader>,
    /// `x-envoy-attempt-count`.
    #[serde(skip_serializing_if = "is_default")]
    pub attempt_count: Option<DisabledHeader>,
    /// `x-envoy-upstream-service-time` and its like.
    #[serde(skip_serializing_if = "is_default")]
    pub envoy_debug_headers: Option<DisabledHeader>,
    /// Headers by which proxies exchange metadata.
    #[serde(skip_serializing_if = "is_default")]
    pub metadata_exchange_headers: Option<MetadataExchangeHeaders>,
    /// Keep the case of HTTP/1.1 header names.
    #[serde(skip_serializing_if = "is_default")]
    pub preserve_http1_header_case: Option<bool>,
    /// `x-forwarded-host` when Host is rewritten.
    #[serde(skip_serializing_if = "is_default")]
    pub x_forwarded_host: Option<EnabledHeader>,
    /// `x-forwarded-port`.
    #[serde(skip_serializing_if = "is_default")]
    pub x_forwarded_port: Option<EnabledHeader>,
}

/// Parts of `x-forwarded-client-cert`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct SetCurrentClientCertDetails {
    /// Subject; default true.
    #[serde(skip_serializing_if = "is_default")]
    pub subject: Option<bool>,
    /// Certificate.
    #[serde(skip_serializing_if = "is_default")]
    pub cert: Option<bool>,
    /// Certificate chain.
    #[serde(skip_serializing_if = "is_default")]
    pub chain: Option<bool>,
    /// DNS names; default true.
    #[serde(skip_serializing_if = "is_default")]
    pub dns: Option<bool>,
    /// URI names; default true.
    #[serde(skip_serializing_if = "is_default")]
    pub uri: Option<bool>,
}

/// A header that can be switched off.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct DisabledHeader {
    /// Not added.
    #[serde(skip_serializing_if = "is_default")]
    pub disabled: Option<bool>,
}

/// A header that can be switched on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct EnabledHeader {
    /// Added.
    #[serde(skip_serializing_if = "is_default")]
    pub enabled: Option<bool>,
}

/// The `server` header.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ServerHeader {
    /// Left as the application set it.
    #[serde(skip_serializing_if = "is_default")]
    pub disabled: Option<bool>,
    /// Its value; empty means the default.
    #[serde(skip_serializing_if = "is_default")]
    pub value: String,
}

/// Headers by which proxies exchange metadata.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct MetadataExchangeHeaders {
    /// Where they are sent.
    #[serde(skip_serializing_if = "is_default")]
    pub mode: MetadataExchangeMode,
}

/// Where metadata headers are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum MetadataExchangeMode {
    /// Everywhere.
    #[default]
    #[serde(rename = "UNDEFINED")]
    Undefined,
    /// Inside the mesh only.
    #[serde(rename = "IN_MESH")]
    InMesh,
}

/// Statistics that are made in addition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyStatsMatcher {
    /// By prefix of the name.
    #[serde(skip_serializing_if = "is_default")]
    pub inclusion_prefixes: Vec<String>,
    /// By suffix of the name.
    #[serde(skip_serializing_if = "is_default")]
    pub inclusion_suffixes: Vec<String>,
    /// By regular expression.
    #[serde(skip_serializing_if = "is_default")]
    pub inclusion_regexps: Vec<String>,
}

/// Image of the proxy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyImage {
    /// `default`, `debug` or `distroless`.
    #[serde(skip_serializing_if = "is_default")]
    pub image_type: String,
}

/// Limits of downstream connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionSettings {
    /// Set of defaults.
    #[serde(skip_serializing_if = "is_default")]
    pub profile: ConnectionProfile,
    /// Time without requests.
    #[serde(skip_serializing_if = "is_default")]
    pub http_idle_timeout: Option<Duration>,
    /// Lifetime of a connection.
    #[serde(skip_serializing_if = "is_default")]
    pub http_max_connection_duration: Option<Duration>,
    /// Time between the first and the last GOAWAY.
    #[serde(skip_serializing_if = "is_default")]
    pub http_drain_timeout: Option<Duration>,
    /// Time for the whole request to arrive.
    #[serde(skip_serializing_if = "is_default")]
    pub http_request_timeout: Option<Duration>,
    /// Time for the request headers to arrive.
    #[serde(skip_serializing_if = "is_default")]
    pub http_request_headers_timeout: Option<Duration>,
    /// Idle time of a stream.
    #[serde(skip_serializing_if = "is_default")]
    pub http_stream_idle_timeout: Option<Duration>,
    /// Lifetime of a stream.
    #[serde(skip_serializing_if = "is_default")]
    pub http_max_stream_duration: Option<Duration>,
    /// Buffer of a connection in bytes.
    #[serde(skip_serializing_if = "is_default")]
    pub per_connection_buffer_limit_bytes: Option<u32>,
    /// Streams of a connection.
    #[serde(skip_serializing_if = "is_default")]
    pub http2_max_concurrent_streams: Option<u32>,
    /// HTTP/2 stream window in bytes.
    #[serde(skip_serializing_if = "is_default")]
    pub http2_initial_stream_window_size: Option<u32>,
    /// HTTP/2 connection window in bytes.
    #[serde(skip_serializing_if = "is_default")]
    pub http2_initial_connection_window_size: Option<u32>,
    /// `ALLOW`, `REJECT_REQUEST` or `DROP_HEADER`.
    #[serde(skip_serializing_if = "is_default")]
    pub http_headers_with_underscores_action: Option<String>,
    /// Runs of slashes become one.
    #[serde(skip_serializing_if = "is_default")]
    pub http_merge_slashes: Option<bool>,
    /// What happens to `%2F` and `%5C` in paths.
    #[serde(skip_serializing_if = "is_default")]
    pub http_path_with_escaped_slashes_action: Option<String>,
}

/// Set of defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum ConnectionProfile {
    /// None.
    #[default]
    #[serde(rename = "UNSPECIFIED")]
    Unspecified,
    /// For proxies inside the mesh.
    #[serde(rename = "SIDECAR")]
    Sidecar,
    /// For proxies at the edge, with tighter limits.
    #[serde(rename = "EDGE")]
    Edge,
}

impl ProxyConfig {
    /// Istio's defaults, into which a user's settings are merged.
    pub fn istio_default() -> Self {
        Self {
            config_path: "./etc/istio/proxy".into(),
            binary_path: "/usr/local/bin/envoy".into(),
            service_cluster: Some("istio-proxy".into()),
            drain_duration: Some(Duration::from_secs(45)),
            discovery_address: "istiod.istio-system.svc:15012".into(),
            proxy_admin_port: 15000,
            status_port: 15020,
            control_plane_auth_policy: AuthenticationPolicy::MutualTls,
            stat_name_length: 189,
            termination_drain_duration: Some(Duration::from_secs(5)),
            file_flush_interval: Some(Duration::from_secs(1)),
            file_flush_min_size_kb: Some(64),
            stats_compression: Some(true),
            ..Default::default()
        }
    }
}
