//! A token bucket in one atomic word.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Tokens that come evenly, up to a bound. Lock-free: what is stored is the moment at which the bucket was last empty,
/// which a token taken moves on by the time that a token needs to come.
#[derive(Debug)]
pub struct TokenBucket {
    max: u32,
    /// Nanoseconds until another token.
    every: u64,
    start: Instant,
    empty_at: AtomicU64,
}

/// What a bucket holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Left {
    /// Tokens.
    pub tokens: u32,
    /// Time to the next token; zero while there are some.
    pub next: Duration,
}

impl TokenBucket {
    /// A full bucket of `max` tokens that gets `per_fill` in each interval. Zeros count as one.
    pub fn new(max: u32, per_fill: u32, interval: Duration) -> Self {
        let every = interval.as_nanos() / u128::from(per_fill.max(1));
        let every = u64::try_from(every).unwrap_or(u64::MAX).max(1);
        Self { max: max.max(1), every, start: Instant::now(), empty_at: AtomicU64::new(0) }
    }

    /// Most tokens that it holds.
    pub fn max_tokens(&self) -> u32 {
        self.max
    }

    /// The time that it takes to fill it; also where time begins for it, so that it is full then.
    fn whole(&self) -> u64 {
        self.every.saturating_mul(u64::from(self.max))
    }

    /// Takes a token, if there is one; and what is left.
    pub fn take(&self) -> (bool, Left) {
        let elapsed = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let now = self.whole().saturating_add(elapsed);
        let floor = now - self.whole();
        let mut empty_at = self.empty_at.load(Ordering::Relaxed);
        loop {
            let from = empty_at.max(floor);
            // Another thread may have seen a later moment.
            let saved = now.saturating_sub(from);
            if saved < self.every {
                return (false, Left { tokens: 0, next: Duration::from_nanos(self.every - saved) });
            }
            let after = from + self.every;
            match self.empty_at.compare_exchange_weak(empty_at, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    let saved = now - after;
                    let tokens = u32::try_from(saved / self.every).unwrap_or(u32::MAX);
                    let next = if tokens > 0 { 0 } else { self.every - saved };
                    return (true, Left { tokens, next: Duration::from_nanos(next) });
                }
                Err(current) => empty_at = current,
            }
        }
    }
}
