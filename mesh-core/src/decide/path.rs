//! Paths: normalization before routing, rewriting after.

use std::borrow::Cow;
use std::fmt;

use crate::snapshot::{EscapedSlashes, PathNormalization, RewritePath};

/// The path can't be normalized: answer 400 with an empty body and close (`path_normalization_failed`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadPath;

impl fmt::Display for BadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the path has an escaped zero byte")
    }
}

impl std::error::Error for BadPath {}

/// What becomes of a target by its `%2F` and `%5C`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SlashDecision {
    /// It stays.
    Keep,
    /// 400 with an empty body.
    Refuse,
    /// 307 to this target.
    Redirect(String),
    /// It is this one from now on.
    Forward(String),
}

/// `httpPathWithEscapedSlashesAction` for a request target; the query stays as sent.
pub fn decide_slashes(target: &str, action: EscapedSlashes) -> SlashDecision {
    let decoded = || without_escaped_slashes(target);
    match action {
        EscapedSlashes::Keep => SlashDecision::Keep,
        EscapedSlashes::Reject => decoded().map_or(SlashDecision::Keep, |_| SlashDecision::Refuse),
        EscapedSlashes::Redirect => decoded().map_or(SlashDecision::Keep, SlashDecision::Redirect),
        EscapedSlashes::Forward => decoded().map_or(SlashDecision::Keep, SlashDecision::Forward),
    }
}

/// A target whose path has `%2F` or `%5C`, with slashes instead.
fn without_escaped_slashes(target: &str) -> Option<String> {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let has = |word: &str| path.as_bytes().windows(3).any(|w| w.eq_ignore_ascii_case(word.as_bytes()));
    if !has("%2f") && !has("%5c") {
        return None;
    }
    let path = ["%2F", "%2f", "%5C", "%5c"].iter().fold(path.to_owned(), |path, escape| path.replace(escape, "/"));
    Some(path + query)
}

/// Normalizes the path of a request target (path and query); the query stays as sent, a fragment is cut off.
///
/// # Errors
/// [`BadPath`] for `%00` in the path, unless normalization is off.
pub fn normalize_target(target: &str, mode: PathNormalization) -> Result<Cow<'_, str>, BadPath> {
    let applies = mode != PathNormalization::None && target.starts_with('/');
    if applies && is_normal(target, mode) {
        return Ok(target.into());
    }
    let target = before(target, b'#').unwrap_or(target);
    if !applies || is_normal(target, mode) {
        return Ok(target.into());
    }
    let path = before(target, b'?').unwrap_or(target);
    let query = &target[path.len()..];
    let mut path = decode(path, mode == PathNormalization::DecodeAndMergeSlashes)?;
    path = remove_dot_segments(&path);
    if matches!(mode, PathNormalization::MergeSlashes | PathNormalization::DecodeAndMergeSlashes) {
        path = merge_slashes(&path);
    }
    Ok((path + query).into())
}

/// Nothing in it needs a change; the common case costs one scan.
fn is_normal(target: &str, mode: PathNormalization) -> bool {
    let mut last = 0;
    let mut bytes = target.bytes();
    while let Some(byte) = bytes.next() {
        let after_slash = std::mem::replace(&mut last, byte) == b'/';
        let normal = match byte {
            b'?' => return bytes.all(|byte| byte != b'#'),
            b'#' | b'%' | b'\\' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' => false,
            b'.' => !after_slash,
            b'/' => !after_slash || mode == PathNormalization::Base,
            _ => true,
        };
        if !normal {
            return false;
        }
    }
    true
}

/// What comes before an ASCII character. Targets are short: a plain loop is faster than a searcher.
fn before(text: &str, byte: u8) -> Option<&str> {
    text.bytes().position(|b| b == byte).map(|i| &text[..i])
}

/// Decodes escapes of unreserved characters, escapes what has no place in a path, and turns `\` into `/`; other escapes
/// stay as sent. What is decoded never makes an escape together with a `%` that began none: that one is written `%25`, so
/// that nobody behind us decodes more than we saw.
fn decode(path: &str, slashes: bool) -> Result<String, BadPath> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    // A `%` that began no escape, as its place in `out`.
    let mut lone = None;
    while let Some(c) = rest.chars().next() {
        match escaped(rest) {
            Some(0) => return Err(BadPath),
            Some(b'/' | b'\\') if slashes => out.push('/'),
            Some(b) if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') => out.push(char::from(b)),
            Some(_) => out.push_str(&rest[..3]),
            None => {
                match c {
                    '\\' => out.push('/'),
                    '"' | '<' | '>' | '^' | '`' | '{' | '|' | '}' => out.push_str(&format!("%{:02X}", u32::from(c))),
                    other => out.push(other),
                }
                lone = if c == '%' { Some(out.len() - 1) } else { lone };
            }
        }
        rest = &rest[if escaped(rest).is_some() { 3 } else { c.len_utf8() }..];
        if let Some(at) = lone
            && out.len() >= at + 3
        {
            if escaped(&out[at..]).is_some() {
                out.insert_str(at + 1, "25");
            }
            lone = None;
        }
    }
    Ok(out)
}

/// The byte that an escape at the start of a text stands for.
fn escaped(text: &str) -> Option<u8> {
    let digits = text.strip_prefix('%')?.get(..2)?;
    // The parser would take a sign, too.
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// RFC 3986, 5.2.4, for an absolute path; empty segments count.
fn remove_dot_segments(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    for (i, part) in parts.iter().enumerate() {
        let last = i + 1 == parts.len();
        match *part {
            "." => {}
            ".." => {
                segments.pop();
            }
            other => {
                segments.push(other);
                continue;
            }
        }
        if last {
            segments.push("");
        }
    }
    let mut out = String::with_capacity(path.len());
    for s in segments {
        out.push('/');
        out.push_str(s);
    }
    if out.is_empty() { "/".into() } else { out }
}

fn merge_slashes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if !(c == '/' && out.ends_with('/')) {
            out.push(c);
        }
    }
    out
}

/// The rewritten path, with the query as it was. The text of a rewrite is taken literally, also a `?` in it; but a path
/// begins with a slash, and octets that none can have (RFC 3986, 3.3) are percent-encoded.
pub fn rewrite_path(rewrite: &RewritePath, path: &str, query: Option<&str>) -> String {
    let mut out = match rewrite {
        RewritePath::Prefix(length, with) => format!("{with}{}", path.get(*length..).unwrap_or_default()),
        RewritePath::Full(with) => with.to_string(),
        RewritePath::Regex(regex, with) => regex.replace_all(path, with).into_owned(),
    };
    if !out.starts_with('/') {
        out.insert(0, '/');
    }
    if !out.bytes().all(belongs_in_a_target) {
        out = encoded(&out);
    }
    if let Some(query) = query {
        out.push('?');
        out.push_str(query);
    }
    out
}

fn belongs_in_a_target(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x24..=0x3B | 0x3D | 0x3F..=0x5F | 0x61..=0x7A | 0x7C | 0x7E)
}

fn encoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len() + 8);
    for byte in path.bytes() {
        match belongs_in_a_target(byte) {
            true => out.push(char::from(byte)),
            false => out.extend(['%', hex(byte >> 4), hex(byte & 15)]),
        }
    }
    out
}

fn hex(digit: u8) -> char {
    char::from_digit(digit.into(), 16).expect("invariant: four bits").to_ascii_uppercase()
}

#[cfg(test)]
mod tests;
