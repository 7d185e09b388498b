//! Where each field of an object was written.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use foldhash::fast::RandomState;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{ContentHash, Span};

/// Spans of an object's fields by field path (`spec.http[0].match[1].uri.exact`). The path of an object or list is the
/// span of its key. Packed, because every proxy keeps them for all that it is sent; in text it is a map.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Spans {
    paths: Arc<Paths>,
    /// In the order of the paths.
    spans: Box<[Span]>,
}

/// Paths of fields in order; objects in which the same fields are written share them.
#[derive(PartialEq, Eq, Hash, Default)]
struct Paths {
    /// One after the other.
    text: Box<str>,
    /// Where each ends.
    ends: Box<[u32]>,
}

/// Paths that there are already.
#[derive(Default)]
pub(crate) struct KnownPaths(HashSet<Arc<Paths>, RandomState>);

impl KnownPaths {
    /// Has these use them.
    pub(crate) fn share(&mut self, spans: &mut Spans) {
        match self.0.get(&spans.paths) {
            Some(known) => spans.paths = Arc::clone(known),
            None => drop(self.0.insert(Arc::clone(&spans.paths))),
        }
    }
}

impl Spans {
    /// The span of a field.
    pub fn get(&self, path: &str) -> Option<Span> {
        let at = self.first(path);
        let found = self.spans.get(at)?;
        (self.path(at) == path).then_some(*found)
    }

    /// Whether a field has one.
    pub fn contains(&self, path: &str) -> bool {
        self.get(path).is_some()
    }

    /// No field has one.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// All of them, by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Span)> {
        self.since("")
    }

    /// Those of a path and of all that come after it in order.
    pub fn since(&self, path: &str) -> impl Iterator<Item = (&str, Span)> {
        (self.first(path)..self.spans.len()).map(|at| (self.path(at), self.spans[at]))
    }

    #[cfg(test)]
    pub(crate) fn shares_paths(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.paths, &other.paths)
    }

    /// Hash of all of them.
    pub(crate) fn hash(&self) -> ContentHash {
        let Paths { text, ends } = &*self.paths;
        let place = |(Span { line, column }, end): (&Span, &u32)| {
            ContentHash((u64::from(*line) << 32) | u64::from(*column)).with(ContentHash((*end).into()))
        };
        self.spans.iter().zip(ends).map(place).fold(ContentHash::of(text.as_bytes()), ContentHash::with)
    }

    fn path(&self, at: usize) -> &str {
        let Paths { text, ends } = &*self.paths;
        let begin = at.checked_sub(1).map_or(0, |before| ends[before]);
        &text[begin as usize..ends[at] as usize]
    }

    /// Place of the first path that is not before this one.
    fn first(&self, path: &str) -> usize {
        let (mut low, mut high) = (0, self.spans.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.path(middle) < path {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<P: AsRef<str>> FromIterator<(P, Span)> for Spans {
    /// Of several spans for one path the last counts.
    fn from_iter<I: IntoIterator<Item = (P, Span)>>(all: I) -> Self {
        let mut collected = SpansBuilder::default();
        for (path, span) in all {
            collected.add(path.as_ref(), span);
        }
        collected.finish()
    }
}

/// Spans in any order.
#[derive(Default)]
pub(crate) struct SpansBuilder {
    text: String,
    /// Begin and end in the text.
    entries: Vec<(u32, u32, Span)>,
}

impl SpansBuilder {
    /// One more; of several for one path the last counts. Beyond 4 GiB of paths the place of the field around it has to do.
    pub(crate) fn add(&mut self, path: &str, span: Span) {
        let (begin, end) = (self.text.len(), self.text.len() + path.len());
        if let (Ok(begin), Ok(end)) = (u32::try_from(begin), u32::try_from(end)) {
            self.text.push_str(path);
            self.entries.push((begin, end, span));
        }
    }

    /// All of them.
    pub(crate) fn finish(self) -> Spans {
        let Self { text, mut entries } = self;
        let path = |(begin, end, _): &(u32, u32, Span)| &text[*begin as usize..*end as usize];
        // Stable, so that the last of several is the one before another path.
        entries.sort_by(|a, b| path(a).cmp(path(b)));
        let mut paths = String::with_capacity(text.len());
        let (mut ends, mut spans) = (Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len()));
        for (i, entry) in entries.iter().enumerate() {
            if entries.get(i + 1).is_some_and(|next| path(next) == path(entry)) {
                continue;
            }
            paths.push_str(path(entry));
            // Not more than there was in the text.
            ends.push(paths.len() as u32);
            spans.push(entry.2);
        }
        Spans { paths: Arc::new(Paths { text: paths.into(), ends: ends.into() }), spans: spans.into() }
    }
}

impl Serialize for Spans {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.spans.len()))?;
        for (path, span) in self.iter() {
            map.serialize_entry(path, &span)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Spans {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Map)
    }
}

struct Map;

impl<'de> Visitor<'de> for Map {
    type Value = Spans;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("places by field path")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Spans, A::Error> {
        let mut collected = SpansBuilder::default();
        let mut path = String::new();
        while map.next_key_seed(Path(&mut path))?.is_some() {
            collected.add(&path, map.next_value()?);
        }
        Ok(collected.finish())
    }
}

/// Reads a path into a text that is there already.
struct Path<'p>(&'p mut String);

impl<'de> DeserializeSeed<'de> for Path<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Path<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field path")
    }

    fn visit_str<E>(self, path: &str) -> Result<(), E> {
        self.0.clear();
        self.0.push_str(path);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
