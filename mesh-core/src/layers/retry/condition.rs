//! The conditions of `retryOn`.

use http::{HeaderMap, HeaderName};

use crate::error::{Error, ErrorKind, Sent};
use crate::layers::Response;
use crate::snapshot::{RetryOn, RetryPlan};

const RATE_LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Whether the policy names this outcome.
pub(super) fn is_retriable(policy: &RetryPlan, result: &Result<Response, Error>) -> bool {
    match result {
        Ok(response) => response_is(policy, response),
        Err(error) => error_is(&policy.on, error),
    }
}

fn response_is(policy: &RetryPlan, response: &Response) -> bool {
    let (status, on) = (response.status().as_u16(), &policy.on);
    let limited = || response.headers().get(RATE_LIMITED).is_some_and(|v| v == "true");
    let named = (on.server_error && (500..600).contains(&status))
        || (on.gateway_error && (502..=504).contains(&status))
        || (on.retriable_4xx && status == 409)
        || policy.status_codes.contains(&status)
        || grpc_is(on, response.headers());
    // Who is told to slow down is asked again only by a policy that says so.
    match on.ratelimited {
        true => named || limited(),
        false => named && !limited(),
    }
}

/// Only a status in the headers counts; one in trailers comes after the response has begun.
fn grpc_is(on: &RetryOn, headers: &HeaderMap) -> bool {
    match headers.get(GRPC_STATUS).map(http::HeaderValue::as_bytes) {
        Some(b"1") => on.cancelled,
        Some(b"4") => on.deadline_exceeded,
        Some(b"8") => on.resource_exhausted,
        Some(b"13") => on.internal,
        Some(b"14") => on.unavailable,
        _ => false,
    }
}

fn error_is(on: &RetryOn, error: &Error) -> bool {
    let any_reset = on.server_error || on.gateway_error || on.reset;
    match error.kind() {
        ErrorKind::ConnectFailure | ErrorKind::ConnectTimeout => {
            any_reset || on.connect_failure || on.reset_before_request
        }
        ErrorKind::RefusedStream => any_reset || on.refused_stream,
        ErrorKind::ConnectionTermination | ErrorKind::RemoteReset | ErrorKind::LocalReset => {
            any_reset || (on.reset_before_request && error.was_sent() == Sent::No)
        }
        ErrorKind::UpstreamProtocol | ErrorKind::PerTryTimeout => any_reset,
        // Ours, the client's, or final: another try would not help or is not allowed.
        ErrorKind::NoRoute
        | ErrorKind::NoCluster
        | ErrorKind::NoHealthyUpstream
        | ErrorKind::DnsFailure
        | ErrorKind::Overflow
        | ErrorKind::Timeout
        | ErrorKind::IdleTimeout
        | ErrorKind::RequestTimeout
        | ErrorKind::StreamDuration
        | ErrorKind::DownstreamGone
        | ErrorKind::DownstreamProtocol
        | ErrorKind::PayloadTooLarge => false,
    }
}
