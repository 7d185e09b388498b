//! A request as rules see it: after the proxy has put its own word into the headers that say where it comes from.

use std::borrow::Cow;

use http::header::{HOST, HeaderName};
use http::{HeaderMap, HeaderValue};

use super::Url;
use crate::snapshot::HttpPlan;

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Headers for matching. A gateway believes no scheme and no request id of a client; a sidecar believes its application.
pub(super) fn headers<'a>(plan: &HttpPlan, headers: &'a HeaderMap, url: &Url) -> Cow<'a, HeaderMap> {
    let mut out = Cow::Borrowed(headers);
    if !headers.contains_key(HOST)
        && let Ok(host) = HeaderValue::from_str(&url.authority)
    {
        out.to_mut().insert(HOST, host);
    }
    let edge = plan.use_remote_address;
    if (edge && plan.trusted_hops == 0) || !headers.contains_key(FORWARDED_PROTO) {
        let scheme = if url.https { "https" } else { "http" };
        out.to_mut().insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    if edge || !headers.contains_key(REQUEST_ID) {
        // Any id is as good as another: it is random.
        out.to_mut().insert(REQUEST_ID, HeaderValue::from_static("00000000-0000-4000-8000-000000000000"));
    }
    out
}

/// The scheme that rules see.
pub(super) fn scheme(headers: &HeaderMap) -> &str {
    headers.get(FORWARDED_PROTO).and_then(|v| v.to_str().ok()).unwrap_or("http")
}
