//! Upstreams that do as they are told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What an upstream does with each request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Up {
    /// No endpoint at all.
    None,
    /// A port where nobody listens.
    Refused,
    /// Answers 200 with the request's head and body as it came.
    Echo,
    /// Answers this, and waits for the next request.
    Reply(&'static str),
    /// Answers this and closes.
    Last(&'static str),
    /// Answers this and resets the connection.
    Abort(&'static str),
    /// Answers this when a head has come, whatever of the body has.
    Early(&'static str),
    /// Never answers.
    Silent,
    /// Answers this once the body has come, then sends back what it gets.
    Tunnel(&'static str),
    /// HTTP/2: resets each stream with this code.
    Reset(Reason),
    /// HTTP/2: answers 200 and a part of the body, then resets.
    ResetAfterHead(Reason),
    /// HTTP/2: closes the connection on a request.
    Close,
    /// HTTP/2: answers 200 with the request's head.
    Echo2,
}

/// A running upstream.
pub(crate) struct Upstream {
    pub(crate) at: Option<SocketAddr>,
    requests: Arc<AtomicUsize>,
    asked: Arc<Notify>,
}

impl Upstream {
    pub(crate) async fn start(up: Up) -> Self {
        let (requests, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        match up {
            Up::None => return Self { at: None, requests, asked },
            Up::Refused => return Self { at: Some(at), requests, asked },
            _ => {}
        }
        let (counter, tell) = (Arc::clone(&requests), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (counter, tell) = (Arc::clone(&counter), Arc::clone(&tell));
                match up {
                    Up::Reset(_) | Up::ResetAfterHead(_) | Up::Close | Up::Echo2 => {
                        tokio::spawn(http2(stream, up, counter))
                    }
                    _ => tokio::spawn(http1(stream, up, counter, tell)),
                };
            }
        });
        Self { at: Some(at), requests, asked }
    }

    /// Waits until it has got a request.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Requests that it got.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

async fn http1(mut stream: TcpStream, up: Up, requests: Arc<AtomicUsize>, asked: Arc<Notify>) {
    let mut got = Vec::new();
    loop {
        while !is_complete(&got, matches!(up, Up::Early(_))) {
            if stream.read_buf(&mut got).await.unwrap_or(0) == 0 {
                return;
            }
        }
        requests.fetch_add(1, Ordering::Relaxed);
        asked.notify_one();
        let answer = match up {
            Up::Echo => {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", got.len());
                [head.as_bytes(), &got].concat()
            }
            Up::Reply(text) | Up::Early(text) | Up::Last(text) | Up::Abort(text) | Up::Tunnel(text) => {
                text.as_bytes().to_vec()
            }
            _ => Vec::new(),
        };
        got.clear();
        let _ = stream.write_all(&answer).await;
        match up {
            Up::Last(_) => return,
            Up::Abort(_) => {
                let _ = stream.set_zero_linger();
                return;
            }
            Up::Tunnel(_) => {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                return;
            }
            _ => {}
        }
    }
}

/// A head and its body have come.
fn is_complete(got: &[u8], early: bool) -> bool {
    let text = String::from_utf8_lossy(got);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    if early {
        return true;
    }
    let head = head.to_ascii_lowercase();
    if head.contains("transfer-encoding: chunked") {
        return body.ends_with("0\r\n\r\n");
    }
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse::<usize>().ok());
    body.len() >= length.unwrap_or(0)
}

async fn http2(stream: TcpStream, up: Up, requests: Arc<AtomicUsize>) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        requests.fetch_add(1, Ordering::Relaxed);
        match up {
            Up::Reset(code) => respond.send_reset(code),
            Up::ResetAfterHead(code) => {
                let mut body = respond.send_response(http::Response::new(()), false).unwrap();
                body.send_data(Bytes::from_static(b"part"), false).unwrap();
                // The data has to be out before the reset, which would overtake it.
                tokio::spawn(async move {
                    body.reserve_capacity(1 << 30);
                    let _ = std::future::poll_fn(|cx| body.poll_capacity(cx)).await;
                    body.send_reset(code);
                });
            }
            Up::Close => return,
            _ => {
                let (head, _) = request.into_parts();
                let mut text = format!("{} {} {:?}\r\n", head.method, head.uri, head.version);
                for (name, value) in &head.headers {
                    text += &format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
                }
                let mut body = respond.send_response(http::Response::new(()), false).unwrap();
                body.send_data(text.into(), true).unwrap();
            }
        }
    }
}
