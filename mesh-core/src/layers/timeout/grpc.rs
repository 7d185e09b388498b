//! The `grpc-timeout` header.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The timeout of a gRPC request: the client's, at most the route's. The header goes on in milliseconds; one that can't be
/// read is left as it is, and the route's timeout counts.
pub(super) fn apply(headers: &mut HeaderMap, route: Option<Duration>) -> Option<Duration> {
    let Some(asked) = headers.get(GRPC_TIMEOUT).and_then(|v| parse(v.as_bytes())) else { return route };
    // Zero is no limit of the client's.
    let timeout = match route {
        None if asked.is_zero() => return None,
        Some(cap) if asked.is_zero() => cap,
        Some(cap) => asked.min(cap),
        None => asked,
    };
    let text = format!("{}m", timeout.as_millis());
    let value = HeaderValue::try_from(text).expect("invariant: digits and a letter");
    headers.insert(GRPC_TIMEOUT, value);
    Some(timeout)
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
