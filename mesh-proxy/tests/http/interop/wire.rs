//! HTTP/1 as applications speak it: chunks and trailers, `Expect: 100-continue`, connections that are kept, HTTP/1.0.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::way::{Path, WAYS};
use crate::row::Answer;
use crate::settings::proxy_config;

/// An application that answers in chunks, with a trailer: the request's target, and its body as it came. It says that a
/// body may come where that is asked, unless the target is `/refused`.
pub(super) async fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    at
}

async fn serve(mut stream: TcpStream) -> Option<()> {
    let mut got = Vec::new();
    loop {
        let head = until(&mut stream, &mut got, b"\r\n\r\n").await?;
        let line = head.lines().next()?.to_owned();
        let head = head.to_ascii_lowercase();
        if head.contains("\r\nexpect: 100-continue\r\n") {
            if line.contains(" /refused ") {
                stream.write_all(b"HTTP/1.1 417 Expectation Failed\r\ncontent-length: 2\r\n\r\nno").await.ok()?;
                continue;
            }
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
        }
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let body = match length {
            _ if head.contains("\r\ntransfer-encoding: chunked\r\n") => chunks(&mut stream, &mut got).await?,
            length => exactly(&mut stream, &mut got, length.unwrap_or(0)).await?,
        };
        let (size, rest) = (line.len(), body.len());
        let answer = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
             {size:x}\r\n{line}\r\n{rest:x}\r\n{body}\r\n"
        );
        // A chunk of nothing would be the last one.
        let answer = if rest == 0 { answer.replace("\r\n0\r\n\r\n", "\r\n") } else { answer };
        stream.write_all(answer.as_bytes()).await.ok()?;
        stream.write_all(b"0\r\nx-sum: 7\r\n\r\n").await.ok()?;
    }
}

async fn until(stream: &mut TcpStream, got: &mut Vec<u8>, end: &[u8]) -> Option<String> {
    loop {
        if let Some(at) = got.windows(end.len()).position(|w| w == end) {
            let text: Vec<u8> = got.drain(..at + end.len()).collect();
            return String::from_utf8(text).ok();
        }
        if stream.read_buf(got).await.ok()? == 0 {
            return None;
        }
    }
}

async fn exactly(stream: &mut TcpStream, got: &mut Vec<u8>, length: usize) -> Option<String> {
    while got.len() < length {
        if stream.read_buf(got).await.ok()? == 0 {
            return None;
        }
    }
    String::from_utf8(got.drain(..length).collect()).ok()
}

/// A body in chunks, with its trailers.
async fn chunks(stream: &mut TcpStream, got: &mut Vec<u8>) -> Option<String> {
    let mut body = String::new();
    loop {
        let size = until(stream, got, b"\r\n").await?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            let mut line = until(stream, got, b"\r\n").await?;
            while line != "\r\n" {
                body += &format!("[{}]", line.trim());
                line = until(stream, got, b"\r\n").await?;
            }
            return Some(body);
        }
        body += &exactly(stream, got, size).await?;
        until(stream, got, b"\r\n").await?;
    }
}

/// Several requests over one connection.
pub(super) async fn exercise(at: SocketAddr) {
    let mut client = TcpStream::connect(at).await.unwrap();
    let mut got = Vec::new();
    let ask = |target: &str, headers: &str| format!("POST {target} HTTP/1.1\r\nhost: up.example\r\n{headers}\r\n");

    let plain = ask("/plain", "content-length: 5\r\n") + "hello";
    client.write_all(plain.as_bytes()).await.unwrap();
    let answer = Answer::read_next(&mut client, &mut got, false).await;
    assert_eq!((&*answer.status, &*answer.body), ("200 OK", "POST /plain HTTP/1.1hello"));
    assert_eq!(
        (answer.header("transfer-encoding"), answer.cut, got.len()),
        (Some("chunked"), false, 0),
        "O26: no trailers"
    );

    // In pieces, each of which may be the last for some time.
    let pieces =
        ["transfer-encoding: chunked\r\ntrailer: x-t\r\n", "3\r\nabc\r\n", "4\r\ndefg\r\n", "0\r\nx-t: 1\r\n\r\n"];
    client.write_all(ask("/chunked", pieces[0]).as_bytes()).await.unwrap();
    for piece in &pieces[1..] {
        client.write_all(piece.as_bytes()).await.unwrap();
        client.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    let answer = Answer::read_next(&mut client, &mut got, false).await;
    assert_eq!(answer.body, "POST /chunked HTTP/1.1abcdefg", "O26: without trailers, and whole");

    client.write_all(ask("/waits", "content-length: 4\r\nexpect: 100-continue\r\n").as_bytes()).await.unwrap();
    let interim = crate::row::take_until(&mut client, &mut got, b"\r\n\r\n").await.expect("an interim response");
    assert!(interim.starts_with("HTTP/1.1 100 Continue\r\n"), "{interim}");
    client.write_all(b"body").await.unwrap();
    let answer = Answer::read_next(&mut client, &mut got, false).await;
    assert_eq!((&*answer.status, &*answer.body), ("200 OK", "POST /waits HTTP/1.1body"));

    client.write_all(ask("/refused", "content-length: 4\r\nexpect: 100-continue\r\n").as_bytes()).await.unwrap();
    let answer = Answer::read_next(&mut client, &mut got, false).await;
    assert_eq!((&*answer.status, &*answer.body, answer.interim.len()), ("417 Expectation Failed", "no", 0));
}

#[tokio::test]
async fn chunks_trailers_and_expectations() {
    let app = start().await;
    for way in WAYS {
        let mut path = Path::new(way, "HTTP", app, "").await;
        exercise(path.at).await;
        for target in ["/plain", "/chunked", "/waits", "/refused"] {
            let record = path.proxies[0].record().await;
            assert_eq!(record.path(), target, "{way:?}");
        }
    }
}

#[tokio::test]
async fn http10_only_where_it_is_enabled() {
    const ENABLED: &str = proxy_config!("{proxyMetadata: {ISTIO_META_HTTP10: '1'}}");
    let app = start().await;
    for way in WAYS {
        for (extra, status, body) in [
            ("", "HTTP/1.1 426 Upgrade Required\r\n", "Upgrade Required"),
            (ENABLED, "HTTP/1.0 200 OK\r\n", "GET /x HTTP/1.1"),
        ] {
            let path = Path::new(way, "HTTP", app, extra).await;
            let mut client = TcpStream::connect(path.at).await.unwrap();
            client.write_all(b"GET /x HTTP/1.0\r\nhost: up.example\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with(status) && answer.ends_with(&format!("\r\n\r\n{body}")), "{way:?}: {answer}");
        }
    }
}
