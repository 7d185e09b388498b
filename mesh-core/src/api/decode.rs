//! From JSON values to structs, as Istio's decoder does it, saying what is wrong and where.
//!
//! - A field is known by its camelCase name; where asked for also by its proto name (`export_to`).
//! - `null` is as if the field was not written.
//! - An enum may be given by number.
//! - Fields that a struct does not have are skipped and collected.

use std::cell::RefCell;
use std::fmt;

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde_json::Value;

use crate::yaml;

/// A field that no struct knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// Path of the field.
    pub(crate) path: String,
    /// Its name.
    pub(crate) name: String,
    /// Names that the struct has.
    pub(crate) known: &'static [&'static str],
}

/// A value that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DecodeError {
    /// Path of the field.
    pub(crate) path: String,
    /// What is wrong.
    pub(crate) message: String,
}

/// Decodes a value whose path in its document is `base`; `proto_names` accepts snake_case names too.
pub(crate) fn decode<'a, T: Deserialize<'a>>(
    value: &'a Value,
    base: &str,
    proto_names: bool,
) -> (Result<T, DecodeError>, Vec<Unknown>) {
    let context = Context { unknown: RefCell::default(), proto_names };
    let path = Path::Base(base);
    let result = T::deserialize(De { value, path: &path, context: &context })
        .map_err(|e| DecodeError { path: e.path.unwrap_or_else(|| base.to_owned()), message: e.message });
    (result, context.unknown.into_inner())
}

/// The camelCase form of a proto field name.
pub(crate) fn camel(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        if c == '_' {
            upper = true;
        } else if upper {
            out.extend(c.to_uppercase());
            upper = false;
        } else {
            out.push(c);
        }
    }
    out
}

struct Context {
    unknown: RefCell<Vec<Unknown>>,
    proto_names: bool,
}

/// Path of the value at hand; its text is only made for messages.
enum Path<'p> {
    Base(&'p str),
    Key(&'p Path<'p>, &'p str),
    Item(&'p Path<'p>, usize),
}

impl Path<'_> {
    fn text(&self) -> String {
        match self {
            Path::Base(base) => (*base).to_owned(),
            Path::Key(parent, key) => yaml::child(&parent.text(), key),
            Path::Item(parent, index) => yaml::item(&parent.text(), *index),
        }
    }
}

#[derive(Debug)]
struct Error {
    path: Option<String>,
    message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { path: None, message: message.to_string() }
    }
}

#[derive(Clone, Copy)]
struct De<'a, 'p> {
    value: &'a Value,
    path: &'p Path<'p>,
    context: &'p Context,
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(b) => format!("the boolean {b}"),
        Value::Number(n) => format!("the number {n}"),
        Value::String(s) => format!("the text \"{s}\""),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}

impl<'a> De<'a, '_> {
    fn at(&self, mut error: Error) -> Error {
        error.path.get_or_insert_with(|| self.path.text());
        error
    }

    fn fail<T>(&self, message: String) -> Result<T, Error> {
        Err(Error { path: Some(self.path.text()), message })
    }

    fn wrong<T>(&self, expected: &str) -> Result<T, Error> {
        self.fail(format!("must be {expected}, but is {}", describe(self.value)))
    }

    fn integer<V: Visitor<'a>>(self, min: i128, max: i128, visitor: V) -> Result<V::Value, Error> {
        let Value::Number(number) = self.value else {
            return self.wrong("a whole number (not quoted)");
        };
        let whole = number.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 1e15).map(|f| f as i128);
        let exact = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from)).or(whole);
        match exact {
            Some(n) if n >= min && n <= max => {
                let result = match u64::try_from(n) {
                    Ok(n) => visitor.visit_u64(n),
                    Err(_) => visitor.visit_i64(i64::try_from(n).expect("invariant: within the bounds of i64")),
                };
                result.map_err(|e| self.at(e))
            }
            Some(n) => self.fail(format!("must be from {min} to {max}, but is {n}")),
            None => self.wrong("a whole number"),
        }
    }
}

impl<'a> Deserializer<'a> for De<'a, '_> {
    type Error = Error;

    /// For values that are kept as they are.
    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.value.deserialize_any(visitor).map_err(|e| self.at(de::Error::custom(e)))
    }

    fn deserialize_bool<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Bool(b) => visitor.visit_bool(*b),
            _ => self.wrong("true or false (not quoted)"),
        }
    }

    fn deserialize_i8<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.integer(i128::from(i8::MIN), i128::from(i8::MAX), visitor)
    }

    fn deserialize_i16<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.integer(i128::from(i16::MIN), i128::from(i16::MAX), visitor)
    }

    fn deserialize_i32<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.integer(i128::from(i32::MIN), i128::from(i32::MAX), visitor)
    }

    fn deserialize_i64<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.integer(i128::from(i64::MIN), i128::from(i64::MAX), visitor)
    }

    fn deserialize_u8<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.integer(i128::from(u8::MIN), i128::from(u8::MAX), visitor)
    }

    fn deserialize_u16<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.integer(i128::from(u16::MIN), i128::from(u16::MAX), visitor)
    }

    fn deserialize_u32<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.integer(i128::from(u32::MIN), i128::from(u32::MAX), visitor)
    }

    fn deserialize_u64<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.integer(i128::from(u64::MIN), i128::from(u64::MAX), visitor)
    }

    fn deserialize_f32<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value.as_f64() {
            Some(n) => visitor.visit_f64(n),
            None => self.wrong("a number (not quoted)"),
        }
    }

    fn deserialize_char<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::String(text) => visitor.visit_borrowed_str(text).map_err(|e| self.at(e)),
            Value::Bool(b) => self.fail(format!(
                "must be text, but is the boolean {b} (YAML reads yes, no, on, off, y and n as booleans); put it in quotes"
            )),
            Value::Number(n) => self.fail(format!("must be text, but is the number {n}; put it in quotes: \"{n}\"")),
            _ => self.wrong("text"),
        }
    }

    fn deserialize_string<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'a>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_struct(name, &[], visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Array(items) => visitor.visit_seq(Items { of: self, items, next: 0 }),
            Value::Null => visitor.visit_seq(Items { of: self, items: &[], next: 0 }),
            _ => self.wrong("a list (each item on a line that begins with -)"),
        }
    }

    fn deserialize_tuple<V: Visitor<'a>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Object(map) => visitor.visit_map(Entries { of: self, entries: map.iter(), value: None }),
            Value::Null => {
                visitor.visit_map(de::value::MapDeserializer::<_, Error>::new(std::iter::empty::<(&str, &str)>()))
            }
            _ => self.wrong("a mapping (name: value)"),
        }
    }

    fn deserialize_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Value::Object(map) => {
                let seen = Vec::new();
                visitor.visit_map(Fields { of: self, fields, entries: map.iter(), value: None, seen })
            }
            Value::Null => visitor.visit_unit(),
            _ => self.wrong("a mapping (name: value)"),
        }
        .map_err(|e| self.at(e))
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let by_number = self.value.as_u64().and_then(|n| variants.get(usize::try_from(n).ok()?)).copied();
        match self.value.as_str().or(by_number) {
            Some(name) if variants.contains(&name) => visitor.visit_enum(Variant(name)),
            Some(name) => self.fail(format!("Unsupported value: \"{name}\": must be one of {}", variants.join(", "))),
            None => self.wrong(&format!("one of {}", variants.join(", "))),
        }
    }

    fn deserialize_identifier<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
}

struct Items<'a, 'p> {
    of: De<'a, 'p>,
    items: &'a [Value],
    next: usize,
}

impl<'a> SeqAccess<'a> for Items<'a, '_> {
    type Error = Error;

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len() - self.next)
    }

    fn next_element_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(value) = self.items.get(self.next) else {
            return Ok(None);
        };
        let path = Path::Item(self.of.path, self.next);
        self.next += 1;
        let of = De { value, path: &path, context: self.of.context };
        if value.is_null() {
            return seed.deserialize(Missing).map_err(|e| of.at(e)).map(Some);
        }
        seed.deserialize(of).map_err(|e| of.at(e)).map(Some)
    }
}

/// An item of a list of which nothing but the `-` is written. It is refused whatever it should have been.
struct Missing;

impl<'de> Deserializer<'de> for Missing {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(de::Error::custom("is empty; remove the - or write a value after it"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        Err(de::Error::custom("in body must be of type object, but is empty; remove the - or write a value after it"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The entries of a mapping with free keys.
struct Entries<'a, 'p> {
    of: De<'a, 'p>,
    entries: serde_json::map::Iter<'a>,
    value: Option<(&'a str, &'a Value)>,
}

impl<'a> MapAccess<'a> for Entries<'a, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.entries.next() else {
            return Ok(None);
        };
        self.value = Some((key, value));
        seed.deserialize(StrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let (key, value) = self.value.take().expect("invariant: a key is read before its value");
        let path = Path::Key(self.of.path, key);
        let of = De { value, path: &path, context: self.of.context };
        seed.deserialize(of).map_err(|e| of.at(e))
    }
}

/// The fields of a struct: null ones are skipped, unknown ones collected.
struct Fields<'a, 'p> {
    of: De<'a, 'p>,
    fields: &'static [&'static str],
    entries: serde_json::map::Iter<'a>,
    value: Option<(&'a str, &'a Value)>,
    seen: Vec<&'static str>,
}

impl<'a> MapAccess<'a> for Fields<'a, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        for (key, value) in self.entries.by_ref() {
            let by = |name: &str| self.fields.iter().copied().find(|f| *f == name);
            let proto = || by(&camel(key)).filter(|_| self.of.context.proto_names && key.contains('_'));
            match by(key).or_else(proto) {
                None if value.is_null() => {}
                None => self.of.context.unknown.borrow_mut().push(Unknown {
                    path: Path::Key(self.of.path, key).text(),
                    name: key.clone(),
                    known: self.fields,
                }),
                Some(_) if value.is_null() => {}
                Some(field) if self.seen.contains(&field) => {
                    let path = Some(Path::Key(self.of.path, key).text());
                    return Err(Error {
                        path,
                        message: format!("is given twice, as {field} and in its other spelling"),
                    });
                }
                Some(field) => {
                    self.seen.push(field);
                    self.value = Some((key, value));
                    return seed.deserialize(StrDeserializer::new(field)).map(Some);
                }
            }
        }
        Ok(None)
    }

    fn next_value_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let (key, value) = self.value.take().expect("invariant: a key is read before its value");
        let path = Path::Key(self.of.path, key);
        let of = De { value, path: &path, context: self.of.context };
        seed.deserialize(of).map_err(|e| of.at(e))
    }
}

struct Variant<'a>(&'a str);

impl<'a> EnumAccess<'a> for Variant<'a> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'a>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        Ok((seed.deserialize(StrDeserializer::new(self.0))?, self))
    }
}

impl<'a> VariantAccess<'a> for Variant<'a> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'a>>(self, _: T) -> Result<T::Value, Error> {
        Err(de::Error::custom("the value has no content"))
    }

    fn tuple_variant<V: Visitor<'a>>(self, _: usize, _: V) -> Result<V::Value, Error> {
        Err(de::Error::custom("the value has no content"))
    }

    fn struct_variant<V: Visitor<'a>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Error> {
        Err(de::Error::custom("the value has no content"))
    }
}

#[cfg(test)]
mod tests;
