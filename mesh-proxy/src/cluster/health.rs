//! What changes the order of a cluster's endpoints: new ones, another configuration, ejections. The order is worked out
//! here, apart from requests, which only read it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use mesh_core::balance::Layout;
use mesh_core::outlier::{Change, Detector};
use mesh_core::snapshot::{Balancer, Balancing, ClusterPlan};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::{Cluster, Told, Used};
use crate::admin::{ClusterEndpoints, EndpointStatus};
use crate::net::Net;

/// How the endpoints of a cluster are used; from its plan.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Rules {
    balancer: Balancer,
    balancing: Arc<Balancing>,
}

/// Sweeps and reacts to ejections; ends with what it watches.
#[derive(Default)]
pub(super) struct Watch(Option<AbortHandle>);

impl Watch {
    fn set(&mut self, task: Option<AbortHandle>) {
        if let Some(old) = std::mem::replace(&mut self.0, task) {
            old.abort();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.set(None);
    }
}

/// A detector that logs and rings.
pub(super) fn detector(name: Arc<str>, changed: Arc<Notify>) -> Detector {
    Detector::new(Box::new(move |change| {
        log(&name, change);
        if !matches!(change, Change::Overflow { .. }) {
            changed.notify_one();
        }
    }))
}

fn log(cluster: &str, change: &Change) {
    match change {
        Change::Ejected { address, cause, failures, last, time, out: (out, of) } => tracing::info!(
            cluster, %address, %cause, failures, ?last, ?time, out, of,
            "endpoint ejected"
        ),
        Change::Overflow { address, cause, failures } => tracing::info!(
            cluster, %address, %cause, failures,
            "endpoint fails, but maxEjectionPercent does not allow another ejection"
        ),
        Change::Returned { address } => tracing::info!(cluster, %address, "endpoint is back"),
    }
}

impl<N: Net> Cluster<N> {
    /// Uses the endpoints as a plan says. Cheap where nothing changed. To be called inside a tokio runtime: while outlier
    /// detection is on, a task there sweeps.
    pub(super) fn configure(&self, plan: &ClusterPlan, seed: u64) {
        let rules = Rules { balancer: plan.balancer, balancing: Arc::clone(&plan.balancing) };
        let runtime = rules.balancing.outlier.as_ref().map(|_| Handle::current());
        let used = {
            let mut told = self.told.lock();
            match self.used.get() {
                Some(used) => used,
                None => {
                    (told.rules, told.runtime, told.seed) = (Some(rules), runtime, seed);
                    return;
                }
            }
        };
        if used.follow(&rules, runtime.as_ref(), &self.me) {
            used.order(seed);
        }
    }

    /// Everything about the endpoints, for the config dump.
    pub(super) fn status(&self) -> ClusterEndpoints {
        let told = self.told.lock();
        match self.used.get() {
            Some(used) => used.status(),
            None => self.as_told(&Told { runtime: None, ..told.clone() }).status(),
        }
    }
}

impl<N: Net> Used<N> {
    /// Takes over the rules; says whether they are others than before. The order is to be made anew then.
    pub(super) fn follow(&self, rules: &Rules, runtime: Option<&Handle>, cluster: &Weak<Cluster<N>>) -> bool {
        let mut watch = self.watch.lock();
        let before = self.rules.load();
        if **before == *rules {
            return false;
        }
        let outlier = &rules.balancing.outlier;
        if before.balancing.outlier != *outlier {
            self.detector.set_plan(outlier.clone());
            let task = outlier.as_ref().zip(runtime).map(|(plan, runtime)| {
                let (cluster, changed) = (Weak::clone(cluster), Arc::clone(&self.changed));
                runtime.spawn(keep(cluster, changed, plan.interval)).abort_handle()
            });
            watch.set(task);
        }
        self.rules.store(Arc::new(rules.clone()));
        true
    }

    /// Orders the endpoints anew.
    pub(super) fn order(&self, seed: u64) {
        self.lay_out(seed);
        self.warn();
    }

    /// Says so where endpoints are used that should not be.
    pub(super) fn warn(&self) {
        if self.layout.load().panics() {
            tracing::info!(cluster = &*self.name, "too few endpoints are healthy: all are used");
        }
    }

    pub(super) fn lay_out(&self, seed: u64) {
        let _one_at_a_time = self.ordering.lock();
        let rules = self.rules.load();
        let layout = Layout::build(&self.members.load(), rules.balancer, &rules.balancing, seed);
        self.layout.store(Arc::new(layout));
    }

    fn status(&self) -> ClusterEndpoints {
        let layout = self.layout.load();
        let members = self.members.load();
        let endpoints = members.iter().map(|m| EndpointStatus {
            endpoint: Arc::clone(m.endpoint()),
            active: m.active(),
            ejected: m.outlier().is_ejected(),
            ejections: m.outlier().ejections(),
            failures: m.outlier().failures(),
            standing: layout.standing(&m.endpoint().address),
        });
        ClusterEndpoints {
            name: Arc::clone(&self.name),
            endpoints: endpoints.collect(),
            outliers: self.detector.plan().map(|_| self.detector.stats()),
        }
    }
}

/// Lets endpoints return in time, and puts every ejection and return into force.
async fn keep<N: Net>(cluster: Weak<Cluster<N>>, changed: Arc<Notify>, interval: Duration) {
    let mut sweep = tokio::time::interval(interval);
    sweep.tick().await;
    loop {
        let swept = tokio::select! {
            () = changed.notified() => false,
            _ = sweep.tick() => true,
        };
        let Some(cluster) = cluster.upgrade() else { return };
        match swept {
            // What returns rings.
            true => cluster.detector.sweep(),
            false => cluster.order(0),
        }
    }
}
