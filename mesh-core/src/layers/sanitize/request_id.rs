//! `x-request-id`: a UUIDv4, made from the environment's random bits.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use crate::env::Env;
use crate::layers::value;
use crate::record::Cx;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Keeps what a sidecar's client sent; an edge always makes a new one.
/// Without an environment to make one from (`proxyHeaders.requestId.disabled`), the client's stays as it is.
pub(super) fn set(env: Option<&dyn Env>, replace: bool, headers: &mut HeaderMap, cx: Option<&Cx>) {
    let kept = if replace && env.is_some() { None } else { headers.get(&REQUEST_ID).cloned() };
    let id = kept.or_else(|| {
        let env = env?;
        let id = new_id(env.random(), env.random());
        headers.insert(REQUEST_ID, id.clone());
        Some(id)
    });
    if let (Some(cx), Some(id)) = (cx, id) {
        let _ = cx.request_id.set(id);
    }
}

/// Formats 128 bits without the formatting machinery: this runs for every request.
fn new_id(high: u64, low: u64) -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&high.to_be_bytes());
    bytes[8..].copy_from_slice(&low.to_be_bytes());
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (i, b) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = HEX[usize::from(b >> 4)];
        text[at + 1] = HEX[usize::from(b & 15)];
        at += 2;
    }
    value::shared(text)
}
