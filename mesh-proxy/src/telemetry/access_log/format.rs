//! Format strings with `%OPERATOR%`s, parsed once.

mod tls;

use std::fmt;
use std::io::Write;
use std::sync::atomic::Ordering;

use http::Version;
use jiff::Timestamp;
use mesh_core::record::{Flag, HttpRecord, RequestRecord};
use serde_json::{Map, Value};

/// Istio's default line (`accessLogFormat` unset, TEXT).
const ISTIO_TEXT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
    \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
    \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% \
    %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/// Istio's default keys (JSON), in the alphabetical order in which Envoy writes them.
const ISTIO_JSON: [(&str, &str); 24] = [
    ("authority", "%REQ(:AUTHORITY)%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("duration", "%DURATION%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("route_name", "%ROUTE_NAME%"),
    ("start_time", "%START_TIME%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
];

/// A compiled format.
#[derive(Clone, PartialEq, Debug)]
pub enum Format {
    /// Text with operators; ends in a newline.
    Text(Vec<Part>),
    /// One JSON object a line.
    Json(Vec<(String, Vec<Part>)>),
}

/// A piece of a format.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// Text as it is.
    Text(String),
    /// A value of the record.
    Value(Operator),
}

use tls::{Side, TlsValue};

/// A value of the record. The names are Envoy's command operators.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operator {
    /// `START_TIME`
    StartTime,
    /// `REQ(:METHOD)`
    Method,
    /// `REQ(:PATH)` and `REQ(X-ENVOY-ORIGINAL-PATH?:PATH)`
    Path,
    /// `REQ(:AUTHORITY)`
    Authority,
    /// `REQ(X-FORWARDED-FOR)`
    ForwardedFor,
    /// `REQ(USER-AGENT)`
    UserAgent,
    /// `REQ(X-REQUEST-ID)`
    RequestId,
    /// `PROTOCOL`
    Protocol,
    /// `RESPONSE_CODE`
    ResponseCode,
    /// `RESPONSE_FLAGS`
    ResponseFlags,
    /// `RESPONSE_CODE_DETAILS`
    ResponseCodeDetails,
    /// `CONNECTION_TERMINATION_DETAILS`
    TerminationDetails,
    /// `UPSTREAM_TRANSPORT_FAILURE_REASON`
    TransportFailureReason,
    /// `BYTES_RECEIVED`
    BytesReceived,
    /// `BYTES_SENT`
    BytesSent,
    /// `DURATION`, in milliseconds
    Duration,
    /// `RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)`
    UpstreamServiceTime,
    /// `UPSTREAM_HOST`
    UpstreamHost,
    /// `UPSTREAM_CLUSTER` and `UPSTREAM_CLUSTER_RAW`
    UpstreamCluster,
    /// `UPSTREAM_LOCAL_ADDRESS`
    UpstreamLocalAddress,
    /// `DOWNSTREAM_LOCAL_ADDRESS`
    DownstreamLocalAddress,
    /// `DOWNSTREAM_REMOTE_ADDRESS`
    DownstreamRemoteAddress,
    /// `REQUESTED_SERVER_NAME`
    RequestedServerName,
    /// `ROUTE_NAME`
    RouteName,
    /// `UPSTREAM_REQUEST_ATTEMPT_COUNT`
    AttemptCount,
    /// A value of a connection's TLS, `DOWNSTREAM_PEER_URI_SAN` and its like.
    Tls(Side, TlsValue),
    /// `MESH_CONFIG`: hash of the configuration that decided the request (ours).
    ConfigHash,
    /// `MESH_ROUTE_ORIGIN`: object, field and line of the route that decided it (ours).
    RouteOrigin,
    /// `MESH_VERDICT`: what security policies said about the request (ours).
    Verdict,
}

const OPERATORS: [(&str, Operator); 30] = [
    ("START_TIME", Operator::StartTime),
    ("REQ(:METHOD)", Operator::Method),
    ("REQ(:PATH)", Operator::Path),
    ("REQ(X-ENVOY-ORIGINAL-PATH?:PATH)", Operator::Path),
    ("REQ(:AUTHORITY)", Operator::Authority),
    ("REQ(X-FORWARDED-FOR)", Operator::ForwardedFor),
    ("REQ(USER-AGENT)", Operator::UserAgent),
    ("REQ(X-REQUEST-ID)", Operator::RequestId),
    ("PROTOCOL", Operator::Protocol),
    ("RESPONSE_CODE", Operator::ResponseCode),
    ("RESPONSE_FLAGS", Operator::ResponseFlags),
    ("RESPONSE_CODE_DETAILS", Operator::ResponseCodeDetails),
    ("CONNECTION_TERMINATION_DETAILS", Operator::TerminationDetails),
    ("UPSTREAM_TRANSPORT_FAILURE_REASON", Operator::TransportFailureReason),
    ("BYTES_RECEIVED", Operator::BytesReceived),
    ("BYTES_SENT", Operator::BytesSent),
    ("DURATION", Operator::Duration),
    ("RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)", Operator::UpstreamServiceTime),
    ("UPSTREAM_HOST", Operator::UpstreamHost),
    ("UPSTREAM_CLUSTER", Operator::UpstreamCluster),
    ("UPSTREAM_CLUSTER_RAW", Operator::UpstreamCluster),
    ("UPSTREAM_LOCAL_ADDRESS", Operator::UpstreamLocalAddress),
    ("DOWNSTREAM_LOCAL_ADDRESS", Operator::DownstreamLocalAddress),
    ("DOWNSTREAM_REMOTE_ADDRESS", Operator::DownstreamRemoteAddress),
    ("REQUESTED_SERVER_NAME", Operator::RequestedServerName),
    ("ROUTE_NAME", Operator::RouteName),
    ("UPSTREAM_REQUEST_ATTEMPT_COUNT", Operator::AttemptCount),
    ("MESH_CONFIG", Operator::ConfigHash),
    ("MESH_ROUTE_ORIGIN", Operator::RouteOrigin),
    ("MESH_VERDICT", Operator::Verdict),
];

/// `accessLogFormat` does not parse.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FormatError(String);

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "accessLogFormat: {}", self.0)
    }
}

impl std::error::Error for FormatError {}

impl Format {
    /// Istio's default text line.
    pub fn istio_text() -> Self {
        Self::text(ISTIO_TEXT).expect("invariant: the built-in format parses")
    }

    /// Istio's default JSON object.
    pub fn istio_json() -> Self {
        let keys = ISTIO_JSON
            .iter()
            .map(|(key, value)| ((*key).to_owned(), parse(value).expect("invariant: the built-in format parses")));
        Self::Json(keys.collect())
    }

    /// A text format; a missing newline at the end is added.
    ///
    /// # Errors
    /// An operator is unknown or not closed.
    pub fn text(format: &str) -> Result<Self, FormatError> {
        let newline = if format.ends_with('\n') { "" } else { "\n" };
        Ok(Self::Text(parse(&format!("{format}{newline}"))?))
    }

    /// A JSON format: an object of texts with operators.
    ///
    /// # Errors
    /// It is not such an object, or an operator is unknown or not closed.
    pub fn json(format: &str) -> Result<Self, FormatError> {
        let object: Map<String, Value> = serde_json::from_str(format)
            .map_err(|e| FormatError(format!("with accessLogEncoding JSON it has to be a JSON object: {e}")))?;
        let mut keys = Vec::new();
        for (key, value) in object {
            let text = value.as_str().ok_or_else(|| FormatError(format!("the value of {key:?} has to be a text")))?;
            keys.push((key, parse(text)?));
        }
        keys.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Self::Json(keys))
    }

    /// Appends the line of a record.
    pub fn write(&self, record: &RequestRecord, out: &mut Vec<u8>) {
        match self {
            Self::Text(parts) => {
                for part in parts {
                    match part {
                        Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                        Part::Value(op) => {
                            let before = out.len();
                            op.write(record, out);
                            if out.len() == before {
                                out.push(b'-');
                            }
                        }
                    }
                }
            }
            Self::Json(keys) => {
                let object: Map<String, Value> =
                    keys.iter().map(|(key, parts)| (key.clone(), json_value(parts, record))).collect();
                serde_json::to_writer(&mut *out, &object).expect("invariant: a map of texts and numbers is JSON");
                out.push(b'\n');
            }
        }
    }
}

fn json_value(parts: &[Part], record: &RequestRecord) -> Value {
    let mut text = Vec::new();
    for part in parts {
        match part {
            Part::Text(t) => text.extend_from_slice(t.as_bytes()),
            Part::Value(op) => op.write(record, &mut text),
        }
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    match parts {
        [Part::Value(_)] if text.is_empty() => Value::Null,
        [Part::Value(op)] if op.is_number() => text.parse::<u64>().map_or(Value::Null, Value::from),
        _ => Value::String(text),
    }
}

fn parse(format: &str) -> Result<Vec<Part>, FormatError> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut rest = format;
    while let Some(start) = rest.find('%') {
        text.push_str(&rest[..start]);
        rest = &rest[start + 1..];
        let end = rest.find('%').ok_or_else(|| FormatError(format!("the operator %{rest} is not closed by %")))?;
        let name = &rest[..end];
        rest = &rest[end + 1..];
        if name.is_empty() {
            text.push('%');
            continue;
        }
        let upper = name.to_ascii_uppercase();
        let of_tls = || tls::named(&upper).map(|(side, value)| Operator::Tls(side, value));
        let common = OPERATORS.iter().find(|(n, _)| *n == upper).map(|(_, op)| *op);
        let operator = common.or_else(of_tls).ok_or_else(|| {
            let known: Vec<String> = OPERATORS.iter().map(|(n, _)| (*n).to_owned()).chain(tls::names()).collect();
            FormatError(format!("the operator %{name}% is not known; known are {}", known.join(", ")))
        })?;
        if !text.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut text)));
        }
        parts.push(Part::Value(operator));
    }
    text.push_str(rest);
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    Ok(parts)
}

impl Operator {
    fn is_number(self) -> bool {
        matches!(self, Self::ResponseCode | Self::BytesReceived | Self::BytesSent | Self::Duration | Self::AttemptCount)
    }

    /// Appends the value; nothing if there is none.
    fn write(self, record: &RequestRecord, out: &mut Vec<u8>) {
        if let Some(http) = &record.http
            && self.write_http(record, http, out)
        {
            return;
        }
        self.write_common(record, out);
    }

    /// The values that only requests have; says whether this is one of them.
    fn write_http(self, record: &RequestRecord, http: &HttpRecord, out: &mut Vec<u8>) -> bool {
        let header = |out: &mut Vec<u8>, value: Option<&http::HeaderValue>| {
            out.extend_from_slice(value.map(http::HeaderValue::as_bytes).unwrap_or_default());
        };
        match self {
            Self::Method => out.extend_from_slice(http.method.as_str().as_bytes()),
            Self::Path => out.extend_from_slice(record.path().as_bytes()),
            Self::Authority => out.extend_from_slice(record.authority().as_bytes()),
            Self::ForwardedFor => header(out, record.cx.forwarded_for.get()),
            Self::UserAgent => header(out, http.user_agent.as_ref()),
            Self::RequestId => header(out, record.cx.request_id.get()),
            Self::Protocol => out.extend_from_slice(match http.version {
                Version::HTTP_10 => b"HTTP/1.0",
                Version::HTTP_2 => b"HTTP/2",
                _ => b"HTTP/1.1",
            }),
            Self::UpstreamServiceTime => {
                if let Some(ms) = record.cx.service_time() {
                    number(out, ms);
                }
            }
            _ => return false,
        }
        true
    }

    fn write_common(self, record: &RequestRecord, out: &mut Vec<u8>) {
        let cx = &record.cx;
        let put = |out: &mut Vec<u8>, value: &dyn fmt::Display| {
            write!(out, "{value}").expect("invariant: a Vec takes all bytes");
        };
        match self {
            Self::StartTime => {
                let time = Timestamp::try_from(record.start).unwrap_or_default();
                put(out, &format_args!("{time:.3}"));
            }
            Self::ResponseCode => {
                number(out, record.http.as_ref().and_then(|h| h.status).map_or(0, |s| u64::from(s.as_u16())));
            }
            Self::ResponseFlags => {
                put(out, &Flag::names_of(cx.flags.load(Ordering::Relaxed), record.http.is_none()));
            }
            Self::ResponseCodeDetails => {
                let answered = record.http.as_ref().is_some_and(|h| h.status.is_some());
                if answered || cx.details.get().is_some() {
                    out.extend_from_slice(cx.response_details().as_bytes());
                }
            }
            Self::TerminationDetails => out.extend_from_slice(record.termination.as_bytes()),
            Self::TransportFailureReason => {
                out.extend_from_slice(cx.failure_reason.get().map(String::as_bytes).unwrap_or_default());
            }
            Self::BytesReceived => number(out, cx.request_bytes.load(Ordering::Relaxed)),
            Self::BytesSent => number(out, cx.response_bytes.load(Ordering::Relaxed)),
            Self::Duration => number(out, u64::try_from(record.duration.as_millis()).unwrap_or(u64::MAX)),
            Self::UpstreamHost => {
                if let Some(endpoint) = cx.endpoint.get() {
                    put(out, &endpoint.address);
                }
            }
            Self::UpstreamCluster => {
                out.extend_from_slice(cx.cluster.get().map(|c| c.name.as_bytes()).unwrap_or_default());
            }
            Self::UpstreamLocalAddress => {
                if let Some(address) = cx.upstream_local.get() {
                    put(out, address);
                }
            }
            Self::DownstreamLocalAddress => put(out, &cx.conn.local),
            Self::DownstreamRemoteAddress => put(out, &cx.remote()),
            Self::RequestedServerName => out.extend_from_slice(cx.conn.sni.as_bytes()),
            Self::RouteName => out.extend_from_slice(cx.route.get().map(|r| r.name.as_bytes()).unwrap_or_default()),
            Self::AttemptCount => number(out, u64::from(cx.attempts.load(Ordering::Relaxed))),
            Self::Tls(side, value) => tls::write(side, value, record, out),
            Self::ConfigHash => put(out, &cx.config),
            Self::Verdict => quoted(out, cx.verdict.get().map_or("", String::as_str)),
            Self::RouteOrigin => {
                if let Some(origin) = cx.route.get().map(|r| &r.origin) {
                    if let Some(object) = &origin.object {
                        put(out, &format_args!("{object} "));
                    }
                    out.extend_from_slice(origin.field.as_bytes());
                    if let Some(location) = &origin.location {
                        put(out, &format_args!(" {location}"));
                    }
                }
            }
            Self::Method
            | Self::Path
            | Self::Authority
            | Self::ForwardedFor
            | Self::UserAgent
            | Self::RequestId
            | Self::Protocol
            | Self::UpstreamServiceTime => {}
        }
    }
}

/// A text with words of a client in it: a line of the log stays one line.
fn quoted(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().map(|b| if b.is_ascii_control() { b' ' } else { b }));
}

/// Digits without the formatting machinery: six of these are in every line.
fn number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(value % 10).expect("invariant: a digit");
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
