//! The `grpc-timeout` header.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The timeout of a gRPC request: the client's, at most the route's. Where the client's can't be read the route's counts.
pub(super) fn timeout(headers: &HeaderMap, route: Option<Duration>) -> Option<Duration> {
    let Some(asked) = headers.get(GRPC_TIMEOUT).and_then(|v| parse(v.as_bytes())) else { return route };
    // Zero is no limit of the client's.
    match route {
        None if asked.is_zero() => None,
        Some(cap) if asked.is_zero() => Some(cap),
        Some(cap) => Some(asked.min(cap)),
        None => Some(asked),
    }
}

/// Tells the upstream how long we wait, whether the client said anything or not; in milliseconds, as Envoy does.
pub(super) fn announce(headers: &mut HeaderMap, limit: Duration) {
    let text = format!("{}m", limit.as_millis());
    let value = HeaderValue::try_from(text).expect("invariant: digits and a letter");
    headers.insert(GRPC_TIMEOUT, value);
}

pub(super) fn is_told(headers: &HeaderMap) -> bool {
    headers.contains_key(GRPC_TIMEOUT)
}

/// Changes what the upstream is told, if it is told something.
pub(super) fn shorten(headers: &mut HeaderMap, left: impl FnOnce(Duration) -> Duration) {
    if let Some(told) = headers.get(GRPC_TIMEOUT).and_then(|v| parse(v.as_bytes())).filter(|t| !t.is_zero()) {
        announce(headers, left(told));
    }
}

/// At least a millisecond: 0 would be no limit.
pub(super) fn left(told: Duration, elapsed: Duration) -> Duration {
    told.saturating_sub(elapsed).max(Duration::from_millis(1))
}

/// At most eight digits and a unit; rounded up to milliseconds.
pub(super) fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n = digits.iter().fold(0u64, |n, d| n * 10 + u64::from(d - b'0'));
    let millis = match unit {
        b'H' => n * 3_600_000,
        b'M' => n * 60_000,
        b'S' => n * 1000,
        b'm' => n,
        b'u' => n.div_ceil(1000),
        b'n' => n.div_ceil(1_000_000),
        _ => return None,
    };
    Some(Duration::from_millis(millis))
}
