//! What becomes of a request whose token is good.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Uri};
use mesh_core::matching::Claims;
use serde_json::Value;

use super::Rule;
use super::cache::Entry;
use super::extract::{Location, decoded, pairs};

/// Changes of a request.
#[derive(Clone, Default, Debug)]
pub struct Changes {
    /// What the token says; `None`: there is none.
    pub claims: Option<Claims>,
    /// Headers that are removed.
    remove: Vec<HeaderName>,
    /// Query parameters that are removed.
    params: Vec<String>,
    /// Headers that are set.
    set: Vec<(HeaderName, HeaderValue)>,
}

impl Changes {
    /// No token: only what clients must not say is removed.
    pub(super) fn strip(outputs: &[HeaderName]) -> Self {
        Self { remove: outputs.to_vec(), ..Self::default() }
    }

    /// Makes the changes, and leaves the claims as an extension for who decides and routes by them. Claims that were
    /// there before are nobody's.
    pub fn apply<B>(self, request: &mut http::Request<B>) {
        let Self { claims, remove, params, set } = self;
        let headers = request.headers_mut();
        for name in remove {
            headers.remove(name);
        }
        for (name, value) in set {
            headers.insert(name, value);
        }
        if !params.is_empty() {
            without_params(request.uri_mut(), &params);
        }
        request.extensions_mut().remove::<Claims>();
        if let Some(claims) = claims {
            request.extensions_mut().insert(claims);
        }
    }
}

fn without_params(uri: &mut Uri, names: &[String]) {
    let Some(query) = uri.query() else { return };
    let keeps = |(key, _): &(&str, &str)| !names.iter().any(|n| decoded(key) == n.as_str());
    let kept: Vec<&str> = query.split('&').filter(|p| pairs(p).next().as_ref().is_none_or(keeps)).collect();
    let target = match kept.is_empty() {
        true => uri.path().to_owned(),
        false => format!("{}?{}", uri.path(), kept.join("&")),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target.parse::<PathAndQuery>().expect("invariant: a part of a target is a target"));
    *uri = Uri::from_parts(parts).expect("invariant: only the query changed");
}

impl Rule {
    /// What a good token changes.
    pub(super) fn changes(&self, outputs: &[HeaderName], entry: &Entry, found: &[usize]) -> Changes {
        let mut changes = Changes::strip(outputs);
        changes.claims = Some(entry.claims.clone());
        if !self.forward {
            for at in found {
                match &self.locations[*at] {
                    Location::Header(name, _) => changes.remove.push(name.clone()),
                    Location::Param(name) => changes.params.push(name.clone()),
                    // Envoy leaves cookies alone.
                    Location::Cookie(_) => {}
                }
            }
        }
        if let Some(name) = &self.payload_header {
            let payload = &entry.text[entry.token.payload_at..entry.token.signed];
            changes.set.extend(HeaderValue::from_str(payload).ok().map(|v| (name.clone(), v)));
        }
        for (name, path) in &self.claim_headers {
            let found = path.split_first().and_then(|(first, rest)| {
                rest.iter().try_fold(entry.token.payload.get(first)?, |value, name| value.get(name))
            });
            let text = found.and_then(text).and_then(|t| HeaderValue::from_str(&t).ok());
            changes.set.extend(text.map(|v| (name.clone(), v)));
        }
        changes
    }
}

/// A claim in a header: lists and objects as base64 of their JSON.
fn text(claim: &Value) -> Option<String> {
    match claim {
        Value::Null => None,
        Value::Bool(b) => Some(b.to_string()),
        Value::Number(n) => Some(n.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Array(_) | Value::Object(_) => Some(STANDARD.encode(claim.to_string())),
    }
}
