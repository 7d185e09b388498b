//! Issuers of tokens, what they sign, and how tokens get broken.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::rng::Rng;
use super::signer::Signer;

/// Issuer whose keys are in rules.
pub(crate) const INLINE: &str = "issuer-a";
/// Issuer whose keys are fetched.
pub(crate) const REMOTE: &str = "https://issuer-b.example";

/// All issuers.
pub(crate) struct Tokens {
    inline: Signer,
    remote: Signer,
    /// Its key has the same name as theirs, but nobody knows it.
    forger: Signer,
    now: u64,
}

impl Tokens {
    pub(crate) fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        Self { inline: Signer::new(), remote: Signer::new(), forger: Signer::new(), now }
    }

    /// Keys that rules have in them.
    pub(crate) fn inline_keys(&self) -> String {
        self.inline.jwks()
    }

    /// Keys that are fetched.
    pub(crate) fn remote_keys(&self) -> String {
        self.remote.jwks()
    }

    /// A token of the issuer whose keys are in rules: a good one, or one that is over.
    pub(crate) fn of(&self, subject: &str, audience: &str, good: bool) -> String {
        let end = if good { self.now + 100_000 } else { self.now - 100_000 };
        let payload = json!({"iss": INLINE, "sub": subject, "aud": audience, "exp": end});
        self.inline.sign(&payload.to_string())
    }

    /// A token, mostly a good one.
    pub(crate) fn token(&self, rng: &mut Rng) -> String {
        let remote = rng.percent(35);
        let (signer, issuer) = if remote { (&self.remote, REMOTE) } else { (&self.inline, INLINE) };
        let mut payload = json!({
            "iss": issuer,
            "aud": rng.pick(&["web", "web", "https://web/", "other"]),
            "azp": rng.pick(&["app", "other"]),
            "exp": self.now + 100_000,
            "groups": rng.pick(&[&["admin", "dev"][..], &["dev"], &[]]),
            "role": rng.pick(&["admin", "user"]),
            "scope": rng.pick(&["read write", "read", "writer"]),
            "words": rng.pick(&["a b", "b c"]),
            "deep": {"inner": rng.pick(&["x1", "y1"])},
            "level": rng.below(3),
        });
        if rng.percent(85) {
            payload["sub"] = json!(rng.pick(&["alice", "alice", "bob"]));
        }
        match rng.below(20) {
            0 | 1 => payload["exp"] = json!(self.now - 100_000),
            2 => payload["nbf"] = json!(self.now + 100_000),
            3 => payload["iss"] = json!("issuer-x"),
            4 => return signer.token(r#"{"alg":"EdDSA","kid":"nobody's"}"#, &payload.to_string()),
            5 => return self.forger.sign(&payload.to_string()),
            6 => {
                let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
                return format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(&payload.to_string()));
            }
            7 => return signer.sign(&payload.to_string()).replacen('.', "", 1),
            8 => return "no.token.here".to_owned(),
            // Another issuer's key under its own name.
            9 => payload["iss"] = json!(if remote { INLINE } else { REMOTE }),
            _ => {}
        }
        signer.sign(&payload.to_string())
    }
}
