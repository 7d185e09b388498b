//! AuthorizationPolicies and RequestAuthentications: workloads that they select, namespaces that they name, where keys
//! are fetched from.

use std::collections::BTreeSet;

use super::index::{Index, full_name, selector_text};
use super::messages::{NO_WORKLOADS, NOT_FOUND, UNRESTRICTED_KEYS};
use crate::api::{AuthorizationPolicy, Object};
use crate::report::Report;
use crate::world::covers;

/// Policies without workloads, and sources in namespaces that do not exist.
pub(super) fn policies(index: &Index<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    for o in &index.authorization_policies {
        found.extend(without_workloads(index, o));
        unknown_namespaces(index, o, &mut found);
    }
    found
}

fn without_workloads(index: &Index<'_>, o: &Object<AuthorizationPolicy>) -> Option<Report> {
    let root = *o.key.namespace == *index.root();
    let selector = o.spec.selector.as_ref();
    if (root && selector.is_none()) || o.spec.target_ref.is_some() || !o.spec.target_refs.is_empty() {
        return None;
    }
    let mut near = index.pods.iter().filter(|p| (root || p.namespace == o.key.namespace) && index.in_mesh(p));
    if near.any(|p| selector.is_none_or(|s| covers(&s.match_labels, &p.labels))) {
        return None;
    }
    let labels = selector.map(|s| selector_text(&s.match_labels)).unwrap_or_default();
    let text = format!("No matching workloads for this resource with the following labels: {labels}");
    let field = if selector.is_some() { "spec.selector.matchLabels" } else { "" };
    let report = NO_WORKLOADS.report((&o.key, &o.origin), field, text);
    let place = if root { "the mesh".to_owned() } else { format!("namespace {}", o.key.namespace) };
    let names = index.pods.iter().filter(|p| root || p.namespace == o.key.namespace).flat_map(|p| &p.labels);
    let known: BTreeSet<String> = names.filter(|(k, _)| *k == "app").map(|(k, v)| format!("{k}: {v}")).collect();
    Some(match (selector, known.is_empty()) {
        (Some(_), false) => {
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            report.fix(format!("write the labels of pods in {place}; there are {known}"))
        }
        _ => report.fix(format!("there are no pods with a proxy in {place}")),
    })
}

fn unknown_namespaces(index: &Index<'_>, o: &Object<AuthorizationPolicy>, found: &mut Vec<Report>) {
    for (i, rule) in o.spec.rules.iter().enumerate() {
        let from = rule.from.iter().flatten().enumerate().filter_map(|(j, f)| Some((j, f.source.as_ref()?)));
        for (j, source) in from {
            for (name, list) in [("namespaces", &source.namespaces), ("notNamespaces", &source.not_namespaces)] {
                for (k, pattern) in list.iter().enumerate().filter(|(_, p)| !namespace_exists(index, p)) {
                    let text = format!("Referenced namespace not found: {pattern:?}");
                    let field = format!("spec.rules[{i}].from[{j}].source.{name}[{k}]");
                    found.push(NOT_FOUND.report((&o.key, &o.origin), &field, text));
                }
            }
        }
    }
}

/// As Istio's analyzer has it: a star at one end, letter case aside. Namespaces that nobody wrote down are known by what
/// is in them.
fn namespace_exists(index: &Index<'_>, pattern: &str) -> bool {
    let pattern = pattern.to_ascii_lowercase();
    let matches = |name: &str| {
        let name = name.to_ascii_lowercase();
        match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
            (Some(end), _) => name.ends_with(end),
            (None, Some(start)) => name.starts_with(start),
            (None, None) => name == pattern,
        }
    };
    pattern == "*"
        || index.namespaces.iter().any(|n| matches(&n.key.name))
        || index.pods.iter().any(|p| matches(&p.namespace))
}

/// A control plane that fetches keys from anywhere.
pub(super) fn key_fetching(index: &Index<'_>) -> Vec<Report> {
    const VARIABLE: &str = "BLOCKED_CIDRS_IN_JWKS_URIS";
    const SHOWN: usize = 5;
    let names: Vec<String> = index.request_authentications.iter().map(|o| full_name(o)).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let mut text = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(", and {} more", names.len() - SHOWN));
    }
    let mut found = Vec::new();
    for d in index.deployments.iter().filter(|d| d.meta.labels.get("app").is_some_and(|a| a == "istiod")) {
        let env = d.spec.template.spec.containers.iter().flat_map(|c| &c.env);
        if env.into_iter().any(|e| e.name == VARIABLE && !e.value.is_empty()) {
            continue;
        }
        let message = format!(
            "{VARIABLE} is not configured but {} RequestAuthentication resource(s) exist ({text}). Consider configuring it to restrict JWKS URI fetches to trusted networks.",
            names.len()
        );
        let report = UNRESTRICTED_KEYS.report((&d.key, &d.origin), "spec.template.spec.containers", message);
        found.push(report.fix(format!("write env {VARIABLE}: \"169.254.0.0/16,127.0.0.0/8\", for example")));
    }
    found
}
