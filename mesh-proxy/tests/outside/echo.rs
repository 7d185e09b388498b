//! Upstreams that note what they get and do what a request's `x-do` says.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mesh_tls::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::secrets::Certificates;

/// A request as an upstream got it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: SocketAddr,
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) host: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) http2: bool,
    /// What came on the connection before.
    pub(crate) before: Before,
}

/// What a connection begins with before requests come.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Before {
    /// Version of a PROXY header.
    pub(crate) proxy_header: Option<&'static str>,
    /// Where a tunnel was asked for.
    pub(crate) tunnel: Option<String>,
    /// TLS, with the server's name if the client asked for one.
    pub(crate) tls: Option<Option<String>>,
    /// The certificate that the client showed.
    pub(crate) shown: Option<&'static str>,
    /// TLS inside of that, which a client began that knows nothing of it; with the server's name.
    pub(crate) inside: Option<Option<String>>,
}

impl Seen {
    /// All lines of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| &**v).collect()
    }

    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }
}

/// Headers of every answer, beside those that `x-do` asks for.
pub(crate) const ANSWER: [(&str, &str); 4] = [("x-u1", "one"), ("x-u2", "two"), ("x-u3", "three"), ("x-u3", "again")];

/// Running upstreams. Requests are kept by their `user-agent`.
#[derive(Clone)]
pub(crate) struct Echo(Arc<(Kept, Notify)>, Held, Arc<(Acceptor, Arc<Certificates>)>);

type Kept = Mutex<HashMap<String, Vec<Seen>>>;

/// Answers that wait are let go while this says so.
#[derive(Clone)]
struct Held(watch::Sender<bool>);

impl Default for Held {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Echo {
    /// Nothing came yet.
    pub(crate) fn new(certificates: &Arc<Certificates>) -> Self {
        Self(Arc::default(), Held::default(), Arc::new((certificates.acceptor(), certificates.clone())))
    }

    /// Listens at an address.
    pub(crate) async fn listen(&self, at: SocketAddr) {
        let listener = TcpListener::bind(at).await.unwrap_or_else(|e| panic!("{at}: {e}"));
        self.serve_all(listener);
    }

    /// Serves an open socket.
    pub(crate) fn serve_on(&self, listener: std::net::TcpListener) {
        self.serve_all(TcpListener::from_std(listener).unwrap());
    }

    fn serve_all(&self, listener: TcpListener) {
        let (echo, at) = (self.clone(), listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let echo = echo.clone();
                // A connection that a test's end cuts is no failure.
                tokio::spawn(async move { drop(echo.serve(stream, at).await) });
            }
        });
    }

    /// Lets the answers go that wait, until what waits for them is done.
    pub(crate) async fn let_go<T>(&self, done: impl Future<Output = T>) -> T {
        self.1.0.send_replace(true);
        let out = done.await;
        self.1.0.send_replace(false);
        out
    }

    /// What came for a client, in order.
    pub(crate) fn take(&self, agent: &str) -> Vec<Seen> {
        self.0.0.lock().unwrap().remove(agent).unwrap_or_default()
    }

    /// The same, once there is something; nothing if nothing comes.
    pub(crate) async fn next(&self, agent: &str) -> Vec<Seen> {
        let wait = async {
            loop {
                let next = self.0.1.notified();
                let mut next = std::pin::pin!(next);
                next.as_mut().enable();
                let seen = self.take(agent);
                if !seen.is_empty() {
                    return seen;
                }
                next.await;
            }
        };
        timeout(Duration::from_secs(20), wait).await.unwrap_or_default()
    }

    fn note(&self, seen: Seen) -> Do {
        let todo = Do::of(seen.one("x-do").unwrap_or_default());
        let agent = seen.one("user-agent").unwrap_or_default().to_owned();
        self.0.0.lock().unwrap().entry(agent).or_default().push(seen);
        self.0.1.notify_waiters();
        todo
    }

    async fn serve(&self, mut stream: TcpStream, at: SocketAddr) -> std::io::Result<()> {
        let mut before = Before::default();
        loop {
            let first = peek(&stream, 4).await?;
            match &first[..] {
                b"PROX" => {
                    take_until(&mut stream, b"\r\n").await?;
                    before.proxy_header = Some("V1");
                }
                b"\r\n\r\n" => {
                    let mut head = [0; 16];
                    stream.read_exact(&mut head).await?;
                    let rest = usize::from(u16::from_be_bytes([head[14], head[15]]));
                    stream.read_exact(&mut vec![0; rest]).await?;
                    before.proxy_header = Some("V2");
                }
                b"CONN" => {
                    let head = take_until(&mut stream, b"\r\n\r\n").await?;
                    before.tunnel = head.split(' ').nth(1).map(str::to_owned);
                    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                }
                [0x16, ..] => {
                    before.tls = Some(server_name(&stream).await?);
                    let (acceptor, certificates) = &*self.2;
                    let stream = acceptor.accept(stream).await.map_err(std::io::Error::other)?;
                    before.shown = certificates.called(stream.info());
                    let http2 = &*stream.info().alpn == "h2";
                    return self.speak(Box::new(stream), http2, (at, before)).await;
                }
                other => {
                    let http2 = other == b"PRI ";
                    return self.speak(Box::new(stream), http2, (at, before)).await;
                }
            }
        }
    }

    async fn speak(&self, stream: Box<dyn Stream>, http2: bool, from: (SocketAddr, Before)) -> std::io::Result<()> {
        if http2 { self.http2(stream, &from).await } else { self.http1(stream, from).await }
    }

    /// TLS inside of TLS, of which these bytes came already.
    async fn inside(
        &self,
        mut stream: Box<dyn Stream>,
        mut got: Vec<u8>,
        (at, mut before): (SocketAddr, Before),
    ) -> std::io::Result<()> {
        while got.len() < 5 || got.len() < 5 + usize::from(u16::from_be_bytes([got[3], got[4]])) {
            if stream.read_buf(&mut got).await? == 0 {
                return Ok(());
            }
        }
        before.inside = Some(name_in(&got));
        let (rest, writer) = tokio::io::split(stream);
        let stream = tokio::io::join(std::io::Cursor::new(got).chain(rest), writer);
        let stream = self.2.0.accept(stream).await.map_err(std::io::Error::other)?;
        let http2 = &*stream.info().alpn == "h2";
        self.speak(Box::new(stream), http2, (at, before)).await
    }

    async fn http1(&self, mut stream: Box<dyn Stream>, mut from: (SocketAddr, Before)) -> std::io::Result<()> {
        let mut got = Vec::new();
        loop {
            let end = loop {
                if got.first() == Some(&0x16) {
                    return Box::pin(self.inside(stream, got, from)).await;
                }
                if let Some(end) = got.windows(4).position(|w| w == b"\r\n\r\n") {
                    break end;
                }
                if stream.read_buf(&mut got).await? == 0 {
                    return Ok(());
                }
            };
            let head = String::from_utf8_lossy(&got[..end]).into_owned();
            got.drain(..end + 4);
            let seen = parse(&head, &from);
            if seen.method == "CONNECT" {
                // Inside of TLS a tunnel is asked for like this.
                from.1.tunnel = Some(seen.target);
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                stream.flush().await?;
                continue;
            }
            let length = seen.one("content-length").map_or(0, |l| l.parse().unwrap());
            while got.len() < length {
                if stream.read_buf(&mut got).await? == 0 {
                    return Ok(());
                }
            }
            got.drain(..length);
            let to_head = seen.method == "HEAD";
            let todo = self.note(seen);
            let (status, headers, body) = match todo {
                Do::Close => return Ok(()),
                Do::Hang => {
                    stream.read_buf(&mut got).await?;
                    return Ok(());
                }
                Do::Hold => {
                    drop(self.1.0.subscribe().wait_for(|go| *go).await);
                    (200, Vec::new(), String::new())
                }
                Do::Answer(status, headers, body) => (status, headers, body),
            };
            let mut text = format!("HTTP/1.1 {status} Whatever\r\n");
            for (name, value) in headers {
                text += &format!("{name}: {value}\r\n");
            }
            if status != 204 && status != 304 {
                text += &format!("content-length: {}\r\n", body.len());
            }
            text += "\r\n";
            if !to_head && status != 204 && status != 304 {
                text += &body;
            }
            stream.write_all(text.as_bytes()).await?;
            stream.flush().await?;
        }
    }

    async fn http2<S: Stream>(&self, stream: S, (at, before): &(SocketAddr, Before)) -> std::io::Result<()> {
        let mut connection = h2::server::handshake(stream).await.map_err(std::io::Error::other)?;
        while let Some(request) = connection.accept().await {
            let (request, mut respond) = request.map_err(std::io::Error::other)?;
            let (head, mut body) = request.into_parts();
            let text = |v: &http::HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
            let seen = Seen {
                at: *at,
                method: head.method.to_string(),
                target: head.uri.path_and_query().map_or("", |p| p.as_str()).to_owned(),
                host: head.uri.authority().map_or("", |a| a.as_str()).to_owned(),
                headers: head.headers.iter().map(|(n, v)| (n.to_string(), text(v))).collect(),
                http2: true,
                before: before.clone(),
            };
            let (echo, to_head) = (self.clone(), head.method == http::Method::HEAD);
            tokio::spawn(async move {
                while let Some(Ok(data)) = body.data().await {
                    let _ = body.flow_control().release_capacity(data.len());
                }
                match echo.note(seen) {
                    Do::Close => respond.send_reset(h2::Reason::INTERNAL_ERROR),
                    Do::Hang | Do::Hold => {
                        let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
                    }
                    Do::Answer(status, headers, body) => {
                        let mut response = http::Response::builder().status(status);
                        for (name, value) in headers {
                            response = response.header(name, value);
                        }
                        let response = response.body(()).unwrap();
                        let body = if to_head { String::new() } else { body };
                        if let Ok(mut stream) = respond.send_response(response, body.is_empty()) {
                            let _ = stream.send_data(Bytes::from(body), true);
                        }
                    }
                }
            });
        }
        Ok(())
    }
}

fn parse(head: &str, (at, before): &(SocketAddr, Before)) -> Seen {
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (first.next().unwrap_or_default().to_owned(), first.next().unwrap_or_default().to_owned());
    let pair = |l: &str| l.split_once(':').map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()));
    let headers: Vec<_> = lines.filter_map(pair).collect();
    let host = headers.iter().find(|(n, _)| n == "host").map(|(_, v)| v.clone()).unwrap_or_default();
    Seen { at: *at, method, target, host, headers, http2: false, before: before.clone() }
}

/// A connection after what comes before requests.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// The first bytes, which stay; fewer if the connection ends.
async fn peek(stream: &TcpStream, length: usize) -> std::io::Result<Vec<u8>> {
    let mut first = vec![0; length];
    loop {
        match stream.peek(&mut first).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            got if got == length => return Ok(first),
            _ => tokio::task::yield_now().await,
        }
    }
}

async fn take_until(stream: &mut TcpStream, end: &[u8]) -> std::io::Result<String> {
    let mut got = Vec::new();
    while !got.ends_with(end) {
        got.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&got).into_owned())
}

/// The name that a ClientHello asks for (RFC 8446, 4.1.2, and RFC 6066, 3).
async fn server_name(stream: &TcpStream) -> std::io::Result<Option<String>> {
    let head = peek(stream, 5).await?;
    let hello = peek(stream, 5 + usize::from(u16::from_be_bytes([head[3], head[4]]))).await?;
    Ok(name_in(&hello))
}

fn name_in(hello: &[u8]) -> Option<String> {
    let short = |at: usize| hello.get(at..at + 2).map(|b| usize::from(u16::from_be_bytes([b[0], b[1]])));
    let byte = |at: usize| hello.get(at).copied().map(usize::from);
    // Session id, cipher suites, compression methods, extensions.
    let mut at = 5 + 4 + 2 + 32;
    at += 1 + byte(at)?;
    at += 2 + short(at)?;
    at += 1 + byte(at)? + 2;
    loop {
        let (kind, length) = (short(at)?, short(at + 2)?);
        if kind == 0 {
            return hello.get(at + 9..at + 4 + length).map(|name| String::from_utf8_lossy(name).into_owned());
        }
        at += 4 + length;
    }
}

/// What an upstream does with a request.
enum Do {
    Answer(u16, Vec<(&'static str, String)>, String),
    Close,
    Hang,
    /// Answers when it is let go.
    Hold,
}

impl Do {
    fn of(text: &str) -> Self {
        let mut headers: Vec<_> = ANSWER.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
        match text.split_once('=') {
            None if text == "close" => Self::Close,
            None if text == "hang" => Self::Hang,
            None if text == "hold" => Self::Hold,
            Some(("status", code)) => Self::Answer(code.parse().unwrap(), headers, "as you wish".into()),
            Some(("grpc", code)) => {
                headers.push(("grpc-status", code.to_owned()));
                Self::Answer(200, headers, String::new())
            }
            _ => Self::Answer(200, headers, "hello".into()),
        }
    }
}
