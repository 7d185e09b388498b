//! Keys of issuers: a JSON Web Key Set, taken apart once.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

use super::error::JwtError;
use super::token::Token;

/// Largest document, and most keys of it, that are read.
const MAX_DOCUMENT: usize = 1 << 20;
const MAX_KEYS: usize = 512;

/// The keys of an issuer.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    /// Empty: for tokens of any `kid`.
    kid: String,
    /// Empty: any algorithm of its kind.
    alg: String,
    kind: Kind,
    key: DecodingKey,
}

/// What algorithms a key can be for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
    Secret,
}

impl KeySet {
    /// Reads a set. Keys of kinds that are not known, or not for signatures, are left out.
    ///
    /// # Errors
    /// It is too large, not a key set, or no key of it can be used.
    pub fn parse(document: &[u8]) -> Result<Self, String> {
        if document.len() > MAX_DOCUMENT {
            return Err(format!("a key set of {} bytes is larger than {MAX_DOCUMENT}", document.len()));
        }
        let value: Value = serde_json::from_slice(document).map_err(|e| format!("not JSON: {e}"))?;
        let list = value.get("keys").and_then(Value::as_array).ok_or("there is no list called keys")?;
        if list.len() > MAX_KEYS {
            return Err(format!("{} keys are more than {MAX_KEYS}", list.len()));
        }
        let keys: Vec<Key> = list.iter().filter_map(Key::read).collect();
        if keys.is_empty() { Err("it has no usable key".to_owned()) } else { Ok(Self { keys }) }
    }

    /// Verifies the signature of a token.
    pub(super) fn verify(&self, token: &Token, text: &str) -> Result<(), JwtError> {
        let mut meant = false;
        for key in &self.keys {
            let same_kid = token.kid.is_empty() || key.kid.is_empty() || token.kid == key.kid;
            if !same_kid || !(key.alg.is_empty() || key.alg == token.alg) {
                continue;
            }
            meant = true;
            if key.verifies(token, text) {
                return Ok(());
            }
        }
        Err(if meant { JwtError::Signature } else { JwtError::NoKey })
    }
}

impl Key {
    fn read(value: &Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
        if matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption)) {
            return None;
        }
        let kind = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Kind::Rsa,
            AlgorithmParameters::EllipticCurve(p) if p.curve == EllipticCurve::P256 => Kind::P256,
            AlgorithmParameters::EllipticCurve(p) if p.curve == EllipticCurve::P384 => Kind::P384,
            AlgorithmParameters::OctetKeyPair(p) if p.curve == EllipticCurve::Ed25519 => Kind::Ed25519,
            AlgorithmParameters::OctetKey(_) => Kind::Secret,
            _ => return None,
        };
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Some(Self { kid: text("kid"), alg: text("alg"), kind, key: DecodingKey::from_jwk(&jwk).ok()? })
    }

    /// A key is only ever used with algorithms of its kind: a public key is no secret that somebody could sign with.
    fn verifies(&self, token: &Token, text: &str) -> bool {
        let algorithm = match (self.kind, token.alg.as_str()) {
            (Kind::Rsa, "RS256") => Algorithm::RS256,
            (Kind::Rsa, "RS384") => Algorithm::RS384,
            (Kind::Rsa, "RS512") => Algorithm::RS512,
            (Kind::Rsa, "PS256") => Algorithm::PS256,
            (Kind::Rsa, "PS384") => Algorithm::PS384,
            (Kind::Rsa, "PS512") => Algorithm::PS512,
            (Kind::P256, "ES256") => Algorithm::ES256,
            (Kind::P384, "ES384") => Algorithm::ES384,
            (Kind::Ed25519, "EdDSA") => Algorithm::EdDSA,
            (Kind::Secret, "HS256") => Algorithm::HS256,
            (Kind::Secret, "HS384") => Algorithm::HS384,
            (Kind::Secret, "HS512") => Algorithm::HS512,
            _ => return false,
        };
        let (message, signature) = (&text.as_bytes()[..token.signed], &text[token.signed + 1..]);
        jsonwebtoken::crypto::verify(signature, message, &self.key, algorithm).unwrap_or(false)
    }
}
