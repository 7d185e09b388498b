//! Calls to the other services: HTTP/1.1 over kept connections, with one time limit for the whole call.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::Service;

/// Idle connections kept for one address.
const MOST_IDLE: usize = 64;
/// Largest answer that is read, in bytes.
const MOST_BYTES: usize = 1 << 20;

/// Host name or address, and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Why a call brought no 200.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The service answered with another status.
    Status(StatusCode),
    /// No whole answer within the limit.
    Timeout(Duration),
    /// No connection, or a broken one.
    Broken(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "answered {status}"),
            Self::Timeout(limit) => write!(f, "no answer within {limit:?}"),
            Self::Broken(cause) => f.write_str(cause),
        }
    }
}

type Sender = SendRequest<Empty<Bytes>>;

/// How the other services are called.
pub(crate) enum Client {
    /// By own connections: beside a sidecar, which takes them, or without a mesh.
    Direct(Direct),
    /// By the mesh, of which this process is a member.
    Mesh(mesh_proxy::Client),
}

impl Client {
    pub(crate) fn direct(proxy: Option<Endpoint>) -> Self {
        Self::Direct(Direct { proxy, idle: Mutex::default() })
    }

    /// GET; the body of a 200, or why there is none. A failure is also written to stderr, where the service's log is.
    pub(crate) async fn get_ok(
        &self,
        to: &Endpoint,
        path: &str,
        headers: &HeaderMap,
        limit: Duration,
    ) -> Result<Bytes, Failure> {
        let get = async {
            match self {
                Self::Direct(client) => client.get(to, path, headers).await,
                Self::Mesh(client) => by_mesh(client.clone(), to, path, headers).await,
            }
        };
        let result = match tokio::time::timeout(limit, get).await {
            Err(_) => Err(Failure::Timeout(limit)),
            Ok(Err(failure)) => Err(failure),
            Ok(Ok((StatusCode::OK, body))) => Ok(body),
            Ok(Ok((status, _))) => Err(Failure::Status(status)),
        };
        result.inspect_err(|failure| eprintln!("GET http://{to}{path}: {failure}"))
    }
}

/// A client with its kept connections.
pub(crate) struct Direct {
    proxy: Option<Endpoint>,
    idle: Mutex<HashMap<Endpoint, Vec<Sender>>>,
}

impl Direct {
    fn idle(&self) -> std::sync::MutexGuard<'_, HashMap<Endpoint, Vec<Sender>>> {
        // Lists of connections are whole after every step.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn get(&self, to: &Endpoint, path: &str, headers: &HeaderMap) -> Result<(StatusCode, Bytes), Failure> {
        let dialled = self.proxy.as_ref().unwrap_or(to);
        let target = if self.proxy.is_some() { format!("http://{to}{path}") } else { path.to_owned() };
        let request = request(to, &target, headers)?;
        // The other end may have closed a kept connection just now. GET does no harm twice, so the next one gets its turn.
        while let Some(sender) = self.take_idle(dialled).await {
            if let Ok(answer) = self.exchange(dialled, sender, request.clone()).await {
                return Ok(answer);
            }
        }
        let sender =
            connect(dialled).await.map_err(|error| Failure::Broken(format!("connecting to {dialled}: {error}")))?;
        self.exchange(dialled, sender, request).await
    }

    async fn take_idle(&self, dialled: &Endpoint) -> Option<Sender> {
        loop {
            let mut sender = self.idle().get_mut(dialled)?.pop()?;
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    async fn exchange(
        &self,
        dialled: &Endpoint,
        mut sender: Sender,
        request: Request<Empty<Bytes>>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let answer = sender.send_request(request).await.map_err(|error| Failure::Broken(causes(&error)))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MOST_BYTES).collect().await;
        let body = body.map_err(|error| Failure::Broken(causes(&*error)))?.to_bytes();
        let mut idle = self.idle();
        let kept = idle.entry(dialled.clone()).or_default();
        if kept.len() < MOST_IDLE && !sender.is_closed() {
            kept.push(sender);
        }
        Ok((status, body))
    }
}

/// The mesh finds the host, and does what a sidecar would.
async fn by_mesh(
    mut client: mesh_proxy::Client,
    to: &Endpoint,
    path: &str,
    headers: &HeaderMap,
) -> Result<(StatusCode, Bytes), Failure> {
    let request = request(to, &format!("http://{to}{path}"), headers)?;
    let answer = client.call(request).await.map_err(|error| Failure::Broken(causes(&error)))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MOST_BYTES).collect().await;
    Ok((status, body.map_err(|error| Failure::Broken(causes(&*error)))?.to_bytes()))
}

/// Through a proxy the target is the whole URL (absolute form); the `host` header names the service either way.
fn request(to: &Endpoint, target: &str, headers: &HeaderMap) -> Result<Request<Empty<Bytes>>, Failure> {
    let unusable = |error: http::Error| Failure::Broken(format!("{target}: {error}"));
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = target.parse::<Uri>().map_err(|error| unusable(error.into()))?;
    *request.headers_mut() = headers.clone();
    let host = HeaderValue::from_str(&to.to_string()).map_err(|error| unusable(error.into()))?;
    request.headers_mut().insert(HOST, host);
    Ok(request)
}

#[allow(clippy::disallowed_methods, reason = "the application is a client of the mesh, not a part of it")]
async fn connect(to: &Endpoint) -> Result<Sender, String> {
    let stream = TcpStream::connect((to.host.as_str(), to.port)).await.map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| causes(&error))?;
    // Whoever waits for the answer learns of an error on the connection; here it means only that the task ends.
    tokio::spawn(connection);
    Ok(sender)
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
