//! Sections E, L, M: headers that a proxy adds, removes and changes.

use crate::mesh::Door;
use crate::row::row;
use crate::upstream::Up;

#[tokio::test]
async fn headers_of_proxies() {
    const REMOVED: &[&str] = &[
        "x-envoy-retry-on",
        "x-envoy-retry-grpc-on",
        "x-envoy-max-retries",
        "x-envoy-upstream-rq-timeout-ms",
        "x-envoy-upstream-rq-per-try-timeout-ms",
        "x-envoy-upstream-rq-timeout-alt-response",
        "x-envoy-expected-rq-timeout-ms",
        "x-envoy-upstream-alt-stat-name",
        "x-envoy-force-trace",
        "x-envoy-ip-tags",
        "x-envoy-internal",
        "x-envoy-original-url",
        "x-envoy-retriable-status-codes",
        "x-envoy-retriable-header-names",
        "x-envoy-hedge-on-per-try-timeout",
        "x-envoy-upstream-stream-duration-ms",
    ];
    let all: Vec<String> = REMOVED.iter().map(|name| format!("{name}: 1")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    row("E1", Up::Echo).door(Door::Outbound).headers(&all).upstream_lacks(REMOVED).run().await;
    const KEPT: &[&str] = &[
        "x-envoy-external-address: 1.2.3.4",
        "x-envoy-decorator-operation: o",
        "x-envoy-downstream-service-cluster: c",
        "x-envoy-downstream-service-node: n",
        "x-envoy-is-timeout-retry: 1",
        "x-envoy-original-dst-host: 1.1.1.1:1",
        "x-envoy-whatever: 1",
    ];
    // Whatever address the request claims to come from: nobody is internal.
    for from in ["10.0.0.1", "127.0.0.1"] {
        let from = format!("x-forwarded-for: {from}");
        let internal = ["x-envoy-upstream-rq-timeout-ms: 20", "x-envoy-force-trace: 1", &*from];
        let e4 = row("E4 E5 differ", Up::Echo).door(Door::Outbound).headers(&internal);
        let e4 = e4.upstream_lacks(&["x-envoy-upstream-rq-timeout-ms", "x-envoy-internal", "x-envoy-expected"]);
        e4.lacks(&["x-request-id"]).run().await;
    }
    row("E2", Up::Echo).door(Door::Outbound).headers(KEPT).upstream_has(KEPT).run().await;
    let path = &["x-envoy-original-path: /log"];
    let seen = row("E2 differs", Up::Echo).door(Door::Outbound).headers(path).upstream_has(path).run().await;
    assert_eq!(seen.record.path(), "/x", "E2 differs");
    let e3 = row("E3", Up::Echo).headers(&[
        "x-envoy-decorator-operation: o",
        "x-envoy-downstream-service-cluster: c",
        "x-envoy-downstream-service-node: n",
        "x-envoy-external-address: 1.2.3.4",
        "x-forwarded-host: h",
        "x-forwarded-port: 1",
        "x-client-trace-id: t",
        "x-forwarded-client-cert: By=x",
    ]);
    e3.upstream_has(&[
        "x-envoy-external-address: 127.0.0.1",
        "x-forwarded-host: h",
        "x-forwarded-port: 1",
        "x-client-trace-id: t",
    ])
    .upstream_lacks(&["x-envoy-decorator", "x-envoy-downstream", "x-forwarded-client-cert"])
    .run()
    .await;
}

#[tokio::test]
async fn operations() {
    let weighted = "[{headers: {request: {set: {x-s: route}, add: {x-a: route}}, response: {set: {y-s: route}, add: {y-a: route}}}, \
                    route: [{destination: {host: up.example, port: {number: 80}}, weight: 100, \
                    headers: {request: {set: {x-s: cluster}, add: {x-a: cluster}}, response: {set: {y-s: cluster}, add: {y-a: cluster}}}}, \
                    {destination: {host: up.example, port: {number: 80}}, weight: 1, \
                    headers: {request: {set: {x-s: cluster}, add: {x-a: cluster}}, response: {set: {y-s: cluster}, add: {y-a: cluster}}}}]}]";
    let seen = row("L1", Up::Echo).routes(weighted).upstream_has(&["x-s: route"]).run().await;
    let of = |lines: &mut dyn Iterator<Item = &str>, name: &str| {
        lines.filter(|l| l.starts_with(name)).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of(&mut seen.answer.body.lines(), "x-a"), ["x-a: cluster", "x-a: route"], "L1");
    let headers = || seen.answer.headers.iter().map(String::as_str);
    assert_eq!(of(&mut headers(), "y-a"), ["y-a: cluster", "y-a: route"], "L1");
    assert_eq!(of(&mut headers(), "y-s"), ["y-s: route"], "L1");

    let again = "[{headers: {request: {remove: [x-a], add: {x-a: new}}}, route: [$up]}]";
    let seen = row("L2", Up::Echo).routes(again).headers(&["x-a: old"]).run().await;
    assert_eq!(of(&mut seen.answer.body.lines(), "x-a"), ["x-a: new"], "L2");
    let both = "[{headers: {request: {set: {x-a: S}, add: {x-a: A}}}, route: [$up]}]";
    let seen = row("L3", Up::Echo).routes(both).run().await;
    assert_eq!(of(&mut seen.answer.body.lines(), "x-a"), ["x-a: S", "x-a: A"], "L3");
    let seen = row("L3 lines", Up::Echo).headers(&["x-a: 1", "x-b: 2", "x-a: 3"]).run().await;
    assert_eq!(of(&mut seen.answer.body.lines(), "x-a"), ["x-a: 1", "x-a: 3"], "L3");
    let values = "[{headers: {request: {set: {x-a: '%REQ(nope)%', x-b: 'a%REQ(nope)%b', x-c: '5%%', x-d: '%UPSTREAM_HOST%', \
                  x-e: '%RESPONSE_CODE%'}}, response: {set: {y-e: '%RESPONSE_CODE%', y-d: '%UPSTREAM_HOST%'}}}, route: [$up]}]";
    let l4 = row("L4", Up::Echo).routes(values).upstream_has(&["x-b: ab", "x-c: 5%", "x-e: 0"]);
    l4.upstream_lacks(&["x-a", "x-d"]).has(&["y-e: 200", "y-d: 127.0.0.1:"]).run().await;
    let removed = "[{headers: {request: {remove: [x-request-id, x-forwarded-proto]}}, route: [$up]}]";
    row("L5", Up::Echo).routes(removed).upstream_lacks(&["x-request-id", "x-forwarded-proto"]).run().await;
}

#[tokio::test]
async fn response_headers() {
    let l6 = row("L6", Up::Reply("HTTP/1.1 200 OK\r\nserver: app\r\ncontent-length: 0\r\n\r\n"))
        .routes("[{headers: {response: {set: {server: mine}}}, route: [$up]}]");
    l6.has(&["server: istio-envoy"]).lacks(&["server: app", "server: mine"]).run().await;
    let l7 = row(
        "L7",
        Up::Reply(
            "HTTP/1.1 200 OK\r\ndate: D\r\nx-envoy-upstream-service-time: 99999\r\nconnection: x-n, keep-alive\r\nx-n: 1\r\n\
             keep-alive: 5\r\nproxy-connection: x\r\ncontent-length: 0\r\n\r\n",
        ),
    );
    l7.has(&["date: D", "x-n: 1", "x-envoy-upstream-service-time: "])
        .lacks(&["x-envoy-upstream-service-time: 99999", "connection", "keep-alive", "proxy-connection"])
        .run()
        .await;
    let l8 = row("L8", Up::Reply("HTTP/1.1 200 OK\r\nX-Up: 1\r\ncontent-length: 0\r\n\r\n"));
    l8.has(&["x-up: 1"]).run().await;
    row("L8", Up::Echo).headers(&["X-Down: 1"]).upstream_has(&["x-down: 1"]).run().await;
}

#[tokio::test]
async fn where_a_request_comes_from() {
    let sidecar = |id| row(id, Up::Echo).door(Door::Outbound);
    let seen = sidecar("M1").headers(&["x-forwarded-for: 1.1.1.1, 2.2.2.2", "x-forwarded-proto: ftp"]);
    let seen = seen.upstream_has(&["x-forwarded-for: 1.1.1.1, 2.2.2.2", "x-forwarded-proto: ftp"]).run().await;
    assert_eq!(seen.record.cx.remote().to_string(), "2.2.2.2:0", "M1");
    let seen = sidecar("M1 invalid").headers(&["x-forwarded-for: nobody"]).run().await;
    assert_eq!(seen.record.cx.remote(), seen.record.cx.conn.peer, "M1");
    sidecar("M1 absent").upstream_has(&["x-forwarded-proto: http"]).upstream_lacks(&["x-forwarded-for"]).run().await;
    let m2 = row("M2", Up::Echo).headers(&["x-forwarded-for: 1.2.3.4", "x-forwarded-proto: https"]);
    let seen = m2.upstream_has(&["x-envoy-external-address: 127.0.0.1", "x-forwarded-proto: http"]).run().await;
    let appended = format!("x-forwarded-for: 1.2.3.4,{}", seen.node);
    assert!(seen.answer.body.lines().any(|l| l == appended), "M2: {appended}: {:?}", seen.answer);
    sidecar("M5 kept").headers(&["x-request-id: abc"]).upstream_has(&["x-request-id: abc"]).run().await;
    let id = |body: &str| body.lines().find_map(|l| l.strip_prefix("x-request-id: ")).unwrap().to_owned();
    for seen in [sidecar("M5").run().await, row("M5 edge", Up::Echo).headers(&["x-request-id: abc"]).run().await] {
        let id = id(&seen.answer.body);
        assert!(id.len() == 36 && id.as_bytes()[14] == b'4', "M5: {id}");
    }
}

/// The listener towards the application: nothing is appended, the name is the mesh's.
#[tokio::test]
async fn inbound() {
    let seen = row("M1 inbound", Up::Echo).door(Door::Inbound).headers(&["x-forwarded-for: 1.1.1.1"]);
    let seen = seen.upstream_has(&["x-forwarded-for: 1.1.1.1"]).upstream_lacks(&["x-envoy-attempt-count"]);
    seen.has(&["server: istio-envoy"]).run().await;
    row("server outbound", Up::Echo).door(Door::Outbound).has(&["server: envoy"]).run().await;
}
