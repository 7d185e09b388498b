//! ProxyConfig, wherever it is written: `defaultConfig` of the mesh, or the annotation of a pod.

use super::Check;
use crate::api::{ConnectionSettings, Key, Kind, Origin, ProxyConfig};
use crate::report::Level;
use crate::yaml::child;

/// Smallest and largest window of HTTP/2 (RFC 9113), in bytes, and most streams.
const WINDOW: std::ops::RangeInclusive<u32> = 65_535..=0x7fff_ffff;
const STREAMS: std::ops::RangeInclusive<u32> = 1..=0x7fff_ffff;

/// The mesh's own.
pub(super) fn check(check: &mut Check<'_>, path: &str, config: &ProxyConfig) {
    for (field, number) in [("proxyAdminPort", config.proxy_admin_port), ("statusPort", config.status_port)] {
        if !(1..=65535).contains(&number) {
            check.error(&child(path, field), format!("{field} {number} must be in the range 1..65535"));
        }
    }
    if config.discovery_address.is_empty() {
        check.error(&child(path, "discoveryAddress"), "discoveryAddress must be host:port");
    }
    values(check, path, config);
}

/// What is wrong with settings in which the mesh's own are not repeated, in one text; `None`: nothing.
pub fn validate_proxy_config(config: &ProxyConfig) -> Option<String> {
    let (key, origin) = (Key::new(Kind::new("", "Pod"), "", ""), Origin::generated("an annotation"));
    let mut check = Check::new(&key, &origin);
    values(&mut check, "", config);
    let wrong: Vec<_> = check.reports.into_iter().filter(|r| r.level == Level::Error).map(|r| r.message).collect();
    (!wrong.is_empty()).then(|| wrong.join("; "))
}

fn values(check: &mut Check<'_>, path: &str, config: &ProxyConfig) {
    if let Some(wrong) = config.drain_duration.filter(|d| d.0.as_secs() == 0 || d.0.subsec_nanos() != 0) {
        check.error(&child(path, "drainDuration"), format!("drainDuration {wrong} must be whole seconds, at least 1s"));
    }
    if let Some(wrong) = config.concurrency.filter(|n| *n < 0) {
        check.error(&child(path, "concurrency"), format!("concurrency {wrong} should be greater than or equal to 0"));
    }
    if config.stat_name_length < 0 {
        check.error(&child(path, "statNameLength"), "statNameLength must not be negative");
    }
    if let Some(settings) = &config.connection_settings {
        connection(check, &child(path, "connectionSettings"), settings);
    }
}

/// What a peer would refuse, or nobody knows.
fn connection(check: &mut Check<'_>, path: &str, settings: &ConnectionSettings) {
    let ConnectionSettings {
        profile: _,
        http_idle_timeout: _,
        http_max_connection_duration: _,
        http_drain_timeout,
        http_request_timeout: _,
        http_request_headers_timeout: _,
        http_stream_idle_timeout: _,
        http_max_stream_duration: _,
        per_connection_buffer_limit_bytes,
        http2_max_concurrent_streams,
        http2_initial_stream_window_size,
        http2_initial_connection_window_size,
        http_headers_with_underscores_action,
        http_merge_slashes: _,
        http_path_with_escaped_slashes_action,
    } = settings;
    for (name, value, range) in [
        ("http2MaxConcurrentStreams", http2_max_concurrent_streams, STREAMS),
        ("http2InitialStreamWindowSize", http2_initial_stream_window_size, WINDOW),
        ("http2InitialConnectionWindowSize", http2_initial_connection_window_size, WINDOW),
        ("perConnectionBufferLimitBytes", per_connection_buffer_limit_bytes, 1..=u32::MAX),
    ] {
        if let Some(n) = value.filter(|n| !range.contains(n)) {
            let text = format!("{name} {n} must be in the range {}..{}", range.start(), range.end());
            check.error(&child(path, name), text);
        }
    }
    if http_drain_timeout.is_some_and(|d| d.0.is_zero()) {
        let text = "httpDrainTimeout 0s ends connections at once, with requests that have just been sent";
        check.warn(&child(path, "httpDrainTimeout"), text);
    }
    let actions = &["ALLOW", "REJECT_REQUEST", "DROP_HEADER"][..];
    let slashes = &[
        "IMPLEMENTATION_SPECIFIC_DEFAULT",
        "KEEP_UNCHANGED",
        "REJECT_REQUEST",
        "UNESCAPE_AND_REDIRECT",
        "UNESCAPE_AND_FORWARD",
    ][..];
    for (name, value, known) in [
        ("httpHeadersWithUnderscoresAction", http_headers_with_underscores_action, actions),
        ("httpPathWithEscapedSlashesAction", http_path_with_escaped_slashes_action, slashes),
    ] {
        if let Some(wrong) = value.as_deref().filter(|v| !known.contains(v)) {
            check.error(&child(path, name), format!("{name} {wrong:?} is none of {}", known.join(", ")));
        }
    }
}
