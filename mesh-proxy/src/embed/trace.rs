//! Trace headers go on from a request that is served to the calls that serving it makes.
//!
//! Beside a sidecar the application has to copy them. Here the call is made in the task that serves the request, so the
//! mesh can: a header that the call sets itself stays as it is.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The trace headers of a request.
pub(super) type Trace = Vec<(HeaderName, HeaderValue)>;

tokio::task_local! {
    static SERVED: Trace;
}

/// What tells tracers which calls belong together, as Istio's sample services pass it on.
fn tells(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "x-request-id"
            | "traceparent"
            | "tracestate"
            | "baggage"
            | "b3"
            | "x-b3-traceid"
            | "x-b3-spanid"
            | "x-b3-parentspanid"
            | "x-b3-sampled"
            | "x-b3-flags"
            | "x-ot-span-context"
            | "x-cloud-trace-context"
            | "x-datadog-trace-id"
            | "grpc-trace-bin"
    )
}

/// The trace headers among these.
pub(super) fn of(headers: &HeaderMap) -> Trace {
    let found = headers.iter().filter(|(name, _)| tells(name));
    found.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Serves a request with these trace headers: calls inside carry them on.
pub(super) fn serving<F: Future>(trace: Trace, serve: F) -> impl Future<Output = F::Output> {
    SERVED.scope(trace, serve)
}

/// Adds the trace of the request that is being served, where a call does not say its own.
pub(super) fn carry_on(call: &mut HeaderMap) {
    // Outside of a request there is nothing to go on with.
    let _ = SERVED.try_with(|served| {
        for (name, value) in served {
            // Of several lines the first one goes on.
            if !call.contains_key(name) {
                call.insert(name.clone(), value.clone());
            }
        }
    });
}
