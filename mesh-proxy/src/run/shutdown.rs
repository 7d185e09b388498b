//! The end of a process: signals, drain, exit.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Process;
use crate::admin::State;
use crate::force::Facts;
use crate::net::HostNet;

/// Resolves when the process may exit.
///
/// After the first SIGTERM or SIGINT readiness fails and inbound answers say that the connection ends, but ports stay
/// open: other proxies send traffic here until they have heard that this workload is gone. That is known when our own
/// configuration says so, and assumed after `minimum`. Then the process ends as soon as nothing is in flight in either
/// direction, at the latest after `drainDuration`. A second signal, or `/quitquitquit`, ends it at once.
pub(super) async fn finished(
    shared: &Process,
    state: &Arc<State<HostNet>>,
    facts: watch::Receiver<Facts>,
    minimum: Option<Duration>,
) {
    // Made once: a second signal that comes right after the first is not lost.
    let mut signals = signal(SignalKind::terminate()).ok().zip(signal(SignalKind::interrupt()).ok());
    tokio::select! {
        () = asked(&mut signals) => {}
        () = state.quit() => return,
    }
    tracing::info!("draining");
    state.set_draining();
    shared.inbound.start();
    tokio::select! {
        () = asked(&mut signals) => tracing::info!("second signal: ending at once"),
        () = state.quit() => {}
        () = drained(shared, facts, minimum) => tracing::info!("drained"),
    }
}

async fn drained(shared: &Process, facts: watch::Receiver<Facts>, minimum: Option<Duration>) {
    let snapshot = shared.snapshot.load_full();
    let plan = snapshot.as_ref().map(|s| &s.proxy);
    let minimum = minimum.or(plan.map(|p| p.termination_drain_duration)).unwrap_or_default();
    let longest = plan.map_or(minimum, |p| p.drain_duration.max(minimum));
    let empty = async {
        // Whichever comes first; the limit is no error.
        let _ = timeout(minimum, forgotten(facts)).await;
        while shared.inbound.in_flight() + shared.outbound.in_flight() > 0 {
            shared.inbound.idle().await;
            shared.outbound.idle().await;
        }
    };
    if timeout(longest, empty).await.is_err() {
        let left = shared.inbound.in_flight() + shared.outbound.in_flight();
        tracing::warn!(left, "drainDuration is over; ending what is in flight");
    }
}

/// Resolves when the mesh no longer sends traffic here.
async fn forgotten(mut facts: watch::Receiver<Facts>) {
    let gone = facts.wait_for(|f| f.configured && !f.receives_traffic).await.is_ok();
    if !gone {
        std::future::pending::<()>().await;
    }
}

/// The next SIGTERM or SIGINT.
async fn asked(signals: &mut Option<(Signal, Signal)>) {
    let Some((terminate, interrupt)) = signals else {
        // Without handlers the signals end the process by themselves.
        return sleep(Duration::MAX).await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
