//! Section R, mirroring: R3 and R4 against two upstreams.

use std::net::SocketAddr;

use mesh_core::record::CopyOutcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::mesh::{Config, DEFAULT, Door, Mesh, flags};
use crate::row::{Answer, GET};
use crate::upstream::{Up, Upstream};

const ROUTES: &str = "[{match: [{uri: {prefix: /x}}], retries: {attempts: 1, perTryTimeout: 61s, retryOn: connect-failure}, rewrite: {uri: /new}, headers: {request: {set: {x-set: '1'}}}, \
    route: [$up], mirror: {host: copy.example, port: {number: 80}}}]";

fn config(door: Door, copies_to: SocketAddr) -> Config {
    let extra = format!(
        "
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: copy, namespace: default}}
spec:
  hosts: [copy.example]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{http: {}}}}}]
",
        copies_to.port()
    );
    Config { door, routes: ROUTES, extra: extra.leak(), ..DEFAULT }
}

const UPLOAD: &str = "POST /x HTTP/1.1\r\nhost: up.example\r\nx-a: 1\r\ntransfer-encoding: chunked\r\n\r\n\
    3\r\nabc\r\n3\r\ndef\r\n0\r\nx-t: 7\r\n\r\n";

async fn answer(client: &mut TcpStream) -> Answer {
    Answer::read(client, false).await
}

/// Reads one request, up to the end of its chunked body.
async fn request(listener: &TcpListener) -> (TcpStream, String) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut got = Vec::new();
    while !String::from_utf8_lossy(&got).contains("\r\n0\r\n") || !got.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut got).await.unwrap() > 0, "{}", String::from_utf8_lossy(&got));
    }
    (stream, String::from_utf8(got).unwrap())
}

#[tokio::test]
async fn a_mirror_sees_what_the_destination_sees() {
    for door in [Door::Gateway, Door::Outbound] {
        let up = Upstream::start(Up::Echo).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut mesh = Mesh::start(&config(door, listener.local_addr().unwrap()), up.at).await;
        let mut client = mesh.connect().await;
        client.write_all(UPLOAD.as_bytes()).await.unwrap();
        // The client has its answer while the mirror has not said a word.
        let primary = answer(&mut client).await;
        assert_eq!(primary.status, "200 OK");
        let (mut stream, copy) = request(&listener).await;
        let mut lines: Vec<&str> = copy.lines().collect();
        // R4: all of it, and two headers more.
        let from = match door {
            Door::Gateway => format!("x-forwarded-for: {0},{0}", mesh.node),
            _ => format!("x-forwarded-for: {}", mesh.node),
        };
        lines.retain(|l| *l != "x-envoy-internal: true" && *l != from);
        let mut wanted: Vec<&str> = primary.body.lines().filter(|l| !l.starts_with("x-forwarded-for: ")).collect();
        lines.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(lines, wanted, "{copy}");
        assert!(copy.contains("x-envoy-internal: true\r\n") && copy.contains(&format!("{from}\r\n")), "{copy}");
        assert!(lines.contains(&"x-envoy-expected-rq-timeout-ms: 61000"), "{copy}");
        for line in ["POST /new HTTP/1.1", "host: up.example", "x-set: 1", "x-envoy-original-path: /x", "abc", "def"] {
            assert!(lines.contains(&line), "no {line:?} in {copy}");
        }
        stream.write_all(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        assert_eq!(mesh.copy().await, ("outbound|80||copy.example".to_owned(), CopyOutcome::Sent));
        let record = mesh.record().await;
        assert_eq!((flags(&record), record.cx.endpoint.get().unwrap().address.ip()), ("-".to_owned(), up.at));
    }
}

#[tokio::test]
async fn a_dead_mirror_changes_nothing_and_no_host_means_no_copy() {
    let refuses = Upstream::start(Up::Refused).await.at.unwrap();
    let up = Upstream::start(Up::Echo).await;
    let mut mesh = Mesh::start(&config(Door::Gateway, refuses), up.at).await;
    let mut client = mesh.connect().await;
    client.write_all(UPLOAD.as_bytes()).await.unwrap();
    assert_eq!(answer(&mut client).await.status, "200 OK");
    assert_eq!(mesh.copy().await.1, CopyOutcome::Failed);
    // R4
    let copies = Upstream::start(Up::Echo).await;
    let mut mesh = Mesh::start(&config(Door::Gateway, copies.at.unwrap()), None).await;
    let mut client = mesh.connect().await;
    client.write_all(GET.as_bytes()).await.unwrap();
    assert_eq!(answer(&mut client).await.status, "503 Service Unavailable");
    assert_eq!((flags(&mesh.record().await), copies.requests()), ("UH".to_owned(), 0));
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_never_a_complete_copy() {
    let up = Upstream::start(Up::Silent).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut mesh = Mesh::start(&config(Door::Gateway, listener.local_addr().unwrap()), up.at).await;
    let mut client = mesh.connect().await;
    client.write_all(UPLOAD.split("3\r\ndef").next().unwrap().as_bytes()).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"abc\r\n") {
        assert!(stream.read_buf(&mut got).await.unwrap() > 0);
    }
    drop(client);
    while stream.read_buf(&mut got).await.unwrap_or(0) > 0 {}
    assert!(got.ends_with(b"abc\r\n"), "{}", String::from_utf8_lossy(&got));
    assert_eq!(mesh.copy().await.1, CopyOutcome::Lost);
}
