//! Which routes of a host may take a path.

use std::sync::Arc;

use super::{RequestMatch, StringMatcher};
use crate::snapshot::Map;

/// Fewer routes than this are looked at one by one.
const FEW: usize = 8;

/// Routes by the texts that their paths are or begin with, so that a host with thousands of routes is not searched one by
/// one. The order of the routes decides all the same: this only says which ones need not be looked at.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PathIndex {
    exact: Map<Arc<str>, Vec<usize>>,
    prefix: Map<Arc<str>, Vec<usize>>,
    /// Lengths of the prefixes, each once.
    lengths: Vec<usize>,
    /// Routes with other conditions on the path, or none: they are always looked at.
    others: Vec<usize>,
}

impl PathIndex {
    /// For routes in the order in which they are tried; `None`: they are too few for it.
    pub fn of<'a>(routes: impl ExactSizeIterator<Item = &'a RequestMatch>) -> Option<Self> {
        (routes.len() >= FEW).then(|| Self::build(routes))
    }

    fn build<'a>(routes: impl Iterator<Item = &'a RequestMatch>) -> Self {
        let mut index = Self::default();
        for (i, route) in routes.enumerate() {
            match &route.uri {
                Some(StringMatcher::Exact(path)) if !route.ignore_uri_case => {
                    index.exact.entry(Arc::clone(path)).or_default().push(i);
                }
                Some(StringMatcher::Prefix(path)) if !route.ignore_uri_case && !route.segment_prefix => {
                    index.prefix.entry(Arc::clone(path)).or_default().push(i);
                }
                _ => index.others.push(i),
            }
        }
        index.lengths = index.prefix.keys().map(|p| p.len()).collect();
        index.lengths.sort_unstable();
        index.lengths.dedup();
        index
    }

    /// The first route that takes a request with this path, as `takes` says of each that may.
    pub fn first(&self, path: &str, takes: impl Fn(usize) -> bool) -> Option<usize> {
        let prefixes = self.lengths.iter().filter_map(|length| self.prefix.get(path.get(..*length)?));
        let lists = prefixes.chain(self.exact.get(path)).chain([&self.others]);
        lists.fold(None, |found, list| {
            let mut before = list.iter().copied().take_while(|i| found.is_none_or(|f| *i < f));
            before.find(|i| takes(*i)).or(found)
        })
    }
}

#[cfg(test)]
mod tests;
