//! Against real servers on loopback.

use std::convert::Infallible;
use std::net::SocketAddr;

use ::http::{HeaderMap, HeaderValue, Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use super::*;

type Body = BoxBody<Bytes, Infallible>;

fn plain(text: &'static str) -> Body {
    Full::new(Bytes::from_static(text.as_bytes())).boxed()
}

/// What the servers answer: says which version and host came, hangs on /slow, is a healthy gRPC server.
async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = match &*path {
        "/slow" => std::future::pending().await,
        "/grpc.health.v1.Health/Check" => {
            let trailers: HeaderMap =
                [("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))].into_iter().collect();
            let frames = [Frame::data(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1])), Frame::trailers(trailers)];
            StreamBody::new(futures_util::stream::iter(frames.map(Ok))).boxed()
        }
        "/empty" => Empty::new().boxed(),
        _ => plain("0123456789"),
    };
    let mut response = Response::new(body);
    if path == "/over" {
        *response.status_mut() = ::http::StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert("x-envoy-overloaded", HeaderValue::from_static("true"));
    }
    if path == "/last" {
        response.headers_mut().insert("connection", HeaderValue::from_static("close"));
    }
    Ok(response)
}

#[expect(clippy::disallowed_methods, reason = "tests listen on loopback")]
async fn server(h2: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let io = TokioIo::new(stream);
            if h2 {
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(connection.serve_connection(io, service_fn(answer)));
            } else {
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service_fn(answer)));
            }
        }
    });
    at
}

fn settings(at: SocketAddr, path: &str, protocol: Protocol) -> Settings {
    Settings {
        uri: format!("http://{at}{path}").parse().unwrap(),
        resolve: None,
        tls: TlsSettings::default(),
        proxy: None,
        method: ::http::Method::GET,
        headers: HeaderMap::new(),
        body: Bytes::new(),
        protocol,
        keep_alive: true,
        timeout: Duration::from_secs(30),
    }
}

async fn load(settings: Settings, connections: usize, requests: u64) -> Report {
    let sockets = Sockets::default();
    let callers = callers(settings, connections, &sockets).unwrap();
    let plan = Plan { requests: Some(requests), ..Plan::default() };
    let figures = run(&plan, callers, || Timer::Coarse, std::future::pending()).await;
    figures.report("http://x/", "HTTP", connections, sockets.count())
}

fn count(r: &Report, code: &str) -> u64 {
    r.codes.get(code).map_or(0, |s| s.count)
}

#[tokio::test]
async fn http1_keeps_connections_unless_told_not_to() {
    let at = server(false).await;
    let r = load(settings(at, "/", Protocol::Http11), 3, 12).await;
    assert_eq!((count(&r, "200"), r.sockets, r.body_bytes), (12, 3, 120), "{r:?}");
    let r = load(Settings { keep_alive: false, ..settings(at, "/", Protocol::Http11) }, 3, 12).await;
    assert_eq!((count(&r, "200"), r.sockets), (12, 12), "{r:?}");
    // A server that closes after each answer costs sockets, but no request.
    let r = load(settings(at, "/last", Protocol::Http11), 1, 5).await;
    assert_eq!((count(&r, "200"), r.sockets, r.errors.len()), (5, 5, 0), "{r:?}");
    let r = load(Settings { keep_alive: false, ..settings(at, "/", Protocol::Http10) }, 1, 2).await;
    assert_eq!((count(&r, "200"), r.sockets), (2, 2), "{r:?}");
    let r = load(settings(at, "/over", Protocol::Http11), 1, 2).await;
    assert_eq!((count(&r, "503"), r.overloaded), (2, 2), "{r:?}");
}

#[tokio::test]
async fn http2_and_grpc() {
    let at = server(true).await;
    let r = load(settings(at, "/", Protocol::Http2), 2, 10).await;
    assert_eq!((count(&r, "200"), r.sockets, r.body_bytes), (10, 2, 100), "{r:?}");
    let health = Protocol::Grpc(GrpcMethod::Health(String::new()));
    let r = load(settings(at, "/ignored", health), 1, 4).await;
    assert_eq!((count(&r, "SERVING"), r.sockets), (4, 1), "{r:?}");
    let ping = Protocol::Grpc(GrpcMethod::Ping("x".into()));
    let r = load(settings(at, "/", ping), 1, 1).await;
    assert_eq!(count(&r, "HTTP 200"), 1, "an answer without grpc-status is not from gRPC: {r:?}");
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_a_timeout() {
    let at = server(false).await;
    let short = Settings { timeout: Duration::from_millis(1), ..settings(at, "/slow", Protocol::Http11) };
    let r = load(short, 1, 2).await;
    assert_eq!((r.errors["timeout"].count, r.sockets), (2, 2), "{r:?}");
    // HTTP/1.1 at a server that speaks HTTP/2 only.
    let r = load(settings(server(true).await, "/", Protocol::Http11), 1, 1).await;
    assert_eq!(r.errors.values().map(|s| s.count).sum::<u64>(), 1, "{r:?}");
}

#[tokio::test]
async fn through_a_proxy_the_whole_url_is_sent() {
    let at = server(false).await;
    let there =
        Settings { proxy: Some(at.to_string()), ..settings("192.0.2.1:1".parse().unwrap(), "/x", Protocol::Http11) };
    assert_eq!(count(&load(there, 1, 1).await, "200"), 1);
    let uri = "https://x/".parse().unwrap();
    let wrong = Settings { uri, proxy: Some(at.to_string()), ..settings(at, "/", Protocol::Http11) };
    assert!(callers(wrong, 1, &Sockets::default()).err().unwrap().contains("https"));
}

#[tokio::test]
async fn tls_that_does_not_come_about_is_an_error_of_its_own() {
    let at = server(false).await;
    let tls = TlsSettings { insecure: true, ..TlsSettings::default() };
    let uri: ::http::Uri = format!("https://name.test:{}/", at.port()).parse().unwrap();
    let there = Settings { uri, resolve: Some(at.ip()), tls, ..settings(at, "/", Protocol::Http11) };
    let r = load(there.clone(), 1, 2).await;
    assert_eq!(r.errors["tls"].count, 2, "{r:?}");
    let tls = TlsSettings { authorities: Some("/nowhere/ca.pem".into()), ..TlsSettings::default() };
    let error = callers(Settings { tls, ..there }, 1, &Sockets::default()).err().unwrap();
    assert!(error.contains("/nowhere/ca.pem"), "{error}");
}
