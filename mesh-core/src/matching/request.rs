//! Conditions on a request.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method};

use super::{ClaimMatch, Claims, Regex};

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
    /// Claims of the user's token, if one was validated.
    pub claims: Option<&'a Claims>,
}

/// A condition on a string.
#[derive(Clone, PartialEq, Debug)]
pub enum StringMatcher {
    /// Equal.
    Exact(Arc<str>),
    /// Starts with.
    Prefix(Arc<str>),
    /// Matches in full.
    Regex(Regex),
    /// Is there at all.
    Present,
}

impl StringMatcher {
    /// Whether a value matches; [`StringMatcher::Present`] takes any.
    pub fn matches(&self, value: &str) -> bool {
        match self {
            Self::Exact(e) => **e == *value,
            Self::Prefix(p) => value.starts_with(&**p),
            Self::Regex(r) => r.is_match(value),
            Self::Present => true,
        }
    }

    /// Whether a header line matches; lines need not be UTF-8.
    fn matches_bytes(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(e) => e.as_bytes() == value,
            Self::Prefix(p) => value.starts_with(p.as_bytes()),
            Self::Regex(r) => std::str::from_utf8(value).is_ok_and(|v| r.is_match(v)),
            Self::Present => true,
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
    /// Claims of the user's token.
    pub claims: Vec<ClaimMatch>,
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
    /// A claim: index in [`RequestMatch::claims`].
    Claim(usize),
}

impl HeaderMatch {
    fn holds(&self, facts: &RequestFacts<'_>) -> bool {
        match (&self.name, &self.pseudo) {
            (Some(name), _) => {
                let mut lines = facts.headers.get_all(name).iter().map(http::HeaderValue::as_bytes).peekable();
                if lines.peek().is_none() { self.missing() } else { self.any(lines) }
            }
            (None, Some(pseudo)) => match facts.pseudo(pseudo) {
                Some(value) => self.any(std::iter::once(value.as_bytes())),
                None => self.missing(),
            },
            (None, None) => false,
        }
    }

    fn any<'a>(&self, mut lines: impl Iterator<Item = &'a [u8]>) -> bool {
        lines.any(|l| self.value.matches_bytes(l)) != self.invert
    }

    /// A missing header fails a plain condition. Inverted, it counts as an empty value, except that an inverted
    /// presence condition holds.
    fn missing(&self) -> bool {
        self.invert && (matches!(self.value, StringMatcher::Present) || !self.value.matches_bytes(b""))
    }
}

impl QueryMatch {
    fn holds(&self, query: Option<&str>) -> bool {
        let mut pairs = query.unwrap_or_default().split('&').map(|p| p.split_once('=').unwrap_or((p, "")));
        query.is_some() && pairs.find(|(k, _)| *k == &*self.name).is_some_and(|(_, v)| self.value.matches(v))
    }
}

impl<'a> RequestFacts<'a> {
    fn pseudo(&self, name: &str) -> Option<Cow<'a, str>> {
        match name {
            ":method" => Some(self.method.as_str().into()),
            ":scheme" => Some(self.scheme.into()),
            ":authority" => Some(self.authority.into()),
            ":path" => Some(match self.query {
                Some(q) => format!("{}?{q}", self.path).into(),
                None => self.path.into(),
            }),
            _ => None,
        }
    }
}

impl RequestMatch {
    /// Whether a request matches; the first condition that fails otherwise.
    ///
    /// # Errors
    /// The condition that failed.
    pub fn check(&self, facts: &RequestFacts<'_>) -> Result<(), Miss> {
        self.failing(facts).next().map_or(Ok(()), Err)
    }

    /// Every condition that fails, in the order in which they are tried.
    pub fn misses(&self, facts: &RequestFacts<'_>) -> Vec<Miss> {
        self.failing(facts).collect()
    }

    /// Takes every request.
    pub fn is_catch_all(&self) -> bool {
        let every_path = match &self.uri {
            None | Some(StringMatcher::Present) => true,
            Some(StringMatcher::Prefix(p)) => &**p == "/" || p.is_empty(),
            Some(StringMatcher::Regex(r)) => r.as_str() == "^(?:.*)$",
            Some(StringMatcher::Exact(_)) => false,
        };
        let conditions = [&self.scheme, &self.method, &self.authority];
        let others = self.headers.is_empty() && self.query.is_empty() && self.claims.is_empty();
        every_path && others && conditions.iter().all(|c| c.is_none())
    }

    /// Bytes of the path that a `prefix` condition matches, which a prefix rewrite replaces.
    pub fn prefix_length(&self) -> Option<usize> {
        match &self.uri {
            Some(StringMatcher::Prefix(p)) => Some(p.len()),
            None | Some(StringMatcher::Present) => Some(1),
            Some(StringMatcher::Exact(_) | StringMatcher::Regex(_)) => None,
        }
    }

    fn failing<'a>(&'a self, facts: &'a RequestFacts<'a>) -> impl Iterator<Item = Miss> + 'a {
        let text = |m: &Option<StringMatcher>, v: &str| m.as_ref().is_none_or(|m| m.matches(v));
        let fixed = [
            (Miss::Uri, self.uri_holds(facts.path)),
            (Miss::Method, text(&self.method, facts.method.as_str())),
            (Miss::Scheme, text(&self.scheme, facts.scheme)),
            (Miss::Authority, text(&self.authority, facts.authority)),
        ];
        let headers = self.headers.iter().enumerate().filter(|(_, h)| !h.holds(facts)).map(|(i, _)| Miss::Header(i));
        let query = self.query.iter().enumerate().filter(|(_, q)| !q.holds(facts.query)).map(|(i, _)| Miss::Query(i));
        let claims = self.claims.iter().enumerate();
        let claims = claims.filter(|(_, c)| !c.holds(facts.claims)).map(|(i, _)| Miss::Claim(i));
        fixed.into_iter().filter(|(_, holds)| !holds).map(|(m, _)| m).chain(headers).chain(query).chain(claims)
    }

    fn uri_holds(&self, path: &str) -> bool {
        let Some(uri) = &self.uri else { return true };
        let (StringMatcher::Exact(text) | StringMatcher::Prefix(text)) = uri else { return uri.matches(path) };
        let (text, path) = (text.as_bytes(), path.as_bytes());
        let equal = |a: &[u8], b: &[u8]| if self.ignore_uri_case { a.eq_ignore_ascii_case(b) } else { a == b };
        if matches!(uri, StringMatcher::Exact(_)) {
            return equal(text, path);
        }
        if !self.segment_prefix {
            return path.len() >= text.len() && equal(text, &path[..text.len()]);
        }
        // `/p` takes `/p` and `/p/…`, not `/px`; a slash at the end of the prefix says nothing more.
        let text = text.strip_suffix(b"/").unwrap_or(text);
        path.len() >= text.len()
            && equal(text, &path[..text.len()])
            && path.get(text.len()).is_none_or(|next| *next == b'/')
    }
}

#[cfg(test)]
mod tests;
