//! Claims of a token, and conditions on them.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::StringMatcher;

/// What the keys of such conditions begin with in `headers` and `withoutHeaders`.
pub const CLAIM_PREFIX: &str = "@request.auth.claims";

/// The claims of a validated token, as an extension of the request: whoever validates tokens puts them there, and routes
/// are matched on them. A header of a claim's name has nothing to do with it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Claims(Arc<Map<String, Value>>);

impl Claims {
    /// The claims of a token's payload. `scope` and `permission` are lists of words, as Istio has them.
    pub fn new(mut payload: Map<String, Value>) -> Self {
        for name in ["scope", "permission"] {
            if let Some(Value::String(words)) = payload.get(name) {
                let words = words.split_ascii_whitespace().map(Value::from).collect();
                payload.insert(name.to_owned(), words);
            }
        }
        Self(Arc::new(payload))
    }

    /// A claim that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// The claims as they are.
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// A claim by its names from the outside in.
    pub fn get(&self, path: &[Arc<str>]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.0.get(&**first)?, |value, name| value.get(&**name))
    }
}

/// A condition on a claim.
#[derive(Clone, PartialEq, Debug)]
pub struct ClaimMatch {
    /// Names from the outside in: `a`, `b` for `@request.auth.claims.a.b`.
    pub path: Arc<[Arc<str>]>,
    /// Condition on the claim, if it is a text, or on any text in it, if it is a list.
    pub value: StringMatcher,
    /// `withoutHeaders`: must not match; a missing claim does not.
    pub invert: bool,
}

impl ClaimMatch {
    /// The path in a key: `@request.auth.claims.a.b` or `@request.auth.claims[a][b]`, where names may have dots. `None`:
    /// it is no such key.
    pub fn path(key: &str) -> Option<Arc<[Arc<str>]>> {
        let rest = key.strip_prefix(CLAIM_PREFIX)?;
        let names: Vec<&str> = match rest.strip_prefix('.') {
            Some(dotted) => dotted.split('.').collect(),
            None => rest.strip_prefix('[')?.strip_suffix(']')?.split("][").collect(),
        };
        let whole = names.iter().all(|n| !n.is_empty() && !n.contains(['[', ']']));
        whole.then(|| names.into_iter().map(Arc::from).collect())
    }

    /// Whether it holds for a request with these claims.
    pub fn holds(&self, claims: Option<&Claims>) -> bool {
        let text = |v: &Value| v.as_str().is_some_and(|v| self.value.matches(v));
        let matches = |value: &Value| match (&self.value, value) {
            (StringMatcher::Present, _) => true,
            (_, Value::Array(list)) => list.iter().any(text),
            (_, value) => text(value),
        };
        claims.and_then(|c| c.get(&self.path)).is_some_and(matches) != self.invert
    }
}

#[cfg(test)]
mod tests;
