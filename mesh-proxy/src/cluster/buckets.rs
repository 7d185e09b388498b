//! Token buckets of rate limits, kept across configurations.

use std::sync::{Arc, Weak};
use std::time::Duration;

use mesh_core::layers::rate_limit::TokenBucket;
use mesh_core::snapshot::{Map, RateLimitPlan};
use parking_lot::Mutex;

/// What makes two buckets the same: the object and its rates. Status and headers may change.
type Id = (Arc<str>, u32, u32, Duration);

/// Buckets in use. The lock is for activation; a request has its bucket.
#[derive(Default)]
pub(super) struct Buckets(Mutex<Map<Id, Weak<TokenBucket>>>);

impl Buckets {
    /// The bucket of a limit, made full if no stack has it.
    pub(super) fn of(&self, plan: &RateLimitPlan) -> Arc<TokenBucket> {
        let RateLimitPlan { name, max_tokens, tokens_per_fill, fill_interval, status: _, headers: _, origin: _ } = plan;
        let mut all = self.0.lock();
        let id = (Arc::clone(name), *max_tokens, *tokens_per_fill, *fill_interval);
        if let Some(known) = all.get(&id).and_then(Weak::upgrade) {
            return known;
        }
        all.retain(|_, bucket| bucket.strong_count() > 0);
        let fresh = Arc::new(TokenBucket::new(*max_tokens, *tokens_per_fill, *fill_interval));
        all.insert(id, Arc::downgrade(&fresh));
        fresh
    }
}

#[cfg(test)]
mod tests;
