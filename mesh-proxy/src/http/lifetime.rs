//! When a downstream connection ends without having been asked to: after an idle time, at an age, with a client that does
//! not finish its request's head.
//!
//! A connection has one timer. Requests write down what they want by when; the timer is set anew only where it would be
//! too late, so a request that is served in time costs a few stores.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http::StatusCode;
use mesh_core::layers::{LocalReply, StreamClock, StreamLimitConfig, StreamTimer};
use mesh_core::record::Flag;
use mesh_core::snapshot::HttpSettings;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use super::upgrade::TunnelLimits;
use crate::drain::Drain;

/// After the drain a connection that nobody uses is there for so long, as Envoy's (`delayed_close_timeout`).
const LAST: Duration = Duration::from_secs(1);
const NONE: u64 = u64::MAX;
/// Where there is no limit.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// What the requests of a connection and its timer tell each other.
pub(super) struct Life {
    pub(super) settings: HttpSettings,
    began: Instant,
    clock: Arc<StreamClock>,
    /// Requests have limits of their own.
    limited: bool,
    /// What remains of them when a request becomes a tunnel.
    pub(super) tunnel: TunnelLimits,
    /// Requests whose response has not ended.
    open: AtomicU32,
    /// When the last one ended, in microseconds after `began`.
    quiet: AtomicU64,
    /// Since when the beginning of a head lies there, in the same.
    head: AtomicU64,
    /// Since when the head of the request to come did.
    slow: AtomicU64,
    /// The connection is about to go.
    closing: AtomicBool,
}

impl Life {
    pub(super) fn new(settings: &HttpSettings) -> Self {
        Self {
            settings: *settings,
            began: Instant::now(),
            clock: Arc::default(),
            limited: StreamLimitConfig::of(settings).is_some(),
            tunnel: TunnelLimits { idle: settings.stream_idle_timeout, total: settings.max_stream_duration },
            open: 0.into(),
            quiet: 0.into(),
            head: NONE.into(),
            slow: NONE.into(),
            closing: false.into(),
        }
    }

    /// A request, until its response has ended.
    pub(super) fn enter(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::AcqRel);
        Open(Arc::clone(self))
    }

    /// Whether responses say that the connection ends.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// What the limits of a request that is served in the connection's task go by; `None`: it has none.
    pub(super) fn timer(&self) -> Option<StreamTimer> {
        if !self.limited {
            return None;
        }
        let began = self.time(self.slow.swap(NONE, Ordering::AcqRel)).unwrap_or_else(Instant::now);
        Some(StreamTimer { clock: Some(Arc::clone(&self.clock)), began })
    }

    /// The clock of a request that has a task of its own; `None`: it has no limits.
    pub(super) fn own_clock(&self) -> Option<Arc<StreamClock>> {
        self.limited.then(Arc::default)
    }

    /// A part of a head has come.
    pub(super) fn head_began(&self) {
        if self.head.load(Ordering::Relaxed) == NONE {
            self.head.store(self.now(), Ordering::Release);
        }
    }

    /// A head is complete, or will never be.
    pub(super) fn head_ended(&self) {
        // Nearly every head comes in one piece.
        if self.head.load(Ordering::Relaxed) != NONE {
            self.slow.store(self.head.swap(NONE, Ordering::AcqRel), Ordering::Release);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(NONE - 1)
    }

    fn time(&self, micros: u64) -> Option<Instant> {
        (micros != NONE).then(|| self.began + Duration::from_micros(micros))
    }

    /// Until when a head that has begun has to be complete, and the answer if it is not.
    fn head_limit(&self) -> Option<(Instant, LocalReply)> {
        let settings = &self.settings;
        let began = self.time(self.head.load(Ordering::Acquire))?;
        let late = |text, details| LocalReply::new(StatusCode::REQUEST_TIMEOUT, text, details).closing();
        let limits = [
            (settings.headers_timeout, late("request header timeout", "request_header_timeout")),
            (settings.request_timeout, late("request timeout", "request_overall_timeout")),
            (settings.stream_idle_timeout, late("stream timeout", "stream_idle_timeout").flagged(Flag::Si)),
        ];
        let limits = limits.into_iter().filter_map(|(limit, reply)| Some((began.checked_add(limit?)?, reply)));
        limits.min_by_key(|(at, _)| *at)
    }

    /// When the connection has been idle for so long; `None`: it is in use.
    fn idle_since(&self) -> Option<Instant> {
        let used = self.open.load(Ordering::Acquire) > 0 || self.head.load(Ordering::Acquire) != NONE;
        if used { None } else { self.time(self.quiet.load(Ordering::Acquire)) }
    }
}

/// An open request of a connection.
pub(super) struct Open(Arc<Life>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.quiet.store(self.0.now(), Ordering::Release);
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How a connection is told things.
pub(super) struct Kind<F, R> {
    /// It announces that it goes (HTTP/2); otherwise its responses do.
    pub(super) announces: bool,
    /// It takes no more requests: HTTP/2 says so, HTTP/1 ends after the one at hand.
    pub(super) finish: F,
    /// Answers what there is of a head with this.
    pub(super) refuse_head: R,
}

/// A closure that any borrow of this connection will do for.
pub(super) fn finish<C, F: Fn(Pin<&mut C>)>(_: &C, finish: F) -> F {
    finish
}

/// Where a connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Serving,
    /// It goes at this time, and takes requests until then.
    Draining(Instant),
    /// It goes when nothing is open.
    Finishing,
}

/// What to do when the timer has fired.
enum Act {
    /// Look at the connection: a request of it has come to its limit.
    Look,
    /// Let it take no more requests.
    Finish,
    /// Answer the head that does not come.
    Refuse(Box<LocalReply>),
    /// It is over.
    End,
}

/// Serves a connection until it ends or its time is up. `drain` makes it finish from outside.
pub(super) fn serve<C, F, R>(connection: C, kind: Kind<F, R>, life: Arc<Life>, drain: Option<Drain>) -> Serving<C, F, R>
where
    C: Future<Output = hyper::Result<()>>,
    F: Fn(Pin<&mut C>),
    R: Fn(LocalReply),
{
    let watch = Watch { life, announces: kind.announces, phase: Phase::Serving, given: None };
    let timer = tokio::time::sleep_until(watch.first());
    Serving { connection, timer, drain: drain.map(Leaving::new), watch, kind, waker: None }
}

pin_project! {
    /// Future of [`serve`]. Written out, because it is there for as long as the connection is: an async block would have room
    /// for the connection twice.
    pub(super) struct Serving<C, F, R> {
        #[pin]
        connection: C,
        #[pin]
        timer: Sleep,
        drain: Option<Leaving>,
        watch: Watch,
        kind: Kind<F, R>,
        // Whom timer and drain wake.
        waker: Option<Waker>,
    }
}

impl<C, F, R> Future for Serving<C, F, R>
where
    C: Future<Output = hyper::Result<()>>,
    F: Fn(Pin<&mut C>),
    R: Fn(LocalReply),
{
    type Output = hyper::Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        // Nearly always: a connection is looked at for what moves on it, and the others have nothing to say.
        let known = this.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !known {
            *this.waker = Some(cx.waker().clone());
        }
        if this.drain.as_mut().is_some_and(|drain| drain.poll(cx, known).is_ready()) {
            *this.drain = None;
            (this.kind.finish)(this.connection.as_mut());
        }
        loop {
            if let Poll::Ready(ended) = this.connection.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
            match this.watch.poll(cx, this.timer.as_mut(), known) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Act::End) => return Poll::Ready(Ok(())),
                Poll::Ready(Act::Look) => {}
                Poll::Ready(Act::Finish) => (this.kind.finish)(this.connection.as_mut()),
                Poll::Ready(Act::Refuse(reply)) => (this.kind.refuse_head)(*reply),
            }
        }
    }
}

/// Waits for the drain to start.
struct Leaving {
    drain: Drain,
    started: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Leaving {
    fn new(drain: Drain) -> Self {
        let started = drain.clone();
        Self { drain, started: Box::pin(async move { started.started().await }) }
    }

    /// `known`: it wakes the right one already.
    fn poll(&mut self, cx: &mut Context<'_>, known: bool) -> Poll<()> {
        if known && !self.drain.is_draining() {
            return Poll::Pending;
        }
        self.started.as_mut().poll(cx)
    }
}

struct Watch {
    life: Arc<Life>,
    announces: bool,
    phase: Phase,
    /// The deadline of a request that has been woken for it.
    given: Option<Instant>,
}

impl Watch {
    fn far() -> Instant {
        Instant::now() + FAR
    }

    /// When to look for the first time.
    fn first(&self) -> Instant {
        let limits = [self.life.settings.idle_timeout, self.life.settings.max_connection_duration];
        let first = limits.into_iter().flatten().filter_map(|limit| self.life.began.checked_add(limit)).min();
        first.unwrap_or_else(Self::far)
    }

    /// What can't wait for the timer: it is there from one moment to the next.
    fn urgent(&self) -> Option<Instant> {
        let head = match self.life.head.load(Ordering::Acquire) {
            NONE => None,
            _ => self.life.head_limit().map(|(at, _)| at),
        };
        head.into_iter().chain(self.life.clock.deadline()).min()
    }

    /// Ready when there is something to do. To be asked after each look at the connection. `known`: the timer wakes the
    /// right one already.
    fn poll(&mut self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>, known: bool) -> Poll<Act> {
        let earlier = self.urgent().filter(|at| *at < timer.deadline());
        match earlier {
            Some(at) => timer.as_mut().reset(at),
            None if known && !timer.is_elapsed() => return Poll::Pending,
            None => {}
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            match self.act(Instant::now()) {
                Ok(act) => return Poll::Ready(act),
                Err(at) => timer.as_mut().reset(self.urgent().map_or(at, |urgent| urgent.min(at))),
            }
        }
    }

    /// What to do now, or when to look again at the latest.
    fn act(&mut self, now: Instant) -> Result<Act, Instant> {
        if let Some((at, reply)) = self.life.head_limit()
            && at <= now
        {
            self.life.head_ended();
            return Ok(Act::Refuse(Box::new(reply)));
        }
        if let Some(at) = self.life.clock.deadline()
            && at <= now
        {
            if self.given.replace(at) != Some(at) {
                return Ok(Act::Look);
            }
            self.life.clock.is_held_up();
            return Ok(Act::End);
        }
        match self.phase {
            Phase::Serving => {
                let goes = self.goes_at(now);
                if goes > now {
                    return Err(goes);
                }
                self.life.closing.store(true, Ordering::Release);
                let until = now + self.life.settings.drain_timeout + LAST;
                self.phase = Phase::Draining(until);
                if self.announces { Ok(Act::Finish) } else { Err(until) }
            }
            Phase::Draining(until) if until > now => Err(until),
            Phase::Draining(_) => {
                self.phase = Phase::Finishing;
                if self.announces { self.act(now) } else { Ok(Act::Finish) }
            }
            // The client has not taken notice.
            Phase::Finishing if self.announces && self.life.idle_since().is_some() => Ok(Act::End),
            // A request that is open may end at any time.
            Phase::Finishing => Err(now + LAST),
        }
    }

    /// When the connection goes by what is known now.
    fn goes_at(&self, now: Instant) -> Instant {
        let age = self.life.settings.max_connection_duration.and_then(|limit| self.life.began.checked_add(limit));
        let idle = self.life.settings.idle_timeout;
        let idle = idle.and_then(|limit| self.life.idle_since().unwrap_or(now).checked_add(limit));
        age.into_iter().chain(idle).min().unwrap_or_else(Self::far)
    }
}

#[cfg(test)]
mod tests;
