//! Connections to the own application, and to servers of a gateway that end TLS, that are open: those that a new
//! configuration does not let in any more are closed.
//!
//! What is asked is what would be asked of a new connection: may one with this TLS, of this peer, go on. A request that is
//! under way may end, for a while; a stream of bytes ends at once.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_core::api::ContentHash;
use mesh_core::env::Env;
use mesh_core::record::ConnInfo;
use mesh_core::snapshot::{Direction, DownstreamTls, Map, Snapshot, TlsServer};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::peers::{PeerSeen, Peers};
use super::{Route, server_id};
use crate::drain::Drain;

/// How long requests that were let in may take to end when no new one would be. Istio lets them run for `drainDuration`,
/// 45 s by default; a policy that closes a door should not leave it open for that long.
const GRACE: Duration = Duration::from_secs(5);

/// Open connections by a number of their own.
#[derive(Default)]
pub struct Live(Mutex<Open>);

#[derive(Default)]
struct Open {
    next: u64,
    peers: Peers,
    connections: Map<u64, Connection>,
}

struct Connection {
    conn: Arc<ConnInfo>,
    route: Route,
    close: oneshot::Sender<()>,
}

/// Whether a connection may be, by this configuration.
pub(super) fn is_allowed(snapshot: &Snapshot, conn: &ConnInfo, route: Route) -> bool {
    let tls = conn.tls.as_deref();
    match route {
        Route::Inbound(port) => snapshot.inbound(port).allows(tls),
        Route::Terminated(at, key) => {
            let servers = route.listener(snapshot).map_or(&[][..], |listener| &listener.tls);
            // A gateway's server that is gone refuses requests; what is under way ends as when any listener goes. A port of
            // the application goes on, with what it lets in now.
            let Some(server) = servers.iter().find(|s| server_id(&s.name) == key.name) else {
                return at.direction != Direction::Inbound;
            };
            let peer = tls.and_then(|tls| tls.identity.as_ref());
            let welcome = server.tls.workloads.is_none() || peer.is_some_and(|peer| server.tls.welcomes(peer));
            welcome && key.clients == clients(server)
        }
        Route::Outbound(_) | Route::Gateway(_) | Route::GatewayAt(..) | Route::ByAuthority => true,
    }
}

/// What a server asks of its clients' certificates. Who was verified by other rules may not pass by these.
pub(super) fn clients(server: &TlsServer) -> ContentHash {
    let DownstreamTls { client, roots, names, spki, hashes, verify, .. } = &*server.tls;
    ContentHash::of(format!("{client:?} {roots:?} {names:?} {spki:?} {hashes:?} {verify}").as_bytes())
}

impl Live {
    /// Tells the connections that may not be any more.
    pub(super) fn check(&self, snapshot: &Snapshot) {
        let mut open = self.0.lock();
        let forbidden: Vec<u64> =
            open.connections.iter().filter(|(_, c)| !is_allowed(snapshot, &c.conn, c.route)).map(|(n, _)| *n).collect();
        for connection in forbidden.iter().filter_map(|n| open.connections.remove(n)) {
            // It may have ended by itself.
            let _ = connection.close.send(());
        }
    }

    /// Who has connected to the own application.
    pub fn peers(&self, now: SystemTime) -> Vec<PeerSeen> {
        self.0.lock().peers.all(now)
    }

    /// A connection to the own application has been refused.
    pub(super) fn refused(&self, conn: &ConnInfo, now: SystemTime) {
        self.0.lock().peers.is_refused(conn, now);
    }

    /// Makes a connection known, and says when it may not go on.
    pub(super) fn register<'a>(
        &'a self,
        conn: &Arc<ConnInfo>,
        route: Route,
        env: &'a dyn Env,
    ) -> (Registered<'a>, oneshot::Receiver<()>) {
        let (close, told) = oneshot::channel();
        let mut open = self.0.lock();
        let number = open.next;
        open.next += 1;
        if let Route::Inbound(_) = route {
            open.peers.comes(conn, env.now());
        }
        open.connections.insert(number, Connection { conn: Arc::clone(conn), route, close });
        let conn = Arc::clone(conn);
        (Registered { live: self, number, conn, route, env }, told)
    }
}

/// Serves a connection, with a drain of its own, until it ends or may not go on.
pub(super) async fn serve<F: Future<Output = ()>>(
    (registered, close): (Registered<'_>, oneshot::Receiver<()>),
    drain: &Drain,
    serve: impl FnOnce(Drain) -> F,
) {
    let own = drain.child();
    {
        let mut serving = std::pin::pin!(serve(own.clone()));
        let ended = async {
            (&mut serving).await;
            // Tunnels go on without the server.
            own.idle().await;
        };
        tokio::select! {
            biased;
            () = ended => return,
            _ = close => {}
        }
        own.revoke();
        // What is under way ends; who is not done by then is cut off.
        let done = async {
            tokio::select! {
                biased;
                () = own.idle() => {}
                () = &mut serving => {}
            }
        };
        let _ = tokio::time::timeout(GRACE, done).await;
    }
    drop(registered);
}

/// A connection that is known here until this is dropped.
pub(super) struct Registered<'a> {
    live: &'a Live,
    number: u64,
    conn: Arc<ConnInfo>,
    route: Route,
    env: &'a dyn Env,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut open = self.live.0.lock();
        open.connections.remove(&self.number);
        if let Route::Inbound(_) = self.route {
            open.peers.goes(&self.conn, self.env.now());
        }
    }
}
