//! Rules and matches of a VirtualService that earlier ones leave nothing for, as Istio finds them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Check;
use crate::api::codes::{INEFFECTIVE, UNREACHABLE};
use crate::api::{HttpMatchRequest, HttpRoute, StringMatch, VirtualService};
use crate::yaml::{child, item};

pub(super) fn check(check: &mut Check<'_>, spec: &VirtualService) {
    // The name of a match is for logs; it does not make it another one.
    let nameless = |m: &HttpMatchRequest| text(&HttpMatchRequest { name: String::new(), ..m.clone() });
    let http: Vec<Vec<String>> = spec.http.iter().map(|r| r.r#match.iter().map(nameless).collect()).collect();
    let fresh = rules(check, "spec.http", &http, &spec.http);
    covered(check, &spec.http, &fresh);
    let tls: Vec<Vec<String>> = spec.tls.iter().map(|r| r.r#match.iter().map(text).collect()).collect();
    rules(check, "spec.tls", &tls, &[]);
    let tcp: Vec<Vec<String>> = spec.tcp.iter().map(|r| r.r#match.iter().map(text).collect()).collect();
    rules(check, "spec.tcp", &tcp, &[]);
}

/// A match as text, to find equal ones.
fn text<T: Serialize>(m: &T) -> String {
    serde_json::to_string(m).expect("invariant: matches serialize")
}

/// Duplicates and rules after an unconditional one; returns the matches that are no duplicates, as (rule, match).
fn rules(check: &mut Check<'_>, list: &str, matches: &[Vec<String>], named: &[HttpRoute]) -> Vec<(usize, usize)> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut unconditional = false;
    let mut fresh = Vec::new();
    for (r, own) in matches.iter().enumerate() {
        let unreachable = |check: &mut Check<'_>, why: &str| {
            let message = format!("virtualService rule {} not used ({why})", rule_name(named, r));
            check.say(UNREACHABLE, &item(list, r), message);
        };
        match (unconditional, own.is_empty()) {
            (true, true) => unreachable(check, "only the last rule can have no matches"),
            (true, false) => unreachable(check, "route without matches defined before"),
            (false, true) => unconditional = true,
            (false, false) => {
                let of = |(m, t): (usize, &String)| seen.get(t.as_str()).map(|of| (m, *of));
                let duplicates: Vec<(usize, usize)> = own.iter().enumerate().filter_map(of).collect();
                if duplicates.len() == own.len() {
                    unreachable(check, "all matches used by prior rules");
                }
                for (m, of) in &duplicates {
                    ineffective(check, list, named, (r, *m), *of);
                }
                for (m, text) in own.iter().enumerate() {
                    if !seen.contains_key(text.as_str()) {
                        seen.insert(text, r);
                        fresh.push((r, m));
                    }
                }
            }
        }
    }
    fresh
}

fn ineffective(check: &mut Check<'_>, list: &str, named: &[HttpRoute], (rule, index): (usize, usize), of: usize) {
    let name = named.get(rule).and_then(|r| r.r#match.get(index)).map_or("", |m| &m.name);
    let name = if name.is_empty() { format!("#{index}") } else { format!("{name:?}") };
    let message = format!(
        "virtualService rule {} match {name} is not used (duplicate/overlapping match in rule {})",
        rule_name(named, rule),
        rule_name(named, of)
    );
    check.say(INEFFECTIVE, &item(&child(&item(list, rule), "match"), index), message);
}

fn rule_name(named: &[HttpRoute], rule: usize) -> String {
    match named.get(rule).map(|r| r.name.as_str()) {
        Some(name) if !name.is_empty() => format!("{name:?}"),
        _ => format!("#{rule}"),
    }
}

/// Prefix matches that an earlier, shorter prefix covers with its other conditions.
fn covered(check: &mut Check<'_>, routes: &[HttpRoute], fresh: &[(usize, usize)]) {
    let mut earlier: Vec<(usize, &HttpMatchRequest)> = Vec::new();
    for (r, m) in fresh {
        let this = &routes[*r].r#match[*m];
        if prefix(this).is_none() {
            continue;
        }
        if let Some((of, _)) = earlier.iter().find(|(_, e)| covers(e, this)) {
            ineffective(check, "spec.http", routes, (*r, *m), *of);
        }
        earlier.push((*r, this));
    }
}

fn prefix(m: &HttpMatchRequest) -> Option<&str> {
    match &m.uri {
        Some(StringMatch::Prefix(p)) => Some(p),
        _ => None,
    }
}

/// Whether every request that `b` takes is taken by `a`.
fn covers(a: &HttpMatchRequest, b: &HttpMatchRequest) -> bool {
    let (Some(pa), Some(pb)) = (prefix(a), prefix(b)) else { return false };
    let implied = |x: &Option<StringMatch>, y: &Option<StringMatch>| x.is_none() || x == y;
    let all = |x: &BTreeMap<String, StringMatch>, y: &BTreeMap<String, StringMatch>| {
        x.iter().all(|(k, v)| y.get(k) == Some(v))
    };
    let labels = a.source_labels.iter().all(|(k, v)| b.source_labels.get(k) == Some(v));
    pb.starts_with(pa)
        && (!b.ignore_uri_case || a.ignore_uri_case)
        && (a.port == 0 || a.port == b.port)
        && implied(&a.method, &b.method)
        && implied(&a.scheme, &b.scheme)
        && implied(&a.authority, &b.authority)
        && all(&a.headers, &b.headers)
        && all(&a.without_headers, &b.without_headers)
        && all(&a.query_params, &b.query_params)
        && labels
        && (a.source_namespace.is_empty() || a.source_namespace == b.source_namespace)
        && (a.gateways.is_empty() || a.gateways == b.gateways)
}
