//! The configuration of a process: what a source delivers comes into force, ports are opened as it asks, then it is
//! acknowledged.

use std::convert::Infallible;
use std::sync::Arc;

use mesh_core::wire::{Ack, ConfigSource, Delta};
use tokio::sync::watch;
use tokio::time::{Duration, interval};

use super::doors::Doors;
use super::follow;
use crate::admin::State;
use crate::force::{Facts, InForce};
use crate::net::HostNet;

/// How often ports that could not be opened are tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Applies deltas.
pub(super) struct Control {
    force: InForce<HostNet>,
    doors: Doors,
    state: Arc<State<HostNet>>,
    facts: watch::Sender<Facts>,
}

impl Control {
    pub(super) fn new(force: InForce<HostNet>, doors: Doors, state: Arc<State<HostNet>>) -> Self {
        Self { force, doors, state, facts: watch::Sender::default() }
    }

    /// To follow what is in force.
    pub(super) fn facts(&self) -> watch::Receiver<Facts> {
        self.facts.subscribe()
    }

    /// Applies deltas for ever. A delta is acknowledged when every worker uses it for new requests and its ports are open.
    pub(super) async fn run(mut self, mut source: impl ConfigSource) -> Infallible {
        let mut retry = interval(RETRY);
        loop {
            tokio::select! {
                delta = follow(&mut source) => {
                    let ack = self.apply(delta).await;
                    source.ack(ack).await;
                }
                _ = retry.tick(), if self.doors.are_missing() => self.open_doors().await,
            }
        }
    }

    async fn apply(&mut self, delta: Delta) -> Ack {
        let (ack, facts) = self.force.apply(delta);
        self.open_doors().await;
        self.facts.send_replace(facts);
        self.state.set_configured();
        ack
    }

    async fn open_doors(&mut self) {
        if let Some(snapshot) = self.force.snapshot() {
            self.doors.reconcile(snapshot).await;
        }
    }
}
