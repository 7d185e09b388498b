//! When a request has to be looked at again.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use arc_swap::ArcSwapOption;
use tokio::time::{Instant, Sleep};

use crate::error::ErrorKind;
use crate::record::{Cx, Flag};

const NEVER: u64 = u64::MAX;

/// The clock of a connection whose requests are served one after the other, in the task that serves the connection, or of
/// a request that has a task of its own. A request writes down by when it wants to be polled; whoever polls it has one
/// timer, and sets it only when that would be too late.
///
/// A request that has been polled and does not move is held up by a client that does not read: nobody asks it for more.
/// Who polls it then says so ([`StreamClock::is_held_up`]), and drops it.
#[derive(Debug)]
pub struct StreamClock {
    base: Instant,
    /// Microseconds after `base`.
    deadline: AtomicU64,
    /// What happens then is the end of the whole time, and not of standing still.
    total: AtomicBool,
    cx: ArcSwapOption<Cx>,
}

impl StreamClock {
    /// One without a request.
    pub fn new() -> Self {
        Self { base: Instant::now(), deadline: NEVER.into(), total: false.into(), cx: ArcSwapOption::empty() }
    }

    /// When the request of now has to be polled again; `None`: whenever something happens.
    pub fn deadline(&self) -> Option<Instant> {
        let at = self.deadline.load(Ordering::Acquire);
        (at != NEVER).then(|| self.base + std::time::Duration::from_micros(at))
    }

    /// The request of now has had its time, and has not moved when it was polled.
    pub fn is_held_up(&self) {
        if let Some(cx) = self.cx.load_full() {
            let total = self.total.load(Ordering::Acquire);
            cut(&cx, if total { ErrorKind::StreamDuration } else { ErrorKind::IdleTimeout });
        }
    }

    fn ask(&self, at: Instant, kind: ErrorKind) {
        self.total.store(kind == ErrorKind::StreamDuration, Ordering::Release);
        // Rounded up: whoever is woken must not find that it is still too early.
        let micros = at.saturating_duration_since(self.base).as_nanos().div_ceil(1000);
        self.deadline.store(u64::try_from(micros).unwrap_or(NEVER), Ordering::Release);
    }

    fn clear(&self) {
        self.deadline.store(NEVER, Ordering::Release);
        self.cx.store(None);
    }
}

/// Notes why a response was cut.
pub(super) fn cut(cx: &Cx, kind: ErrorKind) {
    let row = kind.row();
    if let Some(flag) = Flag::from_name(row.flag) {
        cx.flag(flag);
    }
    let _ = cx.details.set(row.details.into());
    cx.cut.store(true, Ordering::Relaxed);
}

impl Default for StreamClock {
    fn default() -> Self {
        Self::new()
    }
}

/// In a request's extensions: the clock of its connection or its own, and when its first byte came.
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
    /// Whose request it is.
    pub(super) fn of(clock: Option<Arc<StreamClock>>, cx: Option<&Arc<Cx>>) -> Self {
        let Some(clock) = clock else { return Self::Own(None) };
        clock.cx.store(cx.cloned());
        Self::Connection(clock)
    }

    /// The time has changed, and it is not sure that anybody will poll.
    pub(super) fn moved(&self, at: Instant, kind: ErrorKind) {
        if let Self::Connection(clock) = self {
            clock.ask(at, kind);
        }
    }

    /// Ready when it is this time.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, at: Instant, kind: ErrorKind) -> Poll<()> {
        match self {
            Self::Connection(clock) => {
                if at <= Instant::now() {
                    return Poll::Ready(());
                }
                clock.ask(at, kind);
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
