//! What ProxyConfig changes on the wire.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::mesh::{Config, DEFAULT, Door, Mesh, details};
use crate::row::row;
use crate::upstream::{Up, Upstream};

/// A `defaultConfig` in the mesh's settings.
macro_rules! proxy_config {
    ($text:literal) => {
        concat!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n",
            "  mesh: |\n    defaultConfig: ",
            $text,
            "\n"
        )
    };
}
pub(crate) use proxy_config;

/// All that a client gets for these bytes, until the proxy closes. The client's side stays open: a client that closes it is
/// gone, and so is its request.
async fn talk(config: &Config, up: Up, raw: &str) -> String {
    let upstream = Upstream::start(up).await;
    let mesh = Mesh::start(config, upstream.at).await;
    let mut client = mesh.connect().await;
    client.write_all(raw.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

/// A request of more than the limit is tried once: it can't be sent again.
#[tokio::test]
async fn buffers_for_retries() {
    let body = "x".repeat(40_000);
    let raw: &str = format!("POST /x HTTP/1.1\r\nhost: up.example\r\ncontent-length: 40000\r\n\r\n{body}").leak();
    let busy = Up::Reply("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
    for (extra, tries) in [
        ("", 3),
        (proxy_config!("{connectionSettings: {perConnectionBufferLimitBytes: 40000}}"), 3),
        (proxy_config!("{connectionSettings: {perConnectionBufferLimitBytes: 39999}}"), 1),
        (proxy_config!("{connectionSettings: {profile: EDGE}}"), 1),
    ] {
        let routes = "[{retries: {attempts: 2, retryOn: 5xx, backoff: 1ms}, route: [$up]}]";
        let upstream = Upstream::start(busy).await;
        let mesh = Mesh::start(&Config { extra, routes, ..DEFAULT }, upstream.at).await;
        let mut client = mesh.connect().await;
        client.write_all(raw.as_bytes()).await.unwrap();
        let answer = crate::row::Answer::read(&mut client, false).await;
        assert_eq!((&*answer.status, upstream.requests()), ("503 Service Unavailable", tries), "{extra}");
    }
}

#[tokio::test]
async fn http10_where_it_is_enabled() {
    let config = Config { extra: proxy_config!("{proxyMetadata: {ISTIO_META_HTTP10: '1'}}"), ..DEFAULT };
    let old = "GET /x HTTP/1.0\r\nhost: up.example\r\n";
    let answer = talk(&config, Up::Echo, &format!("{old}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.contains("connection: close\r\n"), "O2: {answer}");
    assert!(answer.contains("GET /x HTTP/1.1"), "O2: the upstream is asked in HTTP/1.1: {answer}");
    let answer = talk(&config, Up::Echo, &format!("{old}connection: keep-alive\r\n\r\n{old}\r\n")).await;
    assert!(answer.contains("connection: keep-alive\r\n"), "O2: {answer}");
    assert!(answer.matches(" 200 OK\r\n").count() == 2, "O2: kept: {answer}");
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let answer = talk(&config, Up::Reply(chunked), &format!("{old}\r\n")).await;
    assert!(answer.ends_with("\r\n\r\nabc") && !answer.contains("chunked"), "O2: delimited by the close: {answer}");
    // Without a host there is nowhere to go: Istio configures no default.
    let answer = talk(&config, Up::Echo, "GET /x HTTP/1.0\r\n\r\n").await;
    assert!(answer.contains(" 400 "), "O3: {answer}");
    let answer = talk(&config, Up::Echo, "GET /x HTTP/1.2\r\nhost: up.example\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 426"), "O1: {answer}");
}

#[tokio::test]
async fn header_names_with_underscores() {
    let refuse = proxy_config!("{connectionSettings: {httpHeadersWithUnderscoresAction: REJECT_REQUEST}}");
    let o22 = row("O22 reject", Up::Echo).extra(refuse).headers(&["x_a: 1"]);
    o22.local("400 Bad Request", "Bad Request").log("DPE", "http1.unexpected_underscore").closes().run().await;
    let drop = proxy_config!("{connectionSettings: {httpHeadersWithUnderscoresAction: DROP_HEADER}}");
    let config = Config { extra: refuse, ..DEFAULT };
    let mut mesh = Mesh::start(&config, None).await;
    let request = http::Request::get("http://up.example/x").header("x_a", "1").body(()).unwrap();
    assert_eq!(crate::http2::ask(&mesh, request).await.status, 400, "Q5 differs");
    assert_eq!(details(&mesh.record().await), "http2.unexpected_underscore", "Q5 differs");
    row("O22 drop", Up::Echo).extra(drop).headers(&["x_a: 1", "x-b: 1"]).upstream_lacks(&["x_a"]).run().await;
}

#[tokio::test]
async fn slashes_in_paths() {
    let settings = |action| row(action, Up::Echo).get("/a%2Fb%5cc?q=%2f");
    let forward = proxy_config!("{connectionSettings: {httpPathWithEscapedSlashesAction: UNESCAPE_AND_FORWARD}}");
    settings("forward").extra(forward).upstream_has(&["GET /a/b/c?q=%2f HTTP/1.1"]).run().await;
    let refuse = proxy_config!("{connectionSettings: {httpPathWithEscapedSlashesAction: REJECT_REQUEST}}");
    let refused = settings("reject").extra(refuse).local("400 Bad Request", "");
    refused.log("-", "path_normalization_failed").closes().run().await;
    let edge = proxy_config!("{connectionSettings: {profile: EDGE}}");
    let seen = settings("edge").extra(edge).local("307 Temporary Redirect", "").has(&["location: /a/b/c?q=%2f"]);
    seen.log("-", "path_normalization_failed").run().await;
    row("edge merges", Up::Echo).extra(edge).get("/a//b").upstream_has(&["GET /a/b HTTP/1.1"]).run().await;
}

#[tokio::test]
async fn headers_that_the_proxy_makes() {
    let none = proxy_config!(
        "{proxyHeaders: {requestId: {disabled: true}, attemptCount: {disabled: true}, envoyDebugHeaders: {disabled: true}}}"
    );
    let quiet = row("E6 nothing of its own", Up::Echo).door(Door::Outbound).extra(none);
    let quiet = quiet.upstream_lacks(&["x-request-id", "x-envoy-"]).lacks(&["x-envoy-"]);
    quiet.routes("[{timeout: 3s, rewrite: {uri: /y, authority: new.example}, route: [$up]}]").run().await;
    let more = proxy_config!("{proxyHeaders: {xForwardedHost: {enabled: true}, xForwardedPort: {enabled: true}}}");
    let seen = row("more", Up::Echo).extra(more).routes("[{rewrite: {authority: new.example}, route: [$up]}]");
    let seen = seen.upstream_has(&["x-forwarded-host: up.example", "host: new.example"]).run().await;
    let port = format!("x-forwarded-port: {}", seen.record.cx.conn.local.port());
    assert!(seen.answer.body.lines().any(|l| l == port), "{port}: {:?}", seen.answer);
    let keeps = proxy_config!("{gatewayTopology: {forwardClientCertDetails: ALWAYS_FORWARD_ONLY}}");
    const CERT: [&str; 1] = ["x-forwarded-client-cert: By=x"];
    row("N5 always", Up::Echo).extra(keeps).headers(&CERT).upstream_has(&CERT).run().await;
    // Over plaintext nobody has shown a certificate, whatever else is done with one.
    for (id, settings) in [
        ("N4", proxy_config!("{gatewayTopology: {forwardClientCertDetails: SANITIZE_SET}}")),
        ("N5 forward", proxy_config!("{gatewayTopology: {forwardClientCertDetails: FORWARD_ONLY}}")),
        ("N5 append", proxy_config!("{gatewayTopology: {forwardClientCertDetails: APPEND_FORWARD}}")),
    ] {
        row(id, Up::Echo).extra(settings).headers(&CERT).upstream_lacks(&["x-forwarded-client-cert"]).run().await;
    }
    let n6 = row("N6", Up::Echo).door(Door::Outbound).headers(&CERT);
    n6.upstream_lacks(&["x-forwarded-client-cert"]).run().await;
}

#[tokio::test]
async fn names_keep_their_case() {
    let config = Config { extra: proxy_config!("{proxyHeaders: {preserveHttp1HeaderCase: true}}"), ..DEFAULT };
    let raw = "GET /x HTTP/1.1\r\nHost: up.example\r\nX-CuStom: 1\r\nConnection: close\r\n\r\n";
    let reply = "HTTP/1.1 200 OK\r\nX-AnSwer: 1\r\nContent-Length: 0\r\n\r\n";
    assert!(talk(&config, Up::Echo, raw).await.contains("X-CuStom: 1"));
    assert!(talk(&config, Up::Reply(reply), raw).await.contains("X-AnSwer: 1"));
    assert!(talk(&DEFAULT, Up::Echo, raw).await.contains("x-custom: 1"));
}

#[tokio::test]
async fn trusted_proxies_in_front() {
    let two = proxy_config!("{gatewayTopology: {numTrustedProxies: 2}}");
    let m3 = row("M3", Up::Echo).extra(two).headers(&["x-forwarded-for: 1.1.1.1, 2.2.2.2", "x-forwarded-proto: https"]);
    let seen = m3.upstream_has(&["x-envoy-external-address: 1.1.1.1", "x-forwarded-proto: https"]).run().await;
    assert_eq!(seen.record.cx.remote().to_string(), "1.1.1.1:0", "M3");
    let few = row("M3 fewer", Up::Echo).extra(two).headers(&["x-forwarded-for: 1.1.1.1"]);
    few.upstream_has(&["x-envoy-external-address: 127.0.0.1"]).run().await;
}
