//! Section Q: HTTP/2 and gRPC; and the rows of other sections that need an HTTP/2 client.

use bytes::Bytes;
use h2::Reason;
use h2::client::SendRequest;
use http::{HeaderMap, Request};

use crate::mesh::{Config, DEFAULT, Mesh, details, flags};
use crate::row::{GET, row};
use crate::upstream::{Up, Upstream};

/// Talks HTTP/2 to a proxy.
async fn client(mesh: &Mesh) -> SendRequest<Bytes> {
    let (send, connection) = h2::client::handshake(mesh.connect().await).await.unwrap();
    tokio::spawn(connection);
    send.ready().await.unwrap()
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HeaderMap,
    body: String,
    reset: Option<Reason>,
    trailers: Option<HeaderMap>,
}

pub(crate) async fn ask(mesh: &Mesh, request: Request<()>) -> Answer {
    let (response, _) = client(mesh).await.send_request(request, true).unwrap();
    let (head, mut body) = response.await.unwrap().into_parts();
    let mut answer = Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: String::new(),
        reset: None,
        trailers: None,
    };
    while let Some(data) = body.data().await {
        match data {
            Ok(data) => {
                answer.body += &String::from_utf8_lossy(&data);
                let _ = body.flow_control().release_capacity(data.len());
            }
            Err(error) => {
                answer.reset = error.reason();
                return answer;
            }
        }
    }
    answer.trailers = body.trailers().await.unwrap();
    answer
}

fn get() -> http::request::Builder {
    Request::get("http://up.example/x?q")
}

const HTTP2: Config = Config { protocol: "HTTP2", ..DEFAULT };

#[tokio::test]
async fn both_ways() {
    let upstream = Upstream::start(Up::Echo2).await;
    let mut mesh = Mesh::start(&HTTP2, upstream.at).await;
    let answer =
        ask(&mesh, get().header("host", "other").header("cookie", "a=1").header("cookie", "b=2").body(()).unwrap())
            .await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.starts_with("GET http://up.example/x?q HTTP/2.0\r\n"), "Q2: {}", answer.body);
    assert!(answer.body.contains("cookie: a=1; b=2\r\n"), "Q7: {}", answer.body);
    assert!(!answer.body.contains("host: "), "Q2: {}", answer.body);
    assert_eq!(answer.headers["server"], "istio-envoy");
    let record = mesh.record().await;
    assert_eq!(record.http.unwrap().version, http::Version::HTTP_2, "V1");
}

#[tokio::test]
async fn to_http1() {
    let hop = "HTTP/1.1 200 OK\r\nconnection: keep-alive\r\nkeep-alive: 5\r\ncontent-length: 2\r\n\r\nok";
    let upstream = Upstream::start(Up::Reply(hop)).await;
    let mesh = Mesh::start(&DEFAULT, upstream.at).await;
    let answer = ask(&mesh, get().body(()).unwrap()).await;
    assert_eq!((answer.status, &*answer.body), (200, "ok"), "Q8");
    assert!(!answer.headers.contains_key("connection") && !answer.headers.contains_key("keep-alive"), "Q8");
}

#[tokio::test]
async fn resets_after_the_head() {
    for code in [Reason::NO_ERROR, Reason::CANCEL, Reason::INTERNAL_ERROR] {
        let upstream = Upstream::start(Up::ResetAfterHead(code)).await;
        let mut mesh = Mesh::start(&HTTP2, upstream.at).await;
        let answer = ask(&mesh, get().body(()).unwrap()).await;
        assert_eq!(answer.reset, Some(Reason::INTERNAL_ERROR), "A21 {code:?}");
        let record = mesh.record().await;
        let wanted = ("UR", "upstream_reset_after_response_started{remote_reset}");
        assert_eq!((&*flags(&record), &*details(&record)), wanted, "A21 {code:?}");
    }
}

#[tokio::test]
async fn connect_is_not_routed() {
    let mesh = Mesh::start(&DEFAULT, None).await;
    let connect = Request::builder().method("CONNECT").uri("up.example:80").body(()).unwrap();
    assert_eq!(ask(&mesh, connect).await.status, 404, "P8");
}

#[tokio::test]
async fn local_replies_to_grpc() {
    let grpc = |kind: &str| format!("POST /x HTTP/1.1\r\nhost: up.example\r\ncontent-type: {kind}\r\n\r\n");
    for kind in ["application/grpc", "application/grpc+proto"] {
        let q10 = row("Q10 Q11", Up::None).raw(grpc(kind)).body("").log("UH", "no_healthy_upstream");
        q10.has(&[
            "content-type: application/grpc",
            "grpc-status: 14",
            "grpc-message: no healthy upstream",
            "content-length: 0",
        ])
        .run()
        .await;
    }
    for kind in ["application/grpc-web", "application/grpc;x", "Application/GRPC"] {
        let q11 = row("Q11", Up::None).raw(grpc(kind)).local("503 Service Unavailable", "no healthy upstream");
        q11.log("UH", "no_healthy_upstream").run().await;
    }
    let other = grpc("application/grpc").replace("up.example", "other");
    let q10 = row("Q10 404", Up::None).raw(other).body("").has(&["grpc-status: 12"]).lacks(&["grpc-message"]);
    q10.log("NR", "route_not_found").run().await;
    for (status, code) in [
        (400, "13"),
        (401, "16"),
        (403, "7"),
        (404, "12"),
        (429, "14"),
        (502, "14"),
        (503, "14"),
        (504, "14"),
        (409, "2"),
        (500, "2"),
        (418, "2"),
    ] {
        let routes: &'static str =
            format!("[{{directResponse: {{status: {status}, body: {{string: \"a b%\\n\u{e9}\"}}}}}}]").leak();
        let line: &'static [&'static str] =
            vec![&*format!("grpc-status: {code}").leak(), "grpc-message: a b%25%0A%C3%A9"].leak();
        let q10 = row("Q10 Q12", Up::None).routes(routes).raw(grpc("application/grpc")).body("").has(line);
        q10.log("-", "direct_response").run().await;
    }
    let upstream = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";
    let q13 =
        row("Q13", Up::Reply(upstream)).raw(grpc("application/grpc")).status("503 Service Unavailable").body("busy");
    q13.lacks(&["grpc-status"]).run().await;
    let upstream = Upstream::start(Up::None).await;
    let mesh = Mesh::start(&DEFAULT, upstream.at).await;
    let request = Request::post("http://up.example/x").header("content-type", "application/grpc").body(()).unwrap();
    let answer = ask(&mesh, request).await;
    assert_eq!(
        (answer.status, answer.headers["grpc-status"].as_bytes(), answer.body.len()),
        (200, &b"14"[..], 0),
        "Q10"
    );
    assert!(answer.trailers.is_none(), "Q10: all of it is in the head");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    use tokio::io::AsyncWriteExt;
    let upstream = Upstream::start(Up::Echo).await;
    let mesh = Mesh::start(&DEFAULT, upstream.at).await;
    let mut io = mesh.connect().await;
    for path in ["/a", "/b"] {
        // One at a time is read; both are there.
        io.write_all(GET.replace("/x", path).as_bytes()).await.unwrap();
    }
    let mut got = Vec::new();
    for path in ["/a", "/b"] {
        let answer = crate::row::Answer::read_next(&mut io, &mut got, false).await;
        assert!(answer.body.starts_with(&format!("GET {path} ")), "O28: {answer:?}");
    }
}

#[tokio::test]
async fn draining() {
    use tokio::io::AsyncWriteExt;
    let upstream = Upstream::start(Up::Echo).await;
    let mesh = Mesh::start(&DEFAULT, upstream.at).await;
    let mut io = mesh.connect().await;
    io.write_all(GET.as_bytes()).await.unwrap();
    let first = crate::row::Answer::read(&mut io, false).await;
    assert_eq!(first.header("connection"), None, "U2");
    mesh.drain.fail(true);
    let mut failing = mesh.connect().await;
    failing.write_all(GET.as_bytes()).await.unwrap();
    assert_eq!(crate::row::Answer::read(&mut failing, false).await.header("connection"), Some("close"), "U4");
    mesh.drain.fail(false);
    io.write_all(GET.as_bytes()).await.unwrap();
    assert_eq!(crate::row::Answer::read(&mut io, false).await.header("connection"), None, "U4 mended");
    mesh.drain.start();
    io.write_all(GET.as_bytes()).await.unwrap();
    let second = crate::row::Answer::read(&mut io, false).await;
    assert_eq!((&*second.status, second.header("connection")), ("200 OK", Some("close")), "U2");
}
