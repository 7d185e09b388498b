//! Header values with `%VAR%` operators, parsed once.

mod operators;

use std::fmt;
use std::sync::Arc;

/// A header value as configured. Literal text is the common case; the operators are parsed at compile time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HeaderValueTemplate {
    /// No operator in it; `%%` already is `%`.
    Literal(http::HeaderValue),
    /// Parts to put together per request.
    Parts(Arc<[Part]>),
}

/// A part of a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// Text.
    Text(Arc<str>),
    /// An operator by name with its argument and the longest value that it gives: `REQ(x-a):5` is (`REQ`, `x-a`, 5).
    Operator(Arc<str>, Arc<str>, Option<usize>),
}

impl HeaderValueTemplate {
    /// Reads a value: `%NAME%`, `%NAME(argument)%`, `%NAME(argument):LENGTH%`, and `%%` for a percent sign.
    ///
    /// # Errors
    /// In words: an unbalanced or unknown operator, or a control character.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.chars().any(|c| c.is_control() && c != '\t') {
            return Err(format!("header value configuration: \"{}\" has a control character", text.escape_debug()));
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            literal.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                literal.push('%');
                rest = after;
                continue;
            }
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal).into()));
            }
            let (operator, after) = operator(rest).map_err(|why| wrong(text, &why))?;
            parts.push(operator);
            rest = after;
        }
        literal.push_str(rest);
        if parts.is_empty() {
            return http::HeaderValue::from_str(&literal)
                .map(Self::Literal)
                .map_err(|_| wrong(text, "is no header value"));
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal.into()));
        }
        Ok(Self::Parts(parts.into()))
    }

    /// Its operators that have no value here, each with the reason.
    pub fn always_empty(&self) -> Vec<(Arc<str>, &'static str)> {
        let Self::Parts(parts) = self else { return Vec::new() };
        let empty = |part: &Part| match part {
            Part::Operator(name, ..) => match operators::find(name)? {
                operators::Known::Empty(why) => Some((name.clone(), why)),
                operators::Known::Value => None,
            },
            Part::Text(_) => None,
        };
        parts.iter().filter_map(empty).collect()
    }

    /// The same with operators whose value never changes put in; `fixed` says those by name and argument.
    #[must_use]
    pub fn with_fixed(&self, fixed: impl Fn(&str, &str) -> Option<String>) -> Self {
        let Self::Parts(parts) = self else { return self.clone() };
        let put = |part: &Part| match part {
            Part::Operator(name, argument, length) => match fixed(name, argument) {
                Some(text) => {
                    let end = length.map_or(text.len(), |n| text.floor_char_boundary(n));
                    Part::Text(text[..end].into())
                }
                None => part.clone(),
            },
            Part::Text(_) => part.clone(),
        };
        Self::Parts(parts.iter().map(put).collect())
    }

    /// The value for one request. `resolve` is asked for each operator by name and argument; what it does not know is
    /// empty. An empty value is `None`: the header is not added.
    pub fn render(&self, mut resolve: impl FnMut(&str, &str) -> Option<String>) -> Option<http::HeaderValue> {
        let parts = match self {
            Self::Literal(v) => return Some(v.clone()),
            Self::Parts(parts) => parts,
        };
        let mut value = String::new();
        for part in parts.iter() {
            match part {
                Part::Text(t) => value.push_str(t),
                Part::Operator(name, argument, length) => {
                    let text = resolve(name, argument).unwrap_or_default();
                    let end = length.map_or(text.len(), |n| text.floor_char_boundary(n));
                    value.push_str(&text[..end]);
                }
            }
        }
        if value.is_empty() { None } else { http::HeaderValue::from_bytes(value.as_bytes()).ok() }
    }
}

impl fmt::Display for HeaderValueTemplate {
    /// As it is written in the configuration: [`HeaderValueTemplate::parse`] of it is the same value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |t: &str| t.replace('%', "%%");
        match self {
            Self::Literal(value) => f.write_str(&text(&String::from_utf8_lossy(value.as_bytes()))),
            Self::Parts(parts) => parts.iter().try_for_each(|part| match part {
                Part::Text(t) => f.write_str(&text(t)),
                Part::Operator(name, argument, length) => {
                    write!(f, "%{name}")?;
                    if !argument.is_empty() {
                        write!(f, "({argument})")?;
                    }
                    length.iter().try_for_each(|n| write!(f, ":{n}"))?;
                    f.write_str("%")
                }
            }),
        }
    }
}

fn wrong(text: &str, why: &str) -> String {
    format!("header value configuration: \"{text}\" {why}")
}

const UNBALANCED: &str = "has an unbalanced %; write %% for a percent sign";

/// Reads an operator after its opening `%`; gives it and what follows its closing `%`.
fn operator(text: &str) -> Result<(Part, &str), String> {
    let unbalanced = || UNBALANCED.to_owned();
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).ok_or_else(unbalanced)?;
    let (name, mut rest) = text.split_at(end);
    let mut argument = "";
    if let Some(open) = rest.strip_prefix('(') {
        let close = open.find(')').ok_or_else(unbalanced)?;
        (argument, rest) = (&open[..close], &open[close + 1..]);
    }
    let mut length = None;
    if let Some(number) = rest.strip_prefix(':') {
        let end = number.find('%').ok_or_else(unbalanced)?;
        let wrong = |_| format!("has a length after %{name} that is no number");
        length = Some(number[..end].parse().map_err(wrong)?);
        rest = &number[end..];
    }
    let rest = rest.strip_prefix('%').ok_or_else(unbalanced)?;
    if operators::find(name).is_none() {
        let near: Vec<String> = operators::like(name).iter().map(|n| format!("%{n}%")).collect();
        let near = if near.is_empty() { "a name of Envoy's command operators".to_owned() } else { near.join(" or ") };
        return Err(format!("has %{name}%, which is no operator; write {near}, or %% for a percent sign"));
    }
    Ok((Part::Operator(name.into(), argument.into(), length), rest))
}

#[cfg(test)]
mod tests;
