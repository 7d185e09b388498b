//! What was measured.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{Answer, Failure};

/// Percentiles that are printed, as fortio's.
const PERCENTILES: [f64; 5] = [50.0, 75.0, 90.0, 99.0, 99.9];

/// Counters of one run.
#[derive(Debug)]
pub struct Figures {
    /// From the start until the last answer.
    pub elapsed: Duration,
    /// It was ended before the plan was done.
    pub stopped: bool,
    codes: BTreeMap<String, u64>,
    failures: BTreeMap<Failure, u64>,
    overloaded: u64,
    bytes: u64,
    /// Microseconds.
    latency: Histogram<u64>,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            elapsed: Duration::ZERO,
            stopped: false,
            codes: BTreeMap::new(),
            failures: BTreeMap::new(),
            overloaded: 0,
            bytes: 0,
            latency: Histogram::new(3).expect("invariant: 3 significant digits are allowed"),
        }
    }
}

impl Figures {
    /// Counts a request. Only complete answers have a latency.
    pub fn add(&mut self, took: Duration, outcome: Result<Answer, Failure>) {
        match outcome {
            Ok(answer) => {
                *self.codes.entry(answer.code).or_default() += 1;
                self.overloaded += u64::from(answer.overloaded);
                self.bytes += answer.bytes;
                // The histogram grows by itself; only a time of many thousand years has no place in it.
                let _ = self.latency.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
            }
            Err(failure) => *self.failures.entry(failure).or_default() += 1,
        }
    }

    /// Requests without a complete answer.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// All of it, for output.
    pub fn report(&self, url: &str, protocol: &'static str, connections: usize, sockets: u64) -> Report {
        let answered: u64 = self.codes.values().sum();
        let requests = answered + self.failed();
        let seconds = self.elapsed.as_secs_f64();
        let share = |n: u64| n as f64 * 100.0 / requests.max(1) as f64;
        let shares = |(name, n): (String, u64)| (name, Share { count: n, percent: share(n) });
        let failures = self.failures.iter().map(|(f, n)| (f.name().to_owned(), *n));
        Report {
            url: url.to_owned(),
            protocol,
            connections,
            requests,
            duration_seconds: seconds,
            actual_qps: if seconds > 0.0 { requests as f64 / seconds } else { 0.0 },
            stopped: self.stopped,
            codes: self.codes.clone().into_iter().map(shares).collect(),
            errors: failures.map(shares).collect(),
            overloaded: self.overloaded,
            sockets,
            body_bytes: self.bytes,
            latency_seconds: (answered > 0).then(|| self.latencies()),
        }
    }

    fn latencies(&self) -> Latency {
        let s = |us: u64| us as f64 / 1e6;
        let h = &self.latency;
        let percentile = |p: f64| Percentile { percentile: p, value: s(h.value_at_quantile(p / 100.0)) };
        Latency {
            min: s(h.min()),
            average: h.mean() / 1e6,
            max: s(h.max()),
            standard_deviation: h.stdev() / 1e6,
            percentiles: PERCENTILES.map(percentile).to_vec(),
        }
    }
}

/// What a run is printed as.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Target.
    pub url: String,
    /// `HTTP/1.0`, `HTTP/1.1`, `HTTP/2` or `gRPC`.
    pub protocol: &'static str,
    /// Connections at a time.
    pub connections: usize,
    /// Requests with an outcome.
    pub requests: u64,
    /// How long it took.
    pub duration_seconds: f64,
    /// Requests per second.
    pub actual_qps: f64,
    /// It was interrupted.
    pub stopped: bool,
    /// Complete answers by status.
    pub codes: BTreeMap<String, Share>,
    /// Requests without a complete answer, by reason.
    pub errors: BTreeMap<String, Share>,
    /// Answers with `x-envoy-overloaded`.
    pub overloaded: u64,
    /// Connections that were opened.
    pub sockets: u64,
    /// Bytes of all bodies.
    pub body_bytes: u64,
    /// Time until an answer was complete; absent without any.
    pub latency_seconds: Option<Latency>,
}

/// A part of all requests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Share {
    /// How many.
    pub count: u64,
    /// Of all requests.
    pub percent: f64,
}

/// Seconds until answers were complete.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// Shortest.
    pub min: f64,
    /// Mean.
    pub average: f64,
    /// Longest.
    pub max: f64,
    /// Standard deviation.
    pub standard_deviation: f64,
    /// Percentiles.
    pub percentiles: Vec<Percentile>,
}

/// So many percent were not longer than this.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Percentile {
    /// Percent.
    pub percentile: f64,
    /// Seconds.
    pub value: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, protocol, connections, requests, .. } = self;
        let seconds = self.duration_seconds;
        let interrupted = if self.stopped { " (interrupted)" } else { "" };
        writeln!(
            f,
            "{requests} requests to {url} ({protocol}) over {connections} connections in {seconds:.3} s, {:.1} per second{interrupted}",
            self.actual_qps
        )?;
        for (code, Share { count, percent }) in &self.codes {
            writeln!(f, "Code {code} : {count} ({percent:.1} %)")?;
        }
        for (reason, Share { count, percent }) in &self.errors {
            writeln!(f, "Error {reason} : {count} ({percent:.1} %)")?;
        }
        if self.overloaded > 0 {
            writeln!(f, "Overloaded (x-envoy-overloaded) : {}", self.overloaded)?;
        }
        writeln!(f, "Sockets used : {} (for perfect keep-alive, would be {connections})", self.sockets)?;
        if let Some(l) = &self.latency_seconds {
            let ms = |s: f64| s * 1e3;
            writeln!(
                f,
                "Latency : min {:.3} ms, average {:.3} ms, max {:.3} ms, standard deviation {:.3} ms",
                ms(l.min),
                ms(l.average),
                ms(l.max),
                ms(l.standard_deviation)
            )?;
            for p in &l.percentiles {
                writeln!(f, "Target {} % : {:.3} ms", p.percentile, ms(p.value))?;
            }
        }
        Ok(())
    }
}
