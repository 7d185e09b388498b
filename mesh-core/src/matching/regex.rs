//! Regular expressions of Istio's resources.

use std::borrow::Cow;
use std::sync::Arc;

/// Longest regular expression that Istio accepts.
const LENGTH_MAX: usize = 1024;
/// Bounds memory per expression; matching itself is linear in the input.
const SIZE_MAX: usize = 1 << 20;

/// A compiled regular expression (RE2's syntax). Equal to another when written alike; cloning it is a reference count.
#[derive(Clone, Debug)]
pub struct Regex(Arc<regex::Regex>);

impl Regex {
    /// Compiles an expression that has to match a whole text (RE2's full match).
    ///
    /// # Errors
    /// In words, when it is empty, longer than 1024 characters, malformed, or too large when compiled.
    pub fn full(text: &str) -> Result<Self, String> {
        Self::build(text, |text| format!("^(?:{text})$"))
    }

    /// Compiles an expression of a rewrite, which matches anywhere.
    ///
    /// # Errors
    /// As [`Regex::full`].
    pub fn anywhere(text: &str) -> Result<Self, String> {
        Self::build(text, str::to_owned)
    }

    fn build(text: &str, whole: impl FnOnce(&str) -> String) -> Result<Self, String> {
        match text.len() {
            0 => return Err("regex string match should not be empty".into()),
            n if n > LENGTH_MAX => return Err(format!("regex is too large, max length allowed is {LENGTH_MAX}")),
            _ => {}
        }
        let built = regex::RegexBuilder::new(&whole(text)).size_limit(SIZE_MAX).dfa_size_limit(SIZE_MAX).build();
        built.map(|regex| Self(Arc::new(regex))).map_err(|e| {
            let why = e.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("\"{text}\" is not a regular expression: {why}")
        })
    }

    /// Whether a text matches.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// The text with every match replaced; `$1` and `${name}` in the replacement are what groups matched.
    #[must_use]
    pub fn replace_all<'a>(&self, text: &'a str, with: &str) -> Cow<'a, str> {
        self.0.replace_all(text, with)
    }

    /// As it was compiled: with `^(?:` and `)$` around what was written, if it has to match a whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Regex {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_bounded_and_errors_say_what_is_wrong() {
        assert!(Regex::full("").is_err());
        assert!(Regex::full("(").unwrap_err().contains("not a regular expression"));
        assert!(Regex::full(&"a".repeat(1025)).unwrap_err().contains("max length allowed is 1024"));
        assert!(Regex::full("(a{1000}){1000}").is_err(), "memory per expression is bounded");
    }

    #[test]
    fn full_expressions_match_whole_texts_and_others_anywhere() {
        let (full, anywhere) = (Regex::full("a|bc").unwrap(), Regex::anywhere("a|bc").unwrap());
        assert!(full.is_match("bc") && !full.is_match("bca") && !full.is_match("a\n") && anywhere.is_match("xbcx"));
        assert_eq!(anywhere.replace_all("xbcax", "<$0>"), "x<bc><a>x");
        assert_eq!(full, Regex::full("a|bc").unwrap());
        assert_ne!(full, anywhere);
    }
}
