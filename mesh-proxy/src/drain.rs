//! Drain: how a proxy goes away without losing anything.
//!
//! From the moment it starts, HTTP servers answer with `connection: close` (HTTP/1) or GOAWAY (HTTP/2), but connections
//! are still accepted, because other proxies may not know yet that this one goes. What is in flight is counted: the
//! process ends when the count is zero, not after a fixed time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering, fence};

use tokio::sync::watch;

/// The drain of one side of a proxy (inbound and gateway, or outbound); clones are the same drain.
#[derive(Clone, Debug)]
pub struct Drain {
    inner: Arc<Inner>,
}

/// Bits of `draining`: for good, while the health check fails, and because it may not go on.
const STARTED: u8 = 1;
const FAILING: u8 = 2;
const REVOKED: u8 = 4;

#[derive(Debug)]
struct Inner {
    /// Why it drains, as a set of bits.
    draining: AtomicU8,
    started: watch::Sender<bool>,
    in_flight: AtomicUsize,
    /// Counts the times that `in_flight` became zero.
    idle: watch::Sender<u64>,
    /// The drain that this one is a part of.
    parent: Option<Arc<Inner>>,
}

impl Drain {
    /// One that has not started.
    pub fn new() -> Self {
        Self::part_of(None)
    }

    fn part_of(parent: Option<Arc<Inner>>) -> Self {
        let inner = Inner {
            draining: AtomicU8::new(0),
            started: watch::Sender::new(false),
            in_flight: AtomicUsize::new(0),
            idle: watch::Sender::new(0),
            parent,
        };
        Self { inner: Arc::new(inner) }
    }

    /// A part of it, a connection for example: it drains when the whole does, or on its own; what is in flight in it counts
    /// for both.
    pub fn child(&self) -> Self {
        Self::part_of(Some(Arc::clone(&self.inner)))
    }

    /// Starts it because what it is for may not go on: what has no end is cut off.
    pub fn revoke(&self) {
        self.inner.draining.fetch_or(STARTED | REVOKED, Ordering::AcqRel);
        self.inner.started.send_replace(true);
    }

    /// Resolves when it was revoked.
    pub async fn revoked(&self) {
        let mut started = self.inner.started.subscribe();
        while self.inner.draining.load(Ordering::Acquire) & REVOKED == 0 {
            // The sender lives in `self`, so it can't be gone.
            let _ = started.changed().await;
        }
    }

    /// Starts it; again is nothing.
    pub fn start(&self) {
        self.inner.draining.fetch_or(STARTED, Ordering::AcqRel);
        self.inner.started.send_replace(true);
    }

    /// Sends clients away for as long as the health check is told to fail, unless it has started anyway.
    pub fn fail(&self, failing: bool) {
        let before = match failing {
            true => self.inner.draining.fetch_or(FAILING, Ordering::AcqRel) | FAILING,
            false => self.inner.draining.fetch_and(!FAILING, Ordering::AcqRel) & !FAILING,
        };
        self.inner.started.send_replace(before != 0);
    }

    /// Whether it has started; one atomic load, so that it can be asked for each response.
    pub fn is_draining(&self) -> bool {
        let draining = |inner: &Inner| inner.draining.load(Ordering::Acquire) != 0;
        draining(&self.inner) || self.inner.parent.as_deref().is_some_and(draining)
    }

    /// Resolves when it has started: a connection then announces its end.
    pub async fn started(&self) {
        let mut started = self.inner.started.subscribe();
        // The senders live in `self`, so they can't be gone.
        let Some(parent) = &self.inner.parent else {
            let _ = started.wait_for(|s| *s).await;
            return;
        };
        let mut all = parent.started.subscribe();
        tokio::select! {
            _ = started.wait_for(|s| *s) => {}
            _ = all.wait_for(|s| *s) => {}
        }
    }

    /// Counts a request, or a TCP stream, until the guard is dropped.
    pub fn enter(&self) -> InFlight {
        self.inner.in_flight.fetch_add(1, Ordering::Relaxed);
        if let Some(parent) = &self.inner.parent {
            parent.in_flight.fetch_add(1, Ordering::Relaxed);
        }
        InFlight { inner: self.inner.clone(), whole: true }
    }

    /// The same for something that the whole does not wait for.
    pub fn enter_alone(&self) -> InFlight {
        self.inner.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { inner: self.inner.clone(), whole: false }
    }

    /// What is in flight.
    pub fn in_flight(&self) -> usize {
        self.inner.in_flight.load(Ordering::Acquire)
    }

    /// Resolves when nothing is in flight; something may come afterwards.
    pub async fn idle(&self) {
        let mut idle = self.inner.idle.subscribe();
        // Pairs with the fence in `InFlight::drop`: either we see its zero, or it sees us waiting.
        fence(Ordering::SeqCst);
        while self.in_flight() > 0 {
            let _ = idle.changed().await;
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

/// Something in flight; ends when dropped.
#[derive(Debug)]
pub struct InFlight {
    inner: Arc<Inner>,
    /// It counts for the drain that this one is a part of, too.
    whole: bool,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.inner.leave();
        if let Some(parent) = self.inner.parent.as_ref().filter(|_| self.whole) {
            parent.leave();
        }
    }
}

impl Inner {
    fn leave(&self) {
        if self.in_flight.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        fence(Ordering::SeqCst);
        if self.idle.receiver_count() > 0 {
            self.idle.send_modify(|n| *n += 1);
        }
    }
}

#[cfg(test)]
mod tests;
