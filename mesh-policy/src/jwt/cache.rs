//! Tokens that were found good: their signature is not verified again while the same keys are in force.

use std::hash::BuildHasher;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use foldhash::quality::RandomState;
use mesh_core::matching::Claims;

use super::keys::KeySet;
use super::token::Token;

/// Tokens that are remembered for a workload, and the longest one.
const SLOTS: usize = 512;
const MAX_TOKEN: usize = 8 * 1024;

/// A good token.
#[derive(Debug)]
pub(super) struct Entry {
    /// The rule that took it.
    pub(super) rule: usize,
    pub(super) text: Box<str>,
    pub(super) token: Arc<Token>,
    pub(super) claims: Claims,
    /// The keys that its signature was verified with.
    pub(super) keys: Arc<KeySet>,
}

/// A table with one place for each hash: bounded, without locks. The whole text is compared, so that a hash that was
/// guessed opens nothing.
#[derive(Debug)]
pub(super) struct Cache {
    slots: Box<[ArcSwapOption<Entry>]>,
    hasher: RandomState,
}

impl Default for Cache {
    fn default() -> Self {
        Self { slots: (0..SLOTS).map(|_| ArcSwapOption::empty()).collect(), hasher: RandomState::default() }
    }
}

impl Cache {
    fn slot(&self, rule: usize, text: &str) -> &ArcSwapOption<Entry> {
        let hash = self.hasher.hash_one((rule, text));
        &self.slots[usize::try_from(hash % SLOTS as u64).expect("invariant: below SLOTS")]
    }

    pub(super) fn get(&self, rule: usize, text: &str) -> Option<Arc<Entry>> {
        self.slot(rule, text).load_full().filter(|e| e.rule == rule && *e.text == *text)
    }

    pub(super) fn put(&self, entry: &Arc<Entry>) {
        if entry.text.len() <= MAX_TOKEN {
            self.slot(entry.rule, &entry.text).store(Some(Arc::clone(entry)));
        }
    }
}
