//! When a request has to be looked at again.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};

const NEVER: u64 = u64::MAX;

/// The clock of a connection whose requests are served one after the other, in the task that serves the connection. A
/// request writes down by when it wants to be polled; the connection has one timer, and sets it only when that would be
/// too late.
#[derive(Debug)]
pub struct StreamClock {
    base: Instant,
    /// Microseconds after `base`.
    deadline: AtomicU64,
}

impl StreamClock {
    /// One without a request.
    pub fn new() -> Self {
        Self { base: Instant::now(), deadline: AtomicU64::new(NEVER) }
    }

    /// When the request of now has to be polled again; `None`: whenever something happens.
    pub fn deadline(&self) -> Option<Instant> {
        let at = self.deadline.load(Ordering::Acquire);
        (at != NEVER).then(|| self.base + std::time::Duration::from_micros(at))
    }

    fn ask(&self, at: Instant) {
        // Rounded up: whoever is woken must not find that it is still too early.
        let micros = at.saturating_duration_since(self.base).as_nanos().div_ceil(1000);
        self.deadline.store(u64::try_from(micros).unwrap_or(NEVER), Ordering::Release);
    }

    fn clear(&self) {
        self.deadline.store(NEVER, Ordering::Release);
    }
}

impl Default for StreamClock {
    fn default() -> Self {
        Self::new()
    }
}

/// In a request's extensions: the clock of its connection, and when its first byte came.
#[derive(Clone, Debug)]
pub struct StreamTimer {
    /// The clock; `None`: the request has to set a timer of its own.
    pub clock: Option<Arc<StreamClock>>,
    /// When the request began.
    pub began: Instant,
}

/// What wakes a request.
pub(super) enum Timer {
    Connection(Arc<StreamClock>),
    /// Registered by the first request that has to wait.
    Own(Option<Pin<Box<Sleep>>>),
}

impl Timer {
    /// Ready when it is this time.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        match self {
            Self::Connection(clock) => {
                if at <= Instant::now() {
                    return Poll::Ready(());
                }
                clock.ask(at);
                Poll::Pending
            }
            Self::Own(sleep) => {
                let sleep = sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
                if sleep.deadline() > at {
                    sleep.as_mut().reset(at);
                }
                loop {
                    std::task::ready!(sleep.as_mut().poll(cx));
                    if sleep.deadline() >= at {
                        return Poll::Ready(());
                    }
                    sleep.as_mut().reset(at);
                }
            }
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Self::Connection(clock) = self {
            clock.clear();
        }
    }
}
