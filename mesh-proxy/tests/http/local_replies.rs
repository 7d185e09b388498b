//! Section A: routing and local replies.

use crate::mesh::Door;
use crate::row::{GET, row};
use crate::upstream::Up;
use h2::Reason;

const IR: &str = "[{route: [$up]}]";
const RESET: &str = "[{retries: {attempts: 2, retryOn: reset, backoff: 1ms}, route: [$up]}]";
const REFUSED: &str =
    "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}";
const TERMINATED: &str = "upstream_reset_before_response_started{connection_termination}";
const PROTOCOL: &str = "upstream_reset_before_response_started{protocol_error}";

macro_rules! before_headers {
    ($reason:literal) => {
        concat!("upstream connect error or disconnect/reset before headers. ", $reason)
    };
}

#[tokio::test]
async fn no_route() {
    let other = GET.replace("up.example", "other.example");
    let a1 = row("A1", Up::Echo).raw(other).local("404 Not Found", "").has(&["content-length: 0"]);
    a1.log("NR", "route_not_found").tries(0).run().await;
    let only = "[{match: [{uri: {exact: /only}}], route: [$up]}]";
    let a1 = row("A1 path", Up::Echo).routes(only).local("404 Not Found", "").has(&["content-length: 0"]);
    a1.log("NR", "route_not_found").run().await;
    let a2 = row("A2 differs", Up::Echo).routes(only).raw(GET.replace("GET", "HEAD")).local("404 Not Found", "");
    a2.log("NR", "route_not_found").lacks(&["content-length", "transfer-encoding"]).run().await;
}

#[tokio::test]
async fn block_all() {
    let other = GET.replace("up.example", "other.example");
    let a3 = row("A3", Up::Echo).door(Door::Outbound).raw(other).local("502 Bad Gateway", "");
    a3.extra(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    \
         outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n",
    )
    .log("-", "direct_response")
    .run()
    .await;
}

#[tokio::test]
async fn no_cluster_and_no_endpoint() {
    let unknown = "[{route: [{destination: {host: nowhere.example, port: {number: 80}}}]}]";
    let a4 = row("A4", Up::Echo).routes(unknown).local("503 Service Unavailable", "");
    a4.log("NC", "cluster_not_found").run().await;
    let unresolved = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: lost, namespace: default}\n\
        spec: {hosts: [lost.invalid], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}\n";
    let r17 = row("R17", Up::None).extra(unresolved).routes("[{route: [{destination: {host: lost.invalid}}]}]");
    r17.local("503 Service Unavailable", "no healthy upstream").log("UH", "no_healthy_upstream").run().await;
    let a5 = row("A5", Up::None).local("503 Service Unavailable", "no healthy upstream");
    a5.has(&["content-length: 19"]).log("UH", "no_healthy_upstream").run().await;
}

#[tokio::test]
async fn connections_that_fail() {
    let text = before_headers!("reset reason: remote connection failure");
    let a6 = row("A6", Up::Refused).local("503 Service Unavailable", text).has(&["content-length: 98"]);
    a6.log("UF", REFUSED).failure("delayed_connect_error:_Connection_refused").run().await;
    let text = before_headers!("retried and the latest reset reason: remote connection failure");
    let a7 = row("A7", Up::Refused).routes(IR).local("503 Service Unavailable", text).has(&["content-length: 121"]);
    a7.log("URX,UF", REFUSED).run().await;
}

#[tokio::test]
async fn connections_that_end() {
    let text = before_headers!("reset reason: connection termination");
    for (id, up, routes) in [
        ("A11 FIN", Up::Last(""), "[{retries: {attempts: 0}, route: [$up]}]"),
        ("A11 RST", Up::Abort(""), "[{retries: {attempts: 0}, route: [$up]}]"),
        ("A12 default", Up::Last(""), IR),
        ("A12", Up::Last(""), "[{retries: {attempts: 2, retryOn: reset-before-request}, route: [$up]}]"),
    ] {
        let a11 = row(id, up).routes(routes).local("503 Service Unavailable", text).has(&["content-length: 95"]);
        a11.log("UC", TERMINATED).tries(1).run().await;
    }
    let text = before_headers!("retried and the latest reset reason: connection termination");
    for (id, routes) in
        [("A13", RESET), ("A13 5xx", "[{retries: {attempts: 2, retryOn: 5xx, backoff: 1ms}, route: [$up]}]")]
    {
        let a13 = row(id, Up::Last("")).routes(routes).local("503 Service Unavailable", text);
        a13.has(&["content-length: 118"]).log("URX,UC", TERMINATED).tries(3).run().await;
    }
}

#[tokio::test]
async fn broken_responses() {
    let text = before_headers!("reset reason: protocol error");
    for up in
        [Up::Last("garbage\r\n\r\n"), Up::Last("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab")]
    {
        let a15 = row("A15", up).local("502 Bad Gateway", text).has(&["content-length: 87"]);
        a15.log("UPE", PROTOCOL).run().await;
    }
    let cut = "upstream_reset_after_response_started{protocol_error}";
    for up in [
        Up::Last("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"),
        Up::Last("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"),
        Up::Abort("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"),
    ] {
        let seen = row("A16", up).log("UPE", cut).run().await;
        assert!(seen.answer.cut, "A16: {:?}", seen.answer);
    }
}

#[tokio::test]
async fn unusual_responses() {
    let a17 = row("A17", Up::Last("HTTP/1.1 200 OK\r\n\r\nabc")).body("abc");
    a17.has(&["transfer-encoding: chunked"]).run().await;
    row("A17 1.0", Up::Last("HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nabc")).body("abc").run().await;
    let early = "POST /x HTTP/1.1\r\nhost: up.example\r\ncontent-length: 9\r\n\r\nabc";
    let a24 = row("A24", Up::Early("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")).raw(early).body("ok");
    a24.closes().run().await;
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let seen = row("A25", Up::Reply(hints)).run().await;
    assert_eq!(seen.answer.interim, ["HTTP/1.1 103 Unknown\r\nlink: </a>\r\n\r\n"], "A25");
    let teapot = "HTTP/1.1 418 I'm a teapot\r\ncontent-length: 0\r\n\r\n";
    row("A25 phrase", Up::Reply(teapot)).status("418 Unknown").run().await;
    for (up, status) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", "204 No Content"),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", "304 Not Modified"),
    ] {
        let a26 = row("A26", Up::Reply(up)).status(status);
        a26.lacks(&["content-length", "transfer-encoding"]).run().await;
    }
}

#[tokio::test]
async fn http2_upstreams_that_reset() {
    let text = before_headers!("reset reason: remote reset");
    for code in [0, 2, 3, 5, 8, 11, 13] {
        let a18 = row("A18", Up::Reset(Reason::from(code))).http2_upstream().local("503 Service Unavailable", text);
        a18.has(&["content-length: 85"]).log("UR", "upstream_reset_before_response_started{remote_reset}").run().await;
    }
    let text = before_headers!("reset reason: protocol error");
    let a19 = row("A19", Up::Reset(Reason::PROTOCOL_ERROR)).http2_upstream().local("502 Bad Gateway", text);
    a19.log("UPE", PROTOCOL).run().await;
    let text = before_headers!("retried and the latest reset reason: remote refused stream reset");
    let a20 = row("A20", Up::Reset(Reason::REFUSED_STREAM)).http2_upstream().routes(IR);
    a20.local("503 Service Unavailable", text)
        .has(&["content-length: 123"])
        .log("URX,UR", "upstream_reset_before_response_started{remote_refused_stream_reset}")
        .tries(3)
        .run()
        .await;
    let seen = row("A21 h1 client", Up::ResetAfterHead(Reason::CANCEL)).http2_upstream();
    let seen = seen.log("UR", "upstream_reset_after_response_started{remote_reset}").run().await;
    assert!(seen.answer.cut, "A21: {:?}", seen.answer);
    let text = before_headers!("reset reason: connection termination");
    let a22 = row("A22", Up::Close).http2_upstream().local("503 Service Unavailable", text);
    a22.log("UC", TERMINATED).run().await;
}

/// A23
#[tokio::test]
async fn a_client_that_goes() {
    use tokio::io::AsyncWriteExt;
    let upstream = crate::upstream::Upstream::start(Up::Silent).await;
    let mut mesh = crate::mesh::Mesh::start(&crate::mesh::DEFAULT, upstream.at).await;
    let mut client = mesh.connect().await;
    client.write_all(GET.as_bytes()).await.unwrap();
    upstream.asked().await;
    drop(client);
    let record = mesh.record().await;
    assert_eq!(record.http.as_ref().and_then(|h| h.status), None);
    assert_eq!(
        (&*crate::mesh::flags(&record), &*crate::mesh::details(&record)),
        ("DC", "downstream_remote_disconnect")
    );
}
