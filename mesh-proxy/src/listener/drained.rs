//! The end of a proxy, or of an application that embeds the mesh: when it may go without anything being lost.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::{Engine, Shared};
use crate::force::Facts;
use crate::net::Net;

impl<N: Net, H: Engine<N::Stream>> Shared<N, H> {
    /// Resolves when the mesh no longer sends traffic here, or would have heard of the end by now (`minimum`, by default
    /// `terminationDrainDuration`), and nothing is in flight in either direction; at the latest after `drainDuration`.
    pub(crate) async fn drained(&self, facts: watch::Receiver<Facts>, minimum: Option<Duration>) {
        let snapshot = self.snapshot();
        let plan = snapshot.as_ref().map(|s| &s.proxy);
        let minimum = minimum.or(plan.map(|p| p.termination_drain_duration)).unwrap_or_default();
        let longest = plan.map_or(minimum, |p| p.drain_duration.max(minimum));
        let empty = async {
            // Whichever comes first; the limit is no error.
            let _ = timeout(minimum, forgotten(facts)).await;
            while self.inbound.in_flight() + self.outbound.in_flight() > 0 {
                self.inbound.idle().await;
                self.outbound.idle().await;
            }
        };
        if timeout(longest, empty).await.is_err() {
            let left = self.inbound.in_flight() + self.outbound.in_flight();
            tracing::warn!(left, "drainDuration is over; ending what is in flight");
        }
    }
}

/// Resolves when the mesh no longer sends traffic here.
async fn forgotten(mut facts: watch::Receiver<Facts>) {
    let gone = facts.wait_for(|f| f.configured && !f.receives_traffic).await.is_ok();
    if !gone {
        std::future::pending::<()>().await;
    }
}
