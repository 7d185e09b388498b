//! Section F: faults, CORS, local rate limits.

use std::sync::Arc;
use std::time::Duration;

use mesh_core::record::Cx;

use crate::row::{GET, Row, row};
use crate::upstream::Up;

const GRPC: &str =
    "POST /x HTTP/1.1\r\nhost: up.example\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n";

fn fault(id: &'static str, fault: &str) -> Row {
    let routes = format!("[{{retries: {{attempts: 0}}, timeout: 0.01s, fault: {fault}, route: [$up]}}]");
    row(id, Up::Reply("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).routes(routes.leak())
}

fn cluster(cx: &Arc<Cx>) -> Option<&str> {
    cx.cluster.get().map(|c| &*c.name)
}

#[tokio::test]
async fn aborts() {
    const BODY: &str = "fault filter abort";
    let teapot = "{abort: {httpStatus: 418, percentage: {value: 100}}}";
    let f1 = fault("F1", teapot).status("418 I'm a teapot").body(BODY).log("FI", "fault_filter_abort");
    let seen = f1.has(&["content-type: text/plain", "content-length: 18"]).tries(0).run().await;
    // F9
    assert_eq!(cluster(&seen.record.cx), Some("outbound|80||up.example"));
    assert!(seen.record.cx.endpoint.load().is_none());
    let unavailable = "{abort: {grpcStatus: UNAVAILABLE, percentage: {value: 100}}}";
    let f4 = fault("F4", unavailable).body(BODY).log("FI", "fault_filter_abort");
    f4.has(&["content-type: text/plain", "content-length: 18"]).tries(0).run().await;
    let f5 = fault("F5", unavailable).raw(GRPC).body("").log("FI", "fault_filter_abort").tries(0);
    f5.has(&["content-type: application/grpc", "grpc-status: 14", "grpc-message: fault filter abort"]).run().await;
    let f6 = fault("F6", teapot).raw(GRPC).body("").log("FI", "fault_filter_abort").tries(0);
    f6.has(&["content-type: application/grpc", "grpc-status: 2", "grpc-message: fault filter abort"]).run().await;
    fault("F8", "{abort: {httpStatus: 418}, delay: {fixedDelay: 60s}}").tries(1).run().await;
}

#[tokio::test]
async fn delays() {
    // F7: longer than the route's timeout.
    let seen =
        fault("F2, F7", "{delay: {fixedDelay: 0.05s, percent: 100}}").log("DI", "via_upstream").tries(1).run().await;
    assert!(seen.record.duration >= Duration::from_millis(50), "{:?}", seen.record.duration);
    let both =
        "{delay: {fixedDelay: 0.05s, percentage: {value: 100}}, abort: {httpStatus: 403, percentage: {value: 100}}}";
    let f3 = fault("F3", both).status("403 Forbidden").log("DI,FI", "fault_filter_abort").tries(0);
    assert!(f3.run().await.record.duration >= Duration::from_millis(50));
}

const CORS: &str = "[{corsPolicy: {allowOrigins: [{exact: 'http://a.example'}], allowMethods: [GET, POST], \
    allowHeaders: [x-a, x-b], exposeHeaders: [x-e], maxAge: 24h, allowCredentials: true}, route: [$up]}]";
const UP: Up = Up::Reply("HTTP/1.1 200 OK\r\ncontent-length: 0\r\naccess-control-allow-origin: app\r\n\r\n");

fn asks(method: &str, lines: &[&str]) -> String {
    format!("{method} /x HTTP/1.1\r\nhost: up.example\r\n{}\r\n\r\n", lines.join("\r\n"))
}

/// The CORS headers of an answer, in order, without what their names have in common.
fn cors(headers: &[String]) -> Vec<&str> {
    headers.iter().filter_map(|h| h.strip_prefix("access-control-")).collect()
}

#[tokio::test]
async fn preflights() {
    let preflight =
        |origin: &str| asks("OPTIONS", &[&format!("origin: {origin}"), "access-control-request-method: PUT"]);
    let f10 =
        row("F10", UP).routes(CORS).raw(preflight("http://a.example")).body("").log("-", "cors_response").tries(0);
    assert_eq!(
        cors(&f10.run().await.answer.headers),
        [
            "allow-origin: http://a.example",
            "allow-credentials: true",
            "allow-methods: GET,POST",
            "allow-headers: x-a,x-b",
            "max-age: 86400",
            "expose-headers: x-e"
        ]
    );
    let f11 = row("F11", UP).routes(CORS).raw(preflight("http://b.example")).tries(1).run().await;
    assert_eq!(cors(&f11.answer.headers), ["allow-origin: app"]);
    let ignore = "[{corsPolicy: {allowOrigins: [{exact: 'http://a.example'}], allowMethods: [GET, POST], \
                  unmatchedPreflights: IGNORE}, route: [$up]}]";
    let f12 = row("F12", UP).routes(ignore).raw(preflight("http://b.example")).body("").log("-", "cors_response");
    assert_eq!(cors(&f12.tries(0).run().await.answer.headers), ["allow-methods: GET,POST"]);
    let any = "[{corsPolicy: {allowOrigins: [{exact: '*'}], allowMethods: ['*'], allowHeaders: ['*']}, route: [$up]}]";
    let f13 = row("F13, F14", UP).routes(any).raw(preflight("http://b.example")).log("-", "cors_response").run().await;
    assert_eq!(cors(&f13.answer.headers), ["allow-origin: http://b.example", "allow-methods: PUT", "allow-headers: "]);
    let deprecated = "[{corsPolicy: {allowOrigin: ['http://b.example']}, route: [$up]}]";
    let old = row("allowOrigin", UP).routes(deprecated).raw(preflight("http://b.example")).log("-", "cors_response");
    assert_eq!(cors(&old.run().await.answer.headers), ["allow-origin: http://b.example"]);
}

#[tokio::test]
async fn simple_cors_requests() {
    let a = "origin: http://a.example";
    for (id, raw) in [("F15", asks("GET", &[a])), ("F16", asks("OPTIONS", &[a]))] {
        let seen = row(id, UP).routes(CORS).raw(raw).tries(1).run().await;
        let mut got = cors(&seen.answer.headers);
        got.sort_unstable();
        assert_eq!(got, ["allow-credentials: true", "allow-origin: http://a.example", "expose-headers: x-e"], "{id}");
    }
    let other = row("F15 other", UP).routes(CORS).raw(asks("GET", &["origin: http://b.example"])).run().await;
    assert_eq!(cors(&other.answer.headers), ["allow-origin: app"]);
    let none = row("F15 none", UP).routes(CORS).raw(GET).run().await;
    assert_eq!(cors(&none.answer.headers), ["allow-origin: app"]);
}
