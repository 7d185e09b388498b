//! Deterministic choices: the seed is all that a run depends on.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::Location;

/// SplitMix64, dealt from decks: each question, which is a place in the source together with the questions that led
/// there, has a deck with one card for each answer, and asks for no answer again before it has had all others. So what
/// is rare comes as often as it should, in every run.
#[derive(Clone, Debug)]
pub(crate) struct Rng {
    state: u64,
    /// The questions that led here.
    path: u64,
    decks: HashMap<u64, Vec<usize>>,
}

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed, path: 0, decks: HashMap::new() }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn roll(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    /// Names a question by where it is asked.
    fn question(&self, at: &Location<'_>) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.path, at.file(), at.line(), at.column()).hash(&mut hasher);
        hasher.finish()
    }

    /// What is asked inside `then` is asked because of this place.
    #[track_caller]
    pub(crate) fn within<T>(&mut self, then: impl FnOnce(&mut Self) -> T) -> T {
        let path = self.question(Location::caller());
        let before = std::mem::replace(&mut self.path, path);
        let out = then(self);
        self.path = before;
        out
    }

    /// The same, for places that have the same code.
    pub(crate) fn named<T>(&mut self, name: &str, then: impl FnOnce(&mut Self) -> T) -> T {
        let mut hasher = DefaultHasher::new();
        (self.path, name).hash(&mut hasher);
        let before = std::mem::replace(&mut self.path, hasher.finish());
        let out = then(self);
        self.path = before;
        out
    }

    /// From 0 to below this.
    #[track_caller]
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let mut question = DefaultHasher::new();
        (self.question(Location::caller()), end).hash(&mut question);
        let question = question.finish();
        let mut deck = self.decks.remove(&question).unwrap_or_default();
        if deck.is_empty() {
            deck.extend(0..end);
        }
        let dealt = deck.swap_remove(self.roll(deck.len()));
        self.decks.insert(question, deck);
        dealt
    }

    /// True in this many of a hundred cases.
    #[track_caller]
    pub(crate) fn percent(&mut self, percent: usize) -> bool {
        let common = (1..=50).rev().find(|n| percent.is_multiple_of(*n) && 100_usize.is_multiple_of(*n)).unwrap();
        self.below(100 / common) < percent / common
    }

    #[track_caller]
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Up to this many different ones, at least one.
    #[track_caller]
    pub(crate) fn some<T: Copy + PartialEq>(&mut self, from: &[T], most: usize) -> Vec<T> {
        let mut out = Vec::new();
        for _ in 0..=self.below(most) {
            let one = self.pick(from);
            if !out.contains(&one) {
                out.push(one);
            }
        }
        out
    }
}
