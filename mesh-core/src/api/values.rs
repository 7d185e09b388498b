//! Value types with their own text form: durations, string matches, percentages, ports by number or name.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Whether a field has the value that it has when it is not written; such fields are left out of the output.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A length of time, in the form that Go's `time.ParseDuration` reads (`1.5s`, `1h15m`, `100ms`), except negative ones.
/// Written out in seconds (`0.100s`, `90s`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Duration(#[cfg_attr(any(test, feature = "schema"), schemars(with = "String"))] pub std::time::Duration);

impl Duration {
    /// A duration of whole milliseconds.
    pub const fn from_millis(ms: u64) -> Self {
        Self(std::time::Duration::from_millis(ms))
    }

    /// A duration of whole seconds.
    pub const fn from_secs(s: u64) -> Self {
        Self(std::time::Duration::from_secs(s))
    }
}

impl From<Duration> for std::time::Duration {
    fn from(d: Duration) -> Self {
        d.0
    }
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not a duration; write a number with a unit, as 1.5s, 100ms or 1h15m");
        let rest = text.strip_prefix('+').unwrap_or(text);
        if rest == "0" || rest == "-0" {
            return Ok(Self::default());
        }
        if rest.starts_with('-') {
            return Err(format!("\"{text}\" is a negative duration"));
        }
        let mut rest = rest;
        let mut nanos: u128 = 0;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let (part, tail) = duration_part(rest).ok_or_else(wrong)?;
            nanos = nanos.checked_add(part).ok_or_else(wrong)?;
            rest = tail;
        }
        // Go's durations are 64-bit signed nanoseconds.
        match u64::try_from(nanos) {
            Ok(n) if n <= i64::MAX as u64 => Ok(Self(std::time::Duration::from_nanos(n))),
            _ => Err(format!("duration \"{text}\" is longer than 292 years")),
        }
    }
}

/// The first number with unit in nanoseconds, and the rest of the text.
fn duration_part(text: &str) -> Option<(u128, &str)> {
    let digits = |s: &str| s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len());
    let whole_len = digits(text);
    let (whole, rest) = text.split_at(whole_len);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(r) => r.split_at(digits(r)),
        None => ("", rest),
    };
    if (whole.is_empty() && fraction.is_empty()) || whole.len() > 20 {
        return None;
    }
    let units: [(&str, u128); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("μs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let (unit, scale) = units.into_iter().find(|(u, _)| rest.starts_with(u))?;
    let mut nanos = if whole.is_empty() { 0 } else { whole.parse::<u128>().ok()?.checked_mul(scale)? };
    let mut place = scale;
    for digit in fraction.bytes() {
        place /= 10;
        nanos += u128::from(digit - b'0') * place;
    }
    Some((nanos, &rest[unit.len()..]))
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, nanos) = (self.0.as_secs(), self.0.subsec_nanos());
        if nanos == 0 {
            write!(f, "{secs}s")
        } else if nanos % 1_000_000 == 0 {
            write!(f, "{secs}.{:03}s", nanos / 1_000_000)
        } else if nanos % 1_000 == 0 {
            write!(f, "{secs}.{:06}s", nanos / 1_000)
        } else {
            write!(f, "{secs}.{nanos:09}s")
        }
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Duration;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit, as 1.5s, 100ms or 1h15m")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
                let why = |e| E::custom(format!("must be a valid duration greater than or equal to 0s: {e}"));
                text.parse().map_err(why)
            }
        }
        d.deserialize_str(Text)
    }
}

/// A condition on a text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[cfg_attr(any(test, feature = "schema"), schemars(rename_all = "camelCase"))]
pub enum StringMatch {
    /// The same text.
    Exact(String),
    /// Begins with.
    Prefix(String),
    /// RE2 regular expression over the whole text.
    Regex(String),
    /// `{}`: there is a value, whatever it is. Not one of the schema's forms, which each name a key.
    #[default]
    #[cfg_attr(any(test, feature = "schema"), schemars(skip))]
    Present,
}

impl StringMatch {
    /// Any value matches, as long as there is one: `{}` and the regular expression `*`, which Istio reads so.
    pub fn is_presence(&self) -> bool {
        matches!(self, Self::Present) || matches!(self, Self::Regex(r) if r == "*")
    }
}

impl Serialize for StringMatch {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        match self {
            Self::Exact(v) => map.serialize_entry("exact", v)?,
            Self::Prefix(v) => map.serialize_entry("prefix", v)?,
            Self::Regex(v) => map.serialize_entry("regex", v)?,
            Self::Present => {}
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for StringMatch {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct OneOf;
        impl<'de> Visitor<'de> for OneOf {
            type Value = StringMatch;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string match: one of exact, prefix and regex (`exact: value`), or {} for presence")
            }
            fn visit_unit<E: de::Error>(self) -> Result<StringMatch, E> {
                Err(E::custom("cannot be null; write {} to match any value that is present"))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StringMatch, A::Error> {
                let mut found: Option<StringMatch> = None;
                while let Some(field) = map.next_key::<MatchField>()? {
                    let make = match field {
                        MatchField::Exact => StringMatch::Exact,
                        MatchField::Prefix => StringMatch::Prefix,
                        MatchField::Regex => StringMatch::Regex,
                        MatchField::Other => {
                            map.next_value::<de::IgnoredAny>()?;
                            continue;
                        }
                    };
                    let value = map.next_value::<Option<String>>()?;
                    if let Some(value) = value
                        && found.replace(make(value)).is_some()
                    {
                        return Err(de::Error::custom("At most one of [exact prefix regex] should be set"));
                    }
                }
                Ok(found.unwrap_or_default())
            }
        }
        // As a struct, so that unknown fields are reported as such.
        d.deserialize_struct("StringMatch", &["exact", "prefix", "regex"], OneOf)
    }
}

enum MatchField {
    Exact,
    Prefix,
    Regex,
    Other,
}

impl<'de> Deserialize<'de> for MatchField {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = MatchField;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<MatchField, E> {
                Ok(match name {
                    "exact" => MatchField::Exact,
                    "prefix" => MatchField::Prefix,
                    "regex" => MatchField::Regex,
                    _ => MatchField::Other,
                })
            }
        }
        d.deserialize_identifier(Name)
    }
}

/// A share in percent, 0 to 100.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Percent {
    /// The share; 0, or at least 0.0001.
    #[serde(skip_serializing_if = "is_default")]
    pub value: f64,
}

/// A number or a name: ports of Services and probes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum IntOrString {
    /// Number.
    Int(i64),
    /// Name.
    String(String),
}

#[cfg(test)]
mod tests;
