//! What a proxy says in Prometheus' text format, as far as rows are made of it.

use std::collections::BTreeMap;

use super::Kind;

/// Counters and gauges of a proxy at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proxy {
    /// When the process started, in seconds: one that is another process counts from zero.
    pub started: f64,
    /// Requests that it has served for its application, or taken as a gateway.
    pub requests: f64,
    /// Those of them that failed.
    pub failed: f64,
    /// Requests by the upper bound of their duration in milliseconds (as bits, which are in the order of the numbers),
    /// each with those below.
    pub buckets: BTreeMap<u64, f64>,
    /// Open connections of clients.
    pub connections: u64,
    /// Processor time.
    pub cpu_seconds: f64,
    /// Resident memory.
    pub memory_bytes: u64,
}

impl Proxy {
    /// Reads them. Of a workload's requests those count that its own side reports, as the destination; of a gateway's all,
    /// which it reports as their source.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "gauges of sizes, written as floats")]
    pub fn read(text: &str, kind: Kind) -> Self {
        let (reporter, direction) = match kind {
            Kind::Gateway => ("source", "gateway"),
            Kind::Sidecar | Kind::Embedded | Kind::Bare => ("destination", "inbound"),
        };
        let mut proxy = Self::default();
        for Line { name, labels, value } in text.lines().filter_map(Line::parse) {
            let is = |label: &str, wanted: &str| self::label(labels, label) == Some(wanted);
            match name {
                "istio_requests_total" if is("reporter", reporter) => {
                    proxy.requests += value;
                    let status = self::label(labels, "response_code").unwrap_or_default();
                    if status.starts_with('5') || status == "0" {
                        proxy.failed += value;
                    }
                }
                "istio_request_duration_milliseconds_bucket" if is("reporter", reporter) => {
                    let bound = self::label(labels, "le").and_then(|le| le.parse::<f64>().ok());
                    if let Some(bound) = bound.filter(|b| *b >= 0.) {
                        *proxy.buckets.entry(bound.to_bits()).or_default() += value;
                    }
                }
                "mesh_downstream_connections" if is("direction", direction) => proxy.connections = value as u64,
                "process_cpu_seconds_total" => proxy.cpu_seconds = value,
                "process_resident_memory_bytes" => proxy.memory_bytes = value as u64,
                "process_start_time_seconds" => proxy.started = value,
                _ => {}
            }
        }
        proxy
    }

    /// What has been counted since then.
    pub(super) fn since(&self, before: &Self) -> Since {
        let nothing = Self::default();
        let before = if before.started == self.started { before } else { &nothing };
        let more = |now: f64, before: f64| (now - before).max(0.);
        let bucket =
            |(bound, now): (&u64, &f64)| (*bound, more(*now, before.buckets.get(bound).copied().unwrap_or_default()));
        Since {
            requests: more(self.requests, before.requests),
            failed: more(self.failed, before.failed),
            buckets: self.buckets.iter().map(bucket).collect(),
            cpu_seconds: more(self.cpu_seconds, before.cpu_seconds),
        }
    }
}

/// The difference of counters.
pub(super) struct Since {
    pub(super) requests: f64,
    pub(super) failed: f64,
    pub(super) buckets: BTreeMap<u64, f64>,
    pub(super) cpu_seconds: f64,
}

/// The value below which so much of a histogram is; `None` of an empty one. In the bucket without a bound it is the last
/// bound.
pub(super) fn quantile(buckets: &BTreeMap<u64, f64>, q: f64) -> Option<f64> {
    let all = *buckets.values().next_back()?;
    if all <= 0. {
        return None;
    }
    let rank = q * all;
    let (mut low, mut below) = (0., 0.);
    for (bound, count) in buckets {
        let bound = f64::from_bits(*bound);
        if *count >= rank && *count > below {
            return Some(if bound.is_finite() { low + (bound - low) * (rank - below) / (count - below) } else { low });
        }
        if bound.is_finite() {
            low = bound;
        }
        below = *count;
    }
    Some(low)
}

/// A sample.
struct Line<'a> {
    name: &'a str,
    /// What is between the braces.
    labels: &'a str,
    value: f64,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        let (name, labels, rest) = match (line.find('{'), line.rfind('}')) {
            (Some(open), Some(close)) if open < close => (&line[..open], &line[open + 1..close], &line[close + 1..]),
            _ => {
                let (name, rest) = line.split_once(' ')?;
                (name, "", rest)
            }
        };
        let value = rest.split_whitespace().next()?.parse().ok()?;
        Some(Self { name, labels, value })
    }
}

/// The value of a label, as it is written.
fn label<'a>(labels: &'a str, wanted: &str) -> Option<&'a str> {
    let mut rest = labels;
    while let Some((name, value)) = rest.split_once("=\"") {
        let mut escaped = false;
        let end = value.find(|c: char| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        })?;
        if name.trim_start_matches([',', ' ']) == wanted {
            return Some(&value[..end]);
        }
        rest = &value[end + 1..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_whatever_others_hold() {
        let labels = "a=\"x,reporter=\\\"no\\\"\",b=\"\\\\\",reporter=\"source\",le=\"+Inf\"";
        assert_eq!(label(labels, "reporter"), Some("source"));
        assert_eq!(label(labels, "b"), Some("\\\\"));
        assert_eq!(label(labels, "le").unwrap().parse(), Ok(f64::INFINITY));
        assert_eq!((label(labels, "c"), label("a=\"x", "a"), label("", "a")), (None, None, None));
    }

    #[test]
    fn quantiles_are_interpolated_in_their_bucket() {
        let histogram = |buckets: &[(f64, f64)]| buckets.iter().map(|(b, n)| (b.to_bits(), *n)).collect();
        let none: BTreeMap<u64, f64> = histogram(&[(1., 0.), (5., 0.), (f64::INFINITY, 0.)]);
        let even = histogram(&[(1., 0.), (5., 10.), (10., 20.), (f64::INFINITY, 20.)]);
        let first = histogram(&[(1., 4.), (5., 4.), (f64::INFINITY, 4.)]);
        let last = histogram(&[(1., 0.), (5., 1.), (f64::INFINITY, 100.)]);
        for (buckets, q, wanted) in [
            (&BTreeMap::new(), 0.5, None),
            (&none, 0.5, None),
            (&even, 0.25, Some(3.)),
            (&even, 0.5, Some(5.)),
            (&even, 0.75, Some(7.5)),
            (&even, 1., Some(10.)),
            (&first, 0.5, Some(0.5)),
            (&last, 0.99, Some(5.)),
        ] {
            assert_eq!(quantile(buckets, q), wanted, "{q} of {buckets:?}");
        }
    }
}
