//! Remembered steps: a step is a pure function of its input, so that an input of the same hash has the same result.

use std::fmt::{self, Write};
use std::sync::Arc;

use crate::api::ContentHash;
use crate::report::{Fate, Report};
use crate::snapshot::Map;

/// What a step has to say beside its plan.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Notes {
    /// What became of the fields that it read.
    pub fates: Vec<Fate>,
    /// What is wrong or worth knowing.
    pub reports: Vec<Report>,
}

impl Notes {
    fn is_worth_keeping(&self) -> bool {
        !self.fates.is_empty() || !self.reports.is_empty()
    }
}

/// A plan with what there is to say about its making.
#[derive(Clone, Debug)]
pub(super) struct Planned<T> {
    /// The plan.
    pub plan: T,
    /// What its making said, if anything.
    pub notes: Option<Arc<Notes>>,
}

impl<T> Planned<T> {
    pub(super) fn new(plan: T, notes: Notes) -> Self {
        Self { plan, notes: notes.is_worth_keeping().then(|| Arc::new(notes)) }
    }
}

/// Results of one step by the hash of their input.
pub(super) type Remembered<T> = Arc<Map<ContentHash, Planned<T>>>;

/// Results of one step: those of the compilation before, and those of this one.
#[derive(Debug)]
pub(super) struct Memo<T> {
    old: Remembered<T>,
    new: Map<ContentHash, Planned<T>>,
    kept: bool,
}

impl<T: Clone> Memo<T> {
    pub(super) fn after(old: Option<&Remembered<T>>) -> Self {
        Self { old: old.cloned().unwrap_or_default(), new: Map::default(), kept: false }
    }

    /// The result for an input: remembered, or made now.
    pub(super) fn get(&mut self, input: ContentHash, make: impl FnOnce() -> Planned<T>) -> Planned<T> {
        let old = &self.old;
        self.new.entry(input).or_insert_with(|| old.get(&input).cloned().unwrap_or_else(make)).clone()
    }

    /// The remembered result for an input.
    pub(super) fn find(&mut self, input: ContentHash) -> Option<Planned<T>> {
        if let Some(known) = self.new.get(&input) {
            return Some(known.clone());
        }
        let known = self.old.get(&input)?.clone();
        self.new.insert(input, known.clone());
        Some(known)
    }

    /// Remembers the result for an input that [`Memo::find`] did not find.
    pub(super) fn put(&mut self, input: ContentHash, made: Planned<T>) {
        self.new.insert(input, made);
    }

    /// Says that a larger step was remembered whose making asked here: what it was told then is kept for its next making.
    pub(super) fn keep(&mut self) {
        self.kept = true;
    }

    pub(super) fn finish(self) -> Remembered<T> {
        if self.kept && self.new.is_empty() { self.old } else { Arc::new(self.new) }
    }
}

/// Hash of what `{:?}` prints, without building the text. Plans are hashed by it: every field takes part.
pub(super) fn hash_debug(value: &impl fmt::Debug) -> ContentHash {
    struct Sink(u64);
    impl Write for Sink {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            for b in s.as_bytes() {
                self.0 = (self.0 ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3);
            }
            Ok(())
        }
    }
    let mut sink = Sink(0xcbf2_9ce4_8422_2325);
    // Writing to a Sink can't fail; a Debug implementation that fails leaves a shorter text.
    let _ = write!(sink, "{value:?}");
    ContentHash::default().with(ContentHash(sink.0))
}

/// Hash of a set: the order of the parts does not matter.
pub(super) fn hash_set(parts: impl Iterator<Item = ContentHash>) -> ContentHash {
    let sum = parts.fold(0_u64, |sum, p| sum.wrapping_add(ContentHash::default().with(p).0));
    ContentHash::default().with(ContentHash(sum))
}
