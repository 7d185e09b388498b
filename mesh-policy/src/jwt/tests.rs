mod corpus;
mod remote;
mod rows;

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Request;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use mesh_core::api::Resource;
use mesh_core::yaml;
use rcgen::{KeyPair, RsaKeySize};

use super::*;

/// The time of the tests, in seconds since 1970.
pub(crate) const NOW: u64 = 1_800_000_000;

/// base64url without padding.
fn encode_url(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

/// A key with its public half.
pub(crate) struct Signer {
    key: EncodingKey,
    algorithm: Algorithm,
    jwk: serde_json::Value,
}

impl Signer {
    fn new(key: EncodingKey, algorithm: Algorithm) -> Self {
        let jwk = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap();
        Self { key, algorithm, jwk }
    }

    fn rsa() -> Self {
        let pair = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        Self::new(EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap(), Algorithm::RS256)
    }

    fn ec() -> Self {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        Self::new(EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap(), Algorithm::ES256)
    }

    fn secret() -> Self {
        Self::new(EncodingKey::from_secret(b"a secret that is long enough for it"), Algorithm::HS256)
    }

    /// Its public half as JSON, with a name, and an algorithm if there is one.
    pub(crate) fn jwk(&self, kid: &str, alg: &str) -> String {
        let mut jwk = self.jwk.clone();
        let map = jwk.as_object_mut().unwrap();
        map.remove("alg");
        for (name, value) in [("kid", kid), ("alg", alg)] {
            if !value.is_empty() {
                map.insert(name.to_owned(), value.into());
            }
        }
        jwk.to_string()
    }

    /// A token with this header and payload, as they are.
    pub(crate) fn token(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", encode_url(header), encode_url(payload));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }

    /// A token with this payload.
    pub(crate) fn sign(&self, payload: &str) -> String {
        let alg = format!("{:?}", self.algorithm);
        self.token(&format!(r#"{{"alg":"{alg}","kid":"k"}}"#), payload)
    }
}

pub(crate) static KEY: LazyLock<Signer> = LazyLock::new(Signer::rsa);
pub(crate) static OTHER: LazyLock<Signer> = LazyLock::new(Signer::rsa);
pub(crate) static EC: LazyLock<Signer> = LazyLock::new(Signer::ec);
pub(crate) static SECRET: LazyLock<Signer> = LazyLock::new(Signer::secret);

/// A key set of these keys.
pub(crate) fn set(keys: &[String]) -> String {
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

/// Rules in flow form, each with the key `k` of [`KEY`] unless it says otherwise.
pub(crate) fn policies(rules: &[&str]) -> Vec<Arc<Object<RequestAuthentication>>> {
    let jwks = set(&[KEY.jwk("k", "RS256")]);
    let rules = rules.iter().map(|r| {
        let keys = if r.contains("jwks") || r.contains("discover") { "" } else { ", jwks: '<JWKS>'" };
        format!("  - {{{}{keys}}}\n", r.replace("discover", "")).replace("<JWKS>", &jwks)
    });
    let text = format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: p, namespace: foo}}\nspec:\n  \
         jwtRules:\n{}",
        rules.collect::<String>()
    );
    let (resources, reports) = yaml::read("f.yaml", &text);
    assert!(reports.is_empty(), "{reports:#?}\n{text}");
    let found = resources.into_iter().filter_map(|r| match r {
        Resource::RequestAuthentication(o) => Some(o),
        _ => None,
    });
    found.collect()
}

pub(crate) fn authenticator(rules: &[&str]) -> Authenticator {
    Authenticator::compile(&policies(rules), &KeyStore::default()).0
}

pub(crate) fn request(target: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut builder = Request::builder().uri(target);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap()
}

pub(crate) fn bearer(token: &str) -> Request<()> {
    request("/", &[("authorization", &format!("Bearer {token}"))])
}

/// The request as it goes on, or why not.
pub(crate) fn ask(authenticator: &Authenticator, mut request: Request<()>) -> Result<Request<()>, JwtError> {
    match authenticator.check(&request, now()) {
        Outcome::Pass(changes) => {
            changes.apply(&mut request);
            Ok(request)
        }
        Outcome::Refuse(error) => Err(error),
        Outcome::Wait(_) => panic!("there is nothing to wait for"),
    }
}

/// Whether a token was taken; `Err`: refused.
pub(crate) fn taken(authenticator: &Authenticator, request: Request<()>) -> Result<bool, JwtError> {
    ask(authenticator, request).map(|r| r.extensions().get::<Claims>().is_some())
}
