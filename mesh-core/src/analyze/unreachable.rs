//! Rules of a VirtualService that can't be reached, and matches that another one covers.

use std::collections::BTreeMap;

use serde::Serialize;

use super::index::Index;
use super::messages::{INEFFECTIVE, UNREACHABLE};
use crate::api::{HttpMatchRequest, HttpRoute, Object, StringMatch, VirtualService};
use crate::report::Report;

pub(super) fn analyze(index: &Index<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    for o in &index.virtual_services {
        http(o, &mut found);
        let tls: Vec<Vec<String>> = o.spec.tls.iter().map(|r| r.r#match.iter().map(text).collect()).collect();
        rules(o, "tls", &tls, &[], &mut found);
        let tcp: Vec<Vec<String>> = o.spec.tcp.iter().map(|r| r.r#match.iter().map(text).collect()).collect();
        rules(o, "tcp", &tcp, &[], &mut found);
    }
    found
}

fn text<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("invariant: our structs have text keys and serialize without errors")
}

fn http(o: &Object<VirtualService>, found: &mut Vec<Report>) {
    // The name of a match is for logs; it does not make it another one.
    let nameless = |m: &HttpMatchRequest| text(&HttpMatchRequest { name: String::new(), ..m.clone() });
    let all: Vec<Vec<String>> = o.spec.http.iter().map(|r| r.r#match.iter().map(nameless).collect()).collect();
    let fresh = rules(o, "http", &all, &o.spec.http, found);
    covered(o, &fresh, found);
}

/// Duplicates and rules after an unconditional one; returns the matches that are no duplicates, as (rule, match).
fn rules(
    o: &Object<VirtualService>,
    list: &str,
    matches: &[Vec<String>],
    named: &[HttpRoute],
    found: &mut Vec<Report>,
) -> Vec<(usize, usize)> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut unconditional = false;
    let mut fresh = Vec::new();
    for (r, own) in matches.iter().enumerate() {
        let path = format!("spec.{list}[{r}]");
        let mut unreachable = |why: &str| {
            let text = format!("VirtualService rule {} not used ({why}).", rule_name(named, r));
            found.push(UNREACHABLE.report((&o.key, &o.origin), &path, text).fix("move the rule up, or remove it"));
        };
        if unconditional {
            let why = if own.is_empty() {
                "only the last rule can have no matches"
            } else {
                "route without matches defined before"
            };
            unreachable(why);
            continue;
        }
        unconditional |= own.is_empty();
        let duplicates: Vec<(usize, usize)> =
            own.iter().enumerate().filter_map(|(m, t)| seen.get(t.as_str()).map(|of| (m, *of))).collect();
        if !own.is_empty() && duplicates.len() == own.len() {
            unreachable("all matches used by prior rules");
        }
        for (m, of) in &duplicates {
            found.push(ineffective(o, list, named, (r, *m), *of));
        }
        for (m, text) in own.iter().enumerate() {
            if !seen.contains_key(text.as_str()) {
                seen.insert(text, r);
                fresh.push((r, m));
            }
        }
    }
    fresh
}

fn ineffective(
    o: &Object<VirtualService>,
    list: &str,
    named: &[HttpRoute],
    (rule, item): (usize, usize),
    of: usize,
) -> Report {
    let match_name = named.get(rule).and_then(|r| r.r#match.get(item)).map_or("", |m| &m.name);
    let match_name = if match_name.is_empty() { format!("#{item}") } else { format!("{match_name:?}") };
    let text = format!(
        "VirtualService rule {} match {match_name} is not used (duplicate/overlapping match in rule {}).",
        rule_name(named, rule),
        rule_name(named, of)
    );
    INEFFECTIVE.report((&o.key, &o.origin), &format!("spec.{list}[{rule}].match[{item}]"), text)
}

fn rule_name(named: &[HttpRoute], rule: usize) -> String {
    match named.get(rule).map(|r| r.name.as_str()) {
        Some(name) if !name.is_empty() => format!("{name:?}"),
        _ => format!("#{rule}"),
    }
}

/// Prefix matches that an earlier, shorter prefix covers with its other conditions.
fn covered(o: &Object<VirtualService>, fresh: &[(usize, usize)], found: &mut Vec<Report>) {
    let routes = &o.spec.http;
    let mut earlier: Vec<(usize, &HttpMatchRequest)> = Vec::new();
    for (r, m) in fresh {
        let this = &routes[*r].r#match[*m];
        if prefix(this).is_none() {
            continue;
        }
        if let Some((of, _)) = earlier.iter().find(|(_, e)| covers(e, this)) {
            found.push(ineffective(o, "http", routes, (*r, *m), *of));
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
