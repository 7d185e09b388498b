//! The command operators of header values: which there are, and which have a value here.

use Known::{Empty, Value};

/// What an operator is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Known {
    /// It has a value, where the request has what it names.
    Value,
    /// Envoy knows it; here it is always empty, for this reason.
    Empty(&'static str),
}

const LATER: &str = "it is not known before the response has ended; the access log has it";
const STATE: &str = "it names state of Envoy's filters, which are not here";
const PEER: &str = "client certificates are not part of requests here yet";
const ENVOY: &str = "it is an internal of Envoy";

/// Every operator that Envoy takes in header values, by name.
pub(super) const OPERATORS: &[(&str, Known)] = &[
    ("ACCESS_LOG_TYPE", Empty(ENVOY)),
    ("BYTES_RECEIVED", Value),
    ("BYTES_SENT", Empty(LATER)),
    ("CLUSTER_METADATA", Empty(STATE)),
    ("CONNECTION_ID", Empty(ENVOY)),
    ("CONNECTION_TERMINATION_DETAILS", Empty(LATER)),
    ("DOWNSTREAM_DIRECT_LOCAL_ADDRESS", Empty(ENVOY)),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", Value),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", Value),
    ("DOWNSTREAM_LOCAL_ADDRESS", Value),
    ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", Value),
    ("DOWNSTREAM_LOCAL_DNS_SAN", Empty(PEER)),
    ("DOWNSTREAM_LOCAL_PORT", Value),
    ("DOWNSTREAM_LOCAL_SUBJECT", Empty(PEER)),
    ("DOWNSTREAM_LOCAL_URI_SAN", Empty(PEER)),
    ("DOWNSTREAM_PEER_CERT", Empty(PEER)),
    ("DOWNSTREAM_PEER_CERT_V_END", Empty(PEER)),
    ("DOWNSTREAM_PEER_CERT_V_START", Empty(PEER)),
    ("DOWNSTREAM_PEER_DNS_SAN", Empty(PEER)),
    ("DOWNSTREAM_PEER_FINGERPRINT_1", Empty(PEER)),
    ("DOWNSTREAM_PEER_FINGERPRINT_256", Empty(PEER)),
    ("DOWNSTREAM_PEER_ISSUER", Empty(PEER)),
    ("DOWNSTREAM_PEER_SERIAL", Empty(PEER)),
    ("DOWNSTREAM_PEER_SUBJECT", Empty(PEER)),
    ("DOWNSTREAM_PEER_URI_SAN", Empty(PEER)),
    ("DOWNSTREAM_REMOTE_ADDRESS", Value),
    ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Value),
    ("DOWNSTREAM_REMOTE_PORT", Value),
    ("DOWNSTREAM_TLS_CIPHER", Empty(PEER)),
    ("DOWNSTREAM_TLS_SESSION_ID", Empty(PEER)),
    ("DOWNSTREAM_TLS_VERSION", Empty(PEER)),
    ("DURATION", Empty(LATER)),
    ("DYNAMIC_METADATA", Empty(STATE)),
    ("EMIT_TIME", Empty(LATER)),
    ("ENVIRONMENT", Value),
    ("FILTER_STATE", Empty(STATE)),
    ("GRPC_STATUS", Value),
    ("GRPC_STATUS_NUMBER", Value),
    ("HOSTNAME", Value),
    ("LOCAL_REPLY_BODY", Empty(ENVOY)),
    ("METADATA", Empty(STATE)),
    ("PATH", Value),
    ("PER_REQUEST_STATE", Empty(STATE)),
    ("PROTOCOL", Value),
    ("QUERY_PARAM", Value),
    ("REQ", Value),
    ("REQUEST_DURATION", Empty(LATER)),
    ("REQUESTED_SERVER_NAME", Value),
    ("RESP", Value),
    ("RESPONSE_CODE", Value),
    ("RESPONSE_CODE_DETAILS", Value),
    ("RESPONSE_DURATION", Empty(LATER)),
    ("RESPONSE_FLAGS", Value),
    ("RESPONSE_TX_DURATION", Empty(LATER)),
    ("ROUTE_NAME", Value),
    ("START_TIME", Value),
    ("STREAM_ID", Value),
    ("TRACE_ID", Empty("requests are not traced yet")),
    ("TRAILER", Empty(LATER)),
    ("UNIQUE_ID", Empty("write %STREAM_ID%, the request id")),
    ("UPSTREAM_CLUSTER", Value),
    ("UPSTREAM_CLUSTER_RAW", Value),
    ("UPSTREAM_FILTER_STATE", Empty(STATE)),
    ("UPSTREAM_HOST", Value),
    ("UPSTREAM_HOST_NAME", Value),
    ("UPSTREAM_LOCAL_ADDRESS", Value),
    ("UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", Value),
    ("UPSTREAM_LOCAL_PORT", Value),
    ("UPSTREAM_METADATA", Empty(STATE)),
    ("UPSTREAM_PEER_SUBJECT", Empty(PEER)),
    ("UPSTREAM_PROTOCOL", Empty(LATER)),
    ("UPSTREAM_REMOTE_ADDRESS", Value),
    ("UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Value),
    ("UPSTREAM_REMOTE_PORT", Value),
    ("UPSTREAM_REQUEST_ATTEMPT_COUNT", Value),
    ("UPSTREAM_TRANSPORT_FAILURE_REASON", Value),
    ("VIRTUAL_CLUSTER_NAME", Empty("Istio has no virtual clusters")),
];

/// What is known of a name.
pub(super) fn find(name: &str) -> Option<Known> {
    OPERATORS.iter().find(|(n, _)| *n == name).map(|(_, known)| *known)
}

/// Names with the most words in common with one that is not known, at most three.
pub(super) fn like(name: &str) -> Vec<&'static str> {
    let upper = name.to_ascii_uppercase();
    let words: Vec<&str> = upper.split('_').filter(|w| w.len() > 2).collect();
    let common = |n: &str| n.split('_').filter(|w| words.contains(w)).count();
    let usable = OPERATORS.iter().filter(|(_, known)| *known == Value).map(|(n, _)| *n);
    let mut near: Vec<&str> = usable.filter(|n| common(n) > 0).collect();
    near.sort_by_key(|n| (std::cmp::Reverse(common(n)), n.len()));
    near.truncate(3);
    near
}
