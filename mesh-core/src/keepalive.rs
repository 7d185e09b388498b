//! How long a peer keeps idle connections, learned from when it closes them: so that a pool lets go of a connection
//! before the peer does, and no request meets a close half way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long something learned counts. After that a pool keeps connections as configured, and learns again.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Closes nearer to each other than this are one event, a restart for example, and not a timeout.
const ONE_EVENT: Duration = Duration::from_millis(100);
/// Times may differ by this and still be the same timeout.
const TOLERANCE: Duration = Duration::from_millis(100);

/// What is known of one endpoint. Times of day are durations since any fixed moment; the caller has the clock.
///
/// One close says little: the peer may have been restarted. Two at about the same age, at different times, are a timeout.
/// A `keep-alive: timeout=N` header says it outright.
#[derive(Debug, Default)]
pub struct IdleTimeout {
    /// Age at the last close in microseconds, 0: none; and when that was.
    last: AtomicU64,
    last_at: AtomicU64,
    /// Timeout in microseconds, 0: not known; and until when it counts.
    known: AtomicU64,
    until: AtomicU64,
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

impl IdleTimeout {
    /// The peer closed a connection that had been idle for `idle`.
    pub fn closed(&self, idle: Duration, now: Duration) {
        let (idle, at) = (micros(idle).max(1), micros(now));
        let last = self.last.swap(idle, Ordering::Relaxed);
        let last_at = self.last_at.swap(at, Ordering::Relaxed);
        let alike = last.abs_diff(idle) <= (last / 10).max(micros(TOLERANCE));
        if last != 0 && alike && at.saturating_sub(last_at) >= micros(ONE_EVENT) {
            self.learn(idle.min(last), at);
        }
    }

    /// The peer sent a `keep-alive` header.
    pub fn announced(&self, header: &str, now: Duration) {
        let parameters = header.split(',').filter_map(|p| p.trim().split_once('='));
        let timeout = parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("timeout")).map(|(_, v)| v.trim());
        if let Some(seconds) = timeout.filter_map(|v| v.parse::<u32>().ok()).next().filter(|s| *s > 0) {
            self.learn(u64::from(seconds) * 1_000_000, micros(now));
        }
    }

    /// Whether anything has been learned; cheaper than [`IdleTimeout::limit`], which needs the time.
    pub fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed) != 0
    }

    fn learn(&self, idle: u64, now: u64) {
        self.until.store(now.saturating_add(micros(REMEMBERED)), Ordering::Relaxed);
        self.known.store(idle, Ordering::Relaxed);
    }

    /// How long a connection may be idle and still be used: a tenth, and at least 100 ms, less than the peer's time.
    pub fn limit(&self, now: Duration) -> Option<Duration> {
        let known = self.known.load(Ordering::Relaxed);
        if known == 0 || self.until.load(Ordering::Relaxed) <= micros(now) {
            return None;
        }
        let margin = (known / 10).max(micros(TOLERANCE));
        Some(Duration::from_micros(known.saturating_sub(margin)))
    }
}

#[cfg(test)]
mod tests;
