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

/// Bits of `draining`: for good, and while the health check fails.
const STARTED: u8 = 1;
const FAILING: u8 = 2;

#[derive(Debug)]
struct Inner {
    /// Why it drains, as a set of bits.
    draining: AtomicU8,
    started: watch::Sender<bool>,
    in_flight: AtomicUsize,
    /// Counts the times that `in_flight` became zero.
    idle: watch::Sender<u64>,
}

impl Drain {
    /// One that has not started.
    pub fn new() -> Self {
        let inner = Inner {
            draining: AtomicU8::new(0),
            started: watch::Sender::new(false),
            in_flight: AtomicUsize::new(0),
            idle: watch::Sender::new(0),
        };
        Self { inner: Arc::new(inner) }
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
        self.inner.draining.load(Ordering::Acquire) != 0
    }

    /// Resolves when it has started: a connection then announces its end.
    pub async fn started(&self) {
        let mut started = self.inner.started.subscribe();
        // The sender lives in `self`, so it can't be gone.
        let _ = started.wait_for(|s| *s).await;
    }

    /// Counts a request, or a TCP stream, until the guard is dropped.
    pub fn enter(&self) -> InFlight {
        self.inner.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { inner: self.inner.clone() }
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
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.inner.in_flight.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        fence(Ordering::SeqCst);
        if self.inner.idle.receiver_count() > 0 {
            self.inner.idle.send_modify(|n| *n += 1);
        }
    }
}

#[cfg(test)]
mod tests;
