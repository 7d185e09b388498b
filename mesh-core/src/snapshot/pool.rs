//! Limits of one proxy towards one cluster: `connectionPool` and `retryBudget`, merged.

use std::fmt;
use std::time::Duration;

/// Time without use after which a connection is closed, unless something else is configured.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// What a proxy may use of a cluster, and for how long. A limit of [`u32::MAX`] is none. Limits count for all workers of
/// the proxy together; source of names, defaults and meaning: Istio's `ConnectionPoolSettings`.
#[derive(Clone, PartialEq, Debug)]
pub struct PoolPlan {
    /// `tcp.maxConnections`: HTTP/1.1 and TCP connections.
    pub max_connections: u32,
    /// `tcp.tcpKeepalive`, else the mesh's; `None`: the system's times.
    pub keepalive: Option<Keepalive>,
    /// `tcp.idleTimeout` for TCP streams; `None`: never.
    pub tcp_idle_timeout: Option<Duration>,
    /// `tcp.maxConnectionDuration`; `None`: unlimited.
    pub max_connection_duration: Option<Duration>,
    /// `http.http1MaxPendingRequests`: requests that wait for a connection.
    pub max_pending: u32,
    /// `http.http2MaxRequests`: requests that have one, of HTTP/1.1 too.
    pub max_requests: u32,
    /// `http.maxRequestsPerConnection`; `None`: unlimited.
    pub max_requests_per_connection: Option<u32>,
    /// `http.maxRetries`: concurrent retries; without effect where there is a budget.
    pub max_retries: u32,
    /// `trafficPolicy.retryBudget`.
    pub retry_budget: Option<RetryBudgetPlan>,
    /// `http.idleTimeout`, else `tcp.idleTimeout`: time without requests; `None`: never.
    pub idle_timeout: Option<Duration>,
    /// `http.maxConcurrentStreams` of one HTTP/2 connection.
    pub max_concurrent_streams: u32,
    /// `http.http2KeepAlive`.
    pub http2_keepalive: Option<Http2Ping>,
}

impl Default for PoolPlan {
    fn default() -> Self {
        Self {
            max_connections: u32::MAX,
            keepalive: None,
            tcp_idle_timeout: Some(IDLE_TIMEOUT),
            max_connection_duration: None,
            max_pending: u32::MAX,
            max_requests: u32::MAX,
            max_requests_per_connection: None,
            max_retries: u32::MAX,
            retry_budget: None,
            idle_timeout: Some(IDLE_TIMEOUT),
            max_concurrent_streams: u32::MAX,
            http2_keepalive: None,
        }
    }
}

impl PoolPlan {
    /// Whether one more connection may be made: `open` are those to the whole cluster, `here` those of this worker to
    /// the endpoint. The first one is always allowed, as otherwise a request could wait for ever while other workers
    /// keep theirs; so does Envoy.
    pub fn may_connect(&self, open: u32, here: u32) -> bool {
        open < self.max_connections || here == 0
    }

    /// Whether anything is other than by default.
    pub fn has_limits(&self) -> bool {
        *self != Self::default()
    }

    /// How many retries may run at a time, with so many requests active or waiting.
    pub fn retries_allowed(&self, requests: u32) -> u32 {
        self.retry_budget.as_ref().map_or(self.max_retries, |b| b.allowed(requests))
    }
}

/// TCP keep-alive; what is absent is the system's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Keepalive {
    /// Unanswered probes until the connection counts as dead.
    pub probes: Option<u32>,
    /// Idle time before the first probe.
    pub time: Option<Duration>,
    /// Time between probes.
    pub interval: Option<Duration>,
}

/// HTTP/2 PING probes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Http2Ping {
    /// Time between probes.
    pub interval: Duration,
    /// Time for the answer, after which the connection is closed.
    pub timeout: Duration,
}

/// Retries relative to requests.
#[derive(Clone, PartialEq, Debug)]
pub struct RetryBudgetPlan {
    /// Percent of the requests that are active or waiting; default 20.
    pub percent: f64,
    /// Retries that are always allowed; default 3.
    pub min_concurrency: u32,
    /// Requests that began within this time count, too; zero: only those in flight.
    pub interval: Duration,
}

impl RetryBudgetPlan {
    /// Concurrent retries for so many requests.
    pub fn allowed(&self, requests: u32) -> u32 {
        // Truncation is meant: a part of a retry is none.
        ((f64::from(requests) * self.percent / 100.0) as u32).max(self.min_concurrency)
    }
}

impl fmt::Display for PoolPlan {
    /// The limits that there are, as `name value`, comma-joined; `no limits` for none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::new();
        let count = |name: &str, n: u32| (n != u32::MAX).then(|| format!("{name} {n}"));
        let time = |name: &str, d: Option<Duration>| d.map(|d| format!("{name} {d:?}"));
        let idle = |name: &str, d: Option<Duration>| match d {
            Some(IDLE_TIMEOUT) => None,
            Some(d) => Some(format!("{name} {d:?}")),
            None => Some(format!("{name} off")),
        };
        out.extend(count("maxConnections", self.max_connections));
        out.extend(count("http1MaxPendingRequests", self.max_pending));
        out.extend(count("http2MaxRequests", self.max_requests));
        out.extend(count("maxRequestsPerConnection", self.max_requests_per_connection.unwrap_or(u32::MAX)));
        match &self.retry_budget {
            Some(b) => out.push(format!("retryBudget {}% (at least {})", b.percent, b.min_concurrency)),
            None => out.extend(count("maxRetries", self.max_retries)),
        }
        out.extend(count("maxConcurrentStreams", self.max_concurrent_streams));
        out.extend(idle("http idleTimeout", self.idle_timeout));
        out.extend(idle("tcp idleTimeout", self.tcp_idle_timeout));
        out.extend(time("maxConnectionDuration", self.max_connection_duration));
        if let Some(Keepalive { probes, time, interval }) = &self.keepalive {
            let seconds = |d: &Option<Duration>| d.map_or("system's".to_owned(), |d| format!("{d:?}"));
            let probes = probes.map_or("system's".to_owned(), |p| p.to_string());
            out.push(format!("tcpKeepalive time {} interval {} probes {probes}", seconds(time), seconds(interval)));
        }
        if let Some(Http2Ping { interval, timeout }) = &self.http2_keepalive {
            out.push(format!("http2KeepAlive {interval:?} timeout {timeout:?}"));
        }
        if out.is_empty() { f.write_str("no limits") } else { f.write_str(&out.join(", ")) }
    }
}

#[cfg(test)]
mod tests;
