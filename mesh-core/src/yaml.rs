//! The YAML (and JSON) reader, with the place of every field, and a small writer.
//!
//! Scalars mean what they mean to `kubectl`, which reads YAML 1.1: `yes`, `no`, `on`, `off`, `y` and `n` are booleans
//! when not quoted, `012` is octal (10), `0x1f`, `0b11` and `1_000` are integers; dates stay text. Duplicate keys are
//! errors. Anchors, aliases and merge keys (`<<`) work within a budget, nesting ends at [`MAX_DEPTH`].
//!
//! Field paths are written `spec.http[0].match[1].uri.exact`; a key that is not a plain word (it has a dot, a bracket
//! or a quote, or is empty) as `headers["x.y"]`, with `\` before a quote or backslash inside. See [`child`].

mod compose;
mod read;
mod scalar;
mod write;

pub(crate) use read::merge_settings_into;
pub use read::{mesh_config, objects, read};
pub use write::to_yaml;

use std::fmt::Write;
use std::sync::Arc;

use serde_json::Value;

use crate::api::spans::KnownPaths;
use crate::api::{Span, Spans};

/// Deepest nesting of lists and mappings.
pub const MAX_DEPTH: usize = 100;

/// Most values that the aliases of one document may stand for, together.
pub const MAX_ALIASED: usize = 100_000;

/// One document of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Content.
    pub value: Value,
    /// Place of every field: of its key in a mapping, of the item in a list.
    pub spans: Arc<Spans>,
    /// Start of the document's content.
    pub span: Span,
    /// Index among the documents that are not empty, from 0.
    pub index: u32,
}

/// A document that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// What is wrong.
    pub message: String,
    /// Where.
    pub span: Span,
    /// Index of the document.
    pub index: u32,
    /// What to write instead, if that is known.
    pub fix: Option<String>,
}

/// Reads all documents of a text. Documents that are empty or only comments are skipped; a broken one does not affect
/// the others.
pub fn documents(text: &str) -> (Vec<Document>, Vec<SyntaxError>) {
    let (mut documents, mut errors) = (Vec::new(), Vec::new());
    each_document(text, |document| match document {
        Ok(document) => documents.push(document),
        Err(error) => errors.push(error),
    });
    (documents, errors)
}

/// The same one after the other, so that a large text need not be in memory as a whole in this form.
fn each_document(text: &str, mut take: impl FnMut(Result<Document, SyntaxError>)) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut index, mut known) = (0.., KnownPaths::default());
    let mut next = || index.next().expect("invariant: there are fewer documents than lines");
    for (first_line, chunk) in chunks(text) {
        match compose::compose(chunk, first_line) {
            Ok(nodes) => nodes.into_iter().for_each(|node| take(Ok(node.into_document(next(), &mut known)))),
            Err(error) => take(match json(chunk, first_line) {
                Some((value, span)) => Ok(Document { value, spans: Arc::default(), span, index: next() }),
                None => Err(SyntaxError { index: next(), ..error }),
            }),
        }
    }
}

/// JSON that is not quite YAML (tabs, surrogate pairs), without places.
fn json(text: &str, first_line: u32) -> Option<(Value, Span)> {
    let value = text.trim_start().starts_with(['{', '[']).then(|| serde_json::from_str(text).ok())??;
    Some((value, Span { line: first_line, column: 1 }))
}

/// The text cut at its `---` lines, each piece with the number of its first line. A line that begins with `---` is a
/// document marker wherever it stands, so a broken document can't swallow the ones after it. Directives stay with the
/// document that they belong to.
fn chunks(text: &str) -> Vec<(u32, &str)> {
    let mut cuts = vec![(1u32, 0usize)];
    let (mut offset, mut only_directives) = (0, true);
    for (line, number) in text.split_inclusive('\n').zip(1u32..) {
        let bare = line.trim_end();
        let marker = bare.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        if marker && !only_directives {
            cuts.push((number, offset));
        }
        only_directives = !marker && only_directives && (bare.is_empty() || bare.starts_with(['%', '#']));
        offset += line.len();
    }
    let ends = cuts.iter().skip(1).map(|(_, o)| *o).chain([text.len()]).collect::<Vec<_>>();
    cuts.into_iter().zip(ends).map(|((line, start), end)| (line, &text[start..end])).collect()
}

/// The path of a field below a path; an empty parent is the document itself.
pub fn child(parent: &str, key: &str) -> String {
    let mut path = String::with_capacity(parent.len() + 1 + key.len());
    path.push_str(parent);
    push_child(&mut path, key);
    path
}

/// Goes on from a path to a field below it, as [`child`].
fn push_child(path: &mut String, key: &str) {
    let plain = !key.is_empty() && !key.contains(['.', '[', ']', '"', '\\']);
    if !plain {
        path.push_str("[\"");
        for c in key.chars() {
            if matches!(c, '\\' | '"') {
                path.push('\\');
            }
            path.push(c);
        }
        path.push_str("\"]");
        return;
    }
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

/// The path of an item of a list.
pub fn item(parent: &str, index: usize) -> String {
    format!("{parent}[{index}]")
}

/// Goes on from a path to an item below it, as [`item`].
fn push_item(path: &mut String, index: usize) {
    let _ = write!(path, "[{index}]");
}

#[cfg(test)]
mod tests;
