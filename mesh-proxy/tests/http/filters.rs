//! Section F: faults, CORS, local rate limits.

use std::sync::Arc;
use std::time::Duration;

use mesh_core::record::Cx;
use tokio::io::AsyncWriteExt;

use crate::mesh::{Config, DEFAULT, Door, Mesh, details, flags};
use crate::row::{Answer, GET, Row, row};
use crate::upstream::{Up, Upstream};

const GRPC: &str =
    "POST /x HTTP/1.1\r\nhost: up.example\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n";

fn fault(id: &'static str, fault: &str) -> Row {
    let routes = format!("[{{retries: {{attempts: 0}}, timeout: 0.4s, fault: {fault}, route: [$up]}}]");
    row(id, Up::Reply("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).routes(routes.leak())
}

fn cluster(cx: &Arc<Cx>) -> Option<&str> {
    cx.cluster.get().map(|c| &*c.name)
}

#[tokio::test]
async fn aborts() {
    const BODY: &str = "fault filter abort";
    let teapot = "{abort: {httpStatus: 418, percentage: {value: 100}}}";
    let f1 = fault("F1", teapot).status("418 Unknown").body(BODY).log("FI", "fault_filter_abort");
    let seen = f1.has(&["content-type: text/plain", "content-length: 18"]).tries(0).run().await;
    // F9
    assert_eq!(cluster(&seen.record.cx), Some("outbound|80||up.example"));
    assert!(seen.record.cx.endpoint.get().is_none());
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
        fault("F2, F7", "{delay: {fixedDelay: 0.5s, percent: 100}}").log("DI", "via_upstream").tries(1).run().await;
    assert!(seen.record.duration >= Duration::from_millis(500), "{:?}", seen.record.duration);
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

/// Answers to these requests, one after the other, by a proxy with a bucket of one token; with flags and details.
async fn limited(door: Door, spec: &str, requests: &[&str]) -> Vec<(Answer, String)> {
    let namespace = if door == Door::Gateway { "istio-system" } else { "default" };
    let extra = format!(
        "
---
apiVersion: policy.mesh.local/v1
kind: LocalRateLimit
metadata: {{name: one, namespace: {namespace}}}
spec: {{{spec}, tokenBucket: {{maxTokens: 1, fillInterval: 1h}}}}
"
    );
    let up = Upstream::start(UP).await;
    let routes = "[{name: r, retries: {attempts: 0}, route: [$up]}]";
    let mut mesh = Mesh::start(&Config { door, routes, extra: extra.leak(), ..DEFAULT }, up.at).await;
    let mut answers = Vec::new();
    for raw in requests {
        let mut client = mesh.connect().await;
        client.write_all(raw.as_bytes()).await.unwrap();
        let answer = Answer::read(&mut client, false).await;
        let record = mesh.record().await;
        answers.push((answer, format!("{} {}", flags(&record), details(&record))));
    }
    assert_eq!(up.requests(), 1, "one token, one request");
    answers
}

#[tokio::test]
async fn local_rate_limits() {
    let target = "targetRefs: [{group: networking.istio.io, kind: VirtualService, name: v, sectionName: r}]";
    let rows = [
        ("F17 gateway", Door::Gateway, "responseHeaders: true"),
        ("F17 inbound", Door::Inbound, "responseHeaders: true"),
    ];
    for (id, door, spec) in rows {
        let answers = limited(door, spec, &[GET, GET, GRPC]).await;
        let (first, said) = &answers[0];
        assert_eq!((&*first.status, &**said), ("200 OK", "- via_upstream"), "{id}");
        assert_eq!((first.header("x-ratelimit-limit"), first.header("x-ratelimit-remaining")), (Some("1"), Some("0")));
        let (second, said) = &answers[1];
        assert_eq!((&*second.status, &*second.body), ("429 Too Many Requests", "local_rate_limited"), "{id}");
        assert_eq!((second.header("content-type"), second.header("content-length")), (Some("text/plain"), Some("18")));
        assert_eq!(said, "RL local_rate_limited", "{id}");
        assert!(second.header("x-ratelimit-reset").is_some(), "{id}");
        let (third, said) = &answers[2];
        assert_eq!((&*third.status, third.header("grpc-status")), ("200 OK", Some("14")), "F18");
        assert_eq!(
            (third.header("grpc-message"), &**said),
            (Some("local_rate_limited"), "RL local_rate_limited"),
            "F18"
        );
    }
    let of_rule = limited(Door::Outbound, &format!("{target}, statusCode: 503"), &[GET, GET]).await;
    assert_eq!((&*of_rule[1].0.status, &*of_rule[1].1), ("503 Service Unavailable", "RL local_rate_limited"));
    assert!(of_rule[0].0.header("x-ratelimit-limit").is_none());
}
