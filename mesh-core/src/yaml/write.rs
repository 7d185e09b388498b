//! The writer: block style as `kubectl get -o yaml` prints it, keys in the order of the value.

use std::fmt::Write as _;

use serde_json::Value;

use super::scalar;

/// A value as YAML that reads back as the same value. Ends with a line feed.
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => mapping(&mut out, map, 0, false),
        Value::Array(items) if !items.is_empty() => sequence(&mut out, items, 0, false),
        leaf => {
            inline(&mut out, leaf, 0);
            out.push('\n');
        }
    }
    out
}

fn indent(out: &mut String, by: usize) {
    out.extend(std::iter::repeat_n(' ', by));
}

/// `inline_first`: the first key continues a line that already has its indentation (after `- `).
fn mapping(out: &mut String, map: &serde_json::Map<String, Value>, by: usize, inline_first: bool) {
    for (i, (key, value)) in map.iter().enumerate() {
        if i > 0 || !inline_first {
            indent(out, by);
        }
        text(out, key, None);
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                mapping(out, inner, by + 2, false);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                sequence(out, items, by, false);
            }
            leaf => {
                out.push(' ');
                inline(out, leaf, by);
                out.push('\n');
            }
        }
    }
}

fn sequence(out: &mut String, items: &[Value], by: usize, inline_first: bool) {
    for (i, value) in items.iter().enumerate() {
        if i > 0 || !inline_first {
            indent(out, by);
        }
        out.push_str("- ");
        match value {
            Value::Object(inner) if !inner.is_empty() => mapping(out, inner, by + 2, true),
            Value::Array(inner) if !inner.is_empty() => sequence(out, inner, by + 2, true),
            leaf => {
                inline(out, leaf, by);
                out.push('\n');
            }
        }
    }
}

fn inline(out: &mut String, leaf: &Value, by: usize) {
    match leaf {
        Value::String(s) => text(out, s, Some(by)),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
        other => out.push_str(&other.to_string()),
    }
}

/// Text plain if it reads back as itself, as a block if it has lines and a block is possible, else in double quotes.
fn text(out: &mut String, s: &str, block_at: Option<usize>) {
    if is_plain(s) {
        out.push_str(s);
        return;
    }
    if let Some(by) = block_at
        && is_block(s)
    {
        out.push_str(if s.ends_with('\n') { "|" } else { "|-" });
        for line in s.strip_suffix('\n').unwrap_or(s).split('\n') {
            out.push('\n');
            if !line.is_empty() {
                indent(out, by + 2);
                out.push_str(line);
            }
        }
        return;
    }
    quoted(out, s);
}

fn quoted(out: &mut String, s: &str) {
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_printable(c) => out.push(c),
            c if (c as u32) < 0x1_0000 => write!(out, "\\u{:04x}", c as u32).expect("invariant: a String takes text"),
            c => write!(out, "\\U{:08x}", c as u32).expect("invariant: a String takes text"),
        }
    }
    out.push('"');
}

fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~' | '\u{a1}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..)
        && !matches!(c, '\u{2028}' | '\u{2029}')
}

fn is_plain(s: &str) -> bool {
    let special = [
        '-', '?', ':', ',', '[', ']', '{', '}', '#', '&', '*', '!', '|', '>', '\'', '"', '%', '@', '`', ' ', '=', '<',
        '.',
    ];
    !s.is_empty()
        && s.len() < 1000
        && (!s.starts_with(special) || s.starts_with('.') && s.len() > 1 && !s.starts_with(".."))
        && !s.ends_with([' ', ':'])
        && !s.contains(": ")
        && !s.contains(" #")
        && s.chars().all(is_printable)
        && scalar::resolve(s).is_string()
        // Numbers of other YAML versions, dates and times.
        && !s.starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '.') | is_safe_number_like(s)
}

/// Text that begins with a digit and still is no number in any version of YAML: addresses, versions, durations, names.
fn is_safe_number_like(s: &str) -> bool {
    s.bytes().any(|b| b.is_ascii_alphabetic() && !matches!(b.to_ascii_lowercase(), b'a'..=b'f' | b'x' | b'o'))
        || s.matches('.').count() > 1 && !s.contains(':')
}

/// A literal block keeps the text exactly: several lines, no leading space, at most one final line feed.
fn is_block(s: &str) -> bool {
    s.trim_end_matches('\n').contains('\n')
        && !s.starts_with([' ', '\n', '\t'])
        && !s.ends_with("\n\n")
        && s.chars().all(|c| c == '\n' || is_printable(c))
        && !s.split('\n').any(|line| line.ends_with(' ') || (line.trim().is_empty() && !line.is_empty()))
}
