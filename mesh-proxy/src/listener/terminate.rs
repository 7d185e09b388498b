//! What a gateway takes off a connection before it is served: a PROXY header, TLS.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mesh_core::api::ContentHash;
use mesh_core::record::ConnInfo;
use mesh_core::snapshot::{ListenerKey, Snapshot, TlsServer, TlsThen};
use tokio::time::timeout;

use super::{Engine, Route, ServerKey, Shared};
use crate::detect::Prefixed;
use crate::dial::Link;
use crate::drain::Drain;
use crate::net::{Net, Stream};
use crate::{proxy_protocol, tcp};

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
    /// Ends TLS, then serves what is inside. A failed handshake has no log line, as with Envoy: there is no request.
    pub(super) async fn terminate(
        self: Arc<Self>,
        snapshot: &Snapshot,
        (key, server): (ListenerKey, &TlsServer),
        stream: Prefixed<N::Stream>,
        conn: Arc<ConnInfo>,
        drain: Drain,
    ) {
        let acceptor = self.http.acceptor(&server.tls);
        match timeout(HANDSHAKE, acceptor.ready()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(server = %server.name, %error, "TLS can't be served");
                return stream.abort_on_close();
            }
            Err(_) => return stream.abort_on_close(),
        }
        let stream = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(server = %server.name, peer = %conn.peer, %error, "handshake failed");
                return;
            }
            Err(_) => return,
        };
        let tls = Some(Arc::clone(stream.info()));
        let conn = Arc::new(ConnInfo { tls, ..ConnInfo::clone(&conn) });
        let stream = Link::Tls(Box::new(stream));
        match &server.then {
            TlsThen::Http(_) => {
                let route = Route::GatewayTls(key.address, key.port, ServerKey::of(server));
                self.http.serve(stream, conn, route, drain).await;
            }
            TlsThen::Tcp(plan) => {
                let _in_flight = drain.enter();
                Box::pin(tcp::serve(&self.tools(), snapshot, plan, &conn, stream, None)).await;
            }
        }
    }
}
