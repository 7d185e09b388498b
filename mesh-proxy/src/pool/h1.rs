//! HTTP/1.1 towards an upstream.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Version};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use mesh_core::error::{Error, ErrorKind, Sent};
use mesh_core::layers::{Body, Request, Response};
use mesh_core::record::Cx;
use mesh_tls::Carries;

use super::body::{Lease, Sending, SentBody, UpstreamBody};
use super::{Destination, classify};
use crate::cluster::{Active, Member};
use crate::dial::{ConnKey, For};
use crate::net::{Net, Stream};

/// A connection that can take a request.
pub(super) struct Connection {
    sender: SendRequest<Body>,
    local: Arc<SocketAddr>,
    reused: bool,
    key: ConnKey,
}

impl Connection {
    /// What it may be used for.
    pub(super) fn key(&self) -> ConnKey {
        self.key
    }

    /// Waits until the last exchange is wound up; `false`: it is closed.
    async fn is_usable(&mut self) -> bool {
        !self.sender.is_closed() && self.sender.ready().await.is_ok()
    }
}

pub(super) async fn send<N: Net>(
    to: &Destination<N>,
    active: Active<N>,
    cx: Arc<Cx>,
    mut request: Request,
) -> Result<Response, Error> {
    let host = to.whom(&request);
    let sending = prepare(&mut request);
    loop {
        let whom = For { conn: &cx.conn, host: host.as_deref(), carries: Carries::Http1 };
        let mut connection = checkout(to, active.member(), whom).await?;
        cx.upstream_local.store(Some(Arc::clone(&connection.local)));
        let reused = connection.reused;
        match connection.sender.try_send_request(request).await {
            Ok(response) => {
                connection.reused = true;
                let lease = Lease::new(active, connection, sending);
                return Ok(response.map(|incoming| UpstreamBody::wrap(incoming, lease, cx)));
            }
            Err(mut failed) => match failed.take_message() {
                // Not a byte of it was sent: the connection closed while it lay in the pool.
                Some(unsent) if reused => request = unsent,
                Some(_) => return Err(Error::new(ErrorKind::ConnectionTermination).sent(Sent::No)),
                None => return Err(classify::error(&failed.into_error()).on_reused(reused)),
            },
        }
    }
}

/// Gives the request the form that the codec expects, and says how its body is doing.
fn prepare(request: &mut Request) -> Option<Arc<Sending>> {
    *request.version_mut() = Version::HTTP_11;
    let has_length = request.headers().contains_key(CONTENT_LENGTH);
    match request.body() {
        Body::Empty => {
            let method = request.method();
            if !has_length && method != Method::GET && method != Method::HEAD {
                request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
            None
        }
        Body::Full(_) => None,
        Body::Stream(_) => {
            if !has_length {
                // The codec would take a GET without a length for one without a body.
                request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            let (body, sending) = SentBody::wrap(std::mem::take(request.body_mut()));
            *request.body_mut() = body;
            Some(sending)
        }
    }
}

async fn checkout<N: Net>(to: &Destination<N>, member: &Arc<Member<N>>, whom: For<'_>) -> Result<Connection, Error> {
    let key = ConnKey::of(&to.plan, whom);
    while let Some(mut idle) = member.shard().take(key) {
        if idle.is_usable().await {
            return Ok(idle);
        }
    }
    let stream = to.runtime.dial(&to.plan, member, whom).await?;
    let local = stream.local_addr().ok();
    let lost = |e: hyper::Error| classify::error(&e).sent(Sent::No);
    let mut builder = Builder::new();
    builder.preserve_header_case(to.runtime.preserves_case());
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(lost)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::trace!(%error, "upstream connection");
        }
    });
    let local = Arc::new(local.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0))));
    Ok(Connection { sender, local, reused: false, key })
}
