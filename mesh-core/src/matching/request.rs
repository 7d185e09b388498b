//! Conditions on a request.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method};

/// What a request is matched on, after path normalization.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// `:method`.
    pub method: &'a Method,
    /// `:scheme`, as the sidecar believes it (`x-forwarded-proto`).
    pub scheme: &'a str,
    /// `:authority` as sent, with port if it has one.
    pub authority: &'a str,
    /// Path without query.
    pub path: &'a str,
    /// Query without `?`.
    pub query: Option<&'a str>,
    /// Headers.
    pub headers: &'a HeaderMap,
}

/// A condition on a string.
#[derive(Clone, Debug)]
pub enum StringMatcher {
    /// Equal.
    Exact(Arc<str>),
    /// Starts with.
    Prefix(Arc<str>),
    /// Matches in full.
    Regex(Arc<regex::Regex>),
    /// Is there at all.
    Present,
}

impl PartialEq for StringMatcher {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) | (Self::Prefix(a), Self::Prefix(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            (Self::Present, Self::Present) => true,
            _ => false,
        }
    }
}

/// A condition on a header.
#[derive(Clone, PartialEq, Debug)]
pub struct HeaderMatch {
    /// Name; pseudo headers have [`HeaderMatch::pseudo`] instead.
    pub name: Option<HeaderName>,
    /// `:method`, `:scheme`, `:authority`, `:path`.
    pub pseudo: Option<Arc<str>>,
    /// Condition; each line of a repeated header is matched on its own.
    pub value: StringMatcher,
    /// `withoutHeaders`: must not match; for value conditions a missing header counts as empty.
    pub invert: bool,
}

/// A condition on a query parameter: first occurrence, not percent-decoded.
#[derive(Clone, PartialEq, Debug)]
pub struct QueryMatch {
    /// Parameter name.
    pub name: Arc<str>,
    /// Condition.
    pub value: StringMatcher,
}

/// One HTTPMatchRequest, without its static parts (port, gateways, source), which compile has already decided.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RequestMatch {
    /// Path.
    pub uri: Option<StringMatcher>,
    /// `ignoreUriCase`: exact and prefix ignore case.
    pub ignore_uri_case: bool,
    /// `prefix` is a path segment prefix (Gateway API, Ingress) instead of a string prefix.
    pub segment_prefix: bool,
    /// Scheme.
    pub scheme: Option<StringMatcher>,
    /// Method.
    pub method: Option<StringMatcher>,
    /// Authority, case-sensitive and with port.
    pub authority: Option<StringMatcher>,
    /// Headers and `withoutHeaders`.
    pub headers: Vec<HeaderMatch>,
    /// Query parameters.
    pub query: Vec<QueryMatch>,
}

/// Which condition a request missed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Miss {
    /// `uri`.
    Uri,
    /// `scheme`.
    Scheme,
    /// `method`.
    Method,
    /// `authority`.
    Authority,
    /// `headers` or `withoutHeaders`: index in [`RequestMatch::headers`].
    Header(usize),
    /// `queryParams`: index in [`RequestMatch::query`].
    Query(usize),
}
