//! String matches, header names, header values.

use std::sync::Arc;

use super::Check;
use crate::api::StringMatch;
use crate::matching::{HeaderValueTemplate, Regex};
use crate::yaml::child;

/// A match on a value. Only for `uri` may the prefix be empty; only for maps does `regex: "*"` mean presence.
pub(super) fn string_match(
    check: &mut Check<'_>,
    field: &str,
    value: &StringMatch,
    empty_prefix: bool,
    presence: bool,
) {
    match value {
        StringMatch::Prefix(prefix) if prefix.is_empty() && !empty_prefix => {
            check.error(&child(field, "prefix"), "prefix string match should not be empty");
        }
        StringMatch::Regex(text) if text == "*" && presence => {}
        StringMatch::Regex(text) => check.ok(&child(field, "regex"), Regex::full(text).map(drop)),
        StringMatch::Exact(_) | StringMatch::Prefix(_) | StringMatch::Present => {}
    }
}

/// A token of RFC 7230.
pub(super) fn is_token(text: &str) -> bool {
    let special = b"!#$%&'*+-.^_`|~";
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || special.contains(&b))
}

/// The name of a header in a match.
pub(super) fn match_header_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("header name cannot be empty".to_owned());
    }
    if matches!(name, ":method" | ":scheme" | ":authority" | ":path" | ":status") || is_token(name) {
        return Ok(());
    }
    Err(format!("header name {name:?} is not a valid header name"))
}

/// The name of a header that a request operation sets or adds; Host is an authority rewrite.
pub(super) fn set_request_header(name: &str) -> Result<(), String> {
    match name {
        ":authority" => Ok(()),
        _ if name.starts_with(':') => Err(format!("invalid header {name:?}: header cannot have ':' prefix")),
        _ => match_header_name(name),
    }
}

/// The name of a header that is removed, or that a response operation changes.
pub(super) fn change_header(name: &str) -> Result<(), String> {
    if name.eq_ignore_ascii_case("host") || name.starts_with(':') {
        return Err(format!("invalid header {name:?}: cannot set Host header"));
    }
    match_header_name(name)
}

/// A header value: no control characters, `%` only in pairs or around an operator that there is. Gives the operators that
/// have no value here.
pub(super) fn header_value(value: &str) -> Result<Vec<(Arc<str>, &'static str)>, String> {
    HeaderValueTemplate::parse(value).map(|template| template.always_empty())
}
