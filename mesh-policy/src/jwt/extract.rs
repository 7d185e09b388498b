//! Where tokens are in a request.

use std::borrow::Cow;

use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE};
use mesh_core::api::JwtHeader;

/// A place that may hold tokens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Location {
    /// A header: what follows the prefix.
    Header(HeaderName, String),
    /// A query parameter.
    Param(String),
    /// A cookie.
    Cookie(String),
}

impl Location {
    /// The places of a rule; without any, `Authorization: Bearer …` and the parameter `access_token`.
    pub(super) fn all(headers: &[JwtHeader], params: &[String], cookies: &[String]) -> Box<[Self]> {
        let header = |h: &JwtHeader| {
            let JwtHeader { name, prefix } = h;
            Some(Self::Header(HeaderName::from_bytes(name.as_bytes()).ok()?, prefix.clone()))
        };
        if headers.is_empty() && params.is_empty() && cookies.is_empty() {
            let bearer = Self::Header(AUTHORIZATION, "Bearer ".to_owned());
            return [bearer, Self::Param("access_token".to_owned())].into();
        }
        let params = params.iter().cloned().map(Self::Param);
        headers.iter().filter_map(header).chain(params).chain(cookies.iter().cloned().map(Self::Cookie)).collect()
    }

    /// Calls for each token that is here. A header with several lines may have several: each counts.
    pub(super) fn each<B>(&self, request: &http::Request<B>, f: &mut impl FnMut(&str)) {
        match self {
            Self::Header(name, prefix) => {
                for line in request.headers().get_all(name) {
                    // What is no text can't be good, and must not pass as if it were not there.
                    let line = line.to_str().unwrap_or(NO_TEXT);
                    match line.strip_prefix(prefix.as_str()) {
                        Some(rest) if prefix.is_empty() => f(rest),
                        Some(rest) => bounded(rest).into_iter().for_each(&mut *f),
                        None if line == NO_TEXT => f(line),
                        None => {}
                    }
                }
            }
            Self::Param(name) => {
                for (key, value) in pairs(request.uri().query().unwrap_or_default()) {
                    if decoded(key) == name.as_str() {
                        f(&decoded(value));
                    }
                }
            }
            Self::Cookie(name) => {
                // Octet by octet: what is no text beside a token must not hide it from us and leave it to the application.
                for cookie in request.headers().get_all(COOKIE).iter().flat_map(|v| v.as_bytes().split(|b| *b == b';'))
                {
                    let Some(at) = cookie.iter().position(|b| *b == b'=') else { continue };
                    let (own, value) = (cookie[..at].trim_ascii(), cookie[at + 1..].trim_ascii());
                    if own == name.as_bytes() {
                        let bare = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
                        f(std::str::from_utf8(bare).unwrap_or(NO_TEXT));
                    }
                }
            }
        }
    }
}

/// Stands for a header, or a part of one, that is no text.
const NO_TEXT: &str = "\u{fffd}";

/// The first run of characters that tokens are made of, as Envoy takes it; without any, no token.
fn bounded(text: &str) -> Option<&str> {
    let is = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let text = &text[text.find(is)?..];
    Some(&text[..text.find(|c| !is(c)).unwrap_or(text.len())])
}

/// Names and values of a query.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|p| !p.is_empty()).map(|p| p.split_once('=').unwrap_or((p, "")))
}

/// Without percent escapes; a text that has wrong ones stays as it is.
pub(super) fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return text.into();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        match (first, hex(tail.first()), hex(tail.get(1))) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                rest = &tail[2..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(out).map_or(text.into(), Cow::Owned)
}
