//! Trace headers go on from a request that is served to the calls that serving it makes.
//!
//! Beside a sidecar the application has to copy them. Here the call is made in the task that serves the request, so the
//! mesh can: a header that the call sets itself stays as it is.

use http::{HeaderMap, HeaderName};

/// What tells tracers which calls belong together, as Istio's sample services pass it on.
static NAMES: [HeaderName; 14] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
    HeaderName::from_static("b3"),
    HeaderName::from_static("x-b3-traceid"),
    HeaderName::from_static("x-b3-spanid"),
    HeaderName::from_static("x-b3-parentspanid"),
    HeaderName::from_static("x-b3-sampled"),
    HeaderName::from_static("x-b3-flags"),
    HeaderName::from_static("x-ot-span-context"),
    HeaderName::from_static("x-cloud-trace-context"),
    HeaderName::from_static("x-datadog-trace-id"),
    HeaderName::from_static("grpc-trace-bin"),
];

tokio::task_local! {
    static SERVED: HeaderMap;
}

/// The trace headers among these.
pub(super) fn of(headers: &HeaderMap) -> HeaderMap {
    let found = NAMES.iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone())));
    found.collect()
}

/// Serves a request with these trace headers: calls inside carry them on.
pub(super) fn serving<F: Future>(trace: HeaderMap, serve: F) -> impl Future<Output = F::Output> {
    SERVED.scope(trace, serve)
}

/// Adds the trace of the request that is being served, where a call does not say its own.
pub(super) fn carry_on(call: &mut HeaderMap) {
    // Outside of a request there is nothing to go on with.
    let _ = SERVED.try_with(|served| {
        for (name, value) in served {
            if !call.contains_key(name) {
                call.insert(name.clone(), value.clone());
            }
        }
    });
}
