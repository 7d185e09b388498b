//! Tokens: requests that come without one, and times that are in milliseconds.

use serde_json::Value;

use super::super::index::{Index, Pod};
use super::super::messages::{MILLISECONDS, TOKEN_NOT_REQUIRED};
use super::view::{For, View};
use crate::api::{AuthorizationAction, AuthorizationPolicy, AuthorizationRule, JwtPresence, Object, Resource};
use crate::matching::{CLAIM_PREFIX, PolicyAttribute};
use crate::report::Report;
use crate::scope::gateway_name;
use crate::world::covers;

/// RequestAuthentications for workloads at which nothing asks for a token. A request without one passes, which is not
/// what most people expect.
pub(super) fn not_required(view: &View<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    for o in &view.index.request_authentications {
        let optional = |r: &crate::api::JwtRule| r.presence == JwtPresence::Optional;
        if o.spec.jwt_rules.is_empty() || !o.spec.jwt_rules.iter().any(optional) {
            continue;
        }
        let policy = For::policy(*o);
        let selected: Vec<&Pod> = view.of(&policy).map(|w| w.pod).collect();
        // Nobody knows the workloads: then the policy's own labels stand for one.
        let imagined = Pod::imagined(&o.key.namespace, o.spec.selector.as_ref());
        let pods = if selected.is_empty() && !view.has_workloads { vec![&imagined] } else { selected };
        let Some(bare) = pods.into_iter().find(|p| !is_required(view, p)) else { continue };
        let place =
            if bare.workload.is_empty() { "its workloads".to_owned() } else { format!("workload {}", bare.workload) };
        let text = format!(
            "requests without a token pass at {place}: RequestAuthentication refuses bad tokens only, and no AuthorizationPolicy there requires a good one"
        );
        let report = TOKEN_NOT_REQUIRED.report((&o.key, &o.origin), "spec.jwtRules", text);
        found.push(report.fix(
            "write an AuthorizationPolicy for the same workloads with action: DENY, rules: [{from: [{source: {notRequestPrincipals: [\"*\"]}}]}]",
        ));
    }
    found
}

fn is_required(view: &View<'_>, pod: &Pod) -> bool {
    view.authorization(pod).any(requires_token) || routes_by_claims(view.index, pod)
}

/// Whether a policy lets some request pass, or refuses it, for the token that it has or lacks.
fn requires_token(o: &Object<AuthorizationPolicy>) -> bool {
    let AuthorizationPolicy { action, rules, .. } = &o.spec;
    match action {
        // Without rules nothing passes at all.
        AuthorizationAction::Allow => rules.is_empty() || rules.iter().any(|r| mentions(r, false)),
        AuthorizationAction::Deny => rules.iter().any(|r| mentions(r, true)),
        // What an external authorizer asks for is not known here.
        AuthorizationAction::Custom => true,
        AuthorizationAction::Audit => false,
    }
}

/// A rule has a condition on the token: that it is one of some, or (negated) that it is not.
fn mentions(rule: &AuthorizationRule, negated: bool) -> bool {
    let sources = rule.from.iter().flatten().filter_map(|f| f.source.as_ref());
    let mut lists = sources.map(|s| if negated { &s.not_request_principals } else { &s.request_principals });
    let mut conditions = rule.when.iter().filter(|c| is_token(&c.key));
    lists.any(|l| !l.is_empty()) || conditions.any(|c| !if negated { &c.not_values } else { &c.values }.is_empty())
}

/// An attribute that only a request with a token has.
pub(super) fn is_token(key: &str) -> bool {
    use PolicyAttribute::{Audiences, Claim, Presenter, RequestPrincipal};
    matches!(PolicyAttribute::parse(key), Ok(RequestPrincipal | Audiences | Presenter | Claim(_)))
}

/// A gateway whose VirtualServices look at claims has no route for requests without.
fn routes_by_claims(index: &Index<'_>, pod: &Pod) -> bool {
    let by_claims = |o: &&&Object<crate::api::VirtualService>| {
        let matches = o.spec.http.iter().flat_map(|r| &r.r#match);
        matches.flat_map(|m| m.headers.keys()).any(|k| k.starts_with(CLAIM_PREFIX))
    };
    index.virtual_services.iter().filter(by_claims).any(|o| {
        o.spec.gateways.iter().any(|reference| {
            let (namespace, name) = gateway_name(reference, &o.key.namespace);
            index.gateways.iter().any(|g| {
                *g.key.namespace == *namespace && *g.key.name == *name && covers(&g.spec.selector, &pod.labels)
            })
        })
    })
}

/// Seconds since 1970 that no token has: the year 5138. In milliseconds it was 1973.
const LATEST: i64 = 100_000_000_000;
/// Claims that are times.
const TIMES: [&str; 4] = ["exp", "nbf", "iat", "auth_time"];
/// Fetching keys takes no quarter of an hour.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(1000);

/// Times of tokens in milliseconds: JWT has seconds.
pub(in super::super) fn times(index: &Index<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    for o in &index.authorization_policies {
        let conditions =
            o.spec.rules.iter().enumerate().flat_map(|(i, r)| r.when.iter().enumerate().map(move |(j, c)| (i, j, c)));
        for (i, j, c) in conditions {
            let Ok(PolicyAttribute::Claim(path)) = PolicyAttribute::parse(&c.key) else { continue };
            if !path.last().is_some_and(|name| TIMES.contains(&&**name)) {
                continue;
            }
            for (list, values) in [("values", &c.values), ("notValues", &c.not_values)] {
                for (k, v) in values.iter().enumerate() {
                    let Some(time) = v.trim_matches('*').parse().ok().filter(|t| *t >= LATEST) else { continue };
                    let field = format!("spec.rules[{i}].when[{j}].{list}[{k}]");
                    let report =
                        MILLISECONDS.report((&o.key, &o.origin), &field, format!("{}: {}", c.key, words(time)));
                    found.push(report.fix(format!("write {}", time / 1000)));
                }
            }
        }
    }
    for o in &index.request_authentications {
        for (i, r) in o.spec.jwt_rules.iter().enumerate() {
            if let Some(timeout) = r.timeout.filter(|t| t.0 >= LONGEST) {
                let text = format!("timeout {timeout} for fetching keys looks like milliseconds");
                let report = MILLISECONDS.report((&o.key, &o.origin), &format!("spec.jwtRules[{i}].timeout"), text);
                found.push(report.fix(format!("write {}ms", timeout.0.as_secs())));
            }
        }
    }
    for r in index.resources {
        tokens_in(r, &mut found);
    }
    found
}

fn words(time: i64) -> String {
    // 31,556,952 s are a year on average.
    format!(
        "{time} looks like milliseconds; in seconds, which tokens have, it is in the year {}",
        1970 + time / 31_556_952
    )
}

/// Tokens that are written into objects: headers, variables, files.
fn tokens_in(resource: &Resource, found: &mut Vec<Report>) {
    let may_hold = matches!(
        resource,
        Resource::VirtualService(_)
            | Resource::ConfigMap(_)
            | Resource::Pod(_)
            | Resource::Deployment(_)
            | Resource::Unread(_)
    );
    if !may_hold {
        return;
    }
    walk(&resource.to_value(), "", &mut |at, text| {
        for token in
            text.split(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))).filter(|t| t.starts_with("eyJ"))
        {
            for (claim, time) in payload(token).into_iter().flat_map(late) {
                let text = format!("{claim} of the token here: {}", words(time));
                let report = MILLISECONDS.report((resource.key(), resource.origin()), at, text);
                found.push(report.fix(format!("make the token with {claim} {}", time / 1000)));
            }
        }
    });
}

/// The claims of a token; whether it is signed does not matter here.
fn payload(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    serde_json::from_slice(&crate::base64::decode(payload)?).ok()
}

fn late(payload: Value) -> Vec<(&'static str, i64)> {
    let time = |name: &str| payload.get(name)?.as_f64().map(|t| t as i64).filter(|t| *t >= LATEST);
    TIMES.iter().filter_map(|name| Some((*name, time(name)?))).collect()
}

fn walk(value: &Value, at: &str, each: &mut impl FnMut(&str, &str)) {
    match value {
        Value::String(text) => each(at, text),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, v)| walk(v, &crate::yaml::item(at, i), each));
        }
        Value::Object(map) => map.iter().for_each(|(k, v)| walk(v, &crate::yaml::child(at, k), each)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
