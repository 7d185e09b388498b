//! The right to a connection, and who gets it next.
//!
//! A [`Slot`] is one connection of the cluster's `maxConnections`, and one of its worker's to the endpoint. It lives as
//! long as the socket, inside [`Held`], so that it is free exactly when the connection is closed, also after an upgrade.
//! Requests that find neither a connection nor a slot wait in the shard, first come first served; whoever frees one of the
//! two hands it to the first that still waits.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use mesh_core::layers::limits::{Permit, Resource, Usage};
use mesh_core::snapshot::PoolPlan;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use super::{Shard, h1};

/// One connection, until it is closed.
pub(crate) struct Slot {
    shard: Weak<Shard>,
    usage: Arc<Usage>,
    plan: PoolPlan,
    _permit: Permit,
}

impl Slot {
    /// A slot, if the plan allows one more connection.
    pub(crate) fn take(shard: &Arc<Shard>, usage: &Arc<Usage>, plan: &PoolPlan) -> Option<Self> {
        let here = shard.open();
        if !plan.may_connect(usage.now(Resource::Connections), here) {
            return None;
        }
        // Between the look and this another worker may have been faster; the first connection of a worker is always ours.
        let permit = match here {
            0 => usage.take_always(Resource::Connections),
            _ => usage.take(Resource::Connections, plan.max_connections)?,
        };
        shard.opened();
        Some(Self { shard: Arc::downgrade(shard), usage: Arc::clone(usage), plan: plan.clone(), _permit: permit })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(shard) = self.shard.upgrade() else { return };
        shard.closed();
        if shard.has_waiting() {
            // Our own permit still counts, and goes when this function has ended: the next one takes its place.
            let usage = &self.usage;
            let room = self.plan.may_connect(usage.now(Resource::Connections).saturating_sub(1), shard.open());
            if room {
                shard.opened();
                let permit = usage.take_always(Resource::Connections);
                let (usage, plan) = (Arc::clone(usage), self.plan.clone());
                shard.offer(Turn::Dial(Self { shard: Arc::downgrade(&shard), usage, plan, _permit: permit }));
            }
        }
    }
}

/// What a waiting request gets.
pub(super) enum Turn {
    /// A connection that has become free.
    Take(h1::Connection),
    /// The right to make one.
    Dial(Slot),
    /// Something has changed: look again.
    Look,
}

/// A request that waits.
pub(super) type Waiting = oneshot::Sender<Turn>;

/// A socket with its slot.
pub(crate) struct Held<S> {
    io: S,
    heard: Arc<AtomicBool>,
    _slot: Slot,
}

impl<S> Held<S> {
    /// `heard` is set when a byte has come from the peer.
    pub(crate) fn new(io: S, slot: Slot, heard: Arc<AtomicBool>) -> Self {
        Self { io, heard, _slot: slot }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Held<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.heard.store(true, Ordering::Relaxed);
        }
        read
    }
}

mesh_tls::write_through!([S: AsyncWrite + Unpin] Held<S> => io);

#[cfg(test)]
mod tests;
