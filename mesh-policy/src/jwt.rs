//! RequestAuthentication: tokens (JWT) of requests, where they are, whether they are good, and what they say.
//!
//! A request without a token passes: to require one is what an AuthorizationPolicy is for (`requestPrincipals: ["*"]`). A
//! token that is there has to be good. With rules for several issuers it is enough that one of them takes it.
//!
//! Texts, statuses and their order are Envoy's, as measured. On purpose stricter than Envoy: a header or parameter that is
//! there several times counts with all of its tokens, not with the first; JSON in which a name is there twice is none;
//! `crit` is never understood; `exp: 0` is over; base64 has one spelling; claims that were among the extensions before
//! are nobody's; headers that get claims are removed from CORS preflights, too. ES512 has no keys here, so that such
//! tokens are refused.

mod cache;
mod error;
mod extract;
mod keys;
mod output;
mod remote;
mod token;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{HeaderName, Method};
use mesh_core::api::{ClaimToHeader, JwtPresence, JwtRule, Key, Object, RequestAuthentication};
use mesh_core::matching::Claims;

pub use error::JwtError;
pub use keys::KeySet;
pub use output::Changes;
pub use remote::{KeySetSource, KeyStore, RemoteKeys};

use cache::{Cache, Entry};
use extract::Location;
use token::Token;

/// How far clocks may be apart, in seconds.
const CLOCK_SKEW: u64 = 60;
/// How long fetching keys may take, unless a rule says otherwise.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The rules of a workload, compiled.
#[derive(Debug)]
pub struct Authenticator {
    /// By issuer.
    rules: Box<[Rule]>,
    /// Headers that get claims or payloads; what clients send in them is removed.
    outputs: Box<[HeaderName]>,
    cache: Cache,
}

#[derive(Debug)]
struct Rule {
    /// Empty: any.
    issuer: String,
    /// Without scheme and slash at the end; empty: not looked at.
    audiences: Box<[String]>,
    keys: Keys,
    locations: Box<[Location]>,
    forward: bool,
    payload_header: Option<HeaderName>,
    claim_headers: Box<[(HeaderName, Box<[String]>)]>,
    /// Claims that are lists of words.
    words: Box<[String]>,
    required: bool,
    policy: Key,
    index: usize,
    place: Option<String>,
}

#[derive(Debug)]
enum Keys {
    Inline(Arc<KeySet>),
    Remote(Arc<RemoteKeys>),
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Outcome {
    /// It goes on, with these changes.
    Pass(Changes),
    /// It is refused.
    Refuse(JwtError),
    /// Keys are being fetched for the first time: ask again when that has ended.
    Wait(Arc<RemoteKeys>),
}

/// What one rule says of a request.
#[derive(Debug)]
enum Verdict {
    /// No token where it looks.
    Missing,
    /// All that it found are good: the first one, and where they were.
    Good(Arc<Entry>, Vec<usize>),
    Bad(JwtError),
    Wait(Arc<RemoteKeys>),
}

/// What one rule said of a request, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleOutcome {
    /// The policy.
    pub policy: Key,
    /// Index in its `jwtRules`.
    pub index: usize,
    /// `file:line`; live objects have none.
    pub location: Option<String>,
    /// Its issuer.
    pub issuer: String,
    /// No token (`None`), a good one, or why not. While keys are being fetched: [`JwtError::KeysUnavailable`].
    pub result: Option<Result<(), JwtError>>,
}

impl Authenticator {
    /// Compiles the policies that apply. Keys that have to be fetched are looked up in the store; those that are new in it
    /// are returned, for somebody to [`run`](RemoteKeys::run).
    pub fn compile(policies: &[Arc<Object<RequestAuthentication>>], store: &KeyStore) -> (Self, Vec<Arc<RemoteKeys>>) {
        let mut fetched = Vec::new();
        let mut rules = Vec::new();
        for policy in policies {
            for (index, rule) in policy.spec.jwt_rules.iter().enumerate() {
                rules.push(Rule::compile(policy, index, rule, store, &mut fetched));
            }
        }
        rules.sort_by(|a, b| a.issuer.cmp(&b.issuer));
        let mut outputs: Vec<HeaderName> = Vec::new();
        for rule in &rules {
            outputs.extend(rule.payload_header.iter().chain(rule.claim_headers.iter().map(|(h, _)| h)).cloned());
        }
        (Self { rules: rules.into(), outputs: outputs.into(), cache: Cache::default() }, fetched)
    }

    /// There is nothing to do for any request.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// How many rules there are.
    pub(crate) fn issuers(&self) -> usize {
        self.rules.len()
    }

    /// Decides about a request at a time.
    pub fn check<B>(&self, request: &http::Request<B>, now: SystemTime) -> Outcome {
        let now = seconds(now);
        if is_preflight(request) {
            return Outcome::Pass(Changes::strip(&self.outputs));
        }
        let (mut error, mut wait, mut lacks) = (None, None, false);
        for (number, rule) in self.rules.iter().enumerate() {
            match self.verdict(number, request, now) {
                Verdict::Missing => lacks |= rule.required,
                Verdict::Good(entry, at) => return Outcome::Pass(rule.changes(&self.outputs, &entry, &at)),
                Verdict::Wait(keys) => wait = Some(keys),
                // What a rule has to say about a token of its own issuer tells more.
                Verdict::Bad(e) if error.is_none_or(|o| o == JwtError::UnknownIssuer) => error = Some(e),
                Verdict::Bad(_) => {}
            }
        }
        match (wait, error) {
            (Some(keys), _) => Outcome::Wait(keys),
            (None, Some(error)) => Outcome::Refuse(error),
            (None, None) if lacks => Outcome::Refuse(JwtError::Missing),
            (None, None) => Outcome::Pass(Changes::strip(&self.outputs)),
        }
    }

    /// What each rule says, in the order in which they are asked.
    pub fn explain<B>(&self, request: &http::Request<B>, now: SystemTime) -> Vec<RuleOutcome> {
        let outcome = |(number, rule): (usize, &Rule)| RuleOutcome {
            policy: rule.policy.clone(),
            index: rule.index,
            location: rule.place.clone(),
            issuer: rule.issuer.clone(),
            result: match self.verdict(number, request, seconds(now)) {
                Verdict::Missing => None,
                Verdict::Good(..) => Some(Ok(())),
                Verdict::Bad(error) => Some(Err(error)),
                Verdict::Wait(_) => Some(Err(JwtError::KeysUnavailable)),
            },
        };
        self.rules.iter().enumerate().map(outcome).collect()
    }

    fn verdict<B>(&self, number: usize, request: &http::Request<B>, now: u64) -> Verdict {
        let rule = &self.rules[number];
        let (mut first, mut found, mut bad) = (None, Vec::new(), None);
        for (at, location) in rule.locations.iter().enumerate() {
            location.each(request, &mut |text| match self.verify(number, text, now) {
                Ok(entry) => {
                    first.get_or_insert(entry);
                    found.push(at);
                }
                Err(verdict) => {
                    bad.get_or_insert(verdict);
                }
            });
        }
        match (bad, first) {
            (Some(bad), _) => bad,
            (None, Some(entry)) => Verdict::Good(entry, found),
            (None, None) => Verdict::Missing,
        }
    }

    fn verify(&self, number: usize, text: &str, now: u64) -> Result<Arc<Entry>, Verdict> {
        let rule = &self.rules[number];
        let known = self.cache.get(number, text);
        let parsed;
        let token = match &known {
            Some(entry) => &entry.token,
            None => {
                parsed = Arc::new(Token::parse(text).map_err(Verdict::Bad)?);
                &parsed
            }
        };
        rule.accepts(token, now).map_err(Verdict::Bad)?;
        let keys = match &rule.keys {
            Keys::Inline(keys) => Arc::clone(keys),
            Keys::Remote(remote) => match remote.current() {
                Some(keys) => keys,
                None if remote.is_pending() => return Err(Verdict::Wait(Arc::clone(remote))),
                None => return Err(Verdict::Bad(JwtError::KeysUnavailable)),
            },
        };
        // A signature that was good under the keys in force is still good.
        match known {
            Some(entry) if Arc::ptr_eq(&entry.keys, &keys) => Ok(entry),
            _ => {
                keys.verify(token, text).map_err(Verdict::Bad)?;
                let claims = rule.claims(token);
                let entry = Arc::new(Entry { rule: number, text: text.into(), token: Arc::clone(token), claims, keys });
                self.cache.put(&entry);
                Ok(entry)
            }
        }
    }
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// A browser asks whether it may ask: it does so without a token.
fn is_preflight<B>(request: &http::Request<B>) -> bool {
    let has = |name| request.headers().contains_key(name);
    request.method() == Method::OPTIONS && has(ORIGIN) && has(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Audiences are compared without scheme and slash at the end.
fn audience(text: &str) -> &str {
    let text = text.strip_suffix('/').unwrap_or(text);
    text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text)
}

impl Rule {
    fn compile(
        policy: &Object<RequestAuthentication>,
        index: usize,
        rule: &JwtRule,
        store: &KeyStore,
        fetched: &mut Vec<Arc<RemoteKeys>>,
    ) -> Self {
        let JwtRule {
            issuer,
            audiences,
            jwks_uri,
            jwks,
            from_headers,
            from_params,
            from_cookies,
            output_payload_to_header,
            forward_original_token,
            output_claim_to_headers,
            timeout,
            space_delimited_claims,
            presence,
        } = rule;
        let keys = if jwks.is_empty() {
            let timeout = timeout.map_or(FETCH_TIMEOUT, |t| t.0);
            let (keys, new) = store.get(issuer, jwks_uri, timeout);
            if new {
                fetched.push(Arc::clone(&keys));
            }
            Keys::Remote(keys)
        } else {
            // Without a usable key no token is good.
            Keys::Inline(Arc::new(KeySet::parse(jwks.as_bytes()).unwrap_or_default()))
        };
        let header = |name: &str| HeaderName::from_bytes(name.as_bytes()).ok();
        let claim = |ClaimToHeader { header: name, claim }: &ClaimToHeader| {
            Some((header(name)?, claim.split('.').map(str::to_owned).collect()))
        };
        Self {
            issuer: issuer.clone(),
            audiences: audiences.iter().map(|a| audience(a).to_owned()).collect(),
            keys,
            locations: Location::all(from_headers, from_params, from_cookies),
            forward: *forward_original_token,
            payload_header: header(output_payload_to_header),
            claim_headers: output_claim_to_headers.iter().filter_map(claim).collect(),
            words: space_delimited_claims.iter().cloned().collect(),
            required: *presence == JwtPresence::Required,
            policy: policy.key.clone(),
            index,
            place: policy.origin.location(&format!("spec.jwtRules[{index}]")),
        }
    }

    /// Everything but the signature.
    fn accepts(&self, token: &Token, now: u64) -> Result<(), JwtError> {
        if !self.issuer.is_empty() && token.issuer() != self.issuer {
            return Err(JwtError::UnknownIssuer);
        }
        if token.nbf.is_some_and(|nbf| nbf > now.saturating_add(CLOCK_SKEW)) {
            return Err(JwtError::NotYetValid);
        }
        if token.exp.is_some_and(|exp| now > exp.saturating_add(CLOCK_SKEW)) {
            return Err(JwtError::Expired);
        }
        let allowed = |a: &String| self.audiences.iter().any(|own| own == audience(a));
        if !self.audiences.is_empty() && !token.audiences.iter().any(allowed) {
            return Err(JwtError::Audience);
        }
        Ok(())
    }

    fn claims(&self, token: &Token) -> Claims {
        let mut payload = token.payload.clone();
        for name in &self.words {
            if let Some(serde_json::Value::String(words)) = payload.get(name) {
                let words = words.split_ascii_whitespace().map(serde_json::Value::from).collect();
                payload.insert(name.clone(), words);
            }
        }
        Claims::new(payload)
    }
}

#[cfg(test)]
pub(crate) mod tests;
