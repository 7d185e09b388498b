//! RequestAuthentication.

use super::{Check, common};
use crate::api::{ClaimToHeader, JwtHeader, JwtRule, RequestAuthentication};
use crate::yaml::{child, item};

/// Longest `jwksUri`, and most `spaceDelimitedClaims`.
const MAX_URI: usize = 2048;
const MAX_CLAIMS: usize = 64;

pub(super) fn check(check: &mut Check<'_>, spec: &RequestAuthentication) {
    let RequestAuthentication { selector, target_ref, target_refs, jwt_rules } = spec;
    common::attachment(check, selector.as_ref(), target_ref.as_ref(), target_refs);
    for (i, rule) in jwt_rules.iter().enumerate() {
        self::rule(check, &item("spec.jwtRules", i), rule);
    }
}

fn rule(check: &mut Check<'_>, at: &str, rule: &JwtRule) {
    let JwtRule {
        issuer,
        audiences,
        jwks_uri,
        jwks,
        from_headers,
        from_params,
        from_cookies,
        output_payload_to_header,
        forward_original_token: _,
        output_claim_to_headers,
        timeout,
        space_delimited_claims,
        presence: _,
    } = rule;
    if issuer.is_empty() && jwks_uri.is_empty() && jwks.is_empty() {
        let fix = "write the issuer as it is in iss of the tokens";
        check.error_fix(&child(at, "issuer"), "issuer must be set when there is neither jwksUri nor jwks", fix);
    }
    keys(check, at, jwks_uri, jwks);
    for (name, list) in [
        ("audiences", audiences),
        ("fromParams", from_params),
        ("fromCookies", from_cookies),
        ("spaceDelimitedClaims", space_delimited_claims),
    ] {
        for (i, value) in list.iter().enumerate() {
            check.text(&item(&child(at, name), i), value);
        }
    }
    if space_delimited_claims.len() > MAX_CLAIMS {
        let field = child(at, "spaceDelimitedClaims");
        check.error(&field, format!("{field} in body should have at most {MAX_CLAIMS} items"));
    }
    for (i, JwtHeader { name, prefix: _ }) in from_headers.iter().enumerate() {
        let field = child(&item(&child(at, "fromHeaders"), i), "name");
        check.text(&field, name);
        header(check, &field, name);
    }
    header(check, &child(at, "outputPayloadToHeader"), output_payload_to_header);
    let mut seen = std::collections::HashSet::new();
    for (i, ClaimToHeader { header, claim }) in output_claim_to_headers.iter().enumerate() {
        let path = item(&child(at, "outputClaimToHeaders"), i);
        check.text(&child(&path, "claim"), claim);
        let field = child(&path, "header");
        check.text(&field, header);
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if !header.bytes().all(allowed) {
            check.error(&field, format!("{field} in body should match '^[-_A-Za-z0-9]+$'"));
        }
        if !header.is_empty() && !seen.insert(header.to_ascii_lowercase()) {
            check.error(&field, format!("header {header:?} gets two claims"));
        }
    }
    let field = child(at, "timeout");
    if timeout.is_some_and(|t| t.0.as_millis() == 0) {
        check.error(&field, "must be a valid duration greater than 1ms");
    }
    if timeout.is_some() && jwks_uri.is_empty() && !jwks.is_empty() {
        check.warn(&field, "timeout is for fetching keys; those in jwks are not fetched");
    }
}

fn keys(check: &mut Check<'_>, at: &str, uri: &str, jwks: &str) {
    let field = child(at, "jwksUri");
    if !uri.is_empty() && !jwks.is_empty() {
        check.error(&field, "only one of jwks or jwksUri can be set");
    }
    if uri.len() > MAX_URI {
        check.error(&field, format!("{field} in body should be at most {MAX_URI} chars long"));
    }
    let host = ["http://", "https://"].iter().find_map(|s| uri.strip_prefix(s));
    let usable = |uri: &str| uri.parse::<http::Uri>().is_ok_and(|u| u.host().is_some_and(|h| !h.is_empty()));
    if !uri.is_empty() && (host.is_none() || !usable(uri)) {
        check.error(&field, format!("url must have scheme http:// or https:// and a host, but is {uri:?}"));
    }
    if jwks.is_empty() {
        return;
    }
    let field = child(at, "jwks");
    let set = serde_json::from_str::<serde_json::Value>(jwks);
    let keys = set.as_ref().ok().and_then(|s| s.get("keys")).and_then(|k| k.as_array());
    let Some(keys) = keys else {
        return check.error(&field, "jwks is not a JSON Web Key Set: an object with the list keys");
    };
    let secret = |k: &serde_json::Value| k.get("d").is_some() || k.get("kty").is_some_and(|t| t == "oct");
    if keys.iter().any(secret) {
        let message = "jwks has a key that can sign tokens; whoever reads this object can make them";
        check.say(crate::api::codes::WARNING, &field, message).fix = Some("write only public keys".to_owned());
    }
}

/// The name of a header, or nothing.
fn header(check: &mut Check<'_>, field: &str, name: &str) {
    if !name.is_empty() && http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        check.error(field, format!("{name:?} is not the name of a header"));
    }
}
