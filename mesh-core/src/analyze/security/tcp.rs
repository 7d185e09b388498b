//! DENY rules about requests, at ports without requests: there only what is left of them counts, which may be nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::super::messages::DENIES_TCP;
use super::view::{For, Port, View, is_tried};
use crate::api::{AuthorizationAction, AuthorizationPolicy, AuthorizationRule, Object, RuleOperation, RuleSource};
use crate::matching::PolicyAttribute;
use crate::report::Report;

/// TCP ports that a DENY rule closes, or closes for more than was meant.
pub(super) fn denied(view: &View<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    let denies = |o: &&Object<AuthorizationPolicy>| o.spec.action == AuthorizationAction::Deny && !is_tried(o);
    for o in view.index.authorization_policies.iter().copied().filter(denies) {
        let policy = For::policy(o);
        for (i, rule) in o.spec.rules.iter().enumerate() {
            let fields = http_fields(rule);
            if fields.is_empty() {
                continue;
            }
            let (mut tcp, mut http) = (BTreeMap::new(), BTreeSet::new());
            for p in view.of(&policy).flat_map(|w| &w.ports) {
                if p.is_tcp() && covers_port(rule, p.number) {
                    tcp.insert(p.number, p);
                } else if p.is_http() {
                    http.insert(p.number);
                }
            }
            if tcp.is_empty() {
                continue;
            }
            let names: Vec<String> = tcp.values().map(|p| name(p)).collect();
            let what =
                if is_nothing_left(rule) { "every connection" } else { "all connections that its other fields fit" };
            let text = format!(
                "DENY also closes {}: {} do not exist there, and {what} to it is refused",
                names.join(" and "),
                fields.into_iter().collect::<Vec<_>>().join(", ")
            );
            let http: Vec<String> = http.iter().map(|p| format!("\"{p}\"")).collect();
            let fix = match http.is_empty() {
                true => "leave the rule out: none of the ports of its workloads is HTTP".to_owned(),
                false => format!("write ports: [{}] in each to[].operation", http.join(", ")),
            };
            found.push(DENIES_TCP.report((&o.key, &o.origin), &format!("spec.rules[{i}]"), text).fix(fix));
        }
    }
    found
}

/// `TCP port 9000 (Service ns/name)`.
pub(super) fn name(p: &Port<'_>) -> String {
    format!("TCP port {} (of Service {})", p.number, super::super::index::full_name(p.service))
}

/// Fields of a rule that only requests have.
pub(super) fn http_fields(rule: &AuthorizationRule) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for s in rule.from.iter().flatten().filter_map(|f| f.source.as_ref()) {
        let lists = [("requestPrincipals", &s.request_principals), ("notRequestPrincipals", &s.not_request_principals)];
        found.extend(lists.into_iter().filter(|(_, l)| !l.is_empty()).map(|(name, _)| name.to_owned()));
    }
    for o in rule.to.iter().flatten().filter_map(|t| t.operation.as_ref()) {
        let RuleOperation { hosts, not_hosts, ports: _, not_ports: _, methods, not_methods, paths, not_paths } = o;
        let lists = [
            ("hosts", hosts),
            ("notHosts", not_hosts),
            ("methods", methods),
            ("notMethods", not_methods),
            ("paths", paths),
            ("notPaths", not_paths),
        ];
        found.extend(lists.into_iter().filter(|(_, l)| !l.is_empty()).map(|(name, _)| name.to_owned()));
    }
    let http = |key: &str| PolicyAttribute::parse(key).is_ok_and(|a| a.is_http_only());
    found.extend(rule.when.iter().filter(|c| http(&c.key)).map(|c| c.key.clone()));
    found
}

/// What the rule says about ports leaves this one in.
pub(super) fn covers_port(rule: &AuthorizationRule, port: u16) -> bool {
    let port = port.to_string();
    let within = |some: &[String], not: &[String]| (some.is_empty() || some.contains(&port)) && !not.contains(&port);
    let operations = rule.to.as_ref().map(|to| {
        let mut all = to.iter().filter_map(|t| t.operation.as_ref());
        all.any(|o| within(&o.ports, &o.not_ports))
    });
    operations.unwrap_or(true)
        && rule.when.iter().filter(|c| c.key == "destination.port").all(|c| within(&c.values, &c.not_values))
}

/// Without the fields of requests no condition is left, but for ports.
fn is_nothing_left(rule: &AuthorizationRule) -> bool {
    let source = |s: &RuleSource| {
        let rest = RuleSource { request_principals: Vec::new(), not_request_principals: Vec::new(), ..s.clone() };
        rest == RuleSource::default()
    };
    let from = rule.from.as_ref().is_none_or(|f| f.iter().filter_map(|f| f.source.as_ref()).any(source));
    let http = |key: &str| PolicyAttribute::parse(key).is_ok_and(|a| a.is_http_only());
    from && rule.when.iter().all(|c| http(&c.key) || c.key == "destination.port")
}
