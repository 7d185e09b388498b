//! What the workloads of a mesh are doing: two looks at it become rows. Nothing here talks to anybody.
//!
//! Rates, percentiles and processor time are those between the two looks; connections and memory those of the second.
//! A percentile is interpolated within the bucket of Istio's histogram that it falls into, as Prometheus'
//! `histogram_quantile` does it, so that it can't be finer than the buckets are.

mod metrics;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

pub use metrics::Proxy;

use crate::localmesh::Usage;

/// What is in a pod beside, or instead of, an application of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A sidecar.
    Sidecar,
    /// An application that embeds the mesh: one process is both.
    Embedded,
    /// A gateway: the proxy is the workload.
    Gateway,
    /// No proxy.
    Bare,
}

impl Kind {
    /// As `status` calls it.
    pub fn of(word: &str) -> Self {
        match word {
            "sidecar" => Self::Sidecar,
            "embedded" => Self::Embedded,
            "gateway" => Self::Gateway,
            _ => Self::Bare,
        }
    }
}

/// One pod at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Name of its Deployment, or its own.
    pub workload: String,
    /// What it has.
    pub kind: Kind,
    /// When this was; since any moment, the same one for both looks.
    pub at: Duration,
    /// What its proxy says; `None`: it has none, or it does not answer.
    pub proxy: Option<Proxy>,
    /// What its processes use, without the proxy.
    pub usage: Option<Usage>,
}

/// Pods by namespace and name.
pub type Look = BTreeMap<(String, String), Pod>;

/// What a workload, or a pod, has been doing. What is not known is absent: of a new pod nothing that needs two looks, of a
/// workload without proxy nothing about requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Name of the Deployment or Pod.
    pub workload: String,
    /// Namespace.
    pub namespace: String,
    /// Pods that are in this row.
    pub pods: usize,
    /// Requests that it has served (a gateway: taken) per second.
    pub requests_per_second: Option<f64>,
    /// Of these, those that were answered with a 5xx status or not at all, in percent.
    pub error_percent: Option<f64>,
    /// Time of requests; absent without any.
    pub latency_ms: Option<Latency>,
    /// Connections of clients that are open.
    pub connections: Option<u64>,
    /// Processors in use by all its processes.
    pub cpu_cores: Option<f64>,
    /// Resident memory of all its processes.
    pub memory_bytes: Option<u64>,
    /// What of it is the sidecar's or gateway's; absent without one.
    pub proxy: Option<Share>,
}

/// Percentiles in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Half of the requests took no longer.
    pub p50: f64,
    /// 99 of 100 requests took no longer.
    pub p99: f64,
}

/// A part of what a workload uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// Processors in use.
    pub cpu_cores: Option<f64>,
    /// Resident memory.
    pub memory_bytes: Option<u64>,
}

/// What rows are sorted by: names upwards, figures downwards, what is not known last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Sort {
    /// Namespace and name.
    #[default]
    Name,
    /// Requests per second.
    Rps,
    /// The 99th percentile.
    P99,
    /// Open connections.
    Connections,
    /// Processor time.
    Cpu,
    /// Memory.
    #[value(name = "mem", alias = "memory")]
    Memory,
}

/// One row for each workload, or for each pod.
pub fn rows(before: &Look, now: &Look, by_pod: bool, sort: Sort) -> Vec<Row> {
    let mut groups: BTreeMap<(&str, &str), Sum> = BTreeMap::new();
    for (key, pod) in now {
        let (namespace, name) = (key.0.as_str(), if by_pod { &key.1 } else { &pod.workload });
        groups.entry((namespace, name)).or_default().add(before.get(key), pod);
    }
    let mut rows: Vec<Row> = groups.into_iter().map(|((namespace, name), sum)| sum.row(namespace, name)).collect();
    let figure = |row: &Row| -> Option<f64> {
        match sort {
            Sort::Name => None,
            Sort::Rps => row.requests_per_second,
            Sort::P99 => row.latency_ms.map(|l| l.p99),
            Sort::Connections => row.connections.map(|n| n as f64),
            Sort::Cpu => row.cpu_cores,
            Sort::Memory => row.memory_bytes.map(|n| n as f64),
        }
    };
    // Stable: rows that are equal stay in the order of names.
    rows.sort_by(|a, b| figure(b).unwrap_or(-1.).total_cmp(&figure(a).unwrap_or(-1.)));
    rows
}

/// The pods of one row.
#[derive(Default)]
struct Sum {
    pods: usize,
    requests: Option<f64>,
    failed: f64,
    /// Requests per second of each bucket and those below it.
    buckets: BTreeMap<u64, f64>,
    connections: Option<u64>,
    own: Share,
    proxy: Option<Share>,
}

/// What is known of both; nothing is known only if neither is.
fn plus<T: std::ops::Add<Output = T>>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(a), Some(b)) => Some(a + b),
        (one, other) => one.or(other),
    }
}

impl Share {
    fn plus(self, other: Self) -> Self {
        Self {
            cpu_cores: plus(self.cpu_cores, other.cpu_cores),
            memory_bytes: plus(self.memory_bytes, other.memory_bytes),
        }
    }
}

impl Sum {
    fn add(&mut self, before: Option<&Pod>, now: &Pod) {
        self.pods += 1;
        // Of the moment before only with what it is compared with.
        let seconds = before.map(|b| now.at.saturating_sub(b.at).as_secs_f64()).filter(|s| *s > 0.);
        if let Some(proxy) = &now.proxy {
            self.connections = plus(self.connections, Some(proxy.connections));
            if let Some((seconds, old)) = seconds.zip(before.and_then(|b| b.proxy.as_ref())) {
                let since = proxy.since(old);
                self.requests = plus(self.requests, Some(since.requests / seconds));
                self.failed += since.failed / seconds;
                for (bound, count) in since.buckets {
                    *self.buckets.entry(bound).or_default() += count / seconds;
                }
            }
        }
        self.own = self.own.plus(own(before, now, seconds));
        if let (Kind::Sidecar | Kind::Gateway, Some(proxy)) = (now.kind, &now.proxy) {
            let old = before.and_then(|b| b.proxy.as_ref());
            let cpu_cores = seconds.zip(old).map(|(seconds, old)| proxy.since(old).cpu_seconds / seconds);
            let share = Share { cpu_cores, memory_bytes: Some(proxy.memory_bytes) };
            self.proxy = Some(self.proxy.unwrap_or_default().plus(share));
        }
    }

    fn row(self, namespace: &str, name: &str) -> Row {
        let all = self.own.plus(self.proxy.unwrap_or_default());
        let percentile = |q: f64| metrics::quantile(&self.buckets, q);
        Row {
            workload: name.to_owned(),
            namespace: namespace.to_owned(),
            pods: self.pods,
            requests_per_second: self.requests,
            error_percent: self.requests.filter(|n| *n > 0.).map(|n| self.failed * 100. / n),
            latency_ms: percentile(0.5).zip(percentile(0.99)).map(|(p50, p99)| Latency { p50, p99 }),
            connections: self.connections,
            cpu_cores: all.cpu_cores,
            memory_bytes: all.memory_bytes,
            proxy: self.proxy,
        }
    }
}

/// What a pod's processes use beside the proxy; a member of the mesh says it itself where nobody else does.
fn own(before: Option<&Pod>, now: &Pod, seconds: Option<f64>) -> Share {
    let Some(usage) = now.usage else {
        let (Kind::Embedded, Some(proxy)) = (now.kind, &now.proxy) else { return Share::default() };
        let old = before.and_then(|b| b.proxy.as_ref());
        let cpu_cores = seconds.zip(old).map(|(seconds, old)| proxy.since(old).cpu_seconds / seconds);
        return Share { cpu_cores, memory_bytes: Some(proxy.memory_bytes) };
    };
    // The sum falls when a process ends; what it was is not known then.
    let cores = |(seconds, old): (f64, Usage)| (usage.cpu_seconds - old.cpu_seconds).max(0.) / seconds;
    Share { cpu_cores: seconds.zip(before.and_then(|b| b.usage)).map(cores), memory_bytes: Some(usage.memory_bytes) }
}
