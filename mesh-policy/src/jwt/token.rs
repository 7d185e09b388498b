//! A token taken apart, and checked in the order in which Envoy does.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::error::JwtError;

/// Algorithms that are known, whether or not a key can be for them.
const ALGORITHMS: [&str; 13] = [
    "ES256", "ES384", "ES512", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA",
];

/// Longest token that is looked at.
const MAX_TOKEN: usize = 64 * 1024;

/// A token that is well-formed. Nothing is known about its signature.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) alg: String,
    pub(super) kid: String,
    pub(super) payload: Map<String, Value>,
    /// Seconds since 1970.
    pub(super) exp: Option<u64>,
    pub(super) nbf: Option<u64>,
    pub(super) audiences: Vec<String>,
    /// Length of `header.payload`, which is what is signed.
    pub(super) signed: usize,
    /// Where the payload begins.
    pub(super) payload_at: usize,
}

impl Token {
    /// Reads a token.
    pub(super) fn parse(text: &str) -> Result<Self, JwtError> {
        let mut parts = text.split('.');
        let three = (parts.next(), parts.next(), parts.next(), parts.next());
        let (Some(header), Some(payload), Some(signature), None) = three else { return Err(JwtError::BadFormat) };
        if header.is_empty() || payload.is_empty() || signature.is_empty() || text.len() > MAX_TOKEN {
            return Err(JwtError::BadFormat);
        }
        let head =
            object(&URL_SAFE_NO_PAD.decode(header).map_err(|_| JwtError::HeaderBase64)?).ok_or(JwtError::HeaderJson)?;
        let Some(Value::String(alg)) = head.get("alg") else { return Err(JwtError::HeaderAlg) };
        if !ALGORITHMS.contains(&alg.as_str()) {
            return Err(JwtError::AlgorithmUnknown);
        }
        let kid = optional(&head, "kid").map_err(|()| JwtError::HeaderKid)?;
        // Extensions that have to be understood are not.
        if head.contains_key("crit") {
            return Err(JwtError::AlgorithmUnknown);
        }
        let body = object(&URL_SAFE_NO_PAD.decode(payload).map_err(|_| JwtError::PayloadBase64)?)
            .ok_or(JwtError::PayloadJson)?;
        optional(&body, "iss").map_err(|()| JwtError::Iss)?;
        optional(&body, "sub").map_err(|()| JwtError::Sub)?;
        seconds(&body, "iat", JwtError::IatInteger, JwtError::IatPositive)?;
        let nbf = seconds(&body, "nbf", JwtError::NbfInteger, JwtError::NbfPositive)?;
        let exp = seconds(&body, "exp", JwtError::ExpInteger, JwtError::ExpPositive)?;
        optional(&body, "jti").map_err(|()| JwtError::Jti)?;
        let audiences = audiences(&body)?;
        if URL_SAFE_NO_PAD.decode(signature).is_err() {
            return Err(JwtError::SignatureBase64);
        }
        let (alg, kid) = (alg.clone(), kid.to_owned());
        let (signed, payload_at) = (header.len() + 1 + payload.len(), header.len() + 1);
        Ok(Self { alg, kid, payload: body, exp, nbf, audiences, signed, payload_at })
    }

    pub(super) fn issuer(&self) -> &str {
        self.payload.get("iss").and_then(Value::as_str).unwrap_or_default()
    }
}

/// A text, or nothing.
fn optional<'a>(map: &'a Map<String, Value>, name: &str) -> Result<&'a str, ()> {
    match map.get(name) {
        None => Ok(""),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(()),
    }
}

/// A time; a part of a second is left out.
fn seconds(map: &Map<String, Value>, name: &str, not: JwtError, range: JwtError) -> Result<Option<u64>, JwtError> {
    let number = match map.get(name) {
        None => return Ok(None),
        Some(Value::Number(number)) => number,
        Some(_) => return Err(not),
    };
    match (number.as_u64(), number.as_f64()) {
        (Some(whole), _) => Ok(Some(whole)),
        // 2^63 and more is no time at all.
        (None, Some(f)) if (0.0..9.2e18).contains(&f) => Ok(Some(f as u64)),
        _ => Err(range),
    }
}

fn audiences(map: &Map<String, Value>) -> Result<Vec<String>, JwtError> {
    match map.get("aud") {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text.clone()]),
        Some(Value::Array(list)) => {
            let text = |v: &Value| v.as_str().map(str::to_owned).ok_or(JwtError::Aud);
            list.iter().map(text).collect()
        }
        Some(_) => Err(JwtError::Aud),
    }
}

fn object(json: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice::<Strict>(json).ok()?.0 {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

/// JSON in which no object has a name twice: two readers could take one token for two different ones.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Strict;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON without repeated names")
            }
            fn visit_unit<E>(self) -> Result<Strict, E> {
                Ok(Strict(Value::Null))
            }
            fn visit_bool<E>(self, v: bool) -> Result<Strict, E> {
                Ok(Strict(Value::Bool(v)))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Strict, E> {
                Ok(Strict(v.into()))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Strict, E> {
                Ok(Strict(v.into()))
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<Strict, E> {
                let number = Number::from_f64(v).ok_or_else(|| E::custom("not a number"))?;
                Ok(Strict(Value::Number(number)))
            }
            fn visit_str<E>(self, v: &str) -> Result<Strict, E> {
                Ok(Strict(v.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Strict, A::Error> {
                let mut list = Vec::new();
                while let Some(Strict(value)) = seq.next_element()? {
                    list.push(value);
                }
                Ok(Strict(Value::Array(list)))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Strict, A::Error> {
                let mut map = Map::new();
                while let Some((name, Strict(value))) = entries.next_entry::<String, Strict>()? {
                    if map.insert(name, value).is_some() {
                        return Err(de::Error::custom("a name is there twice"));
                    }
                }
                Ok(Strict(Value::Object(map)))
            }
        }
        d.deserialize_any(Any)
    }
}
