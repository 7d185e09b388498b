//! What is taken off a connection before it is served: a PROXY header, TLS.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mesh_core::api::ContentHash;
use mesh_core::decide::Inside;
use mesh_core::record::ConnInfo;
use mesh_core::snapshot::{DownstreamTls, ListenerKey, Snapshot, TlsServer, TlsThen};
use tokio::time::timeout;

use super::{Engine, Route, Served, ServerKey, Shared};
use crate::detect::Prefixed;
use crate::dial::Link;
use crate::drain::Drain;
use crate::net::{Net, Stream};
use crate::proxy_protocol;

/// Longest time for a handshake or a PROXY header. Envoy has no limit by default; without one a client holds a connection
/// by saying nothing.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(15);

/// How requests of a TLS connection name their server.
pub(crate) fn server_id(name: &str) -> ContentHash {
    ContentHash::of(name.as_bytes())
}

/// Takes the PROXY header off, which says who the client is. Returns what came after it; `None`: there is none, or not in
/// time.
pub(super) async fn proxy_header<S: Stream>(stream: &mut S, conn: &mut ConnInfo) -> Option<Bytes> {
    match timeout(HANDSHAKE, proxy_protocol::read(stream)).await {
        Ok(Ok((said, rest))) => {
            if let Some((from, to)) = said {
                conn.direct = Some(conn.peer);
                (conn.peer, conn.local) = (from, to);
            }
            Some(rest.freeze())
        }
        Ok(Err(error)) => {
            tracing::debug!(peer = %conn.peer, %error, "a connection without a PROXY header is closed");
            None
        }
        Err(_) => None,
    }
}

impl<N: Net, H: Engine<N::Stream>> Shared<N, H> {
    /// Ends TLS; what is to serve what is inside. A failed handshake has no log line, as with Envoy: there is no request.
    pub(super) async fn terminate(
        self: Arc<Self>,
        snapshot: Arc<Snapshot>,
        (key, server): (ListenerKey, &TlsServer),
        stream: Prefixed<N::Stream>,
        conn: Arc<ConnInfo>,
        drain: Drain,
    ) -> Option<Served> {
        let (stream, conn) = self.handshake(&server.tls, &server.name, stream, &conn).await?;
        let route = Route::Terminated(key, ServerKey::of(server));
        Some(match &server.then {
            TlsThen::Http(_) => self.serve_http(stream, conn, route, drain),
            TlsThen::Tcp(plan) => {
                let gate = self.gate(key);
                self.serve_bytes((snapshot, Arc::clone(plan)), (stream, None), (conn, route), gate, drain)
            }
        })
    }

    /// Ends the mesh's own TLS; what is to serve what is inside.
    pub(super) async fn mutual(
        self: Arc<Self>,
        snapshot: Arc<Snapshot>,
        (tls, inside): (&Arc<DownstreamTls>, Inside<'_>),
        stream: Prefixed<N::Stream>,
        (conn, route): (Arc<ConnInfo>, Route),
        drain: Drain,
    ) -> Option<Served> {
        let (stream, conn) = self.handshake(tls, "the workload", stream, &conn).await?;
        Some(match inside {
            Inside::Http(_) => self.serve_http(stream, conn, route, drain),
            Inside::Tcp(plan) => {
                let gate = self.http.gate();
                self.serve_bytes((snapshot, Arc::clone(plan)), (stream, None), (conn, route), gate, drain)
            }
        })
    }

    /// Ends TLS. `None`: there is no connection; as with Envoy nothing is logged, for there is no request. Without key
    /// material nobody is served: the connection is reset, as it is when there is no listener.
    async fn handshake(
        &self,
        plan: &Arc<DownstreamTls>,
        server: &str,
        stream: Prefixed<N::Stream>,
        conn: &ConnInfo,
    ) -> Option<(Link<Prefixed<N::Stream>>, Arc<ConnInfo>)> {
        let acceptor = self.http.acceptor(plan);
        match timeout(HANDSHAKE, acceptor.ready()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%server, %error, "TLS can't be served");
                stream.abort_on_close();
                return None;
            }
            Err(_) => {
                stream.abort_on_close();
                return None;
            }
        }
        let stream = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%server, peer = %conn.peer, %error, "handshake failed");
                return None;
            }
            Err(_) => return None,
        };
        let conn = Arc::new(ConnInfo { tls: Some(Arc::clone(stream.info())), ..conn.clone() });
        Some((Link::Tls(Box::new(stream)), conn))
    }
}
