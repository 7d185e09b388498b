//! The end of a process: signals, drain, exit.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;

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
        () = shared.drained(facts, minimum) => tracing::info!("drained"),
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
