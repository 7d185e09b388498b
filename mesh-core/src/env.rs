//! What the pure code may ask of the world: wall clock, randomness and ids. Monotonic time is tokio's, which tests pause.

use std::time::SystemTime;

/// The impure inputs, handed in by the binary; tests hand in fixed ones.
pub trait Env: Send + Sync + 'static {
    /// Wall-clock time, for logs and certificates; never for timeouts.
    fn now(&self) -> SystemTime;
    /// 64 random bits. Good enough for balancing and request ids, not for keys.
    fn random(&self) -> u64;

    /// A uniformly distributed number below `bound`; 0 if `bound` is 0.
    fn below(&self, bound: u64) -> u64 {
        // Multiply-shift: no division, bias below 2^-32 for the bounds that occur (weights, endpoint counts).
        ((u128::from(self.random()) * u128::from(bound)) >> 64) as u64
    }
}
