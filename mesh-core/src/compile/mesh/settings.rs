//! Settings out of the ProxyConfig in force.

use crate::api::{
    ConnectionProfile, ConnectionSettings, DisabledHeader, Duration, EnabledHeader, ForwardClientCertDetails,
    MeshConfig, ProxyConfig, SetCurrentClientCertDetails,
};
use crate::proxy_config::is_on;
use crate::snapshot::{
    Direction, EscapedSlashes, HttpSettings, PathNormalization, ProxyPorts, RouteHeaders, Underscores, XfccDetails,
};

/// What the profile `EDGE` allows for a request to arrive, and to stand still.
const EDGE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(300);

fn disabled(header: Option<&DisabledHeader>) -> bool {
    header.is_some_and(|h| h.disabled == Some(true))
}

fn enabled(header: Option<&EnabledHeader>) -> bool {
    header.is_some_and(|h| h.enabled == Some(true))
}

/// Settings of the HTTP connections of a direction.
pub(in crate::compile) fn http_settings(config: &ProxyConfig, direction: Direction) -> HttpSettings {
    let headers = config.proxy_headers.clone().unwrap_or_default();
    let topology = config.gateway_topology.as_ref().map(|t| t.forward_client_cert_details);
    let client_cert = match (headers.forwarded_client_cert, direction, topology) {
        (_, Direction::Gateway, Some(mode)) if mode != ForwardClientCertDetails::Undefined => mode,
        (mode, ..) if mode != ForwardClientCertDetails::Undefined => mode,
        (_, Direction::Inbound, _) => ForwardClientCertDetails::AppendForward,
        (_, Direction::Outbound, _) => ForwardClientCertDetails::Sanitize,
        (_, Direction::Gateway, _) => ForwardClientCertDetails::SanitizeSet,
    };
    let details = if direction == Direction::Gateway { XfccDetails::GATEWAY } else { XfccDetails::default() };
    let base = HttpSettings {
        request_id: !disabled(headers.request_id.as_ref()),
        forwarded_port: enabled(headers.x_forwarded_port.as_ref()),
        client_cert,
        client_cert_details: client_cert_details(config, details),
        preserve_case: headers.preserve_http1_header_case == Some(true),
        http10: is_on(config, "ISTIO_META_HTTP10"),
        ..HttpSettings::default()
    };
    let settings = connection(base, config.connection_settings.as_ref());
    let by_metadata = (direction != Direction::Gateway).then(|| idle_of_metadata(config)).flatten();
    HttpSettings { idle_timeout: by_metadata.map_or(settings.idle_timeout, nonzero), ..settings }
}

/// What `x-forwarded-client-cert` says about clients, by default `default`.
fn client_cert_details(config: &ProxyConfig, default: XfccDetails) -> XfccDetails {
    let written = config.proxy_headers.as_ref().and_then(|h| h.set_current_client_cert_details.as_ref());
    let Some(SetCurrentClientCertDetails { subject, cert, chain, dns, uri }) = written else { return default };
    XfccDetails {
        subject: subject.unwrap_or(true),
        cert: cert.unwrap_or(false),
        chain: chain.unwrap_or(false),
        uri: uri.unwrap_or(true),
        dns: dns.unwrap_or(true),
    }
}

/// `ISTIO_META_IDLE_TIMEOUT`, if it can be read.
pub(super) fn idle_of_metadata(config: &ProxyConfig) -> Option<Duration> {
    config.proxy_metadata.get("ISTIO_META_IDLE_TIMEOUT")?.parse().ok()
}

/// A limit of zero is none.
fn nonzero(limit: Duration) -> Option<std::time::Duration> {
    Some(limit.0).filter(|d| !d.is_zero())
}

fn connection(base: HttpSettings, settings: Option<&ConnectionSettings>) -> HttpSettings {
    let Some(settings) = settings else { return base };
    let profile = match settings.profile {
        ConnectionProfile::Edge => HttpSettings {
            underscores: Underscores::Reject,
            escaped_slashes: EscapedSlashes::Redirect,
            max_streams: 100,
            stream_window: 64 << 10,
            connection_window: 1 << 20,
            request_timeout: Some(EDGE_TIMEOUT),
            stream_idle_timeout: Some(EDGE_TIMEOUT),
            buffer_limit: Some(32 << 10),
            ..base
        },
        ConnectionProfile::Sidecar | ConnectionProfile::Unspecified => base,
    };
    let limit = |own: Option<Duration>, profile| own.map_or(profile, nonzero);
    HttpSettings {
        idle_timeout: limit(settings.http_idle_timeout, profile.idle_timeout),
        max_connection_duration: limit(settings.http_max_connection_duration, None),
        drain_timeout: settings.http_drain_timeout.map_or(profile.drain_timeout, |d| d.0),
        request_timeout: limit(settings.http_request_timeout, profile.request_timeout),
        stream_idle_timeout: limit(settings.http_stream_idle_timeout, profile.stream_idle_timeout),
        max_stream_duration: limit(settings.http_max_stream_duration, None),
        buffer_limit: settings.per_connection_buffer_limit_bytes.or(profile.buffer_limit),
        underscores: match settings.http_headers_with_underscores_action.as_deref() {
            Some("ALLOW") => Underscores::Allow,
            Some("REJECT_REQUEST") => Underscores::Reject,
            Some("DROP_HEADER") => Underscores::Drop,
            _ => profile.underscores,
        },
        escaped_slashes: match settings.http_path_with_escaped_slashes_action.as_deref() {
            Some("KEEP_UNCHANGED") => EscapedSlashes::Keep,
            Some("REJECT_REQUEST") => EscapedSlashes::Reject,
            Some("UNESCAPE_AND_REDIRECT") => EscapedSlashes::Redirect,
            Some("UNESCAPE_AND_FORWARD") => EscapedSlashes::Forward,
            _ => profile.escaped_slashes,
        },
        headers_timeout: limit(settings.http_request_headers_timeout, None),
        max_streams: settings.http2_max_concurrent_streams.unwrap_or(profile.max_streams),
        stream_window: settings.http2_initial_stream_window_size.unwrap_or(profile.stream_window),
        connection_window: settings.http2_initial_connection_window_size.unwrap_or(profile.connection_window),
        ..profile
    }
}

/// `perConnectionBufferLimitBytes`, or what the profile says.
pub(in crate::compile) fn buffer_limit(config: &ProxyConfig) -> Option<u32> {
    connection(HttpSettings::default(), config.connection_settings.as_ref()).buffer_limit
}

/// `httpMergeSlashes` on top of the mesh's `pathNormalization`.
pub(in crate::compile) fn merged_slashes(config: &ProxyConfig, mesh: PathNormalization) -> PathNormalization {
    let settings = config.connection_settings.as_ref();
    let edge = settings.is_some_and(|s| s.profile == ConnectionProfile::Edge);
    let merge = settings.and_then(|s| s.http_merge_slashes).unwrap_or(edge);
    match mesh {
        PathNormalization::Base if merge => PathNormalization::MergeSlashes,
        other => other,
    }
}

/// Headers that routes make.
pub(in crate::compile) fn route_headers(config: &ProxyConfig) -> RouteHeaders {
    let headers = config.proxy_headers.clone().unwrap_or_default();
    RouteHeaders {
        attempt_count: !disabled(headers.attempt_count.as_ref()),
        debug: !disabled(headers.envoy_debug_headers.as_ref()),
        forwarded_host: enabled(headers.x_forwarded_host.as_ref()),
    }
}

/// Ports of the proxy itself.
pub(in crate::compile) fn ports(mesh: &MeshConfig, config: &ProxyConfig) -> ProxyPorts {
    let port = |n: i32| u16::try_from(n).ok().filter(|n| *n > 0);
    let default = ProxyPorts::default();
    let own = config.proxy_metadata.get("ISTIO_META_HTTP_PROXY_PORT").and_then(|v| v.parse().ok());
    ProxyPorts {
        outbound: port(mesh.proxy_listen_port).unwrap_or(default.outbound),
        inbound: port(mesh.proxy_inbound_listen_port).unwrap_or(default.inbound),
        http: own.or(port(mesh.proxy_http_port)),
    }
}
