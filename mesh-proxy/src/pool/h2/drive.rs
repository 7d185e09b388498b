//! What drives a connection: a task, because its streams are many and none of them is for the others.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::Connection;
use h2::{Ping, PingPong};
use mesh_core::snapshot::{ClusterPlan, Http2Ping};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};

use super::{Life, Shard, forget};

/// Asks a peer that says nothing whether it is still there.
pub(super) struct Pings {
    pings: PingPong,
    interval: Duration,
    timeout: Duration,
    /// Set when a byte has come from it.
    heard: Arc<AtomicBool>,
    timer: Pin<Box<Sleep>>,
    /// It has been asked.
    waiting: bool,
}

impl Pings {
    pub(super) fn new(pings: PingPong, plan: Http2Ping, heard: Arc<AtomicBool>) -> Self {
        let Http2Ping { interval, timeout } = plan;
        let timer = Box::pin(tokio::time::sleep(interval));
        Self { pings, interval, timeout, heard, timer, waiting: false }
    }

    /// Ready when it has not answered in time. To be asked after each look at the connection.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiting && self.pings.poll_pong(cx).is_ready() {
            self.waiting = false;
        }
        if self.heard.swap(false, Ordering::Relaxed) && !self.waiting {
            self.timer.as_mut().reset(Instant::now() + self.interval);
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if self.waiting {
                return Poll::Ready(());
            }
            self.waiting = self.pings.send_ping(Ping::opaque()).is_ok();
            let next = if self.waiting { self.timeout } else { self.interval };
            self.timer.as_mut().reset(Instant::now() + next);
            // So that the answer wakes this.
            let _ = self.pings.poll_pong(cx);
        }
    }
}

/// Drives a connection until it ends, and takes it out of the shard when it has been idle or there for too long: without
/// a sender it closes once its last stream has ended.
pub(super) async fn drive<I: AsyncRead + AsyncWrite + Unpin>(
    mut connection: Connection<I, Bytes>,
    mut pings: Option<Pings>,
    life: Arc<Life>,
    plan: Arc<ClusterPlan>,
    number: u64,
    shard: Weak<Shard>,
) {
    let mut ended = pin!(poll_fn(|cx| {
        let ended = Pin::new(&mut connection).poll(cx);
        match &mut pings {
            Some(pings) if ended.is_pending() => pings.poll(cx).map(Ok),
            _ => ended,
        }
    }));
    // How long to sleep where there is no end yet: a stream that is open now may end at any time.
    let idle = plan.pool.idle_timeout;
    let ended = loop {
        let end = life.ends(&plan.pool).or_else(|| Instant::now().checked_add(idle?));
        let until = async {
            match end {
                Some(end) => tokio::time::sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = ended.as_mut() => break ended,
            () = until => {
                if life.ends(&plan.pool).is_some_and(|end| end <= Instant::now()) {
                    if let Some(shard) = shard.upgrade() {
                        forget(&shard, number);
                    }
                    // Nothing takes new streams from here on.
                    break ended.await;
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "upstream connection");
    }
    life.over.store(true, Ordering::Release);
    if let Some(shard) = shard.upgrade() {
        forget(&shard, number);
    }
}
