//! What the admin endpoints see of the process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use mesh_core::snapshot::{Direction, Snapshot};
use mesh_tls::CertHandle;
use tokio::sync::Notify;

use super::{AdminState, ClusterEndpoints, Command, Profiles, Readiness};
use crate::http::Proxy;
use crate::listener::{Engine, PeerSeen, Shared};
use crate::net::Net;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::denials::Denial;
use crate::telemetry::metrics::Metrics;

/// State of a running proxy.
pub(crate) struct State<N: Net> {
    shared: Arc<Shared<N, Proxy<N>>>,
    metrics: Arc<Metrics>,
    log: Option<Arc<AccessLog>>,
    identity: OnceLock<CertHandle>,
    configured: AtomicBool,
    failing: AtomicBool,
    draining: AtomicBool,
    quit: Notify,
    profiles: OnceLock<Box<dyn Profiles>>,
}

impl<N: Net> State<N> {
    pub(crate) fn new(shared: Arc<Shared<N, Proxy<N>>>, metrics: Arc<Metrics>, log: Option<Arc<AccessLog>>) -> Self {
        let (identity, configured, failing, draining, profiles) = Default::default();
        Self { shared, metrics, log, identity, configured, failing, draining, quit: Notify::new(), profiles }
    }

    /// Has the access log write what it has.
    pub(crate) async fn flush_log(&self) {
        if let Some(log) = self.log.clone() {
            // It waits for a thread. That it ends at all is up to the runtime.
            let _ = tokio::task::spawn_blocking(move || log.flush()).await;
        }
    }

    /// The proxy's own certificate comes from there.
    pub(crate) fn set_identity(&self, identity: CertHandle) {
        // A process asks for one identity, once.
        let _ = self.identity.set(identity);
    }

    /// Profiles of the process may be taken.
    #[cfg(feature = "bin")]
    pub(crate) fn set_profiles(&self, profiles: impl Profiles) {
        // A process has one that takes them.
        let _ = self.profiles.set(Box::new(profiles));
    }

    /// Configuration is in force and ports are open.
    pub(crate) fn set_configured(&self) {
        self.configured.store(true, Ordering::Release);
    }

    /// The process is going away.
    pub(crate) fn set_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Resolves when an operator asked for the end.
    #[cfg(feature = "bin")]
    pub(crate) async fn quit(&self) {
        self.quit.notified().await;
    }
}

impl<N: Net> AdminState for State<N> {
    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.shared.snapshot()
    }

    fn endpoints(&self) -> Vec<ClusterEndpoints> {
        self.shared.http.endpoints()
    }

    fn readiness(&self) -> Readiness {
        if self.draining.load(Ordering::Acquire) || self.failing.load(Ordering::Acquire) {
            Readiness::Draining
        } else if self.configured.load(Ordering::Acquire) {
            Readiness::Live
        } else {
            Readiness::Initializing
        }
    }

    fn identity(&self) -> Option<&CertHandle> {
        self.identity.get()
    }

    fn now(&self) -> SystemTime {
        self.shared.env.now()
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let mut all = vec![
            ("inbound.in_flight", count(self.shared.inbound.in_flight())),
            ("outbound.in_flight", count(self.shared.outbound.in_flight())),
            ("access_log.dropped", self.log.as_ref().map_or(0, |log| log.dropped())),
        ];
        all.extend(self.shared.http.runtime().denials.counters());
        all
    }

    fn connections(&self, direction: Direction) -> u64 {
        self.shared.open.count(direction)
    }

    fn peers(&self) -> Vec<PeerSeen> {
        self.shared.live.peers(self.now())
    }

    fn denials(&self) -> Vec<Arc<Denial>> {
        self.shared.http.runtime().denials.latest()
    }

    fn profiles(&self) -> Option<&dyn Profiles> {
        self.profiles.get().map(|p| &**p)
    }

    fn command(&self, command: Command) {
        match command {
            Command::Drain { inbound_only } => {
                self.shared.inbound.start();
                if !inbound_only {
                    self.shared.outbound.start();
                }
            }
            Command::FailHealthCheck(failing) => {
                self.failing.store(failing, Ordering::Release);
                self.shared.inbound.fail(failing);
                self.shared.outbound.fail(failing);
            }
            Command::Quit => self.quit.notify_one(),
        }
    }
}
