//! A request as rules see it: after the proxy has put its own word into the headers that say where it comes from.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::{HOST, HeaderName};
use http::{HeaderMap, HeaderValue};

use super::{ExplainRequest, Outcome, Url};
use crate::decide::{BadPath, SlashDecision, decide_slashes, normalize_target};
use crate::layers::modify::NodeFacts;
use crate::layers::sanitize::{forward, forwarded_client};
use crate::layers::{Body, ModifyConfig};
use crate::record::TlsInfo;
use crate::snapshot::{HttpPlan, RoutePlan, Underscores};

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Names with an underscore.
fn underscored(headers: &HeaderMap) -> impl Iterator<Item = &HeaderName> {
    headers.keys().filter(|n| n.as_str().contains('_'))
}

/// What a proxy answers a request that it does not even look for a route for; else the target that routes see.
pub(super) fn target<'a>(plan: &HttpPlan, headers: &HeaderMap, target: &'a str) -> Result<Cow<'a, str>, Outcome> {
    let refused = |status, flag: &str, body: &str, text: &str| {
        let (flag, body, text) = (flag.to_owned(), body.to_owned(), text.to_owned());
        Outcome { status: Some(status), flag, body, text }
    };
    let forwarded = match decide_slashes(target, plan.settings.escaped_slashes) {
        SlashDecision::Keep => None,
        SlashDecision::Refuse => return Err(refused(400, "", "", "the path has escaped slashes")),
        SlashDecision::Redirect(to) => return Err(refused(307, "", "", &format!("redirect to {to}"))),
        SlashDecision::Forward(to) => Some(to),
    };
    let bad = |_: BadPath| refused(400, "", "", "the path can't be normalized");
    let target = match forwarded {
        None => normalize_target(target, plan.path_normalization).map_err(bad)?,
        Some(to) => Cow::Owned(normalize_target(&to, plan.path_normalization).map_err(bad)?.into_owned()),
    };
    match underscored(headers).next() {
        Some(name) if plan.settings.underscores == Underscores::Reject => {
            let text = format!("the name of header {name} has an underscore");
            Err(refused(400, "DPE", "Bad Request", &text))
        }
        _ => Ok(target),
    }
}

/// Headers that are taken away before rules see them, as changes.
pub(super) fn dropped(plan: &HttpPlan, headers: &HeaderMap) -> Vec<String> {
    match plan.settings.underscores {
        Underscores::Drop => underscored(headers).map(|n| format!("request header {n} is removed")).collect(),
        Underscores::Allow | Underscores::Reject => Vec::new(),
    }
}

/// Where a request comes from.
pub(super) struct Origin<'a> {
    /// TLS that ends at this proxy.
    pub(super) tls: Option<&'a TlsInfo>,
    pub(super) peer: IpAddr,
    /// What a client on this machine is called.
    pub(super) own: IpAddr,
}

/// The client's address as headers give it; `None`: they don't.
pub(super) fn remote(plan: &HttpPlan, headers: &HeaderMap) -> Option<IpAddr> {
    forwarded_client(headers, plan.use_remote_address, plan.trusted_hops)
}

/// Headers for matching. A gateway believes no scheme and no request id of a client; a sidecar believes its application.
pub(super) fn headers<'a>(plan: &HttpPlan, headers: &'a HeaderMap, url: &Url, from: &Origin<'_>) -> Cow<'a, HeaderMap> {
    let mut out = Cow::Borrowed(headers);
    let made = from.tls.is_some_and(|tls| tls.client_cert.is_some());
    if made || headers.contains_key(CLIENT_CERT) {
        forward(&plan.settings, from.tls, out.to_mut(), true);
    }
    if plan.settings.underscores == Underscores::Drop {
        let named: Vec<HeaderName> = underscored(headers).cloned().collect();
        named.iter().for_each(|name| _ = out.to_mut().remove(name));
    }
    if !headers.contains_key(HOST)
        && let Ok(host) = HeaderValue::from_str(&url.authority)
    {
        out.to_mut().insert(HOST, host);
    }
    let edge = plan.use_remote_address;
    if (edge && plan.trusted_hops == 0) || !headers.contains_key(FORWARDED_PROTO) {
        let scheme = if url.https || from.tls.is_some() { "https" } else { "http" };
        out.to_mut().insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    if edge {
        let peer = if from.peer.is_loopback() { from.own } else { from.peer };
        let before = headers.get_all(FORWARDED_FOR).iter().filter_map(|v| v.to_str().ok());
        let all: Vec<String> = before.map(str::to_owned).chain([peer.to_string()]).collect();
        if let Ok(all) = HeaderValue::try_from(all.join(",")) {
            out.to_mut().insert(FORWARDED_FOR, all);
        }
    }
    // Where none is made, the client's stays as it is, whoever it is.
    if plan.settings.request_id && (edge || !headers.contains_key(REQUEST_ID)) {
        // Any id is as good as another: it is random.
        out.to_mut().insert(REQUEST_ID, HeaderValue::from_static("00000000-0000-4000-8000-000000000000"));
    }
    out
}

/// What becomes of `x-forwarded-client-cert`, as changes.
pub(super) fn client_cert(before: &HeaderMap, after: &HeaderMap) -> Vec<String> {
    let only = |headers: &HeaderMap| -> HeaderMap {
        headers.get_all(CLIENT_CERT).iter().map(|v| (CLIENT_CERT, v.clone())).collect()
    };
    differences(&only(before), &only(after))
}

/// What makes one set of headers the other, as changes.
pub(super) fn differences(before: &HeaderMap, after: &HeaderMap) -> Vec<String> {
    let gone = before.keys().filter(|n| !after.contains_key(*n)).map(|n| format!("request header {n} is removed"));
    let set = after.keys().filter(|n| !after.get_all(*n).iter().eq(before.get_all(*n)));
    let set = set.map(|n| {
        let value = after.get(n).and_then(|v| v.to_str().ok()).unwrap_or_default();
        format!("request header {n} is set to {value}")
    });
    gone.chain(set).collect()
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
