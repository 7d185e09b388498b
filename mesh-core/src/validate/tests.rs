mod destination_rule;
mod gateway;
mod http_route;
mod mesh_config;
mod security;
mod service_entry;
mod sidecar;
mod virtual_service;

use super::*;
use crate::report::Level;
use crate::yaml::read;

/// Reports about a spec of one of Istio's kinds, as (level, field, message).
fn said(kind: &str, spec: &str) -> Vec<(Level, String, String)> {
    let body: String = spec.lines().map(|l| format!("  {l}\n")).collect();
    let group = if kind.contains("Auth") { "security" } else { "networking" };
    let text = format!("apiVersion: {group}.istio.io/v1\nkind: {kind}\nmetadata: {{name: x}}\nspec:\n{body}");
    let (resources, mut reports) = read("f.yaml", &text);
    reports.extend(resources.iter().flat_map(validate));
    reports.into_iter().map(|r| (r.level, r.field.to_string(), r.message)).collect()
}

fn accepted(kind: &str, specs: &[&str]) {
    for spec in specs {
        assert_eq!(said(kind, spec), [], "{spec}");
    }
}

/// Each spec is refused at the field with a text that contains the message.
fn refused(kind: &str, cases: &[(&str, &str, &str)]) {
    for (spec, field, message) in cases {
        let said = said(kind, spec);
        let hit = said.iter().any(|(l, f, m)| *l == Level::Error && f == field && m.contains(message));
        assert!(hit, "{spec}\n{said:#?}");
    }
}

fn warned(kind: &str, cases: &[(&str, &str, &str)]) {
    for (spec, field, message) in cases {
        let said = said(kind, spec);
        assert!(said.iter().all(|(l, _, _)| *l != Level::Error), "{said:#?}");
        assert!(said.iter().any(|(_, f, m)| f == field && m.contains(message)), "{spec}\n{said:#?}");
    }
}

/// A VirtualService for sidecars with one HTTP rule.
fn rule(text: &str) -> String {
    format!("hosts: [a]\nhttp:\n- {}", text.replace('\n', "\n  "))
}

const TO_B: &str = "route: [{destination: {host: b}}]";

fn rule_refused(cases: &[(&str, &str, &str)]) {
    for (text, field, message) in cases {
        let field = if field.is_empty() { "spec.http[0]".to_owned() } else { format!("spec.http[0].{field}") };
        refused("VirtualService", &[(&rule(text), &field, message)]);
    }
}
