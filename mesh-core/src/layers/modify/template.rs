//! Header operations, and the values of their `%OPERATORS%`.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};

use crate::layers::Request;
use crate::matching::HeaderValueTemplate;
use crate::record::{Cx, Flag};
use crate::snapshot::{Address, HeaderOps, SomeOps};

/// What an operator may look at.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) cx: Option<&'a Cx>,
    pub(super) request: Option<&'a Kept>,
    pub(super) response: Option<&'a HeaderMap>,
    pub(super) status: u16,
}

/// The head of a request as values are made from it.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
}

impl Kept {
    /// Of a request as it is now.
    pub(super) fn of(request: &Request) -> Self {
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: request.headers().clone(),
        }
    }

    /// A header, or a pseudo header; of `a?b` the first that is there.
    fn value(&self, name: &str) -> Option<String> {
        if let Some((first, second)) = name.split_once('?') {
            return self.value(first).or_else(|| self.value(second));
        }
        let name = name.to_ascii_lowercase();
        match &*name {
            ":path" => Some(self.uri.path_and_query()?.to_string()),
            ":method" => Some(self.method.to_string()),
            ":authority" | "host" => line(&self.headers, "host"),
            ":scheme" => line(&self.headers, "x-forwarded-proto").or_else(|| Some("http".to_owned())),
            name => line(&self.headers, name),
        }
    }

    /// `PATH(WITH:WHICH)`: with the query unless NQ; the original path if there is one, unless PATH.
    fn path(&self, argument: &str) -> Option<String> {
        let (query, which) = argument.split_once(':').unwrap_or((argument, ""));
        let original = line(&self.headers, "x-envoy-original-path").filter(|_| which != "PATH");
        let path = match which {
            "ORIG" => original?,
            _ => original.or_else(|| self.value(":path"))?,
        };
        Some(if query == "NQ" { path.split('?').next().unwrap_or_default().to_owned() } else { path })
    }

    fn query(&self, name: &str) -> Option<String> {
        let mut pairs = self.uri.query()?.split('&').map(|p| p.split_once('=').unwrap_or((p, "")));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    }

    fn protocol(&self) -> &'static str {
        match self.version {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2",
            Version::HTTP_3 => "HTTP/3",
            _ => "HTTP/1.1",
        }
    }
}

fn line(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

impl Scope<'_> {
    /// The operator's value; `None` is empty.
    pub(super) fn resolve(&self, name: &str, argument: &str) -> Option<String> {
        self.of_message(name, argument).or_else(|| self.of_connection(name)).or_else(|| self.of_upstream(name))
    }

    fn of_message(&self, name: &str, argument: &str) -> Option<String> {
        let cx = self.cx;
        Some(match name {
            "REQ" => self.request?.value(argument)?,
            "RESP" => {
                let mut names = argument.split('?');
                names.find_map(|n| line(self.response?, &n.to_ascii_lowercase()))?
            }
            "PATH" => self.request?.path(argument)?,
            "QUERY_PARAM" => self.request?.query(argument)?,
            "PROTOCOL" => self.request?.protocol().to_owned(),
            "RESPONSE_CODE" => self.status.to_string(),
            "RESPONSE_CODE_DETAILS" => {
                self.response?;
                cx?.details.get().cloned().unwrap_or_else(|| "via_upstream".to_owned())
            }
            "RESPONSE_FLAGS" => Flag::names(cx?.flags.load(Ordering::Relaxed)),
            "GRPC_STATUS_NUMBER" => line(self.response?, "grpc-status")?,
            "GRPC_STATUS" => grpc_name(&line(self.response?, "grpc-status")?),
            "BYTES_RECEIVED" => cx?.request_bytes.load(Ordering::Relaxed).to_string(),
            "START_TIME" => time(*cx?.start.get()?, argument)?,
            "STREAM_ID" => cx?.request_id.get()?.to_str().ok()?.to_owned(),
            _ => return None,
        })
    }

    fn of_connection(&self, name: &str) -> Option<String> {
        let cx = self.cx?;
        let (remote, peer, local) = (cx.remote(), cx.conn.peer, cx.conn.local);
        Some(match name {
            "DOWNSTREAM_REMOTE_ADDRESS" => remote.to_string(),
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => remote.ip().to_string(),
            "DOWNSTREAM_REMOTE_PORT" => remote.port().to_string(),
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => peer.to_string(),
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => peer.ip().to_string(),
            "DOWNSTREAM_LOCAL_ADDRESS" => local.to_string(),
            "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => local.ip().to_string(),
            "DOWNSTREAM_LOCAL_PORT" => local.port().to_string(),
            "REQUESTED_SERVER_NAME" => cx.conn.sni.to_string(),
            "ROUTE_NAME" => cx.route.get()?.name.to_string(),
            _ => return None,
        })
    }

    /// Empty in request headers, whose destination is not chosen yet; but the cluster is.
    fn of_upstream(&self, name: &str) -> Option<String> {
        let cx = self.cx?;
        let (host, local) = (cx.endpoint.get(), cx.upstream_local.get());
        let host = host.map(|e| &e.address);
        let ip = || host.and_then(Address::ip);
        Some(match name {
            "UPSTREAM_HOST" | "UPSTREAM_HOST_NAME" | "UPSTREAM_REMOTE_ADDRESS" => host?.to_string(),
            "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => ip()?.ip().to_string(),
            "UPSTREAM_REMOTE_PORT" => ip()?.port().to_string(),
            "UPSTREAM_LOCAL_ADDRESS" => local?.to_string(),
            "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => local?.ip().to_string(),
            "UPSTREAM_LOCAL_PORT" => local?.port().to_string(),
            "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => cx.cluster.get()?.name.to_string(),
            "UPSTREAM_REQUEST_ATTEMPT_COUNT" => cx.attempts.load(Ordering::Relaxed).to_string(),
            "UPSTREAM_TRANSPORT_FAILURE_REASON" => cx.failure_reason.get()?.clone(),
            _ => return None,
        })
    }
}

/// Envoy's names of gRPC statuses.
fn grpc_name(number: &str) -> String {
    const NAMES: [&str; 17] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    let name = number.parse::<usize>().ok().and_then(|n| NAMES.get(n));
    name.map_or(number, |n| *n).to_owned()
}

/// A time in UTC: RFC 3339 with milliseconds, or in a strftime format. `None` if the format is none.
fn time(at: SystemTime, format: &str) -> Option<String> {
    let at = jiff::Timestamp::try_from(at).ok()?.to_zoned(jiff::tz::TimeZone::UTC);
    let format = if format.is_empty() { "%Y-%m-%dT%H:%M:%E3SZ" } else { format };
    // Envoy's own forms of seconds with a fraction.
    let format = (1..=9).fold(format.to_owned(), |f, n| f.replace(&format!("%E{n}S"), &format!("%S%.{n}f")));
    jiff::fmt::strtime::format(&format, &at).ok()
}

/// Removals go first, so that an added one survives.
fn remove(ops: &HeaderOps, headers: &mut HeaderMap) {
    for name in &ops.remove {
        headers.remove(name);
    }
}

/// Values are made from the headers as they were after the removals.
fn apply(ops: &HeaderOps, headers: &mut HeaderMap, mut value: impl FnMut(&HeaderValueTemplate) -> Option<HeaderValue>) {
    let SomeOps { remove: _, set, add } = &**ops;
    let mut render = |list: &[(HeaderName, HeaderValueTemplate)]| -> Vec<(HeaderName, HeaderValue)> {
        list.iter().filter_map(|(n, v)| Some((n.clone(), value(v)?))).collect()
    };
    let (set, add) = (render(set), render(add));
    for (name, value) in set {
        headers.insert(name, value);
    }
    for (name, value) in add {
        headers.append(name, value);
    }
}

pub(super) fn apply_to_request(ops: &HeaderOps, request: &mut Request, cx: Option<&Cx>) {
    remove(ops, request.headers_mut());
    let before = has_operators(ops).then(|| Kept::of(request));
    let scope = Scope { cx, request: before.as_ref(), response: None, status: 0 };
    apply(ops, request.headers_mut(), |t| t.render(|name, argument| scope.resolve(name, argument)));
}

pub(super) fn apply_to_headers(
    ops: &HeaderOps,
    (status, headers): (StatusCode, &mut HeaderMap),
    request: Option<&Kept>,
    cx: Option<&Cx>,
) {
    let status = status.as_u16();
    remove(ops, headers);
    let before = if has_operators(ops) { headers.clone() } else { HeaderMap::new() };
    let scope = Scope { cx, request, response: Some(&before), status };
    apply(ops, headers, |t| t.render(|name, argument| scope.resolve(name, argument)));
}

fn has_operators(ops: &HeaderOps) -> bool {
    ops.set.iter().chain(&ops.add).any(|(_, v)| matches!(v, HeaderValueTemplate::Parts(_)))
}
