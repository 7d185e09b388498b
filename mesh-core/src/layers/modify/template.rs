//! Header operations, and the values of their `%OPERATORS%`.

use std::sync::atomic::Ordering;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use crate::layers::{Request, Response};
use crate::matching::HeaderValueTemplate;
use crate::record::{Cx, Flag};
use crate::snapshot::HeaderOps;

/// What an operator may look at.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) cx: Option<&'a Cx>,
    pub(super) request: Option<&'a HeaderMap>,
    pub(super) response: Option<&'a HeaderMap>,
    pub(super) status: u16,
}

impl Scope<'_> {
    /// The operator's value; `None` is empty.
    pub(super) fn resolve(&self, name: &str, argument: &str, uri: Option<&Uri>) -> Option<String> {
        let header = |headers: Option<&HeaderMap>| {
            let lines = headers?.get_all(argument.to_ascii_lowercase());
            let first = lines.iter().next()?;
            first.to_str().ok().map(str::to_owned)
        };
        let cx = self.cx;
        Some(match name {
            "REQ" | "REQUEST_HEADER" if argument.starts_with(':') => match argument {
                ":path" => uri?.path_and_query()?.to_string(),
                ":authority" => self.request?.get(http::header::HOST)?.to_str().ok()?.to_owned(),
                _ => return None,
            },
            "REQ" | "REQUEST_HEADER" => header(self.request)?,
            "RESP" | "RESPONSE_HEADER" => header(self.response)?,
            "RESPONSE_CODE" => self.status.to_string(),
            "DOWNSTREAM_REMOTE_ADDRESS" => cx?.remote().to_string(),
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => cx?.remote().ip().to_string(),
            "DOWNSTREAM_REMOTE_PORT" => cx?.remote().port().to_string(),
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => cx?.conn.peer.to_string(),
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => cx?.conn.peer.ip().to_string(),
            "DOWNSTREAM_LOCAL_ADDRESS" => cx?.conn.local.to_string(),
            "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => cx?.conn.local.ip().to_string(),
            "DOWNSTREAM_LOCAL_PORT" => cx?.conn.local.port().to_string(),
            "REQUESTED_SERVER_NAME" => cx?.conn.sni.to_string(),
            "UPSTREAM_HOST" => cx?.endpoint.load().as_ref()?.address.to_string(),
            "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => cx?.cluster.get()?.name.to_string(),
            "UPSTREAM_LOCAL_ADDRESS" => cx?.upstream_local.load().as_ref()?.to_string(),
            "UPSTREAM_REQUEST_ATTEMPT_COUNT" => cx?.attempts.load(Ordering::Relaxed).to_string(),
            "ROUTE_NAME" => cx?.route.get()?.name.to_string(),
            "RESPONSE_FLAGS" => Flag::names(cx?.flags.load(Ordering::Relaxed)),
            _ => return None,
        })
    }
}

fn apply(ops: &HeaderOps, headers: &mut HeaderMap, mut value: impl FnMut(&HeaderValueTemplate) -> Option<HeaderValue>) {
    let HeaderOps { remove, set, add } = ops;
    // Values are made from the headers as they came; removals go first, so an added one survives.
    let mut render = |list: &[(HeaderName, HeaderValueTemplate)]| -> Vec<(HeaderName, HeaderValue)> {
        list.iter().filter_map(|(n, v)| Some((n.clone(), value(v)?))).collect()
    };
    let (set, add) = (render(set), render(add));
    for name in remove {
        headers.remove(name);
    }
    for (name, value) in set {
        headers.insert(name, value);
    }
    for (name, value) in add {
        headers.append(name, value);
    }
}

pub(super) fn apply_to_request(ops: &HeaderOps, request: &mut Request, cx: Option<&Cx>) {
    let mut headers = std::mem::take(request.headers_mut());
    let before = if has_operators(ops) { headers.clone() } else { HeaderMap::new() };
    let scope = Scope { cx, request: Some(&before), response: None, status: 0 };
    let uri = request.uri();
    apply(ops, &mut headers, |t| t.render(|name, argument| scope.resolve(name, argument, Some(uri))));
    *request.headers_mut() = headers;
}

pub(super) fn apply_to_response(
    ops: &HeaderOps,
    response: &mut Response,
    request: Option<&HeaderMap>,
    cx: Option<&Cx>,
) {
    let status = response.status().as_u16();
    let headers = response.headers_mut();
    let before = if has_operators(ops) { headers.clone() } else { HeaderMap::new() };
    let scope = Scope { cx, request, response: Some(&before), status };
    apply(ops, headers, |t| t.render(|name, argument| scope.resolve(name, argument, None)));
}

fn has_operators(ops: &HeaderOps) -> bool {
    ops.set.iter().chain(&ops.add).any(|(_, v)| matches!(v, HeaderValueTemplate::Parts(_)))
}
