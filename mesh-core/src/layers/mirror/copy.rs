//! One copy on its way, and how many there may be.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::{Either, select};
use http_body::Body as _;
use tower::Service;

use super::tee::Lost;
use crate::error::Error;
use crate::layers::{BoxService, Request};
use crate::record::{CopyOutcome, Sink};

/// Copies to one destination that may be under way at a time.
const MAX_COPIES: usize = 1024;
/// Bytes of bodies that may wait for one destination.
const MAX_BYTES: usize = 16 << 20;
/// Bytes of one body that may wait: Envoy's default buffer limit.
const MAX_BODY: usize = 1 << 20;

/// What is under way to one mirror. Bounds: 1,024 copies; 1 MiB of a body waiting for the mirror, 16 MiB of all bodies.
#[derive(Debug, Default)]
pub struct Budget {
    copies: AtomicUsize,
    bytes: AtomicUsize,
}

impl Budget {
    /// Room for one more copy.
    pub(super) fn admit(self: &Arc<Self>) -> Option<Slot> {
        let one_more = |n| (n < MAX_COPIES).then_some(n + 1);
        let admitted = self.copies.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok();
        admitted.then(|| Slot(Arc::new(Held { budget: Arc::clone(self), waiting: AtomicUsize::new(0) })))
    }

    /// Copies under way.
    pub fn copies(&self) -> usize {
        self.copies.load(Ordering::Relaxed)
    }
}

/// One copy's part of the budget; given back with the last clone.
#[derive(Clone)]
pub(super) struct Slot(Arc<Held>);

struct Held {
    budget: Arc<Budget>,
    waiting: AtomicUsize,
}

impl Slot {
    /// More bytes wait; `false` if that is too much.
    pub(super) fn wait(&self, bytes: usize) -> bool {
        let own = self.0.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let all = self.0.budget.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        own <= MAX_BODY && all <= MAX_BYTES
    }

    /// Bytes have been taken.
    pub(super) fn taken(&self, bytes: usize) {
        self.0.waiting.fetch_sub(bytes, Ordering::Relaxed);
        self.0.budget.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.bytes.fetch_sub(*self.waiting.get_mut(), Ordering::Relaxed);
        self.budget.copies.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A copy that is ready to go.
pub(super) struct Copy {
    pub(super) service: BoxService,
    pub(super) request: Request,
    pub(super) lost: Option<Lost>,
    pub(super) slot: Slot,
    pub(super) cluster: Arc<str>,
    pub(super) sinks: Arc<[Arc<dyn Sink>]>,
}

impl Copy {
    /// Sends it on a task of its own: it may outlive the request that it is of.
    pub(super) fn send(self) {
        tokio::spawn(async move {
            let Self { service, request, lost, slot, cluster, sinks } = self;
            let exchange = pin!(exchange(service, request));
            let outcome = match lost {
                None => outcome(&exchange.await),
                Some(lost) => match select(pin!(lost.wait()), exchange).await {
                    Either::Left(((), _)) => CopyOutcome::Lost,
                    Either::Right((result, _)) => outcome(&result),
                },
            };
            drop(slot);
            for sink in sinks.iter() {
                sink.copied(&cluster, outcome);
            }
        });
    }
}

fn outcome(result: &Result<(), Error>) -> CopyOutcome {
    if result.is_ok() { CopyOutcome::Sent } else { CopyOutcome::Failed }
}

/// Sends a copy and reads the answer to its end, so that its connection can be used again.
async fn exchange(mut service: BoxService, request: Request) -> Result<(), Error> {
    let mut body = service.call(request).await?.into_body();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        frame?;
    }
    Ok(())
}
