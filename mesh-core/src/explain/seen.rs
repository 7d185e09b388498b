//! A request as rules see it: after the proxy has put its own word into the headers that say where it comes from.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{HOST, HeaderName};
use http::{HeaderMap, HeaderValue};

use super::{ExplainRequest, Url};
use crate::layers::modify::NodeFacts;
use crate::layers::{Body, ModifyConfig};
use crate::snapshot::{HttpPlan, RoutePlan};

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

/// The request as a route sends it to one of its destinations. Header values that say something about the connection or
/// the moment are left out: neither is known.
pub(super) fn passed_on(
    route: &Arc<RoutePlan>,
    destination: usize,
    request: &ExplainRequest,
    headers: &HeaderMap,
    url: &Url,
) -> (ExplainRequest, Url) {
    let node = Arc::new(NodeFacts::default());
    let mut made = http::Request::new(Body::default());
    *made.method_mut() = request.method.clone();
    *made.headers_mut() = headers.clone();
    if let Ok(uri) = url.target.parse() {
        *made.uri_mut() = uri;
    }
    ModifyConfig { route: Arc::clone(route), destination, node }.change(&mut made, None);
    let target = made.uri().path_and_query().map_or("/", |p| p.as_str()).to_owned();
    let url = Url { target, ..url.clone() };
    (ExplainRequest { headers: std::mem::take(made.headers_mut()), ..request.clone() }, url)
}
