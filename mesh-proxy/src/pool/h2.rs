//! HTTP/2 with prior knowledge towards an upstream: one connection for each worker and endpoint, shared by all requests.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Uri, Version};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_core::error::{Error, ErrorKind, Sent};
use mesh_core::layers::{Body, Request, Response};
use mesh_core::record::Cx;
use mesh_tls::Carries;

use super::body::{Lease, UpstreamBody};
use super::{Destination, classify};
use crate::cluster::{Active, Member};
use crate::dial::{ConnKey, For};
use crate::net::{Net, Stream};

/// Flow-control window of a stream, as Envoy's default.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 24 << 20;

#[derive(Clone)]
pub(super) struct Connection {
    sender: SendRequest<Body>,
    local: Arc<SocketAddr>,
    reused: bool,
}

impl Connection {
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

pub(super) async fn send<N: Net>(
    to: &Destination<N>,
    active: Active<N>,
    cx: Arc<Cx>,
    mut request: Request,
) -> Result<Response, Error> {
    let host = to.whom(&request);
    prepare(&mut request)?;
    loop {
        let whom = For { conn: &cx.conn, host: host.as_deref(), carries: Carries::Http2 };
        let key = ConnKey::of(&to.plan, whom);
        let mut connection = checkout(to, active.member(), (key, whom)).await?;
        cx.upstream_local.store(Some(Arc::clone(&connection.local)));
        let reused = connection.reused;
        match connection.sender.try_send_request(request).await {
            Ok(response) => return Ok(response.map(|i| UpstreamBody::wrap(i, Lease::shared(active), cx))),
            Err(mut failed) => match failed.take_message() {
                Some(unsent) if reused => {
                    active.member().shard().share(key, None);
                    request = unsent;
                }
                Some(_) => return Err(Error::new(ErrorKind::ConnectionTermination).sent(Sent::No)),
                None => return Err(classify::error(&failed.into_error()).on_reused(reused)),
            },
        }
    }
}

/// Moves the authority from `host` to the pseudo header.
fn prepare(request: &mut Request) -> Result<(), Error> {
    *request.version_mut() = Version::HTTP_2;
    let broken = |_| Error::new(ErrorKind::DownstreamProtocol);
    let host = request.headers_mut().remove(HOST);
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(Scheme::HTTP);
    uri.path_and_query = Some(path);
    uri.authority = Some(match &host {
        Some(host) => Authority::try_from(host.as_bytes()).map_err(broken)?,
        None => Authority::from_static("localhost"),
    });
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Error::new(ErrorKind::DownstreamProtocol))?;
    Ok(())
}

async fn checkout<N: Net>(
    to: &Destination<N>,
    member: &Arc<Member<N>>,
    (key, whom): (ConnKey, For<'_>),
) -> Result<Connection, Error> {
    if let Some(mut known) = member.shard().shared(key)
        && !known.sender.is_closed()
        && known.sender.ready().await.is_ok()
    {
        known.reused = true;
        return Ok(known);
    }
    let stream = to.runtime.dial(&to.plan, member, whom).await?;
    let local = stream.local_addr().ok();
    let lost = |e: hyper::Error| classify::error(&e).sent(Sent::No);
    let (sender, connection) = Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(60 * 1024)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(lost)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "upstream connection");
        }
    });
    let local = Arc::new(local.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0))));
    let connection = Connection { sender, local, reused: false };
    member.shard().share(key, Some(connection.clone()));
    Ok(connection)
}
