//! The request headers that a service hands on when it calls the next one.

#[cfg(test)]
mod tests;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Name of the signed-in user, set by productpage from its session, handed on by reviews.
pub(crate) const END_USER: HeaderName = HeaderName::from_static("end-user");

/// Headers handed on by name: without the trace headers, the spans that the sidecars report would not join into one trace.
const BY_NAME: &[&str] = &[
    "x-request-id",
    "b3",
    "traceparent",
    "tracestate",
    "x-ot-span-context",
    "x-cloud-trace-context",
    "grpc-trace-bin",
    "sw8",
    "user-agent",
    "cookie",
    "authorization",
    "jwt",
];

/// Families of trace headers, by the start of their name.
const BY_PREFIX: &[&str] = &["x-b3-", "x-datadog-"];

/// The headers for a call made on behalf of `incoming`. The user is passed apart, because whose word counts differs:
/// productpage takes it from its session only, services behind it take it from the caller.
pub(crate) fn handed_on(incoming: &HeaderMap, end_user: Option<HeaderValue>) -> HeaderMap {
    let mut outgoing = HeaderMap::new();
    for (name, value) in incoming {
        let text = name.as_str();
        if BY_NAME.contains(&text) || BY_PREFIX.iter().any(|prefix| text.starts_with(prefix)) {
            outgoing.append(name.clone(), value.clone());
        }
    }
    if let Some(user) = end_user {
        outgoing.insert(END_USER, user);
    }
    outgoing
}
