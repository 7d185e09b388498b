//! Paths: normalization before routing, rewriting after.

use std::borrow::Cow;
use std::fmt;

use crate::snapshot::{PathNormalization, RewritePath};

/// The path can't be normalized: answer 400 with an empty body and close (`path_normalization_failed`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadPath;

impl fmt::Display for BadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the path has an escaped zero byte")
    }
}

impl std::error::Error for BadPath {}

/// Normalizes the path of a request target (path and query); the query stays as sent, a fragment is cut off.
///
/// # Errors
/// [`BadPath`] for `%00` in the path, unless normalization is off.
pub fn normalize_target(target: &str, mode: PathNormalization) -> Result<Cow<'_, str>, BadPath> {
    let target = before(target, b'#').unwrap_or(target);
    if mode == PathNormalization::None || !target.starts_with('/') {
        return Ok(target.into());
    }
    let path = before(target, b'?').unwrap_or(target);
    let query = &target[path.len()..];
    if is_normal(path, mode) {
        return Ok(target.into());
    }
    let mut path = decode(path, mode == PathNormalization::DecodeAndMergeSlashes)?;
    path = remove_dot_segments(&path);
    if matches!(mode, PathNormalization::MergeSlashes | PathNormalization::DecodeAndMergeSlashes) {
        path = merge_slashes(&path);
    }
    Ok((path + query).into())
}

/// Nothing in it needs a change; the common case costs one scan.
fn is_normal(path: &str, mode: PathNormalization) -> bool {
    let mut last = 0;
    path.bytes().all(|byte| {
        let after_slash = std::mem::replace(&mut last, byte) == b'/';
        match byte {
            b'%' | b'\\' => false,
            b'.' => !after_slash,
            b'/' => !after_slash || mode == PathNormalization::Base,
            _ => true,
        }
    })
}

/// What comes before an ASCII character. Targets are short: a plain loop is faster than a searcher.
fn before(text: &str, byte: u8) -> Option<&str> {
    text.bytes().position(|b| b == byte).map(|i| &text[..i])
}

/// Decodes escapes of unreserved characters and turns `\` into `/`; other escapes stay as sent.
fn decode(path: &str, slashes: bool) -> Result<String, BadPath> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(c) = rest.chars().next() {
        let escape = if c == '%' { rest.get(1..3).and_then(|h| u8::from_str_radix(h, 16).ok()) } else { None };
        let Some(byte) = escape else {
            out.push(if c == '\\' { '/' } else { c });
            rest = &rest[c.len_utf8()..];
            continue;
        };
        match byte {
            0 => return Err(BadPath),
            b'/' | b'\\' if slashes => out.push('/'),
            b if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') => out.push(char::from(b)),
            _ => out.push_str(&rest[..3]),
        }
        rest = &rest[3..];
    }
    Ok(out)
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
        RewritePath::Regex(regex, with) => regex.replace_all(path, &**with).into_owned(),
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
