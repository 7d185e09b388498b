//! Waiting for the first bytes of a connection, of either side.

use std::sync::Arc;

use bytes::BytesMut;
use mesh_core::decide::{ConnDecision, ConnFacts, Detected, decide_connection, looks_for_http};
use mesh_core::record::ConnInfo;
use mesh_core::snapshot::{Direction, ListenerPlan, Snapshot, TcpPlan};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep, sleep_until};

use super::Early;
use crate::detect::{Looks, MAX_BYTES, Prefixed, sniff_with};
use crate::net::Stream;
use crate::tcp::{HEAD_START, Tools, Upstreams, open};

/// What sniffing found.
pub(super) struct Sniffed<S> {
    /// The stream, with what was read of it put back.
    pub(super) stream: Prefixed<S>,
    pub(super) detected: Option<Detected>,
    pub(super) early: Early<S>,
}

impl<S> Sniffed<S> {
    /// Nothing was read.
    pub(super) fn nothing(stream: Prefixed<S>) -> Self {
        Self { stream, detected: None, early: None }
    }
}

/// Reads until the protocol is known. If the client is silent, the upstream that it would get as a plain TCP stream is
/// dialled: when the server speaks first, that decides, so that undeclared server-first protocols work. A detection
/// timeout and the client's end decide the same.
pub(super) async fn sniffing<S: Stream, H: Upstreams<S>>(
    tools: &Tools<'_, H>,
    snapshot: &Snapshot,
    (listener, may_dial): (&ListenerPlan, bool),
    conn: &ConnInfo,
    mut stream: Prefixed<S>,
) -> Sniffed<S> {
    let plan = plan_for_silence(listener, conn).filter(|_| may_dial);
    // A gateway does not guess: a client that sends nothing has time.
    let guesses = conn.direction != Direction::Gateway;
    let deadline = snapshot.proxy.detection_timeout.filter(|_| guesses).map(|t| Instant::now() + t);
    let http10 = listener.http.as_ref().is_some_and(|h| h.settings.http10);
    let looks = Looks { http: looks_for_http(listener), http10 };
    let mut bytes = BytesMut::with_capacity(1024);
    let mut slot = None;
    let detected = {
        let server_first = async {
            let Some(plan) = &plan else { return std::future::pending().await };
            sleep(HEAD_START).await;
            let Ok(connected) = open(tools, snapshot, plan, conn).await else { return std::future::pending().await };
            let connected = slot.insert(connected);
            let mut first = BytesMut::with_capacity(4096);
            match connected.stream.read_buf(&mut first).await {
                Ok(n) if n > 0 => connected.stream.put_back(first.freeze()),
                // A server that closes before anybody has spoken says nothing about the protocol.
                _ => {
                    slot = None;
                    std::future::pending().await
                }
            }
        };
        let timeout = async {
            match deadline {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let mut server_first = std::pin::pin!(server_first);
        let mut timeout = std::pin::pin!(timeout);
        loop {
            tokio::select! {
                biased;
                read = stream.read_buf(&mut bytes) => match read {
                    Ok(n) if n > 0 => {
                        if let Some(found) = sniff_with(&bytes, looks) {
                            break found;
                        }
                        bytes.reserve(bytes.len().min(MAX_BYTES));
                    }
                    _ => break Detected::Other,
                },
                () = &mut server_first => break Detected::Other,
                () = &mut timeout => break Detected::Other,
            }
        }
    };
    stream.put_back(bytes.freeze());
    Sniffed { stream, detected: Some(detected), early: plan.zip(slot) }
}

/// Where the connection goes if the server speaks first.
fn plan_for_silence(listener: &ListenerPlan, conn: &ConnInfo) -> Option<Arc<TcpPlan>> {
    let detected = Some(Detected::Other);
    let facts = ConnFacts { original_dst: Some(conn.local), peer: Some(conn.peer.ip()), detected };
    match decide_connection(listener, &facts) {
        ConnDecision::Tcp(plan) => Some(plan.clone()),
        ConnDecision::Http(_)
        | ConnDecision::Terminate(_)
        | ConnDecision::Mutual(..)
        | ConnDecision::Close(_)
        | ConnDecision::NeedBytes => None,
    }
}
