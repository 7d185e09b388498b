//! Rules and matches of a VirtualService that earlier ones leave nothing for.

use super::Check;
use crate::api::codes::{INEFFECTIVE, UNREACHABLE};
use crate::api::{HttpMatchRequest, StringMatch, VirtualService};
use crate::yaml::{child, item};

/// One rule as far as its matches tell: each as text, HTTP ones also in full.
struct Rule<'a> {
    name: String,
    path: String,
    matches: Vec<String>,
    http: &'a [HttpMatchRequest],
}

pub(super) fn check(check: &mut Check<'_>, spec: &VirtualService) {
    let http = spec.http.iter().enumerate().map(|(i, r)| Rule {
        name: rule_name(&r.name, i),
        path: item("spec.http", i),
        matches: r.r#match.iter().map(text).collect(),
        http: &r.r#match,
    });
    rules(check, &http.collect::<Vec<_>>());
    let tls = spec.tls.iter().enumerate().map(|(i, r)| Rule {
        name: rule_name("", i),
        path: item("spec.tls", i),
        matches: r.r#match.iter().map(text).collect(),
        http: &[],
    });
    rules(check, &tls.collect::<Vec<_>>());
    let tcp = spec.tcp.iter().enumerate().map(|(i, r)| Rule {
        name: rule_name("", i),
        path: item("spec.tcp", i),
        matches: r.r#match.iter().map(text).collect(),
        http: &[],
    });
    rules(check, &tcp.collect::<Vec<_>>());
}

/// A match as text, to find equal ones.
fn text<T: serde::Serialize>(m: &T) -> String {
    serde_json::to_string(m).expect("invariant: matches serialize")
}

fn rule_name(name: &str, index: usize) -> String {
    if name.is_empty() { format!("#{index}") } else { format!("{name:?}") }
}

fn rules(check: &mut Check<'_>, rules: &[Rule<'_>]) {
    let mut unconditional: Option<&Rule<'_>> = None;
    // What earlier rules match, with the rule's name.
    let mut seen: Vec<(&str, &str)> = Vec::new();
    let mut prefixes: Vec<(&str, bool, &str)> = Vec::new();
    for rule in rules {
        let unreachable = |check: &mut Check<'_>, reason: &str| {
            check.say(UNREACHABLE, &rule.path, format!("virtualService rule {} not used ({reason})", rule.name));
        };
        if rule.matches.is_empty() {
            if unconditional.is_some() {
                unreachable(check, "only the last rule can have no matches");
            }
            unconditional = unconditional.or(Some(rule));
            continue;
        }
        if unconditional.is_some() {
            unreachable(check, "route without matches defined before");
            continue;
        }
        let before = (seen.len(), prefixes.len());
        let taken: Vec<_> = (0..rule.matches.len()).map(|i| taken_by(rule, i, &seen, &prefixes[..before.1])).collect();
        if taken.iter().all(Option::is_some) {
            unreachable(check, "all matches used by prior rules");
        } else {
            for (i, (why, other)) in taken.iter().enumerate().filter_map(|(i, t)| t.as_ref().map(|t| (i, t))) {
                let path = item(&child(&rule.path, "match"), i);
                let message =
                    format!("virtualService rule {} match #{i} is not used ({why} match in rule {other})", rule.name);
                check.say(INEFFECTIVE, &path, message);
            }
        }
        seen.extend(rule.matches.iter().map(|m| (m.as_str(), rule.name.as_str())));
        prefixes.extend(rule.http.iter().filter_map(|m| only_prefix(m).map(|(p, c)| (p, c, rule.name.as_str()))));
    }
}

fn taken_by<'a>(
    rule: &Rule<'_>,
    index: usize,
    seen: &[(&str, &'a str)],
    prefixes: &[(&str, bool, &'a str)],
) -> Option<(&'static str, &'a str)> {
    if let Some((_, other)) = seen.iter().find(|(text, _)| *text == rule.matches[index]) {
        return Some(("duplicate", other));
    }
    let (uri, ignore_case) = uri_text(rule.http.get(index)?)?;
    let covers = |(prefix, any_case, _): &&(&str, bool, &str)| match (any_case, ignore_case) {
        (true, _) => uri.to_lowercase().starts_with(&prefix.to_lowercase()),
        (false, false) => uri.starts_with(prefix),
        (false, true) => false,
    };
    prefixes.iter().find(covers).map(|(_, _, other)| ("overlapping", *other))
}

/// The text that a path must begin with, or be.
fn uri_text(m: &HttpMatchRequest) -> Option<(&str, bool)> {
    match m.uri.as_ref()? {
        StringMatch::Exact(text) | StringMatch::Prefix(text) => Some((text, m.ignore_uri_case)),
        StringMatch::Regex(_) | StringMatch::Present => None,
    }
}

/// The prefix of a match that has no other condition.
fn only_prefix(m: &HttpMatchRequest) -> Option<(&str, bool)> {
    let bare = HttpMatchRequest {
        name: m.name.clone(),
        stat_prefix: m.stat_prefix.clone(),
        uri: m.uri.clone(),
        ignore_uri_case: m.ignore_uri_case,
        ..Default::default()
    };
    match &m.uri {
        Some(StringMatch::Prefix(prefix)) if *m == bare => Some((prefix, m.ignore_uri_case)),
        _ => None,
    }
}
