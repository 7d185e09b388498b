//! MeshConfig: settings of the whole mesh (ConfigMap `istio` in the root namespace, key `mesh`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::destination_rule::{ConnectionPoolSettings, LocalityLoadBalancerSetting, OutlierDetection};
use super::destination_rule::{TcpKeepalive, ZoneAwareLoadBalancerSetting};
use super::proxy_config::ProxyConfig;
use super::sidecar::OutboundTrafficPolicy;
use super::values::{Duration, is_default};
use super::virtual_service::HttpRetry;

/// Mesh-wide settings. Defaults are those of [`MeshConfig::istio_default`], not of the derived `Default`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct MeshConfig {
    /// Port of captured outbound connections; default 15001.
    #[serde(skip_serializing_if = "is_default")]
    pub proxy_listen_port: i32,
    /// Port of captured inbound connections; default 15006.
    #[serde(skip_serializing_if = "is_default")]
    pub proxy_inbound_listen_port: i32,
    /// Port of an explicit HTTP proxy; default 0, off.
    #[serde(skip_serializing_if = "is_default")]
    pub proxy_http_port: i32,
    /// Time to connect to an endpoint; default 10 s.
    #[serde(skip_serializing_if = "is_default")]
    pub connect_timeout: Option<Duration>,
    /// Idle time of pooled HBONE connections; default 1 h.
    #[serde(skip_serializing_if = "is_default")]
    pub hbone_idle_timeout: Option<Duration>,
    /// Time after which undetected traffic is TCP; default 0, for ever.
    #[serde(skip_serializing_if = "is_default")]
    pub protocol_detection_timeout: Option<Duration>,
    /// Default keep-alive of upstream connections.
    #[serde(skip_serializing_if = "is_default")]
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Class of the Ingress resources to read; default `istio`.
    #[serde(skip_serializing_if = "is_default")]
    pub ingress_class: String,
    /// Service of the ingress gateway; default `istio-ingressgateway`.
    #[serde(skip_serializing_if = "is_default")]
    pub ingress_service: String,
    /// Which Ingress resources are read; default `STRICT`.
    #[serde(skip_serializing_if = "is_default")]
    pub ingress_controller_mode: IngressControllerMode,
    /// Value of the ingress gateway's label `istio`; default `ingressgateway`.
    #[serde(skip_serializing_if = "is_default")]
    pub ingress_selector: String,
    /// Whether spans are made; default true.
    #[serde(skip_serializing_if = "is_default")]
    pub enable_tracing: bool,
    /// File for access logs (`/dev/stdout`); empty is off.
    #[serde(skip_serializing_if = "is_default")]
    pub access_log_file: String,
    /// Format of access logs; empty is Istio's default.
    #[serde(skip_serializing_if = "is_default")]
    pub access_log_format: String,
    /// Text or JSON; default text.
    #[serde(skip_serializing_if = "is_default")]
    pub access_log_encoding: AccessLogEncoding,
    /// Send access logs to the access log service.
    #[serde(skip_serializing_if = "is_default")]
    pub enable_envoy_access_log_service: bool,
    /// No log of requests that no listener took.
    #[serde(skip_serializing_if = "is_default")]
    pub disable_envoy_listener_log: bool,
    /// Settings of every proxy.
    #[serde(skip_serializing_if = "is_default")]
    pub default_config: Option<ProxyConfig>,
    /// Traffic to unknown destinations; default `ALLOW_ANY`.
    #[serde(skip_serializing_if = "is_default")]
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
    /// Inbound traffic without a listener; default `PASSTHROUGH`.
    #[serde(skip_serializing_if = "is_default")]
    pub inbound_traffic_policy: Option<InboundTrafficPolicy>,
    /// Mutual TLS wherever both sides can; default true.
    #[serde(skip_serializing_if = "is_default")]
    pub enable_auto_mtls: Option<bool>,
    /// Trust domain; default `cluster.local`.
    #[serde(skip_serializing_if = "is_default")]
    pub trust_domain: String,
    /// Further accepted trust domains.
    #[serde(skip_serializing_if = "is_default")]
    pub trust_domain_aliases: Vec<String>,
    /// Further accepted authorities.
    #[serde(skip_serializing_if = "is_default")]
    pub ca_certificates: Vec<CertificateData>,
    /// `exportTo` of services without one; default `*`.
    #[serde(skip_serializing_if = "is_default")]
    pub default_service_export_to: Vec<String>,
    /// `exportTo` of VirtualServices without one; default `*`.
    #[serde(skip_serializing_if = "is_default")]
    pub default_virtual_service_export_to: Vec<String>,
    /// `exportTo` of DestinationRules without one; default `*`.
    #[serde(skip_serializing_if = "is_default")]
    pub default_destination_rule_export_to: Vec<String>,
    /// Namespace of mesh-wide resources; default `istio-system`.
    #[serde(skip_serializing_if = "is_default")]
    pub root_namespace: String,
    /// Preference by locality; default on.
    #[serde(skip_serializing_if = "is_default")]
    pub locality_lb_setting: Option<LocalityLoadBalancerSetting>,
    /// Zone-aware routing; beats `localityLbSetting`.
    #[serde(skip_serializing_if = "is_default")]
    pub zone_aware_lb_setting: Option<ZoneAwareLoadBalancerSetting>,
    /// Time until a failed DNS query is repeated; default 60 s.
    #[serde(skip_serializing_if = "is_default")]
    pub dns_refresh_rate: Option<Duration>,
    /// Whether HTTP/1.1 is upgraded to HTTP/2; default no.
    #[serde(skip_serializing_if = "is_default")]
    pub h2_upgrade_policy: MeshH2UpgradePolicy,
    /// Pattern of inbound cluster names in statistics.
    #[serde(skip_serializing_if = "is_default")]
    pub inbound_cluster_stat_name: String,
    /// Pattern of outbound cluster names in statistics.
    #[serde(skip_serializing_if = "is_default")]
    pub outbound_cluster_stat_name: String,
    /// Merge the application's metrics; default true.
    #[serde(skip_serializing_if = "is_default")]
    pub enable_prometheus_merge: Option<bool>,
    /// Namespaces that are watched, any of which is enough; empty means all.
    #[serde(skip_serializing_if = "is_default")]
    pub discovery_selectors: Vec<MeshLabelSelector>,
    /// Normalization of request paths.
    #[serde(skip_serializing_if = "is_default")]
    pub path_normalization: Option<ProxyPathNormalization>,
    /// Retry policy of routes without one; default two retries.
    #[serde(skip_serializing_if = "is_default")]
    pub default_http_retry_policy: Option<HttpRetry>,
    /// Retry policy from the sidecar to its application.
    #[serde(skip_serializing_if = "is_default")]
    pub default_inbound_http_retry_policy: Option<HttpRetry>,
    /// TLS between proxies.
    #[serde(rename = "meshMTLS", skip_serializing_if = "is_default")]
    pub mesh_mtls: Option<MeshTlsConfig>,
    /// TLS of gateways and of TLS origination.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_defaults: Option<MeshTlsConfig>,
    /// Limits and outlier detection of services without them.
    #[serde(skip_serializing_if = "is_default")]
    pub default_traffic_policy: Option<DefaultTrafficPolicy>,
    /// Deprecated: verify server certificates by the system's authorities.
    #[serde(skip_serializing_if = "is_default")]
    pub verify_certificate_at_client: Option<bool>,
    /// Settings of groups of services.
    #[serde(skip_serializing_if = "is_default")]
    pub service_settings: Vec<ServiceSettings>,
    /// Scope of services across clusters, in ambient mode.
    #[serde(skip_serializing_if = "is_default")]
    pub service_scope_configs: Vec<ServiceScopeConfig>,
    /// Providers of external authorization, logs and traces; kept as written.
    #[serde(skip_serializing_if = "is_default")]
    pub extension_providers: Vec<serde_json::Value>,
    /// Default extension providers; kept as written.
    #[serde(skip_serializing_if = "is_default")]
    pub default_providers: Option<serde_json::Value>,
    /// External authority that signs certificates; kept as written.
    #[serde(skip_serializing_if = "is_default")]
    pub ca: Option<serde_json::Value>,
    /// Deprecated; kept as written.
    #[serde(skip_serializing_if = "is_default")]
    pub certificates: Vec<serde_json::Value>,
    /// Further configuration sources; kept as written.
    #[serde(skip_serializing_if = "is_default")]
    pub config_sources: Vec<serde_json::Value>,
    /// Removed from Istio; without effect.
    #[serde(skip_serializing_if = "is_default")]
    pub mixer_check_server: String,
    /// Removed from Istio; without effect.
    #[serde(skip_serializing_if = "is_default")]
    pub thrift_config: Option<serde_json::Value>,
}

/// Which Ingress resources are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum IngressControllerMode {
    /// As `STRICT`.
    #[default]
    #[serde(rename = "UNSPECIFIED")]
    Unspecified,
    /// None.
    #[serde(rename = "OFF")]
    Off,
    /// Those of the class and those without one.
    #[serde(rename = "DEFAULT")]
    Default,
    /// Those of the class only.
    #[serde(rename = "STRICT")]
    Strict,
}

/// Form of access log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum AccessLogEncoding {
    /// A format string.
    #[default]
    #[serde(rename = "TEXT")]
    Text,
    /// An object.
    #[serde(rename = "JSON")]
    Json,
}

/// Mesh-wide upgrade to HTTP/2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum MeshH2UpgradePolicy {
    /// Never.
    #[default]
    #[serde(rename = "DO_NOT_UPGRADE")]
    DoNotUpgrade,
    /// Always.
    #[serde(rename = "UPGRADE")]
    Upgrade,
}

/// Inbound traffic that no service port explains.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct InboundTrafficPolicy {
    /// What happens to it.
    #[serde(skip_serializing_if = "is_default")]
    pub mode: InboundTrafficPolicyMode,
}

/// Where inbound traffic is forwarded to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum InboundTrafficPolicyMode {
    /// The pod's address.
    #[default]
    #[serde(rename = "PASSTHROUGH")]
    Passthrough,
    /// 127.0.0.1.
    #[serde(rename = "LOCALHOST")]
    Localhost,
}

/// An accepted authority.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateData {
    /// Certificates.
    #[serde(skip_serializing_if = "is_default")]
    pub pem: Option<String>,
    /// Address of a SPIFFE bundle.
    #[serde(skip_serializing_if = "is_default")]
    pub spiffe_bundle_url: Option<String>,
    /// Kubernetes signers that use it.
    #[serde(skip_serializing_if = "is_default")]
    pub cert_signers: Vec<String>,
    /// Trust domains that it is for.
    #[serde(skip_serializing_if = "is_default")]
    pub trust_domains: Vec<String>,
}

/// Kubernetes' label selector.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct MeshLabelSelector {
    /// Labels that must have these values.
    #[serde(skip_serializing_if = "is_default")]
    pub match_labels: BTreeMap<String, String>,
    /// Conditions, all of which must hold.
    #[serde(skip_serializing_if = "is_default")]
    pub match_expressions: Vec<LabelExpression>,
}

/// One condition of a label selector.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct LabelExpression {
    /// Label.
    #[serde(skip_serializing_if = "is_default")]
    pub key: String,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`.
    #[serde(skip_serializing_if = "is_default")]
    pub operator: String,
    /// Values for `In` and `NotIn`.
    #[serde(skip_serializing_if = "is_default")]
    pub values: Vec<String>,
}

/// Normalization of request paths.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyPathNormalization {
    /// How far it goes.
    #[serde(skip_serializing_if = "is_default")]
    pub normalization: PathNormalization,
}

/// Steps of path normalization.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum PathNormalization {
    /// As `BASE`.
    #[default]
    #[serde(rename = "DEFAULT")]
    Default,
    /// None.
    #[serde(rename = "NONE")]
    None,
    /// RFC 3986, and `\` becomes `/`.
    #[serde(rename = "BASE")]
    Base,
    /// `BASE`, and runs of slashes become one.
    #[serde(rename = "MERGE_SLASHES")]
    MergeSlashes,
    /// `MERGE_SLASHES`, after decoding `%2F` and `%5C`.
    #[serde(rename = "DECODE_AND_MERGE_SLASHES")]
    DecodeAndMergeSlashes,
}

/// TLS parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct MeshTlsConfig {
    /// Lowest version; default 1.2.
    #[serde(skip_serializing_if = "is_default")]
    pub min_protocol_version: MeshTlsProtocol,
    /// Accepted curves; not for `meshMTLS`.
    #[serde(skip_serializing_if = "is_default")]
    pub ecdh_curves: Vec<String>,
    /// Accepted cipher suites.
    #[serde(skip_serializing_if = "is_default")]
    pub cipher_suites: Vec<String>,
}

/// A TLS version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum MeshTlsProtocol {
    /// The default.
    #[default]
    #[serde(rename = "TLS_AUTO")]
    TlsAuto,
    /// TLS 1.2.
    #[serde(rename = "TLSV1_2")]
    Tlsv1_2,
    /// TLS 1.3.
    #[serde(rename = "TLSV1_3")]
    Tlsv1_3,
}

/// Policy of services whose DestinationRule has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct DefaultTrafficPolicy {
    /// Limits.
    #[serde(skip_serializing_if = "is_default")]
    pub connection_pool: Option<ConnectionPoolSettings>,
    /// Ejection of endpoints that fail.
    #[serde(skip_serializing_if = "is_default")]
    pub outlier_detection: Option<OutlierDetection>,
}

/// Settings of a group of services.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSettings {
    /// The settings.
    #[serde(skip_serializing_if = "is_default")]
    pub settings: Option<ServiceSettingsSettings>,
    /// The services, also `*.suffix`.
    #[serde(skip_serializing_if = "is_default")]
    pub hosts: Vec<String>,
}

/// Settings of services.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSettingsSettings {
    /// Only endpoints of the client's cluster.
    #[serde(skip_serializing_if = "is_default")]
    pub cluster_local: bool,
}

/// Scope of services, in ambient mode.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceScopeConfig {
    /// Namespaces of the services.
    #[serde(skip_serializing_if = "is_default")]
    pub namespace_selector: Option<MeshLabelSelector>,
    /// The services.
    #[serde(skip_serializing_if = "is_default")]
    pub services_selector: Option<MeshLabelSelector>,
    /// The scope.
    #[serde(skip_serializing_if = "is_default")]
    pub scope: ServiceScope,
}

/// Where a service is visible from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum ServiceScope {
    /// Its own cluster.
    #[default]
    #[serde(rename = "LOCAL")]
    Local,
    /// All clusters.
    #[serde(rename = "GLOBAL")]
    Global,
}

impl MeshConfig {
    /// Istio's defaults, into which a user's settings are merged.
    pub fn istio_default() -> Self {
        let all = || vec!["*".to_owned()];
        Self {
            proxy_listen_port: 15001,
            proxy_inbound_listen_port: 15006,
            connect_timeout: Some(Duration::from_secs(10)),
            hbone_idle_timeout: Some(Duration::from_secs(3600)),
            protocol_detection_timeout: Some(Duration::default()),
            ingress_class: "istio".into(),
            ingress_service: "istio-ingressgateway".into(),
            ingress_controller_mode: IngressControllerMode::Strict,
            ingress_selector: "ingressgateway".into(),
            enable_tracing: true,
            default_config: Some(ProxyConfig::istio_default()),
            outbound_traffic_policy: Some(OutboundTrafficPolicy {
                mode: super::sidecar::OutboundTrafficPolicyMode::AllowAny,
                ..Default::default()
            }),
            inbound_traffic_policy: Some(InboundTrafficPolicy::default()),
            enable_auto_mtls: Some(true),
            trust_domain: "cluster.local".into(),
            default_service_export_to: all(),
            default_virtual_service_export_to: all(),
            default_destination_rule_export_to: all(),
            root_namespace: "istio-system".into(),
            locality_lb_setting: Some(LocalityLoadBalancerSetting { enabled: Some(true), ..Default::default() }),
            dns_refresh_rate: Some(Duration::from_secs(60)),
            enable_prometheus_merge: Some(true),
            default_http_retry_policy: Some(HttpRetry {
                attempts: 2,
                retry_on: "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes".into(),
                ..Default::default()
            }),
            ..Default::default()
        }
    }
}
