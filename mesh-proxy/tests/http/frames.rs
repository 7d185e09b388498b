//! HTTP/2 byte by byte: what a well-behaved client would never send, and the settings of both sides.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::mesh::{Config, DEFAULT, Mesh, details, flags};
use crate::row::{Answer, GET};
use crate::upstream::{Up, Upstream};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
/// `END_STREAM`, `END_HEADERS`.
const END: u8 = 1;
const WHOLE: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Header lines as HPACK literals without compression.
fn lines(list: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in list {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "short enough for one byte of length");
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// The next frame: kind, stream, payload.
async fn next(io: &mut (impl AsyncRead + Unpin)) -> Option<(u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    let patience = std::time::Duration::from_secs(5);
    tokio::time::timeout(patience, io.read_exact(&mut head)).await.expect("a frame, or the end").ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    io.read_exact(&mut payload).await.ok()?;
    Some((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
}

/// The payload of the next frame of this kind.
async fn of_kind(io: &mut (impl AsyncRead + Unpin), kind: u8) -> Vec<u8> {
    loop {
        match next(io).await {
            Some((of, _, payload)) if of == kind => return payload,
            Some(_) => {}
            None => panic!("the connection ended without a frame of kind {kind}"),
        }
    }
}

fn setting(settings: &[u8], id: u16) -> Option<u32> {
    let found = settings.chunks(6).find(|s| u16::from_be_bytes([s[0], s[1]]) == id)?;
    Some(u32::from_be_bytes([found[2], found[3], found[4], found[5]]))
}

async fn opened(mesh: &Mesh) -> TcpStream {
    let mut io = mesh.connect().await;
    io.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    io
}

const GOOD: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "up.example"), (":path", "/x")];

#[tokio::test]
async fn q1_settings() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = Config { protocol: "HTTP2", ..DEFAULT };
    let mesh = Mesh::start(&config, Some(upstream.local_addr().unwrap())).await;
    let mut client = opened(&mesh).await;
    let ours = of_kind(&mut client, SETTINGS).await;
    // Unsaid: a table of 4096 bytes, no extended CONNECT.
    assert_eq!([1, 8].map(|id| setting(&ours, id)), [None, None]);
    assert_eq!([3, 4].map(|id| setting(&ours, id)), [Some(1024), Some(16 << 20)]);
    client.write_all(&frame(HEADERS, END | WHOLE, 1, &lines(&GOOD))).await.unwrap();
    let (mut io, _) = upstream.accept().await.unwrap();
    io.read_exact(&mut [0; PREFACE.len()]).await.unwrap();
    let ours = of_kind(&mut io, SETTINGS).await;
    assert_eq!([1, 8].map(|id| setting(&ours, id)), [None, None]);
    assert_eq!([2, 4].map(|id| setting(&ours, id)), [Some(0), Some(16 << 20)]);
}

#[tokio::test]
async fn q3_and_q4_malformed_requests_cost_their_stream_only() {
    let upstream = Upstream::start(Up::Echo).await;
    let mesh = Mesh::start(&DEFAULT, upstream.at).await;
    let without = |name| GOOD.into_iter().filter(move |(n, _)| *n != name).collect::<Vec<_>>();
    let with = |line| GOOD.into_iter().chain([line]).collect::<Vec<_>>();
    for (id, request, whole) in [
        ("Q3 differs", without(":path"), false),
        ("Q3 differs", without(":scheme"), false),
        ("Q4", with(("X-Upper", "1")), true),
        ("Q4 differs", with(("connection", "x")), false),
        ("Q4 differs", with(("te", "gzip")), false),
        ("Q4 differs", with(("transfer-encoding", "chunked")), false),
        ("Q4 differs", with(("upgrade", "websocket")), false),
        ("Q4 differs", with((":path", "/y")), false),
        ("Q4 differs", without(":path").into_iter().chain([(":path", "/a b")]).collect(), false),
    ] {
        let mut client = opened(&mesh).await;
        client.write_all(&frame(HEADERS, END | WHOLE, 1, &lines(&request))).await.unwrap();
        let kind = if whole { GOAWAY } else { RESET };
        let payload = of_kind(&mut client, kind).await;
        assert!(payload.ends_with(&1u32.to_be_bytes()), "{id}: PROTOCOL_ERROR for {request:?}");
        if !whole {
            client.write_all(&frame(HEADERS, END | WHOLE, 3, &lines(&GOOD))).await.unwrap();
            assert_eq!(of_kind(&mut client, HEADERS).await[0], 0x88, "{id}: the next one is served");
        }
    }
    let mut client = opened(&mesh).await;
    client.write_all(&frame(HEADERS, END | WHOLE, 1, &lines(&without(":authority")))).await.unwrap();
    assert_eq!(of_kind(&mut client, HEADERS).await[0], 0x8c, "Q3 differs: 400");
}

#[tokio::test]
async fn q5_too_many_headers() {
    let upstream = Upstream::start(Up::Echo).await;
    let mut mesh = Mesh::start(&DEFAULT, upstream.at).await;
    let many: Vec<_> = GOOD.into_iter().chain(std::iter::repeat_n(("x-a", "1"), 100)).collect();
    let mut client = opened(&mesh).await;
    client.write_all(&frame(HEADERS, END | WHOLE, 1, &lines(&many))).await.unwrap();
    of_kind(&mut client, HEADERS).await;
    let record = mesh.record().await;
    assert_eq!((&*flags(&record), &*details(&record)), ("DPE", "http2.too_many_headers"), "Q5 differs");
    assert_eq!(record.http.and_then(|h| h.status).map(|s| s.as_u16()), Some(431), "Q5 differs");
    let value = "v".repeat(120);
    let large: Vec<_> = GOOD.into_iter().chain(std::iter::repeat_n(("x-a", &*value), 90)).collect();
    let (first, rest) = (lines(&large), lines(&large[4..]));
    let parts = [rest.clone(), rest.clone(), rest.clone(), rest.clone(), rest.clone(), rest];
    client.write_all(&frame(HEADERS, END, 3, &first)).await.unwrap();
    for (i, part) in parts.iter().enumerate() {
        let last = if i + 1 == parts.len() { WHOLE } else { 0 };
        client.write_all(&frame(9, last, 3, part)).await.unwrap();
    }
    of_kind(&mut client, HEADERS).await;
    assert_eq!(upstream.requests(), 0, "Q5");
}

#[tokio::test]
async fn q6_a_body_of_another_length_than_announced() {
    let upstream = Upstream::start(Up::Silent).await;
    let mut mesh = Mesh::start(&DEFAULT, upstream.at).await;
    let mut post = GOOD.to_vec();
    post[0].1 = "POST";
    post.push(("content-length", "5"));
    let mut client = opened(&mesh).await;
    client.write_all(&frame(HEADERS, WHOLE, 1, &lines(&post))).await.unwrap();
    client.write_all(&frame(DATA, END, 1, b"abc")).await.unwrap();
    assert_eq!(of_kind(&mut client, RESET).await, 1u32.to_be_bytes(), "Q6");
    let record = mesh.record().await;
    assert_eq!((&*flags(&record), &*details(&record)), ("DPE", "http2.remote_reset"), "Q6");
}

#[tokio::test]
async fn q9_no_settings_after_the_preface() {
    let mesh = Mesh::start(&DEFAULT, None).await;
    let mut client = mesh.connect().await;
    client.write_all(&[PREFACE, &frame(HEADERS, END | WHOLE, 1, &lines(&GOOD))].concat()).await.unwrap();
    let goaway = of_kind(&mut client, GOAWAY).await;
    assert_eq!(goaway[4..8], 1u32.to_be_bytes(), "Q9: {goaway:?}");
}

#[tokio::test]
async fn p6_a_websocket_to_an_http2_upstream() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = Config { protocol: "HTTP2", ..DEFAULT };
    let mut mesh = Mesh::start(&config, Some(listener.local_addr().unwrap())).await;
    let upstream = tokio::spawn(async move {
        let (io, _) = listener.accept().await.unwrap();
        let mut builder = h2::server::Builder::new();
        let mut connection = builder.enable_connect_protocol().handshake::<_, bytes::Bytes>(io).await.unwrap();
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        tokio::spawn(async move { while connection.accept().await.is_some() {} });
        let protocol = request.extensions().get::<h2::ext::Protocol>().map(|p| p.as_str().to_owned());
        let (head, mut body) = request.into_parts();
        let response = http::Response::builder().header("sec-websocket-accept", "a").body(()).unwrap();
        let mut sent = respond.send_response(response, false).unwrap();
        let data = body.data().await.unwrap().unwrap();
        sent.send_data(data, true).unwrap();
        (head, protocol)
    });
    let mut client = mesh.connect().await;
    let upgrade =
        GET.replace("\r\n\r\n", "\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: k\r\n\r\n");
    client.write_all(upgrade.as_bytes()).await.unwrap();
    let answer = Answer::read(&mut client, false).await;
    assert_eq!(answer.status, "101 Switching Protocols", "P6: {answer:?}");
    assert_eq!((answer.header("upgrade"), answer.header("sec-websocket-accept")), (Some("websocket"), Some("a")), "P6");
    client.write_all(b"ping").await.unwrap();
    let mut back = [0; 4];
    client.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"ping", "P6");
    let (head, protocol) = upstream.await.unwrap();
    assert_eq!((head.method.as_str(), protocol.as_deref()), ("CONNECT", Some("websocket")), "P6");
    assert_eq!(head.uri.to_string(), "http://up.example/x", "P6");
    drop(client);
    assert_eq!(mesh.record().await.http.and_then(|h| h.status).map(|s| s.as_u16()), Some(101), "P6");
}
