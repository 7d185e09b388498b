//! A histogram of atomics: workers count at the same time, and none waits for another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};

use super::labels::Labels;

/// Upper bounds of every histogram: Envoy's default, as Istio leaves it, and no bound.
const BOUNDS: [f64; 20] = [
    0.5,
    1.,
    5.,
    10.,
    25.,
    50.,
    100.,
    250.,
    500.,
    1000.,
    2500.,
    5000.,
    10000.,
    30000.,
    60000.,
    300_000.,
    600_000.,
    1_800_000.,
    3_600_000.,
    f64::INFINITY,
];

/// Milliseconds or bytes; clones are the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    buckets: [AtomicU64; BOUNDS.len()],
    /// Bits of an `f64`.
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn observe(&self, value: f64) {
        let Counts { buckets, sum } = &*self.0;
        let bucket = BOUNDS.iter().position(|bound| value <= *bound).unwrap_or(BOUNDS.len() - 1);
        buckets[bucket].fetch_add(1, Ordering::Relaxed);
        if value != 0. {
            let plus = |bits| Some((f64::from_bits(bits) + value).to_bits());
            let _ = sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, plus);
        }
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counts = self.0.buckets.each_ref().map(|b| b.load(Ordering::Relaxed));
        let buckets: Vec<_> = BOUNDS.into_iter().zip(counts).collect();
        let sum = f64::from_bits(self.0.sum.load(Ordering::Relaxed));
        encoder.encode_histogram::<Labels>(sum, counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}
