//! Rules that can never match: an ALLOW policy of nothing else denies everything, a DENY policy nothing.

use super::super::messages::{NEVER_MATCHES, SPIFFE_PREFIX};
use super::tcp::{covers_port, http_fields};
use super::values::{Context, Dead, host, method, path};
use super::view::{For, View};
use crate::api::{
    AuthorizationAction, AuthorizationPolicy, AuthorizationRule, Object, RuleCondition, RuleOperation, RuleSource,
};
use crate::report::Report;
use crate::yaml::{child, item};

/// What is wrong with a rule's parts: the field, and why it fits nothing.
type Found = Vec<(String, Dead)>;
/// A list with the name of its field.
type Named<'l> = (&'l str, &'l Vec<String>);

/// Rules and values that never match.
pub(super) fn never(view: &View<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    for o in &view.index.authorization_policies {
        let policy = For::policy(*o);
        let context = Context::new(view, &policy);
        let judged: Vec<(Found, bool)> = o
            .spec
            .rules
            .iter()
            .enumerate()
            .map(|(i, r)| rule(&context, &item("spec.rules", i), r, o.spec.action))
            .collect();
        let all = !judged.is_empty() && judged.iter().all(|(_, whole)| *whole);
        for (parts, whole) in judged {
            for (field, Dead { why, fix }) in parts.into_iter().filter(|(_, d)| !d.why.is_empty()) {
                let text = format!("never matches: {why}{}", consequence(o.spec.action, whole, all));
                found.push(NEVER_MATCHES.report((&o.key, &o.origin), &field, text).fix(fix));
            }
        }
        prefixes(o, &mut found);
    }
    found
}

fn consequence(action: AuthorizationAction, rule: bool, policy: bool) -> &'static str {
    match (action, policy, rule) {
        (AuthorizationAction::Allow, true, _) => "; nor does any other rule of the policy, so that it allows nothing",
        (AuthorizationAction::Deny, true, _) => "; nor does any other rule of the policy, so that it denies nothing",
        (_, _, true) => "; so the rule never does",
        (_, _, false) => "",
    }
}

/// The parts of a rule that fit nothing, and whether that goes for the whole.
fn rule(context: &Context<'_, '_>, at: &str, rule: &AuthorizationRule, action: AuthorizationAction) -> (Found, bool) {
    let mut found = Found::new();
    let mut whole = false;
    let mut alternatives = |list: Vec<bool>| whole |= !list.is_empty() && list.iter().all(|dead| *dead);
    let sources = rule.from.iter().flatten().enumerate().filter_map(|(i, f)| Some((i, f.source.as_ref()?)));
    let sources = sources.map(|(i, s)| source(context, &format!("{at}.from[{i}].source"), s, &mut found)).collect();
    alternatives(sources);
    let operations = rule.to.iter().flatten().enumerate().filter_map(|(i, t)| Some((i, t.operation.as_ref()?)));
    let operations = operations.map(|(i, o)| operation(&format!("{at}.to[{i}].operation"), o, &mut found)).collect();
    alternatives(operations);
    for (i, RuleCondition { key, values, not_values }) in rule.when.iter().enumerate() {
        let at = format!("{at}.when[{i}]");
        whole |= list(&at, "values", values, &mut found, |v| context.condition(key, v));
        whole |= excluded(&at, ("values", values), ("notValues", not_values), &mut found);
    }
    let fields = http_fields(rule);
    if action == AuthorizationAction::Allow
        && !fields.is_empty()
        && let Some(port) = context.only_tcp(|p| covers_port(rule, p))
    {
        let names = fields.into_iter().collect::<Vec<_>>().join(", ");
        let why = format!("{names} are not known at {port}, and a rule with them allows nothing there");
        let fix = "leave them out, or name the port's protocol (http-…) in the Service".to_owned();
        found.push((at.to_owned(), Dead { why, fix }));
        whole = true;
    }
    (found, whole)
}

fn source(context: &Context<'_, '_>, at: &str, source: &RuleSource, found: &mut Found) -> bool {
    let RuleSource {
        principals,
        not_principals,
        request_principals,
        not_request_principals,
        namespaces,
        not_namespaces,
        service_accounts,
        not_service_accounts,
        trust_domains,
        not_trust_domains,
        ip_blocks,
        not_ip_blocks,
        remote_ip_blocks,
        not_remote_ip_blocks,
    } = source;
    let mut dead = list(at, "principals", principals, found, |v| context.principal(v));
    dead |= list(at, "requestPrincipals", request_principals, found, |v| context.request_principal(v));
    dead |= list(at, "namespaces", namespaces, found, |_| context.identity());
    dead |= list(at, "serviceAccounts", service_accounts, found, |v| context.service_account(v));
    dead |= list(at, "trustDomains", trust_domains, found, |v| context.trust_domain(v));
    for (some, not) in [
        (("principals", principals), ("notPrincipals", not_principals)),
        (("requestPrincipals", request_principals), ("notRequestPrincipals", not_request_principals)),
        (("namespaces", namespaces), ("notNamespaces", not_namespaces)),
        (("serviceAccounts", service_accounts), ("notServiceAccounts", not_service_accounts)),
        (("trustDomains", trust_domains), ("notTrustDomains", not_trust_domains)),
        (("ipBlocks", ip_blocks), ("notIpBlocks", not_ip_blocks)),
        (("remoteIpBlocks", remote_ip_blocks), ("notRemoteIpBlocks", not_remote_ip_blocks)),
    ] {
        dead |= excluded(at, some, not, found);
    }
    dead
}

fn operation(at: &str, operation: &RuleOperation, found: &mut Found) -> bool {
    let RuleOperation { hosts, not_hosts, ports, not_ports, methods, not_methods, paths, not_paths } = operation;
    let mut dead = list(at, "hosts", hosts, found, host);
    dead |= list(at, "methods", methods, found, method);
    dead |= list(at, "paths", paths, found, path);
    for (some, not) in [
        (("hosts", hosts), ("notHosts", not_hosts)),
        (("ports", ports), ("notPorts", not_ports)),
        (("methods", methods), ("notMethods", not_methods)),
        (("paths", paths), ("notPaths", not_paths)),
    ] {
        dead |= excluded(at, some, not, found);
    }
    dead
}

/// Values that fit nothing; whether that goes for all of them.
fn list(at: &str, name: &str, values: &[String], found: &mut Found, dead: impl Fn(&str) -> Option<Dead>) -> bool {
    let mut all = !values.is_empty();
    let before = found.len();
    for (i, value) in values.iter().enumerate() {
        match dead(value) {
            Some(d) => found.push((item(&child(at, name), i), d)),
            None => all = false,
        }
    }
    // The same of each is said once.
    let first = found.get(before).map(|(_, d)| d.why.clone());
    if all && found[before..].iter().all(|(_, d)| Some(&d.why) == first.as_ref()) {
        found.truncate(before + 1);
    }
    all
}

/// Whether each value of a list is one that its negation excludes.
fn excluded(at: &str, some: Named<'_>, not: Named<'_>, found: &mut Found) -> bool {
    let ((name, values), (other, excluded)) = (some, not);
    let hit = |v: &String| excluded.iter().any(|e| covers(e, v));
    let all = !values.is_empty() && values.iter().all(hit);
    if all {
        let why = format!("{other} excludes each of {name}");
        found.push((child(at, other), Dead { why, fix: format!("take what is meant out of {other}") }));
    }
    all
}

/// Whether a pattern fits everything that another one does.
fn covers(pattern: &str, value: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(""), _) => true,
        (Some(end), _) => value.ends_with(end),
        (None, Some(start)) => value.starts_with(start) && !value.starts_with('*'),
        (None, None) => value == pattern,
    }
}

/// Identities with the scheme of their URI, which no identity in a policy has.
fn prefixes(o: &Object<AuthorizationPolicy>, found: &mut Vec<Report>) {
    let mut look = |at: &str, values: &[String], negated: bool| {
        for (i, value) in values.iter().enumerate() {
            let Some(rest) = value.strip_prefix("spiffe://") else { continue };
            let what = if negated { "excludes nobody" } else { "never matches" };
            let text = format!("{value:?} {what}: identities are written without spiffe://");
            found.push(SPIFFE_PREFIX.report((&o.key, &o.origin), &item(at, i), text).fix(format!("write {rest}")));
        }
    };
    for (i, rule) in o.spec.rules.iter().enumerate() {
        for (j, source) in rule.from.iter().flatten().filter_map(|f| f.source.as_ref()).enumerate() {
            let at = format!("spec.rules[{i}].from[{j}].source");
            look(&child(&at, "principals"), &source.principals, false);
            look(&child(&at, "notPrincipals"), &source.not_principals, true);
        }
        for (j, c) in rule.when.iter().enumerate().filter(|(_, c)| c.key == "source.principal") {
            let at = format!("spec.rules[{i}].when[{j}]");
            look(&child(&at, "values"), &c.values, false);
            look(&child(&at, "notValues"), &c.not_values, true);
        }
    }
}
