//! One worker's connections to one endpoint.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::time::Duration;

use mesh_core::keepalive::IdleTimeout;
use mesh_core::snapshot::ClusterPlan;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::slot::{Turn, Waiting};
use super::{h1, h2};
use crate::dial::ConnKey;

/// Idle connections kept for each endpoint and worker; the oldest goes when there are more.
const MAX_IDLE: usize = 256;

/// How long the task that looks after idle connections stays where it finds none: a request that uses the only one does not
/// end it, so that not every request begins one.
const STAY: Duration = Duration::from_secs(10);

/// What is known of an endpoint by all workers.
pub(crate) struct Peer {
    idle: IdleTimeout,
    since: Instant,
}

impl Default for Peer {
    fn default() -> Self {
        Self { idle: IdleTimeout::default(), since: Instant::now() }
    }
}

impl Peer {
    /// A `keep-alive` header of the endpoint.
    pub(super) fn announced(&self, header: &str) {
        self.idle.announced(header, self.since.elapsed());
    }

    fn closed(&self, idle: Duration) {
        self.idle.closed(idle, self.since.elapsed());
    }

    /// How long a connection may be idle: as configured, or a little less than the endpoint keeps it.
    pub(super) fn idle_limit(&self, configured: Option<Duration>) -> Option<Duration> {
        if !self.idle.is_known() {
            return configured;
        }
        let learned = self.idle.limit(self.since.elapsed());
        configured.into_iter().chain(learned).min()
    }
}

/// Connections of one worker to one endpoint. The mutexes are never contended: one thread uses a shard, and nothing waits
/// while it holds one.
pub(crate) struct Shard {
    peer: Arc<Peer>,
    idle: Mutex<Idle>,
    keeper: Arc<Keeper>,
    /// Wakes the keeper.
    waker: Waker,
    pub(super) h2: Mutex<h2::Connections>,
    waiting: Mutex<VecDeque<Waiting>>,
    open: AtomicU32,
    numbers: AtomicU64,
}

#[derive(Default)]
struct Idle {
    list: Vec<h1::Connection>,
    /// There is a task that looks after them.
    kept: bool,
    /// When it looks next.
    next: Option<Instant>,
    /// When it goes if there are still none; `None`: there were some when it looked.
    leaves: Option<Instant>,
}

/// Wakes the task that looks after idle connections: one of them has something to say, or is to be closed earlier than it
/// waits for.
#[derive(Default)]
struct Keeper(Notify);

impl Wake for Keeper {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify_one();
    }
}

impl Shard {
    pub(crate) fn new(peer: Arc<Peer>) -> Self {
        let keeper = Arc::<Keeper>::default();
        Self {
            peer,
            idle: Mutex::default(),
            waker: Waker::from(Arc::clone(&keeper)),
            keeper,
            h2: Mutex::default(),
            waiting: Mutex::default(),
            open: AtomicU32::new(0),
            numbers: AtomicU64::new(0),
        }
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The connection that was used last and may be used now. Those that may not are closed.
    pub(super) fn take(&self, plan: &Arc<ClusterPlan>, key: ConnKey) -> Option<h1::Connection> {
        let now = Instant::now();
        loop {
            let connection = {
                let list = &mut self.idle.lock().list;
                // All of one key, as nearly always, makes this a pop.
                let newest = list.iter().rposition(|c| c.key == key)?;
                list.remove(newest)
            };
            if connection.fits(plan) && connection.ends(&self.peer).is_none_or(|end| now < end) {
                return Some(connection);
            }
        }
    }

    /// Takes back a connection whose exchange has ended: for a request that waits, else for later.
    pub(super) fn put(self: &Arc<Self>, mut connection: h1::Connection) {
        connection.idle_since = Instant::now();
        if self.has_waiting() {
            self.offer(Turn::Take(connection));
        } else {
            self.keep(connection);
        }
    }

    fn keep(self: &Arc<Self>, connection: h1::Connection) {
        let end = connection.ends(&self.peer);
        let mut idle = self.idle.lock();
        let oldest = (idle.list.len() >= MAX_IDLE).then(|| idle.list.remove(0));
        connection.wakes(&self.waker);
        idle.list.push(connection);
        let sooner = end.is_some_and(|end| idle.next.is_none_or(|next| end < next));
        if sooner {
            idle.next = end;
        }
        let kept = std::mem::replace(&mut idle.kept, true);
        drop(idle);
        drop(oldest);
        if !kept {
            tokio::spawn(look_after(Arc::downgrade(self), Arc::clone(&self.keeper)));
        } else if sooner {
            self.keeper.0.notify_one();
        }
    }

    /// Lets go of what has ended or been idle for too long. When to look again, if there is a time for it; `None`: there was
    /// nothing to look after for a while.
    fn sweep(&self) -> Option<Option<Instant>> {
        let now = Instant::now();
        let mut idle = self.idle.lock();
        let gone = idle.list.extract_if(.., |connection| {
            let ended = connection.has_ended(&self.waker);
            if ended {
                // The endpoint has closed it, and tells how long it keeps idle ones.
                self.peer.closed(now - connection.idle_since);
            }
            ended || connection.ends(&self.peer).is_some_and(|end| end <= now)
        });
        // Dropped after the lock: others may wait for the place of one.
        let gone: Vec<_> = gone.collect();
        let leaves = idle.list.is_empty().then(|| idle.leaves.unwrap_or(now + STAY));
        idle.kept = leaves.is_none_or(|leaves| now < leaves);
        idle.leaves = leaves.filter(|_| idle.kept);
        idle.next = match leaves {
            // The next one to come may have to go as soon as the last one had to: then nobody has to say so.
            Some(leaves) => idle.next.filter(|next| now < *next).into_iter().chain([leaves]).min(),
            None => idle.list.iter().filter_map(|c| c.ends(&self.peer)).min(),
        };
        let again = idle.kept.then_some(idle.next);
        drop(idle);
        drop(gone);
        again
    }

    /// The connection of this number, which drives itself, has ended. If it lay here, the endpoint has closed it.
    pub(super) fn ended(&self, number: u64) {
        let mut idle = self.idle.lock();
        let Some(at) = idle.list.iter().position(|c| c.number == number) else { return };
        let connection = idle.list.remove(at);
        drop(idle);
        self.peer.closed(connection.idle_since.elapsed());
    }

    /// A number for a new connection.
    pub(super) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn open(&self) -> u32 {
        self.open.load(Ordering::Acquire)
    }

    pub(super) fn opened(&self) {
        self.open.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.lock().is_empty()
    }

    /// Waits for a turn; who waits again, because what it got was of no use, goes first.
    pub(super) fn wait(&self, again: bool) -> oneshot::Receiver<Turn> {
        let (tell, told) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        if again {
            waiting.push_front(tell)
        } else {
            waiting.push_back(tell)
        }
        told
    }

    /// Gives a turn to the first that still waits. Nobody: a connection is kept, a slot is free.
    pub(super) fn offer(self: &Arc<Self>, mut turn: Turn) {
        loop {
            let next = self.waiting.lock().pop_front();
            let Some(next) = next else { break };
            match next.send(turn) {
                Ok(()) => return,
                // It has been given up.
                Err(back) => turn = back,
            }
        }
        if let Turn::Take(connection) = turn {
            self.keep(connection);
        }
    }

    /// Lets all look again.
    pub(super) fn offer_all(&self) {
        for waiting in std::mem::take(&mut *self.waiting.lock()) {
            let _ = waiting.send(Turn::Look);
        }
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.keeper.0.notify_one();
    }
}

/// Looks after idle connections as long as there are any, and a while longer. It does not keep the shard while it waits: the endpoint may be
/// gone long before.
async fn look_after(shard: Weak<Shard>, keeper: Arc<Keeper>) {
    while let Some(next) = shard.upgrade().and_then(|shard| shard.sweep()) {
        let time = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = time => {}
            () = keeper.0.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests;
