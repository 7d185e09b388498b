//! Connections to the own application that are open: those that a new configuration does not let in any more are closed.
//!
//! What is asked is what would be asked of a new connection: may one with this TLS, of this peer, go on. A request that is
//! under way may end, for a while; a stream of bytes ends at once.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::record::ConnInfo;
use mesh_core::snapshot::{Map, Snapshot};
use parking_lot::Mutex;
use tokio::sync::oneshot;

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
    connections: Map<u64, Connection>,
}

struct Connection {
    conn: Arc<ConnInfo>,
    close: oneshot::Sender<()>,
}

/// Whether a connection to the own application may be, by this configuration.
pub(crate) fn is_allowed(snapshot: &Snapshot, conn: &ConnInfo) -> bool {
    snapshot.inbound(conn.local.port()).mesh.as_ref().is_none_or(|mesh| mesh.allows(conn.tls.as_deref()))
}

impl Live {
    /// Tells the connections that may not be any more.
    pub(super) fn check(&self, snapshot: &Snapshot) {
        let mut open = self.0.lock();
        let forbidden: Vec<u64> =
            open.connections.iter().filter(|(_, c)| !is_allowed(snapshot, &c.conn)).map(|(n, _)| *n).collect();
        for connection in forbidden.iter().filter_map(|n| open.connections.remove(n)) {
            // It may have ended by itself.
            let _ = connection.close.send(());
        }
    }

    /// Makes a connection known, and says when it may not go on.
    pub(super) fn register(&self, conn: &Arc<ConnInfo>) -> (Registered<'_>, oneshot::Receiver<()>) {
        let (close, told) = oneshot::channel();
        let mut open = self.0.lock();
        let number = open.next;
        open.next += 1;
        open.connections.insert(number, Connection { conn: Arc::clone(conn), close });
        (Registered { live: self, number }, told)
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
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.live.0.lock().connections.remove(&self.number);
    }
}
