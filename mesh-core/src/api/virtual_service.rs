//! `networking.istio.io` VirtualService: how requests for a host are routed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::values::{Duration, Percent, StringMatch, is_default};

mod l4;

pub use l4::*;

/// Spec of a VirtualService. Without hosts it is a delegate, which another VirtualService includes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualService {
    /// Host names this applies to: FQDN, short name (completed with the object's namespace), `*.suffix`, `*`, or an
    /// IP address.
    #[serde(skip_serializing_if = "is_default")]
    pub hosts: Vec<String>,
    /// Gateways (`namespace/name`) and the reserved word `mesh` for sidecars; empty means `mesh`.
    #[serde(skip_serializing_if = "is_default")]
    pub gateways: Vec<String>,
    /// Rules for HTTP traffic, tried in order.
    #[serde(skip_serializing_if = "is_default")]
    pub http: Vec<HttpRoute>,
    /// Rules for TLS that is passed through, by SNI.
    #[serde(skip_serializing_if = "is_default")]
    pub tls: Vec<TlsRoute>,
    /// Rules for TCP traffic.
    #[serde(skip_serializing_if = "is_default")]
    pub tcp: Vec<TcpRoute>,
    /// Namespaces that may use it: `*`, `.` or names; empty means the mesh's default.
    #[serde(skip_serializing_if = "is_default")]
    pub export_to: Vec<String>,
}

/// One HTTP rule: what it matches and what happens to the request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRoute {
    /// Name of the rule in access logs.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// Conditions, any of which is enough; empty matches everything.
    #[serde(skip_serializing_if = "is_default")]
    pub r#match: Vec<HttpMatchRequest>,
    /// Weighted destinations.
    #[serde(skip_serializing_if = "is_default")]
    pub route: Vec<HttpRouteDestination>,
    /// Answer with a redirect.
    #[serde(skip_serializing_if = "is_default")]
    pub redirect: Option<HttpRedirect>,
    /// Answer with a fixed response.
    #[serde(skip_serializing_if = "is_default")]
    pub direct_response: Option<HttpDirectResponse>,
    /// Rules are taken from another VirtualService.
    #[serde(skip_serializing_if = "is_default")]
    pub delegate: Option<Delegate>,
    /// Change of path and authority before the request is forwarded.
    #[serde(skip_serializing_if = "is_default")]
    pub rewrite: Option<HttpRewrite>,
    /// Time for the whole request, tries included; absent or zero is no limit.
    #[serde(skip_serializing_if = "is_default")]
    pub timeout: Option<Duration>,
    /// Retry policy; absent means the mesh's default.
    #[serde(skip_serializing_if = "is_default")]
    pub retries: Option<HttpRetry>,
    /// Faults to inject.
    #[serde(skip_serializing_if = "is_default")]
    pub fault: Option<HttpFaultInjection>,
    /// Destination that gets a copy of the requests.
    #[serde(skip_serializing_if = "is_default")]
    pub mirror: Option<Destination>,
    /// Several destinations that get copies; excludes `mirror`.
    #[serde(skip_serializing_if = "is_default")]
    pub mirrors: Vec<HttpMirrorPolicy>,
    /// Deprecated form of `mirrorPercentage`, whole percent.
    #[serde(skip_serializing_if = "is_default")]
    pub mirror_percent: Option<u32>,
    /// Share of the requests that `mirror` gets; absent means all.
    #[serde(skip_serializing_if = "is_default")]
    pub mirror_percentage: Option<Percent>,
    /// Cross-origin policy.
    #[serde(skip_serializing_if = "is_default")]
    pub cors_policy: Option<CorsPolicy>,
    /// Header operations for all destinations.
    #[serde(skip_serializing_if = "is_default")]
    pub headers: Option<Headers>,
}

/// Reference to a VirtualService without hosts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Delegate {
    /// Its name.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// Its namespace; empty means that of the referring object.
    #[serde(skip_serializing_if = "is_default")]
    pub namespace: String,
}

/// Conditions on a request, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HttpMatchRequest {
    /// Appended to the rule's name in access logs.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// Path without query.
    #[serde(skip_serializing_if = "is_default")]
    pub uri: Option<StringMatch>,
    /// `:scheme`.
    #[serde(skip_serializing_if = "is_default")]
    pub scheme: Option<StringMatch>,
    /// `:method`, case sensitive.
    #[serde(skip_serializing_if = "is_default")]
    pub method: Option<StringMatch>,
    /// Host or `:authority`.
    #[serde(skip_serializing_if = "is_default")]
    pub authority: Option<StringMatch>,
    /// Header values by lower-case name.
    #[serde(skip_serializing_if = "is_default")]
    pub headers: BTreeMap<String, StringMatch>,
    /// Header conditions that must not hold.
    #[serde(skip_serializing_if = "is_default")]
    pub without_headers: BTreeMap<String, StringMatch>,
    /// Query parameters by name; compared as sent, without percent-decoding.
    #[serde(skip_serializing_if = "is_default")]
    pub query_params: BTreeMap<String, StringMatch>,
    /// Exact and prefix comparison of `uri` ignores case.
    #[serde(skip_serializing_if = "is_default")]
    pub ignore_uri_case: bool,
    /// Port of the listener; 0 is any.
    #[serde(skip_serializing_if = "is_default")]
    pub port: u32,
    /// Labels that the client's workload must have.
    #[serde(skip_serializing_if = "is_default")]
    pub source_labels: BTreeMap<String, String>,
    /// Namespace of the client's workload.
    #[serde(skip_serializing_if = "is_default")]
    pub source_namespace: String,
    /// Gateways this applies to, instead of those of the VirtualService.
    #[serde(skip_serializing_if = "is_default")]
    pub gateways: Vec<String>,
    /// Prefix of per-route statistics.
    #[serde(skip_serializing_if = "is_default")]
    pub stat_prefix: String,
}

/// A destination with its share of the requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRouteDestination {
    /// Where to.
    #[serde(skip_serializing_if = "is_default")]
    pub destination: Option<Destination>,
    /// Share, relative to the sum of the weights; ignored for a single destination.
    #[serde(skip_serializing_if = "is_default")]
    pub weight: i32,
    /// Header operations for this destination.
    #[serde(skip_serializing_if = "is_default")]
    pub headers: Option<Headers>,
}

/// A service, possibly one of its subsets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Destination {
    /// Host name in the registry; a short name is completed with the namespace of the object that names it.
    #[serde(skip_serializing_if = "is_default")]
    pub host: String,
    /// Subset of the DestinationRule; empty means all endpoints.
    #[serde(skip_serializing_if = "is_default")]
    pub subset: String,
    /// Port; may be absent if the service has only one.
    #[serde(skip_serializing_if = "is_default")]
    pub port: Option<PortSelector>,
}

/// A port by number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct PortSelector {
    /// Port number, 1 to 65535.
    #[serde(skip_serializing_if = "is_default")]
    pub number: u32,
}

/// Header operations on request and response.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Headers {
    /// On the request, before it is forwarded.
    #[serde(skip_serializing_if = "is_default")]
    pub request: Option<HeaderOperations>,
    /// On the response, before it is returned.
    #[serde(skip_serializing_if = "is_default")]
    pub response: Option<HeaderOperations>,
}

/// Changes of a header map.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HeaderOperations {
    /// Overwrite or add.
    #[serde(skip_serializing_if = "is_default")]
    pub set: BTreeMap<String, String>,
    /// Append a value.
    #[serde(skip_serializing_if = "is_default")]
    pub add: BTreeMap<String, String>,
    /// Remove.
    #[serde(skip_serializing_if = "is_default")]
    pub remove: Vec<String>,
}

/// Change of a request before it is forwarded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRewrite {
    /// Replaces the matched prefix, or the whole path of an exact or regex match.
    #[serde(skip_serializing_if = "is_default")]
    pub uri: String,
    /// Replaces Host.
    #[serde(skip_serializing_if = "is_default")]
    pub authority: String,
    /// Replaces parts of the path by a regular expression.
    #[serde(skip_serializing_if = "is_default")]
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// RE2 substitution.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RegexRewrite {
    /// Regular expression, at most 1024 characters.
    #[serde(skip_serializing_if = "is_default")]
    pub r#match: String,
    /// Replacement; `\1` to `\9` are captures.
    #[serde(skip_serializing_if = "is_default")]
    pub rewrite: String,
}

/// A redirect response.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRedirect {
    /// Replaces the whole path.
    #[serde(skip_serializing_if = "is_default")]
    pub uri: String,
    /// Replaces the matched prefix of the path.
    #[serde(skip_serializing_if = "is_default")]
    pub prefix_rewrite: String,
    /// Replaces the host and port.
    #[serde(skip_serializing_if = "is_default")]
    pub authority: String,
    /// Port in the Location header.
    #[serde(skip_serializing_if = "is_default")]
    pub port: Option<u32>,
    /// Where the port in the Location header comes from, if not given.
    #[serde(skip_serializing_if = "is_default")]
    pub derive_port: Option<RedirectPortSelection>,
    /// `http` or `https`.
    #[serde(skip_serializing_if = "is_default")]
    pub scheme: String,
    /// Status; 0 means 301.
    #[serde(skip_serializing_if = "is_default")]
    pub redirect_code: u32,
}

/// Source of a redirect's port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum RedirectPortSelection {
    /// 80 for HTTP and 443 for HTTPS, which are left out of the URL.
    #[default]
    #[serde(rename = "FROM_PROTOCOL_DEFAULT")]
    FromProtocolDefault,
    /// Port on which the request came in.
    #[serde(rename = "FROM_REQUEST_PORT")]
    FromRequestPort,
}

/// A fixed response.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HttpDirectResponse {
    /// Status, 200 to 599.
    #[serde(skip_serializing_if = "is_default")]
    pub status: u32,
    /// Body; absent is empty.
    #[serde(skip_serializing_if = "is_default")]
    pub body: Option<HttpBody>,
}

/// Body of a direct response: one of the two.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HttpBody {
    /// As text.
    #[serde(skip_serializing_if = "is_default")]
    pub string: Option<String>,
    /// As base64.
    #[serde(skip_serializing_if = "is_default")]
    pub bytes: Option<String>,
}

/// Retry policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRetry {
    /// Retries after the first try; 0 disables.
    #[serde(skip_serializing_if = "is_default")]
    pub attempts: i32,
    /// Time for each try; absent means the rule's timeout.
    #[serde(skip_serializing_if = "is_default")]
    pub per_try_timeout: Option<Duration>,
    /// Comma-separated conditions and status codes; empty means Istio's default.
    #[serde(skip_serializing_if = "is_default")]
    pub retry_on: String,
    /// Retries may go to other localities.
    #[serde(skip_serializing_if = "is_default")]
    pub retry_remote_localities: Option<bool>,
    /// Retries avoid hosts that were tried; default true.
    #[serde(skip_serializing_if = "is_default")]
    pub retry_ignore_previous_hosts: Option<bool>,
    /// Base interval between tries; default 25 ms.
    #[serde(skip_serializing_if = "is_default")]
    pub backoff: Option<Duration>,
}

/// Faults to inject.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HttpFaultInjection {
    /// Delay before forwarding.
    #[serde(skip_serializing_if = "is_default")]
    pub delay: Option<FaultDelay>,
    /// Answer with an error instead of forwarding.
    #[serde(skip_serializing_if = "is_default")]
    pub abort: Option<FaultAbort>,
}

/// A delay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct FaultDelay {
    /// Deprecated form of `percentage`, whole percent.
    #[serde(skip_serializing_if = "is_default")]
    pub percent: i32,
    /// Length.
    #[serde(skip_serializing_if = "is_default")]
    pub fixed_delay: Option<Duration>,
    /// Not supported by Istio.
    #[serde(skip_serializing_if = "is_default")]
    pub exponential_delay: Option<Duration>,
    /// Share of the requests; absent means none.
    #[serde(skip_serializing_if = "is_default")]
    pub percentage: Option<Percent>,
}

/// An error answer: one of the first three.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct FaultAbort {
    /// HTTP status.
    #[serde(skip_serializing_if = "is_default")]
    pub http_status: Option<i32>,
    /// gRPC status name, upper case.
    #[serde(skip_serializing_if = "is_default")]
    pub grpc_status: Option<String>,
    /// Not supported by Istio.
    #[serde(skip_serializing_if = "is_default")]
    pub http2_error: Option<String>,
    /// Share of the requests; absent means none.
    #[serde(skip_serializing_if = "is_default")]
    pub percentage: Option<Percent>,
}

/// A destination that gets copies of requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HttpMirrorPolicy {
    /// Where to.
    #[serde(skip_serializing_if = "is_default")]
    pub destination: Option<Destination>,
    /// Share of the requests; absent means all.
    #[serde(skip_serializing_if = "is_default")]
    pub percentage: Option<Percent>,
}

/// Cross-origin resource sharing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct CorsPolicy {
    /// Deprecated: exact origins.
    #[serde(skip_serializing_if = "is_default")]
    pub allow_origin: Vec<String>,
    /// Origins that are allowed.
    #[serde(skip_serializing_if = "is_default")]
    pub allow_origins: Vec<StringMatch>,
    /// Methods for `access-control-allow-methods`.
    #[serde(skip_serializing_if = "is_default")]
    pub allow_methods: Vec<String>,
    /// Headers for `access-control-allow-headers`.
    #[serde(skip_serializing_if = "is_default")]
    pub allow_headers: Vec<String>,
    /// Headers for `access-control-expose-headers`.
    #[serde(skip_serializing_if = "is_default")]
    pub expose_headers: Vec<String>,
    /// How long a preflight may be cached; whole seconds.
    #[serde(skip_serializing_if = "is_default")]
    pub max_age: Option<Duration>,
    /// Whether credentials are allowed.
    #[serde(skip_serializing_if = "is_default")]
    pub allow_credentials: Option<bool>,
    /// What happens to preflights of other origins.
    #[serde(skip_serializing_if = "is_default")]
    pub unmatched_preflights: UnmatchedPreflights,
}

/// Treatment of preflight requests whose origin is not allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum UnmatchedPreflights {
    /// As `FORWARD`.
    #[default]
    #[serde(rename = "UNSPECIFIED")]
    Unspecified,
    /// Forwarded to the destination.
    #[serde(rename = "FORWARD")]
    Forward,
    /// Answered here, without an allowed origin.
    #[serde(rename = "IGNORE")]
    Ignore,
}

const GRPC_STATUS: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The number of a gRPC status by its upper-case name.
pub fn grpc_status(name: &str) -> Option<u8> {
    GRPC_STATUS.iter().position(|n| *n == name).and_then(|n| u8::try_from(n).ok())
}
