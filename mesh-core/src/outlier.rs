//! Outlier detection: which endpoints are taken out because of what requests saw of them, for how long, and when they
//! come back.
//!
//! A [`Detector`] belongs to one cluster. It is told what each try saw ([`Detector::observe`]: a few atomics and no lock
//! until a threshold is reached) and sweeps at the configured interval ([`Detector::sweep`]). Whoever owns it is told of
//! each change, with the evidence.

mod host;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use http::StatusCode;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::snapshot::{Address, Map, OutlierPlan};
pub use host::Host;

/// The longest ejection, unless `baseEjectionTime` is longer; Envoy's default, which Istio keeps.
const MAX_EJECTION_TIME: Duration = Duration::from_secs(300);

/// What one try saw of an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// An answer; for gRPC the status that its `grpc-status` stands for.
    Status(StatusCode),
    /// A connection was made, and nothing more is known (TCP).
    Connected,
    /// The proxy itself failed: connecting, or a reset before an answer. Counts as 503 if not counted apart.
    LocalFailure,
    /// No answer in time. Counts as 504 if not counted apart.
    LocalTimeout,
}

/// Which counter took an endpoint out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// `consecutive5xxErrors`.
    Consecutive5xx,
    /// `consecutiveGatewayErrors`.
    ConsecutiveGateway,
    /// `consecutiveLocalOriginFailures`.
    ConsecutiveLocal,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Consecutive5xx => "consecutive5xxErrors",
            Self::ConsecutiveGateway => "consecutiveGatewayErrors",
            Self::ConsecutiveLocal => "consecutiveLocalOriginFailures",
        })
    }
}

/// Something changed, or would have.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// An endpoint is out.
    Ejected {
        /// The endpoint.
        address: Address,
        /// The counter that was full.
        cause: Cause,
        /// Failures in a row.
        failures: u32,
        /// The last of them.
        last: Event,
        /// How long it stays out, at least.
        time: Duration,
        /// Endpoints that are out now, of how many.
        out: (u32, u32),
    },
    /// An endpoint should be out, but `maxEjectionPercent` are already.
    Overflow {
        /// The endpoint.
        address: Address,
        /// The counter that was full.
        cause: Cause,
        /// Failures in a row.
        failures: u32,
    },
    /// An endpoint is back.
    Returned {
        /// The endpoint.
        address: Address,
    },
}

/// Counters of a detector; named as Envoy's `outlier_detection.*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Endpoints that are out.
    pub ejections_active: u64,
    /// Ejections so far.
    pub ejections_enforced_total: u64,
    /// Those by 5xx.
    pub ejections_enforced_consecutive_5xx: u64,
    /// Those by gateway errors.
    pub ejections_enforced_consecutive_gateway_failure: u64,
    /// Those by failures of the proxy itself.
    pub ejections_enforced_consecutive_local_origin_failure: u64,
    /// Ejections that `maxEjectionPercent` prevented.
    pub ejections_overflow: u64,
}

#[derive(Default)]
struct Counts {
    by_5xx: AtomicU64,
    by_gateway: AtomicU64,
    by_local: AtomicU64,
    overflow: AtomicU64,
}

/// Who is told of changes. Called where a request failed: it must not block.
pub type Listener = Box<dyn Fn(&Change) + Send + Sync>;

/// The outlier detection of one cluster. Without a plan it counts nothing.
pub struct Detector {
    plan: ArcSwapOption<OutlierPlan>,
    hosts: ArcSwap<Map<Address, Arc<Host>>>,
    began: Instant,
    counts: Counts,
    /// Endpoints that are out. Locked only when one goes out, on sweeps and when endpoints change.
    out: Mutex<u32>,
    listener: Listener,
}

impl Detector {
    /// Without a plan and without endpoints.
    pub fn new(listener: Listener) -> Self {
        Self {
            plan: ArcSwapOption::empty(),
            hosts: ArcSwap::default(),
            began: Instant::now(),
            counts: Counts::default(),
            out: Mutex::new(0),
            listener,
        }
    }

    /// Sets the plan. Without one, everybody returns.
    pub fn set_plan(&self, plan: Option<OutlierPlan>) {
        let on = plan.is_some();
        self.plan.store(plan.map(Arc::new));
        if !on {
            let mut out = self.out.lock();
            for (address, host) in self.hosts.load().iter() {
                if host.is_ejected() {
                    host.return_now(self.now());
                    *out = out.saturating_sub(1);
                    (self.listener)(&Change::Returned { address: address.clone() });
                }
            }
        }
    }

    /// The plan in force.
    pub fn plan(&self) -> Option<Arc<OutlierPlan>> {
        self.plan.load_full()
    }

    /// Sets the endpoints. Those that stay keep their counters.
    pub fn set_hosts(&self, hosts: impl Iterator<Item = (Address, Arc<Host>)>) {
        let mut out = self.out.lock();
        let hosts: Map<Address, Arc<Host>> = hosts.collect();
        *out = u32::try_from(hosts.values().filter(|h| h.is_ejected()).count()).unwrap_or(u32::MAX);
        self.hosts.store(Arc::new(hosts));
    }

    /// Takes note of what a try saw.
    pub fn observe(&self, address: &Address, event: Event) {
        let plan = self.plan.load();
        let Some(plan) = &*plan else { return };
        let hosts = self.hosts.load();
        let Some(host) = hosts.get(address) else { return };
        if let Some((cause, failures)) = host.count(plan, event) {
            self.eject(plan, address, host, (cause, failures, event), hosts.len());
        }
    }

    fn eject(
        &self,
        plan: &OutlierPlan,
        address: &Address,
        host: &Host,
        (cause, failures, last): (Cause, u32, Event),
        hosts: usize,
    ) {
        let hosts = u32::try_from(hosts).unwrap_or(u32::MAX);
        let mut out = self.out.lock();
        if host.is_ejected() {
            return;
        }
        // No exception for the last one, nor for the first: as measured of Envoy.
        if u64::from(*out + 1) * 100 > u64::from(plan.max_ejection_percent) * u64::from(hosts) {
            drop(out);
            self.counts.overflow.fetch_add(1, Ordering::Relaxed);
            return (self.listener)(&Change::Overflow { address: address.clone(), cause, failures });
        }
        *out += 1;
        let time = host.eject(plan, self.now());
        let out = (*out, hosts);
        let count = match cause {
            Cause::Consecutive5xx => &self.counts.by_5xx,
            Cause::ConsecutiveGateway => &self.counts.by_gateway,
            Cause::ConsecutiveLocal => &self.counts.by_local,
        };
        count.fetch_add(1, Ordering::Relaxed);
        let address = address.clone();
        (self.listener)(&Change::Ejected { address, cause, failures, last, time, out });
    }

    /// Lets endpoints return whose time is over, and forgives those that have stayed. To be called once an interval.
    pub fn sweep(&self) {
        let Some(plan) = self.plan.load_full() else { return };
        let now = self.now();
        let mut out = self.out.lock();
        for (address, host) in self.hosts.load().iter() {
            if host.sweep(&plan, now) {
                *out = out.saturating_sub(1);
                (self.listener)(&Change::Returned { address: address.clone() });
            }
        }
    }

    /// Sweeps for ever, each interval of the plan then in force.
    pub async fn run(self: Arc<Self>) {
        loop {
            let interval = self.plan.load().as_ref().map_or(OutlierPlan::default().interval, |p| p.interval);
            tokio::time::sleep(interval).await;
            self.sweep();
        }
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        let read = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let Counts { by_5xx, by_gateway, by_local, overflow } = &self.counts;
        let (by_5xx, by_gateway, by_local) = (read(by_5xx), read(by_gateway), read(by_local));
        Stats {
            ejections_active: u64::from(*self.out.lock()),
            ejections_enforced_total: by_5xx + by_gateway + by_local,
            ejections_enforced_consecutive_5xx: by_5xx,
            ejections_enforced_consecutive_gateway_failure: by_gateway,
            ejections_enforced_consecutive_local_origin_failure: by_local,
            ejections_overflow: read(overflow),
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }
}
