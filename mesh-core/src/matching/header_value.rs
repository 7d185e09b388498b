//! Header values with `%VAR%` operators, parsed once.

use std::sync::Arc;

/// A header value as configured. Literal text is the common case; the operators are parsed at compile time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HeaderValueTemplate {
    /// No operator in it; `%%` already is `%`.
    Literal(http::HeaderValue),
    /// Parts to put together per request.
    Parts(Arc<[Part]>),
}

/// A part of a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// Text.
    Text(Arc<str>),
    /// An operator by name with its argument and the longest value that it gives: `REQ(x-a):5` is (`REQ`, `x-a`, 5).
    Operator(Arc<str>, Arc<str>, Option<usize>),
}

impl HeaderValueTemplate {
    /// Reads a value: `%NAME%`, `%NAME(argument)%`, `%NAME(argument):LENGTH%`, and `%%` for a percent sign.
    ///
    /// # Errors
    /// In words: an unbalanced or unknown operator, or a control character.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.chars().any(|c| c.is_control() && c != '\t') {
            return Err(format!("header value configuration: \"{}\" has a control character", text.escape_debug()));
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            literal.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                literal.push('%');
                rest = after;
                continue;
            }
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal).into()));
            }
            let (operator, after) = operator(rest).ok_or_else(|| wrong(text))?;
            parts.push(operator);
            rest = after;
        }
        literal.push_str(rest);
        if parts.is_empty() {
            return http::HeaderValue::from_str(&literal).map(Self::Literal).map_err(|_| wrong(text));
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal.into()));
        }
        Ok(Self::Parts(parts.into()))
    }

    /// The value for one request. `resolve` is asked for each operator by name and argument; what it does not know is
    /// empty. An empty value is `None`: the header is not added.
    pub fn render(&self, mut resolve: impl FnMut(&str, &str) -> Option<String>) -> Option<http::HeaderValue> {
        let parts = match self {
            Self::Literal(v) => return Some(v.clone()),
            Self::Parts(parts) => parts,
        };
        let mut value = String::new();
        for part in parts.iter() {
            match part {
                Part::Text(t) => value.push_str(t),
                Part::Operator(name, argument, length) => {
                    let text = resolve(name, argument).unwrap_or_default();
                    let end = length.map_or(text.len(), |n| text.floor_char_boundary(n));
                    value.push_str(&text[..end]);
                }
            }
        }
        if value.is_empty() { None } else { http::HeaderValue::from_bytes(value.as_bytes()).ok() }
    }
}

fn wrong(text: &str) -> String {
    format!(
        "header value configuration: \"{text}\" has an operator that is not known or not closed (a percent sign is %%)"
    )
}

/// Reads an operator after its opening `%`; gives it and what follows its closing `%`.
fn operator(text: &str) -> Option<(Part, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))?;
    let (name, mut rest) = text.split_at(end);
    let mut argument = "";
    if let Some(open) = rest.strip_prefix('(') {
        let close = open.find(')')?;
        (argument, rest) = (&open[..close], &open[close + 1..]);
    }
    let mut length = None;
    if let Some(number) = rest.strip_prefix(':') {
        let end = number.find('%')?;
        length = Some(number[..end].parse().ok()?);
        rest = &number[end..];
    }
    let rest = rest.strip_prefix('%')?;
    OPERATORS.contains(&name).then(|| (Part::Operator(name.into(), argument.into(), length), rest))
}

/// The operators that Envoy has for header values; one that has no value for a request is empty.
const OPERATORS: &[&str] = &[
    "ACCESS_LOG_TYPE",
    "BYTES_RECEIVED",
    "BYTES_SENT",
    "CLUSTER_METADATA",
    "CONNECTION_ID",
    "CONNECTION_TERMINATION_DETAILS",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_LOCAL_ADDRESS",
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_LOCAL_DNS_SAN",
    "DOWNSTREAM_LOCAL_PORT",
    "DOWNSTREAM_LOCAL_SUBJECT",
    "DOWNSTREAM_LOCAL_URI_SAN",
    "DOWNSTREAM_PEER_CERT",
    "DOWNSTREAM_PEER_CERT_V_END",
    "DOWNSTREAM_PEER_CERT_V_START",
    "DOWNSTREAM_PEER_DNS_SAN",
    "DOWNSTREAM_PEER_FINGERPRINT_1",
    "DOWNSTREAM_PEER_FINGERPRINT_256",
    "DOWNSTREAM_PEER_ISSUER",
    "DOWNSTREAM_PEER_SERIAL",
    "DOWNSTREAM_PEER_SUBJECT",
    "DOWNSTREAM_PEER_URI_SAN",
    "DOWNSTREAM_REMOTE_ADDRESS",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_REMOTE_PORT",
    "DOWNSTREAM_TLS_CIPHER",
    "DOWNSTREAM_TLS_SESSION_ID",
    "DOWNSTREAM_TLS_VERSION",
    "DURATION",
    "DYNAMIC_METADATA",
    "EMIT_TIME",
    "ENVIRONMENT",
    "FILTER_STATE",
    "GRPC_STATUS",
    "GRPC_STATUS_NUMBER",
    "HOSTNAME",
    "LOCAL_REPLY_BODY",
    "METADATA",
    "PATH",
    "PER_REQUEST_STATE",
    "PROTOCOL",
    "QUERY_PARAM",
    "REQ",
    "REQUEST_DURATION",
    "REQUESTED_SERVER_NAME",
    "RESP",
    "RESPONSE_CODE",
    "RESPONSE_CODE_DETAILS",
    "RESPONSE_DURATION",
    "RESPONSE_FLAGS",
    "RESPONSE_TX_DURATION",
    "ROUTE_NAME",
    "START_TIME",
    "STREAM_ID",
    "TRACE_ID",
    "TRAILER",
    "UNIQUE_ID",
    "UPSTREAM_CLUSTER",
    "UPSTREAM_CLUSTER_RAW",
    "UPSTREAM_FILTER_STATE",
    "UPSTREAM_HOST",
    "UPSTREAM_HOST_NAME",
    "UPSTREAM_LOCAL_ADDRESS",
    "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "UPSTREAM_LOCAL_PORT",
    "UPSTREAM_METADATA",
    "UPSTREAM_PEER_SUBJECT",
    "UPSTREAM_PROTOCOL",
    "UPSTREAM_REMOTE_ADDRESS",
    "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "UPSTREAM_REMOTE_PORT",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    "UPSTREAM_TRANSPORT_FAILURE_REASON",
    "VIRTUAL_CLUSTER_NAME",
];

#[cfg(test)]
mod tests;
