//! Where a request comes from, as headers say it.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use super::{Cleaner, client_cert};
use crate::layers::value;
use crate::record::Cx;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");

/// Headers by which one proxy instructs another. From an application they are removed: every request is external, since
/// the list of internal addresses is empty by default.
const INTERNAL: &[&str] = &[
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-max-retries",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-force-trace",
    "x-envoy-ip-tags",
    "x-envoy-internal",
    "x-envoy-original-url",
    "x-envoy-retriable-status-codes",
    "x-envoy-retriable-header-names",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-upstream-stream-duration-ms",
];

/// At the edge, in addition.
const EDGE: &[&str] =
    &["x-envoy-decorator-operation", "x-envoy-downstream-service-cluster", "x-envoy-downstream-service-node"];

pub(super) fn strip_internal(headers: &mut HeaderMap, edge: bool) {
    let internal = |name: &&HeaderName| {
        let name = name.as_str();
        // All of them begin like this, and few others do.
        name.starts_with("x-envoy-") && (INTERNAL.contains(&name) || (edge && EDGE.contains(&name)))
    };
    // Mostly there is none: what sidecars say to each other begins alike, and stays.
    while let Some(name) = headers.keys().find(internal).cloned() {
        headers.remove(name);
    }
}

/// The last entry of `x-forwarded-for`; that is who a sidecar takes for the client.
pub fn last_forwarded(headers: &HeaderMap) -> Option<IpAddr> {
    trusted_address(headers, 1)
}

/// The `n`-th entry of `x-forwarded-for` from the right, counting from 1, if it is an address.
pub fn trusted_address(headers: &HeaderMap, n: usize) -> Option<IpAddr> {
    let before = n.checked_sub(1)?;
    let mut entries = headers.get_all(FORWARDED_FOR).iter().rev().flat_map(|v| v.as_bytes().rsplit(|b| *b == b','));
    let entry = entries.nth(before)?;
    std::str::from_utf8(entry.trim_ascii()).ok()?.parse().ok()
}

/// The client's address as headers give it, before a proxy adds its own word; `None`: it is the peer. At the edge
/// (`use_remote_address`) only trusted proxies are believed, elsewhere the one before, too.
pub fn forwarded_client(headers: &HeaderMap, use_remote_address: bool, trusted_hops: u32) -> Option<IpAddr> {
    let hops = trusted_hops as usize;
    trusted_address(headers, if use_remote_address { hops } else { hops + 1 })
}

/// Sets `x-forwarded-*` and notes the client's address. `present`: the request has such headers.
pub(super) fn set(cleaner: &Cleaner, headers: &mut HeaderMap, cx: Option<&Cx>, present: bool) {
    let Cleaner { config, node_text } = cleaner;
    client_cert::forward(&config.settings, cx.and_then(|cx| cx.conn.tls.as_deref()), headers, present);
    let peer = cx.map(|cx| (cx.conn.peer.ip(), &cx.conn.peer_text));
    let scheme = if cx.is_some_and(|cx| cx.conn.tls.is_some()) { "https" } else { "http" };
    let mut remote = None;
    let mut forwarded_for = None;
    if config.use_remote_address {
        let trusted = forwarded_client(headers, true, config.trusted_hops);
        remote = trusted;
        if let Some((peer, text)) = peer {
            let address = text.of(peer, value::address);
            let node = node_text.as_ref().filter(|_| peer.is_loopback());
            forwarded_for = append_peer(headers, node.unwrap_or(&address).clone(), present);
            headers.insert(EXTERNAL_ADDRESS, trusted.map_or(address, value::address));
        }
        if config.trusted_hops == 0 || !headers.contains_key(FORWARDED_PROTO) {
            headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
        }
        let keep_port = config.trusted_hops > 0 && headers.contains_key(&FORWARDED_PORT);
        if let Some(cx) = cx.filter(|_| config.settings.forwarded_port && !keep_port) {
            headers.insert(FORWARDED_PORT, HeaderValue::from(cx.conn.local.port()));
        }
    } else if present {
        remote = forwarded_client(headers, false, config.trusted_hops);
        forwarded_for = headers.get(FORWARDED_FOR).cloned();
        if !headers.contains_key(FORWARDED_PROTO) {
            headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
        }
    } else {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    if let Some(cx) = cx {
        if let Some(ip) = remote {
            let _ = cx.remote.set(SocketAddr::new(ip, 0));
        }
        if let Some(value) = forwarded_for {
            let _ = cx.forwarded_for.set(value);
        }
    }
}

/// Makes one line of what the request has and the peer. `present`: it may have one.
fn append_peer(headers: &mut HeaderMap, peer: HeaderValue, present: bool) -> Option<HeaderValue> {
    let all = if present && headers.contains_key(FORWARDED_FOR) {
        let lines = headers.get_all(FORWARDED_FOR).iter().chain([&peer]);
        let joined = lines.map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b","[..]);
        HeaderValue::from_maybe_shared(Bytes::from(joined)).ok()?
    } else {
        peer
    };
    headers.insert(FORWARDED_FOR, all.clone());
    Some(all)
}
