//! Sinks of finished requests: the access log and Istio's standard metrics.
//!
//! Both read a [`mesh_core::record::RequestRecord`] on the worker that served the request and must not hold it up: the
//! log formats into a buffer and hands it to a writer thread (a full queue drops lines and counts them), metrics add to
//! counters whose handles are kept per label set.

pub mod access_log;
pub mod denials;
pub mod metrics;

use std::sync::Arc;

use mesh_core::record::{CopyOutcome, RequestRecord, Sink};

/// Several sinks in order.
#[derive(Clone, Default)]
pub struct Sinks(Vec<Arc<dyn Sink>>);

impl Sinks {
    /// These sinks.
    pub fn new(sinks: Vec<Arc<dyn Sink>>) -> Self {
        Self(sinks)
    }
}

impl Sink for Sinks {
    fn record(&self, record: &RequestRecord) {
        for sink in &self.0 {
            sink.record(record);
        }
    }

    fn copied(&self, cluster: &str, outcome: CopyOutcome) {
        for sink in &self.0 {
            sink.copied(cluster, outcome);
        }
    }
}
