//! What is open when policies change: what they let in goes on, what they would refuse ends, however long it was meant to
//! last.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::certificates::{Ca, TlsClient};
use crate::mesh::{Mesh, flags};
use crate::running::{Running, plain_upstream, routes, yaml};

fn authorization(spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: x, namespace: default}}\nspec: \
         {{selector: {{matchLabels: {{app: server}}}}, {spec}}}\n"
    )
}

fn deny(path: &str) -> String {
    authorization(&format!("action: DENY, rules: [{{to: [{{operation: {{paths: ['{path}']}}}}]}}]"))
}

const DENIED: &str = "rbac_access_denied_matched_policy[ns[default]-policy[x]-rule[0]]";
const WEBSOCKET: &str = "GET /ws HTTP/1.1\r\nhost: server\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
const EVENTS: &str = "GET /events HTTP/1.1\r\nhost: server\r\naccept: text/event-stream\r\n\r\n";

/// Speaks a WebSocket's bytes back, and sends one event and then nothing.
async fn application() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let head = head(&mut stream).await;
                if head.starts_with("GET /ws") {
                    let switch =
                        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
                    stream.write_all(switch.as_bytes()).await.unwrap();
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                } else {
                    let events = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: \
                                  chunked\r\n\r\n1\r\na\r\n";
                    stream.write_all(events.as_bytes()).await.unwrap();
                    let _ = stream.read_u8().await;
                }
            });
        }
    });
    at
}

async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn open(mesh: &Mesh, request: &str) -> (TcpStream, String) {
    let mut stream = mesh.client.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = head(&mut stream).await;
    (stream, head)
}

async fn echo(stream: &mut TcpStream) -> bool {
    let mut back = [0; 4];
    stream.write_all(b"ping").await.is_ok() && stream.read_exact(&mut back).await.is_ok_and(|_| &back == b"ping")
}

/// How a server's sidecar logs what it has ended.
async fn logged(mesh: &mut Mesh) -> String {
    let record = mesh.server.record().await;
    record.cx.details.get().cloned().unwrap_or_else(|| flags(&record))
}

#[tokio::test]
async fn websockets_end_when_their_path_is_denied() {
    let mut mesh = Mesh::start("HTTP", application().await, "").await;
    let (mut stream, head) = open(&mesh, WEBSOCKET).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(echo(&mut stream).await);
    for fine in [deny("/other"), authorization("rules: [{to: [{operation: {paths: ['/w*']}}]}]")] {
        mesh.configure(&fine);
        assert!(echo(&mut stream).await, "{fine}");
    }
    mesh.configure(&deny("/ws"));
    assert!(!matches!(stream.read(&mut [0; 1]).await, Ok(n) if n > 0), "it has ended");
    assert_eq!(logged(&mut mesh).await, DENIED);
    let (_, head) = open(&mesh, WEBSOCKET).await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
}

/// By who asks, too; and what the own sidecar says of where it may go.
#[tokio::test]
async fn websockets_end_with_the_right_to_have_them() {
    let by =
        |account: &str| authorization(&format!("rules: [{{from: [{{source: {{serviceAccounts: [{account}]}}}}]}}]"));
    let mut mesh = Mesh::start("HTTP", application().await, &by("client")).await;
    let (mut stream, _) = open(&mesh, WEBSOCKET).await;
    assert!(echo(&mut stream).await);
    mesh.configure(&by("other"));
    assert!(!matches!(stream.read(&mut [0; 1]).await, Ok(n) if n > 0));
    assert_eq!(logged(&mut mesh).await, "rbac_access_denied_matched_policy[none]");

    mesh.configure("");
    let (mut stream, _) = open(&mesh, WEBSOCKET).await;
    assert!(echo(&mut stream).await);
    mesh.configure(
        "apiVersion: policy.mesh.local/v1\nkind: EgressPolicy\nmetadata: {name: sites, namespace: default}\nspec: \
         {rules: [{to: [{operation: {hosts: [other.example]}}]}]}\n",
    );
    assert!(!matches!(stream.read(&mut [0; 1]).await, Ok(n) if n > 0));
}

#[tokio::test]
async fn event_streams_are_cut_off() {
    let mut mesh = Mesh::start("HTTP", application().await, "").await;
    let (mut stream, head) = open(&mesh, EVENTS).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    mesh.configure(&deny("/other"));
    stream.read_exact(&mut [0; 6]).await.unwrap();
    mesh.configure(&deny("/events"));
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "nobody may take it for a regular end: {rest:?}");
    assert_eq!(logged(&mut mesh).await, DENIED);
}

type Events = StreamBody<UnboundedReceiverStream<Result<Frame<Bytes>, Infallible>>>;

/// Answers `/s.S/Watch` with a message and no end, and `/s.S/Wait` not at all.
async fn watcher() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(async |request: http::Request<Incoming>| {
                if request.uri().path() == "/s.S/Wait" {
                    return std::future::pending().await;
                }
                let (send, events) = mpsc::unbounded_channel();
                send.send(Ok(Frame::data(Bytes::from_static(b"\0\0\0\0\0")))).unwrap();
                tokio::spawn(async move { send.closed().await });
                let body: Events = StreamBody::new(UnboundedReceiverStream::new(events));
                let answer = http::Response::builder().header(CONTENT_TYPE, "application/grpc").body(body).unwrap();
                Ok::<_, Infallible>(answer)
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    at
}

#[tokio::test]
async fn grpc_streams_end_with_a_status_and_their_connection_goes_on() {
    let mesh = Mesh::start("GRPC", watcher().await, "").await;
    let io = TokioIo::new(mesh.client.connect().await);
    let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let mut call = |path: &str| {
        let request = http::Request::post(format!("http://server{path}")).header(CONTENT_TYPE, "application/grpc");
        client.send_request(request.body(Empty::<Bytes>::new()).unwrap())
    };
    let mut first = call("/s.S/Watch").await.unwrap().into_body();
    let mut other = call("/t.T/Watch").await.unwrap().into_body();
    let waiting = tokio::spawn(call("/s.S/Wait"));
    for stream in [&mut first, &mut other] {
        assert!(stream.frame().await.unwrap().unwrap().is_data());
    }
    // What waits has to have arrived: it is the third request of three.
    while mesh.server.in_flight() < 3 {
        tokio::task::yield_now().await;
    }
    mesh.configure(&deny("/s.S/*"));
    let trailers = first.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(
        (&trailers["grpc-status"], &trailers["grpc-message"]),
        (&"7".parse().unwrap(), &"RBAC: access denied".parse().unwrap())
    );
    let refused = waiting.await.unwrap().unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["grpc-status"]), (200, &"7".parse().unwrap()));
    let mut again = call("/t.T/Watch").await.unwrap().into_body();
    assert!(again.frame().await.unwrap().unwrap().is_data(), "the connection is there");
    mesh.configure(&deny("/t.T/*"));
    for mut stream in [other, again] {
        assert!(stream.frame().await.unwrap().unwrap().is_trailers());
    }
}

/// A gateway's server that begins to want certificates does not go on with those who have shown none.
#[tokio::test]
async fn gateways_close_connections_that_new_settings_would_refuse() {
    let ca = Ca::new("ca");
    let leaf = ca.leaf(&["a.example.com"]);
    let up = plain_upstream().await;
    let servers = |tls: &str| {
        let port = "{number: 443, name: https, protocol: HTTPS}";
        let servers = format!("  - {{port: {port}, hosts: [a.example.com], tls: {{{tls}}}}}");
        yaml(&servers, up, &routes("a.example.com"))
    };
    let gateway = Running::start(&servers("mode: SIMPLE, credentialName: a"), 443).await;
    gateway.deliver("a", leaf.material());
    let client = TlsClient::new(&ca, "a.example.com");
    let ask = b"GET /x HTTP/1.1\r\nhost: a.example.com\r\n\r\n";
    let mut open = client.connect(gateway.connect().await).await.unwrap();
    let mut answer = [0; 15];
    open.write_all(ask).await.unwrap();
    open.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    // Another version of TLS is for those who come.
    gateway.configure(&servers("mode: SIMPLE, credentialName: a, minProtocolVersion: TLSV1_3"));
    open.write_all(ask).await.unwrap();
    let mut rest = vec![0; 256];
    let mut seen = String::new();
    while !seen.contains("HTTP/1.1 200 OK") {
        let n = open.read(&mut rest).await.unwrap();
        assert!(n > 0, "it is closed: {seen}");
        seen += &String::from_utf8_lossy(&rest[..n]);
    }
    gateway.configure(&servers("mode: MUTUAL, credentialName: a, minProtocolVersion: TLSV1_3"));
    gateway.deliver_roots("a", ca.roots());
    let mut rest = Vec::new();
    let _ = open.read_to_end(&mut rest).await;
    let shows = TlsClient { shows: Some(&leaf), ..TlsClient::new(&ca, "a.example.com") };
    let mut open = shows.connect(gateway.connect().await).await.unwrap();
    open.write_all(ask).await.unwrap();
    open.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

impl crate::mesh::Sidecar {
    /// Requests and streams that are under way.
    fn in_flight(&self) -> usize {
        self.shared.inbound.in_flight()
    }
}
