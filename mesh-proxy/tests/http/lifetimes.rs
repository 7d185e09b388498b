//! Section C: limits of connections and their requests (`connectionSettings`). Nothing is measured: what never comes makes
//! every limit pass. How long each takes is tested with the clock stopped, beside the code.

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::mesh::{Config, DEFAULT, Mesh, details, flags};
use crate::row::{Answer, GET, row};
use crate::settings::proxy_config;
use crate::upstream::{Up, Upstream};

const PARTLY: &str = "POST /x HTTP/1.1\r\nhost: up.example\r\ncontent-length: 9\r\n\r\nabc";
const HALF_A_HEAD: &str = "GET /x HTTP/1.1\r\nhost: up.exa";
const GATEWAY_TIMEOUT: &str = "504 Gateway Timeout";
const LATE: &str = "408 Request Timeout";

#[tokio::test]
async fn a_stream_that_stands_still() {
    let idle = proxy_config!("{connectionSettings: {httpStreamIdleTimeout: 50ms}}");
    let c8 = row("C8", Up::Silent).extra(idle).local(GATEWAY_TIMEOUT, "stream timeout");
    c8.log("SI", "stream_idle_timeout").run().await;
    let c9 = row("C9 body", Up::Silent).extra(idle).raw(PARTLY).local(LATE, "stream timeout");
    c9.log("SI", "stream_idle_timeout").closes().run().await;
    let c9 = row("C9 head", Up::Echo).extra(idle).raw(HALF_A_HEAD).local(LATE, "stream timeout");
    c9.log("SI", "stream_idle_timeout").closes().tries(0).run().await;
    let begun = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc";
    let seen = row("C10", Up::Reply(begun)).extra(idle).body("abc").log("SI", "stream_idle_timeout").run().await;
    assert!(seen.answer.cut, "C10: {:?}", seen.answer);
}

#[tokio::test]
async fn a_request_that_does_not_come() {
    let request = proxy_config!("{connectionSettings: {httpRequestTimeout: 50ms}}");
    let c11 = row("C11", Up::Silent).extra(request).raw(PARTLY).local(LATE, "request timeout");
    c11.log("-", "request_overall_timeout").closes().run().await;
    let c11 = row("C11 head", Up::Echo).extra(request).raw(HALF_A_HEAD).local(LATE, "request timeout");
    c11.log("-", "request_overall_timeout").closes().run().await;
    let head = proxy_config!("{connectionSettings: {httpRequestHeadersTimeout: 50ms}}");
    let c12 = row("C12", Up::Echo).extra(head).raw(HALF_A_HEAD).local(LATE, "request header timeout");
    c12.has(&["content-length: 22"]).log("-", "request_header_timeout").closes().run().await;
    row("C12 in time", Up::Echo).extra(head).run().await;
}

#[tokio::test]
async fn a_stream_that_takes_too_long() {
    let total = proxy_config!("{connectionSettings: {httpMaxStreamDuration: 50ms}}");
    let c13 = row("C13", Up::Silent).extra(total).local(GATEWAY_TIMEOUT, "downstream duration timeout");
    c13.has(&["content-length: 27"]).log("-", "max_duration_timeout").run().await;
    let grpc = GET.replace("GET", "POST").replace("\r\n\r\n", "\r\ncontent-type: application/grpc\r\n\r\n");
    let q16 = row("Q16", Up::Silent).extra(total).raw(grpc).body("").log("-", "max_duration_timeout");
    q16.has(&["grpc-status: 4", "grpc-message: downstream duration timeout"]).run().await;
}

#[tokio::test]
async fn limits_of_a_stream_over_http2() {
    let extra = proxy_config!("{connectionSettings: {httpStreamIdleTimeout: 50ms}}");
    let upstream = Upstream::start(Up::Silent).await;
    let mut mesh = Mesh::start(&Config { extra, ..DEFAULT }, upstream.at).await;
    let (send, connection) = h2::client::handshake(mesh.connect().await).await.unwrap();
    tokio::spawn(connection);
    let mut send: h2::client::SendRequest<Bytes> = send.ready().await.unwrap();
    let request = http::Request::get("http://up.example/x").body(()).unwrap();
    let response = send.send_request(request, true).unwrap().0.await.unwrap();
    assert_eq!(response.status().as_u16(), 504, "C8");
    let record = mesh.record().await;
    assert_eq!((&*flags(&record), &*details(&record)), ("SI", "stream_idle_timeout"), "C8");
}

#[tokio::test]
async fn a_stream_that_its_client_does_not_read() {
    let extra = proxy_config!("{connectionSettings: {httpStreamIdleTimeout: 300ms}}");
    let large: &str = format!("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{}", "x".repeat(100_000)).leak();
    let upstream = Upstream::start(Up::Reply(large)).await;
    let mut mesh = Mesh::start(&Config { extra, ..DEFAULT }, upstream.at).await;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(1000);
    let (send, connection) = builder.handshake(mesh.connect().await).await.unwrap();
    tokio::spawn(connection);
    let mut send: h2::client::SendRequest<Bytes> = send.ready().await.unwrap();
    let get = || http::Request::get("http://up.example/x").body(()).unwrap();
    // What is read without giving room for more fills the window.
    let mut stuck = send.send_request(get(), true).unwrap().0.await.unwrap().into_body();
    let mut got = 0;
    let error = loop {
        match stuck.data().await.expect("the body does not end") {
            Ok(data) => got += data.len(),
            Err(error) => break error,
        }
    };
    assert_eq!((got, error.is_reset(), error.reason()), (1000, true, Some(h2::Reason::CANCEL)), "{error}");
    let record = mesh.record().await;
    assert_eq!((&*flags(&record), &*details(&record)), ("SI", "stream_idle_timeout"));
    // The connection's other requests are not to blame.
    send = send.ready().await.unwrap();
    let mut next = send.send_request(get(), true).unwrap().0.await.unwrap().into_body();
    assert!(!next.data().await.unwrap().unwrap().is_empty());
}

#[tokio::test]
async fn c14_an_idle_connection_is_closed() {
    let extra = proxy_config!("{connectionSettings: {httpIdleTimeout: 50ms, httpDrainTimeout: 0s}}");
    let upstream = Upstream::start(Up::Echo).await;
    let mesh = Mesh::start(&Config { extra, ..DEFAULT }, upstream.at).await;
    let mut silent = mesh.connect().await;
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap(), 0, "C14: never sent a byte");
    let mut used = mesh.connect().await;
    used.write_all(GET.as_bytes()).await.unwrap();
    assert_eq!(Answer::read(&mut used, false).await.header("connection"), None);
    assert_eq!(used.read(&mut [0; 8]).await.unwrap(), 0, "C14: closed without a word");
}

#[tokio::test]
async fn c15_over_http2_goaway_comes_first() {
    let extra = proxy_config!("{connectionSettings: {httpIdleTimeout: 50ms}}");
    let mesh = Mesh::start(&Config { extra, ..DEFAULT }, None).await;
    let (_send, connection) = h2::client::Builder::new().handshake::<_, Bytes>(mesh.connect().await).await.unwrap();
    // GOAWAY with NO_ERROR is an orderly end for the client; a connection that just ends is none.
    connection.await.expect("C15: an orderly end");
}

#[tokio::test]
async fn c16_an_old_connection_says_that_it_goes() {
    let extra = proxy_config!("{connectionSettings: {httpMaxConnectionDuration: 50ms}}");
    let upstream = Upstream::start(Up::Echo).await;
    let mesh = Mesh::start(&Config { extra, ..DEFAULT }, upstream.at).await;
    let mut client = mesh.connect().await;
    loop {
        client.write_all(GET.as_bytes()).await.unwrap();
        let answer = Answer::read(&mut client, false).await;
        assert_eq!(answer.status, "200 OK", "C16");
        if answer.header("connection") == Some("close") {
            break;
        }
    }
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0, "C16");
}
