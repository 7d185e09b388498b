//! One connection over HTTP/1.x or HTTP/2.

use std::error::Error as _;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue, TE};
use http::{HeaderMap, Method, Request, Uri, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_tls::{Carries, Connector, TlsError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::tls::{self, TlsSettings};
use super::{Answer, Caller, Failure, GrpcMethod};

/// What is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0: a connection for each request.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// gRPC.
    Grpc(GrpcMethod),
}

impl Protocol {
    /// As it is printed.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
            Self::Grpc(_) => "gRPC",
        }
    }

    fn is_h2(&self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc(_))
    }
}

/// What is sent where.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `http` or `https` URL.
    pub uri: Uri,
    /// Where connections go instead of to the addresses of the URL's host.
    pub resolve: Option<IpAddr>,
    /// TLS of `https`.
    pub tls: TlsSettings,
    /// An HTTP proxy that everything goes through, as `host:port`; not for `https`.
    pub proxy: Option<String>,
    /// Method; gRPC always uses POST.
    pub method: Method,
    /// Headers; `host` replaces the URL's.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// Protocol.
    pub protocol: Protocol,
    /// Use a connection for more than one request.
    pub keep_alive: bool,
    /// Longest time until an answer is complete.
    pub timeout: Duration,
}

/// Connections that were opened by all callers.
#[derive(Clone, Debug, Default)]
pub struct Sockets(Arc<AtomicU64>);

impl Sockets {
    /// So many.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Callers that share settings.
///
/// # Errors
/// The URL makes no sense; the text says what to write.
pub fn callers(settings: Settings, count: usize, sockets: &Sockets) -> Result<Vec<impl Caller + use<>>, String> {
    let url = &settings.uri;
    let example = "write for example http://productpage:9080/productpage";
    let secure = url.scheme_str() == Some("https");
    let authority = url.authority().filter(|_| secure || url.scheme_str() == Some("http"));
    let authority =
        authority.ok_or_else(|| format!("{url}: is no URL that begins with http:// or https://; {example}"))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let tls = secure.then(|| tls::connector(&settings.tls, &host)).transpose()?;
    let address = match &settings.proxy {
        Some(proxy) if secure => return Err(format!("{url}: https does not go through the proxy {proxy}")),
        None => (settings.resolve.map_or(host, |a| a.to_string()), port),
        Some(proxy) => match proxy.rsplit_once(':').map(|(h, p)| (h, p.parse())) {
            Some((host, Ok(port))) => (host.to_owned(), port),
            _ => return Err(format!("the proxy {proxy:?} is not HOST:PORT")),
        },
    };
    let request = template(&settings)?;
    let common = Arc::new(Common { settings, request, address, tls, sockets: sockets.clone() });
    Ok((0..count).map(|_| Connection { common: Arc::clone(&common), sender: None }).collect())
}

struct Common {
    settings: Settings,
    request: Request<()>,
    address: (String, u16),
    tls: Option<Connector>,
    sockets: Sockets,
}

/// The request without its body.
fn template(s: &Settings) -> Result<Request<()>, String> {
    let mut request = Request::new(());
    *request.headers_mut() = s.headers.clone();
    *request.method_mut() = s.method.clone();
    let authority = s.uri.authority().map_or("", |a| a.as_str().rsplit('@').next().unwrap_or_default());
    let host = match request.headers_mut().remove(HOST) {
        Some(host) => host,
        None => HeaderValue::try_from(authority).map_err(|e| e.to_string())?,
    };
    let path = s.uri.path_and_query().map_or("/", |p| p.as_str());
    let absolute = |path: &str| {
        let host = host.to_str().map_err(|_| format!("the host {host:?} is no text"))?;
        let scheme = s.uri.scheme_str().unwrap_or("http");
        let uri = Uri::builder().scheme(scheme).authority(host).path_and_query(path).build();
        uri.map_err(|e| format!("{host}{path}: {e}"))
    };
    match &s.protocol {
        Protocol::Http10 | Protocol::Http11 => {
            *request.uri_mut() = match s.proxy {
                Some(_) => absolute(path)?,
                None => path.parse().map_err(|e| format!("{path}: {e}"))?,
            };
            if s.protocol == Protocol::Http10 {
                *request.version_mut() = Version::HTTP_10;
            }
            if !s.keep_alive {
                request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            request.headers_mut().insert(HOST, host);
        }
        Protocol::Http2 => {
            *request.version_mut() = Version::HTTP_2;
            *request.uri_mut() = absolute(path)?;
        }
        Protocol::Grpc(method) => {
            *request.version_mut() = Version::HTTP_2;
            *request.uri_mut() = absolute(method.path())?;
            *request.method_mut() = Method::POST;
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
        }
    }
    Ok(request)
}

enum Sender {
    H1(http1::SendRequest<Full<Bytes>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

struct Connection {
    common: Arc<Common>,
    sender: Option<Sender>,
}

impl Caller for Connection {
    async fn call(&mut self) -> Result<Answer, Failure> {
        let limit = self.common.settings.timeout;
        let outcome = tokio::time::timeout(limit, self.exchange()).await.unwrap_or(Err(Failure::Timeout));
        if outcome.is_err() || !self.common.settings.keep_alive {
            self.sender = None;
        }
        outcome
    }
}

impl Connection {
    async fn exchange(&mut self) -> Result<Answer, Failure> {
        let settings = &self.common.settings;
        let body = match &settings.protocol {
            Protocol::Grpc(method) => method.message(),
            _ => settings.body.clone(),
        };
        let request = self.common.request.clone().map(|()| Full::new(body));
        let response = self.send(request).await?;
        let (head, mut body) = response.into_parts();
        let grpc = match &self.common.settings.protocol {
            Protocol::Grpc(method) => Some(method),
            _ => None,
        };
        let (mut bytes, mut start, mut trailers) = (0, BytesMut::new(), None);
        while let Some(frame) = body.frame().await {
            match frame.map_err(|e| class(&e))?.into_data() {
                Ok(data) => {
                    bytes += data.len() as u64;
                    if grpc.is_some() && start.len() < 16 {
                        start.extend_from_slice(&data);
                    }
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        let overloaded = head.headers.contains_key("x-envoy-overloaded");
        let status =
            || if grpc.is_some() { format!("HTTP {}", head.status.as_u16()) } else { head.status.as_str().into() };
        let code = grpc.and_then(|m| m.code(&head.headers, trailers.as_ref(), &start)).unwrap_or_else(status);
        Ok(Answer { code, bytes, overloaded })
    }

    /// Sends a request, on a new connection if there is none or the old one has been closed meanwhile.
    async fn send(&mut self, mut request: Request<Full<Bytes>>) -> Result<http::Response<Incoming>, Failure> {
        loop {
            let reused = self.sender.is_some();
            let mut sender = match self.sender.take() {
                Some(sender) => sender,
                None => self.connect().await?,
            };
            let sent = match &mut sender {
                Sender::H1(s) => match s.ready().await {
                    Ok(()) => s.try_send_request(request).await,
                    Err(_) if reused => continue,
                    Err(e) => return Err(class(&e)),
                },
                Sender::H2(s) => match s.ready().await {
                    Ok(()) => s.try_send_request(request).await,
                    Err(_) if reused => continue,
                    Err(e) => return Err(class(&e)),
                },
            };
            match sent {
                Ok(response) => {
                    self.sender = Some(sender);
                    return Ok(response);
                }
                // It was closed between two requests, and nothing of this one has left.
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if reused => request = unsent,
                    _ => return Err(class(&failed.into_error())),
                },
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a command-line program that is a client of the mesh")]
    async fn connect(&self) -> Result<Sender, Failure> {
        let Common { settings, address: (host, port), tls, sockets, .. } = &*self.common;
        let addresses = tokio::net::lookup_host((host.as_str(), *port)).await.map_err(|_| Failure::Resolve)?;
        let mut last = Failure::Resolve;
        for address in addresses {
            let stream = match TcpStream::connect(address).await {
                Ok(stream) => stream,
                Err(e) => {
                    last = connect_class(&e);
                    continue;
                }
            };
            sockets.0.fetch_add(1, Ordering::Relaxed);
            // Small requests are not held back; a socket that can't is used as it is.
            let _ = stream.set_nodelay(true);
            let h2 = settings.protocol.is_h2();
            let Some(connector) = tls else { return speak(stream, h2).await };
            let carries = if h2 { Carries::Http2 } else { Carries::Http1 };
            let stream = connector.connect(stream, None, carries).await.map_err(|e| tls_class(&e))?;
            return speak(stream, h2).await;
        }
        Err(last)
    }
}

/// Begins HTTP on a connection.
async fn speak<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static>(io: IO, h2: bool) -> Result<Sender, Failure> {
    let io = TokioIo::new(io);
    if h2 {
        let handshake = http2::handshake(TokioExecutor::new(), io).await;
        let (sender, connection) = handshake.map_err(|e| class(&e))?;
        tokio::spawn(connection);
        return Ok(Sender::H2(sender));
    }
    let (sender, connection) = http1::handshake(io).await.map_err(|e| class(&e))?;
    tokio::spawn(connection);
    Ok(Sender::H1(sender))
}

fn connect_class(e: &io::Error) -> Failure {
    match e.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Refused,
        io::ErrorKind::TimedOut => Failure::Timeout,
        _ => Failure::Connect,
    }
}

fn tls_class(e: &TlsError) -> Failure {
    let TlsError::Handshake(e) = e else { return Failure::Tls };
    match e.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Failure::Reset,
        io::ErrorKind::UnexpectedEof => Failure::Closed,
        _ => Failure::Tls,
    }
}

/// The class of an error on an open connection.
fn class(e: &hyper::Error) -> Failure {
    let mut source = e.source();
    while let Some(inner) = source {
        if let Some(e) = inner.downcast_ref::<io::Error>() {
            return match e.kind() {
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
                    Failure::Reset
                }
                io::ErrorKind::UnexpectedEof | io::ErrorKind::NotConnected => Failure::Closed,
                _ => Failure::Protocol,
            };
        }
        source = inner.source();
    }
    if e.is_incomplete_message() || e.is_canceled() || e.is_closed() {
        Failure::Closed
    } else if e.is_parse() {
        Failure::Protocol
    } else {
        // HTTP/2 streams that the other side resets have no I/O error inside.
        Failure::Reset
    }
}
