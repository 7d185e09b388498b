//! A load generator with fortio's figures: requests over a number of connections, bounded by count and time, at a rate
//! or as fast as the answers come.
//!
//! A worker is one connection that sends its next request when the answer to the last one is complete. With a rate the
//! k-th request of all is due `k / rate` after the start, whichever worker sends it. The time until an answer counts from
//! when the request was really sent, or, corrected, from when it was due: then a stall is seen by all the requests that had
//! to wait for it, and not only by those that were under way.

mod figures;
mod grpc;
mod http;
mod timer;
mod tls;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

pub use figures::{Figures, Latency, Percentile, Report, Share};
pub use grpc::GrpcMethod;
pub use http::{Protocol, Settings, Sockets, callers};
pub use timer::Timer;
pub use tls::TlsSettings;

/// How much load.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Plan {
    /// Most requests; `None`: as many as the time allows.
    pub requests: Option<u64>,
    /// Requests per second of all connections together; `None`: as fast as the answers come.
    pub qps: Option<f64>,
    /// With a rate: the time until an answer counts from when its request was due.
    pub corrected: bool,
    /// No request begins later than this after the start; those that are under way then are finished.
    pub time: Option<Duration>,
}

/// A complete answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it is counted as: an HTTP status, or a gRPC status by name.
    pub code: String,
    /// Bytes of the body.
    pub bytes: u64,
    /// The proxy says that a limit was reached (`x-envoy-overloaded`).
    pub overloaded: bool,
}

/// Why there was no complete answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// The host name has no address.
    Resolve,
    /// Nothing listens there.
    Refused,
    /// The network does not lead there, or the connection failed otherwise.
    Connect,
    /// No TLS connection came about: no TLS there, a protocol or certificate that one of the two refuses.
    Tls,
    /// The connection was reset.
    Reset,
    /// The connection was closed in the middle of an answer, or without one.
    Closed,
    /// No complete answer in time.
    Timeout,
    /// What came is no HTTP.
    Protocol,
}

impl Failure {
    /// Stable name, as in the JSON output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Resolve => "nameResolution",
            Self::Refused => "connectionRefused",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Reset => "connectionReset",
            Self::Closed => "connectionClosed",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
        }
    }
}

/// One connection's worth of requests.
pub trait Caller {
    /// Sends one request and reads the whole answer. A broken connection is replaced by the next call.
    fn call(&mut self) -> impl Future<Output = Result<Answer, Failure>>;
}

/// Puts load on the callers' target until the plan is done or `stop` ends; then requests under way are given up, and
/// what was measured until then is returned. Each connection has a timer of its own.
pub async fn run<C: Caller>(
    plan: &Plan,
    callers: Vec<C>,
    timer: impl Fn() -> Timer,
    stop: impl Future<Output = ()>,
) -> Figures {
    let figures = RefCell::new(Figures::default());
    let next = Cell::new(0);
    let start = Instant::now();
    let schedule = Schedule { plan, start, next: &next };
    let workers = join_all(callers.into_iter().map(|caller| worker(&schedule, timer(), caller, &figures)));
    let stopped = tokio::select! {
        _ = workers => false,
        () = stop => true,
    };
    let mut figures = figures.into_inner();
    figures.elapsed = start.elapsed();
    figures.stopped = stopped;
    figures
}

struct Schedule<'a> {
    plan: &'a Plan,
    start: Instant,
    next: &'a Cell<u64>,
}

impl Schedule<'_> {
    /// Waits until the next request is due, and says when that was; `None`: there is none any more.
    async fn due(&self, timer: &Timer) -> Option<Instant> {
        let k = self.next.get();
        if self.plan.requests.is_some_and(|n| k >= n) {
            return None;
        }
        self.next.set(k + 1);
        let end = self.plan.time.map(|t| self.start + t);
        let mut due = None;
        if let Some(qps) = self.plan.qps {
            let at = self.start + Duration::from_secs_f64(k as f64 / qps);
            if end.is_some_and(|end| at >= end) {
                return None;
            }
            timer.until(at).await;
            due = Some(at).filter(|_| self.plan.corrected);
        }
        let now = Instant::now();
        // What is late counts even after the end: those are the ones that had to wait.
        (due.is_some() || end.is_none_or(|end| now < end)).then(|| due.unwrap_or(now))
    }
}

async fn worker<C: Caller>(schedule: &Schedule<'_>, timer: Timer, mut caller: C, figures: &RefCell<Figures>) {
    while let Some(began) = schedule.due(&timer).await {
        let outcome = caller.call().await;
        figures.borrow_mut().add(began.elapsed(), outcome);
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod wire_tests;
