//! The tasks of HTTP/2 streams.
//!
//! While a client gives a stream no window, the codec asks its response's body for nothing, and a limit inside that body
//! never gets to act. Whoever polls the stream has to: it drops one that has had its time, which resets it and no other.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::rt::Executor;
use mesh_core::layers::StreamClock;
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

/// Spawns the streams of one connection.
#[derive(Clone, Default)]
pub(super) struct Streams {
    /// The codec asks for the service's future and spawns it in one go, so this is never contended.
    next: Arc<Mutex<Option<Arc<StreamClock>>>>,
}

impl Streams {
    /// The clock of the stream that is spawned next; `None`: it has no limits.
    pub(super) fn next_goes_by(&self, clock: Option<Arc<StreamClock>>) {
        if clock.is_some() {
            *self.next.lock() = clock;
        }
    }
}

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let clock = self.next.lock().take();
        match clock {
            Some(clock) => drop(tokio::spawn(Watched { stream, clock, timer: None, polled_at: None })),
            None => drop(tokio::spawn(async move { drop(stream.await) })),
        }
    }
}

pin_project! {
    /// A stream, until its time is up.
    struct Watched<F> {
        #[pin]
        stream: F,
        clock: Arc<StreamClock>,
        // Registered by the first limit that is waited for, and set anew only where it would be too late.
        timer: Option<Pin<Box<Sleep>>>,
        // The deadline at which it has been polled.
        polled_at: Option<Instant>,
    }
}

impl<F: Future> Future for Watched<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if this.stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            let Some(at) = this.clock.deadline() else { return Poll::Pending };
            let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            if timer.deadline() > at || (timer.is_elapsed() && timer.deadline() < at) {
                timer.as_mut().reset(at);
            }
            ready!(timer.as_mut().poll(cx));
            if at > Instant::now() {
                continue;
            }
            if this.polled_at.replace(at) == Some(at) {
                this.clock.is_held_up();
                return Poll::Ready(());
            }
            if this.stream.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests;
