use super::*;

fn headers(names: &[&'static str]) -> HeaderMap {
    names.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("x"))).collect()
}

#[test]
fn trace_session_and_client_headers_are_handed_on() {
    let names = [
        "x-request-id",
        "x-b3-traceid",
        "x-b3-spanid",
        "x-b3-parentspanid",
        "x-b3-sampled",
        "x-b3-flags",
        "b3",
        "traceparent",
        "tracestate",
        "x-ot-span-context",
        "x-datadog-trace-id",
        "x-datadog-parent-id",
        "x-datadog-sampling-priority",
        "x-cloud-trace-context",
        "grpc-trace-bin",
        "sw8",
        "user-agent",
        "cookie",
        "authorization",
        "jwt",
    ];
    let incoming = headers(&names);
    assert_eq!(handed_on(&incoming, None), incoming);
}

#[test]
fn headers_of_the_connection_and_the_body_stay() {
    let incoming = headers(&["host", "connection", "content-length", "accept-encoding", "x-forwarded-for", "x-b4"]);
    assert!(handed_on(&incoming, None).is_empty());
}

#[test]
fn the_end_user_is_what_the_service_says_not_what_a_client_sent() {
    let mut incoming = headers(&["end-user"]);
    assert!(handed_on(&incoming, None).is_empty());
    let out = handed_on(&incoming, Some(HeaderValue::from_static("jason")));
    assert_eq!(out.get(END_USER).unwrap(), "jason");
    incoming.append("cookie", HeaderValue::from_static("second=1"));
    incoming.append("cookie", HeaderValue::from_static("third=1"));
    assert_eq!(handed_on(&incoming, None).get_all("cookie").iter().count(), 2);
}
