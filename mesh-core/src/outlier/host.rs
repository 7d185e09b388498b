//! What is counted of one endpoint.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::{Cause, Event, MAX_EJECTION_TIME};
use crate::snapshot::OutlierPlan;

/// Counters of one endpoint. They outlive plans, and the endpoint's other properties.
#[derive(Debug, Default)]
pub struct Host {
    errors: AtomicU32,
    gateway_errors: AtomicU32,
    local_failures: AtomicU32,
    /// Milliseconds on the detector's clock when it was ejected, plus 1; 0: it is in.
    ejected_at: AtomicU64,
    /// When it came back, in the same way; 0: never ejected.
    returned_at: AtomicU64,
    /// An ejection lasts this times `baseEjectionTime`.
    multiplier: AtomicU32,
    ejections: AtomicU64,
}

impl Host {
    /// It is out.
    pub fn is_ejected(&self) -> bool {
        self.ejected_at.load(Ordering::Acquire) != 0
    }

    /// Ejections so far.
    pub fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    /// Errors in a row: of the endpoint, of the proxy itself.
    pub fn failures(&self) -> (u32, u32) {
        (self.errors.load(Ordering::Relaxed), self.local_failures.load(Ordering::Relaxed))
    }

    /// Counts; the counter that is full starts again.
    pub(super) fn count(&self, plan: &OutlierPlan, event: Event) -> Option<(Cause, u32)> {
        let status = match event {
            Event::LocalFailure | Event::LocalTimeout if plan.split_local => {
                return full(&self.local_failures, plan.consecutive_local, Cause::ConsecutiveLocal);
            }
            Event::Status(status) => match &plan.error_codes {
                // Only the listed ones are errors, and none of them is a gateway's.
                Some(codes) if codes.contains(&status.as_u16()) => 500,
                Some(_) => 200,
                None => status.as_u16(),
            },
            Event::Connected => 200,
            Event::LocalFailure => 503,
            Event::LocalTimeout => 504,
        };
        if plan.split_local {
            // Whoever answered was reached.
            reset(&self.local_failures);
            if event == Event::Connected {
                return None;
            }
        }
        let gateway = match matches!(status, 502..=504) {
            true => full(&self.gateway_errors, plan.consecutive_gateway, Cause::ConsecutiveGateway),
            false => {
                reset(&self.gateway_errors);
                None
            }
        };
        let error = match status >= 500 {
            true => full(&self.errors, plan.consecutive_5xx, Cause::Consecutive5xx),
            false => {
                reset(&self.errors);
                None
            }
        };
        gateway.or(error)
    }

    /// Takes it out; says for how long at least.
    pub(super) fn eject(&self, plan: &OutlierPlan, now: Duration) -> Duration {
        let longest = MAX_EJECTION_TIME.max(plan.base_ejection_time);
        let times = self.multiplier.load(Ordering::Relaxed);
        // More than the longest time would only have to be forgiven again.
        let times = if plan.base_ejection_time * times < longest { times + 1 } else { times };
        self.multiplier.store(times, Ordering::Relaxed);
        self.ejections.fetch_add(1, Ordering::Relaxed);
        self.ejected_at.store(millis(now) + 1, Ordering::Release);
        (plan.base_ejection_time * times).min(longest)
    }

    pub(super) fn return_now(&self, now: Duration) {
        reset(&self.errors);
        reset(&self.gateway_errors);
        reset(&self.local_failures);
        self.returned_at.store(millis(now) + 1, Ordering::Relaxed);
        self.ejected_at.store(0, Ordering::Release);
    }

    /// Says whether it returns now.
    pub(super) fn sweep(&self, plan: &OutlierPlan, now: Duration) -> bool {
        let now_ms = millis(now);
        let since = |at: u64| Duration::from_millis(now_ms.saturating_sub(at - 1));
        let times = self.multiplier.load(Ordering::Relaxed);
        match self.ejected_at.load(Ordering::Acquire) {
            0 => {
                let returned = self.returned_at.load(Ordering::Relaxed);
                // A whole interval without an ejection makes the next one shorter again.
                if times > 0 && returned > 0 && since(returned) >= plan.interval {
                    self.multiplier.store(times - 1, Ordering::Relaxed);
                }
                false
            }
            at => {
                let longest = MAX_EJECTION_TIME.max(plan.base_ejection_time);
                let over = since(at) >= (plan.base_ejection_time * times.max(1)).min(longest);
                if over {
                    self.return_now(now);
                }
                over
            }
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX - 1)
}

/// Most requests succeed: reading is cheaper than writing what is there already.
fn reset(counter: &AtomicU32) {
    if counter.load(Ordering::Relaxed) != 0 {
        counter.store(0, Ordering::Relaxed);
    }
}

fn full(counter: &AtomicU32, limit: u32, cause: Cause) -> Option<(Cause, u32)> {
    let failures = counter.fetch_add(1, Ordering::Relaxed).saturating_add(1);
    if limit == 0 || failures < limit {
        return None;
    }
    counter.store(0, Ordering::Relaxed);
    Some((cause, failures))
}
