//! Texts by exact value, prefix and suffix, in time that does not depend on how many there are.

use std::collections::HashMap;

use foldhash::fast::RandomState;

/// `*`, `text`, `prefix*` or `*suffix`. A star at the beginning is looked at first: `*a*` is the suffix `a*`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Pattern {
    /// Something.
    Any,
    /// The same.
    Exact(Box<[u8]>),
    /// Begins with; also just this.
    Prefix(Box<[u8]>),
    /// Ends in; also just this.
    Suffix(Box<[u8]>),
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Self {
        let bytes = |t: &str| t.as_bytes().into();
        match (text, text.strip_prefix('*'), text.strip_suffix('*')) {
            ("*", _, _) => Self::Any,
            (_, Some(rest), _) => Self::Suffix(bytes(rest)),
            (_, None, Some(rest)) => Self::Prefix(bytes(rest)),
            (_, None, None) => Self::Exact(bytes(text)),
        }
    }

    pub(super) fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Any => !value.is_empty(),
            Self::Exact(e) => **e == *value,
            Self::Prefix(p) => value.starts_with(p),
            Self::Suffix(s) => value.ends_with(s),
        }
    }
}

type Map<T> = HashMap<Box<[u8]>, T, RandomState>;

/// Something for each of many patterns.
#[derive(Clone, Debug)]
pub(super) struct StringIndex<T> {
    /// For `*`.
    any: Option<T>,
    exact: Map<T>,
    prefix: Affixes<T>,
    suffix: Affixes<T>,
}

/// Beginnings or ends by length: a look-up takes one step for each length that occurs.
#[derive(Clone, Debug)]
struct Affixes<T> {
    lengths: Vec<usize>,
    map: Map<T>,
}

impl<T> Default for Affixes<T> {
    fn default() -> Self {
        Self { lengths: Vec::new(), map: Map::default() }
    }
}

impl<T> Default for StringIndex<T> {
    fn default() -> Self {
        Self { any: None, exact: Map::default(), prefix: Affixes::default(), suffix: Affixes::default() }
    }
}

impl<T: Default> Affixes<T> {
    fn entry(&mut self, text: Box<[u8]>) -> &mut T {
        if let Err(at) = self.lengths.binary_search(&text.len()) {
            self.lengths.insert(at, text.len());
        }
        self.map.entry(text).or_default()
    }
}

impl<T> Affixes<T> {
    fn find<'v>(&self, value: &'v [u8], part: impl Fn(usize) -> &'v [u8], f: &mut impl FnMut(&T) -> bool) -> bool {
        let fitting = self.lengths.iter().take_while(|n| **n <= value.len());
        fitting.filter_map(|n| self.map.get(part(*n))).any(f)
    }
}

impl<T: Default> StringIndex<T> {
    pub(super) fn entry(&mut self, pattern: Pattern) -> &mut T {
        match pattern {
            Pattern::Any => self.any.get_or_insert_with(T::default),
            Pattern::Exact(text) => self.exact.entry(text).or_default(),
            Pattern::Prefix(text) => self.prefix.entry(text),
            Pattern::Suffix(text) => self.suffix.entry(text),
        }
    }
}

impl<T> StringIndex<T> {
    /// Calls for everything that a value matches, until the answer is yes.
    pub(super) fn find(&self, value: &[u8], f: &mut impl FnMut(&T) -> bool) -> bool {
        self.any.as_ref().filter(|_| !value.is_empty()).is_some_and(&mut *f)
            || (!self.exact.is_empty() && self.exact.get(value).is_some_and(&mut *f))
            || self.prefix.find(value, |n| &value[..n], f)
            || self.suffix.find(value, |n| &value[value.len() - n..], f)
    }

    pub(super) fn has_any(&self) -> bool {
        self.any.is_some()
    }
}

/// A set of patterns.
pub(super) type StringSet = StringIndex<()>;

impl StringSet {
    pub(super) fn of(values: impl IntoIterator<Item = Pattern>) -> Self {
        let mut set = Self::default();
        for pattern in values {
            set.entry(pattern);
        }
        set
    }

    pub(super) fn contains(&self, value: &[u8]) -> bool {
        self.find(value, &mut |()| true)
    }
}
