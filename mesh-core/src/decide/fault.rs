//! What a fault does to one request.

use std::time::Duration;

use crate::snapshot::{AbortPlan, AbortStatus, DelayPlan};

/// What happens to a request before it would be forwarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FaultDecision {
    /// Wait so long.
    pub delay: Option<Duration>,
    /// Then answer this instead of forwarding.
    pub abort: Option<AbortStatus>,
}

/// Decides both on their own, each with fresh 64 random bits.
pub fn decide_fault(
    delay: Option<&DelayPlan>,
    abort: Option<&AbortPlan>,
    mut random: impl FnMut() -> u64,
) -> FaultDecision {
    let delay = delay.filter(|d| d.share.takes(random())).map(|d| d.fixed);
    FaultDecision { delay, abort: abort.filter(|a| a.share.takes(random())).map(|a| a.status) }
}

#[cfg(test)]
mod tests;
