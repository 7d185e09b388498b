//! AuthorizationPolicy.

mod attribute;

use super::{Check, below, common};
use crate::api::{
    AuthorizationAction, AuthorizationPolicy, AuthorizationProvider, AuthorizationRule, DRY_RUN, Object, RuleCondition,
    RuleFrom, RuleOperation, RuleSource, RuleTo, go_bool,
};
use crate::matching::PathTemplate;
use crate::yaml::{child, item};

/// Most rules, alternatives of `from`, and service accounts in a list.
const MAX_RULES: usize = 512;
const MAX_ACCOUNTS: usize = 16;

pub(super) fn check(check: &mut Check<'_>, object: &Object<AuthorizationPolicy>) {
    let AuthorizationPolicy { selector, target_ref, target_refs, action, rules, provider } = &object.spec;
    common::attachment(check, selector.as_ref(), target_ref.as_ref(), target_refs);
    self::action(check, *action, rules, provider.as_ref());
    if rules.len() > MAX_RULES {
        check.error("spec.rules", format!("spec.rules in body should have at most {MAX_RULES} items"));
    }
    for (i, rule) in rules.iter().enumerate() {
        self::rule(check, &item("spec.rules", i), rule, *action);
    }
    if let Some(text) = object.meta.annotations.get(DRY_RUN)
        && go_bool(text).is_none()
    {
        let message = format!("{DRY_RUN}: {text:?} is neither true nor false; the policy is enforced");
        check.warn(&child("metadata.annotations", DRY_RUN), message);
    }
}

fn action(
    check: &mut Check<'_>,
    action: AuthorizationAction,
    rules: &[AuthorizationRule],
    provider: Option<&AuthorizationProvider>,
) {
    use AuthorizationAction::{Allow, Audit, Custom, Deny};
    let name = match action {
        Allow => "ALLOW",
        Deny => "DENY",
        Audit => "AUDIT",
        Custom => "CUSTOM",
    };
    if rules.is_empty() && matches!(action, Deny | Custom) {
        let message = format!("{name} action without `rules` is meaningless as it will never be triggered");
        check.error_fix("spec.rules", message, "write rules: [{}] if it is meant for every request");
    }
    match (action, provider) {
        (Custom, None) => check.error("spec.provider", "`provider.name` must not be empty with CUSTOM action"),
        (Custom, Some(p)) if p.name.is_empty() => {
            check.error("spec.provider.name", "`provider.name` must not be empty with CUSTOM action");
        }
        (Custom, Some(_)) | (_, None) => {}
        (_, Some(_)) => {
            check.error("spec.provider", format!("`provider` must not be set with {name} action, only with CUSTOM"));
        }
    }
}

fn rule(check: &mut Check<'_>, at: &str, rule: &AuthorizationRule, action: AuthorizationAction) {
    let AuthorizationRule { from, to, when } = rule;
    for (name, count) in [("from", from.as_ref().map(Vec::len)), ("to", to.as_ref().map(Vec::len))] {
        match count {
            Some(0) => check.error_fix(&child(at, name), format!("`{name}` must not be an empty list"), "leave it out"),
            Some(n) if n > MAX_RULES => {
                check.error(&child(at, name), format!("{at}.{name} in body should have at most {MAX_RULES} items"));
            }
            _ => {}
        }
    }
    for (i, RuleFrom { source }) in from.iter().flatten().enumerate() {
        let path = below(&item(&child(at, "from"), i), "source");
        match source {
            None => check.error(&path, "`from.source` must not be nil"),
            Some(source) => self::source(check, &path, source, action),
        }
    }
    for (i, RuleTo { operation }) in to.iter().flatten().enumerate() {
        let path = below(&item(&child(at, "to"), i), "operation");
        match operation {
            None => check.error(&path, "`to.operation` must not be nil"),
            Some(operation) => self::operation(check, &path, operation),
        }
    }
    for (i, condition) in when.iter().enumerate() {
        self::condition(check, &item(&child(at, "when"), i), condition, action);
    }
    if action == AuthorizationAction::Deny && denies_all_tcp(rule) {
        let message =
            "on TCP ports this rule denies everything: they know none of its attributes, all of which are HTTP's";
        check.say(crate::api::codes::WARNING, at, message).fix =
            Some("name the HTTP ports in to[].operation.ports".to_owned());
    }
}

/// Whether a DENY rule is left without any condition where there is no HTTP.
fn denies_all_tcp(rule: &AuthorizationRule) -> bool {
    let source = |f: &RuleFrom| {
        let rest = f.source.clone().map(|s| RuleSource {
            request_principals: Vec::new(),
            not_request_principals: Vec::new(),
            ..s
        });
        rest.is_some_and(|s| s == RuleSource::default())
    };
    let ports = |t: &RuleTo| t.operation.as_ref().is_some_and(|o| !o.ports.is_empty() || !o.not_ports.is_empty());
    let from = rule.from.as_ref().is_none_or(|f| f.iter().any(source));
    let to = rule.to.as_ref().is_none_or(|t| t.iter().any(|t| !ports(t)));
    let when = rule.when.iter().all(|c| c.key.starts_with("request."));
    let has_any = rule.from.is_some() || rule.to.is_some() || !rule.when.is_empty();
    has_any && from && to && when
}

fn source(check: &mut Check<'_>, at: &str, source: &RuleSource, action: AuthorizationAction) {
    if *source == RuleSource::default() {
        check.error(at, "`from.source` must have at least one field");
    }
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
    let accounts = !service_accounts.is_empty() || !not_service_accounts.is_empty();
    let others = [principals, not_principals, namespaces, not_namespaces];
    if accounts && others.iter().any(|l| !l.is_empty()) {
        check.error(at, "Cannot set serviceAccounts with namespaces or principals");
    }
    let lists = [
        ("principals", principals, Rule::Principal),
        ("notPrincipals", not_principals, Rule::Principal),
        ("requestPrincipals", request_principals, Rule::Any),
        ("notRequestPrincipals", not_request_principals, Rule::Any),
        ("namespaces", namespaces, Rule::Any),
        ("notNamespaces", not_namespaces, Rule::Any),
        ("serviceAccounts", service_accounts, Rule::Account),
        ("notServiceAccounts", not_service_accounts, Rule::Account),
        ("trustDomains", trust_domains, Rule::TrustDomain),
        ("notTrustDomains", not_trust_domains, Rule::TrustDomain),
        ("ipBlocks", ip_blocks, Rule::Ip),
        ("notIpBlocks", not_ip_blocks, Rule::Ip),
        ("remoteIpBlocks", remote_ip_blocks, Rule::Ip),
        ("notRemoteIpBlocks", not_remote_ip_blocks, Rule::Ip),
    ];
    for (name, list, rule) in lists {
        let path = child(at, name);
        values(check, &path, list, rule);
        let identity = !matches!(rule, Rule::Ip);
        if action == AuthorizationAction::Custom && identity && !list.is_empty() {
            check.error(&path, format!("`from.source.{name}` is currently not supported with CUSTOM action"));
        }
    }
}

fn operation(check: &mut Check<'_>, at: &str, operation: &RuleOperation) {
    if *operation == RuleOperation::default() {
        check.error(at, "`to.operation` must have at least one field");
    }
    let RuleOperation { hosts, not_hosts, ports, not_ports, methods, not_methods, paths, not_paths } = operation;
    for (name, list, rule) in [
        ("hosts", hosts, Rule::Any),
        ("notHosts", not_hosts, Rule::Any),
        ("ports", ports, Rule::Port),
        ("notPorts", not_ports, Rule::Port),
        ("methods", methods, Rule::Any),
        ("notMethods", not_methods, Rule::Any),
        ("paths", paths, Rule::Path),
        ("notPaths", not_paths, Rule::Path),
    ] {
        values(check, &child(at, name), list, rule);
    }
}

fn condition(check: &mut Check<'_>, at: &str, condition: &RuleCondition, action: AuthorizationAction) {
    let RuleCondition { key, values: some, not_values } = condition;
    let field = child(at, "key");
    if key.is_empty() {
        return check.required(&field);
    }
    if some.is_empty() && not_values.is_empty() {
        check.error(at, format!("at least one of `values` or `notValues` must be set for key {key}"));
    }
    let rule = match attribute::rule(key) {
        Ok(rule) => rule,
        Err(message) => return check.error(&field, message),
    };
    if action == AuthorizationAction::Custom && attribute::is_identity(key) {
        check.error(&field, format!("{key} is currently not supported with CUSTOM action"));
    }
    if key.starts_with("experimental.envoy.filters.") {
        check.warn(&field, format!("no filter of this proxy sets {key}: values never match, notValues always do"));
    }
    values(check, &child(at, "values"), some, rule);
    values(check, &child(at, "notValues"), not_values, rule);
}

/// What the values of a list have to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// Any text.
    Any,
    /// An identity.
    Principal,
    /// `name` or `namespace/name`.
    Account,
    /// A trust domain, maybe with a star at one end.
    TrustDomain,
    /// An address or network.
    Ip,
    /// A port.
    Port,
    /// A path or a template.
    Path,
}

fn values(check: &mut Check<'_>, at: &str, list: &[String], rule: Rule) {
    if rule == Rule::Account && list.len() > MAX_ACCOUNTS {
        check.error(at, format!("{at} in body should have at most {MAX_ACCOUNTS} items"));
    }
    for (i, value) in list.iter().enumerate() {
        let path = item(at, i);
        if value.is_empty() {
            check.error(&path, "empty value not allowed");
            continue;
        }
        let wrong = match rule {
            Rule::Any | Rule::Principal => None,
            Rule::Account => account(value),
            Rule::TrustDomain => trust_domain(value),
            Rule::Ip => common::subnet(value).err(),
            Rule::Port => match value.parse::<u16>() {
                Ok(_) if value.bytes().all(|b| b.is_ascii_digit()) => None,
                _ => Some(format!("invalid port {value}, must be in the range 0 to 65535")),
            },
            Rule::Path if PathTemplate::is_template(value) => PathTemplate::parse(value).err(),
            Rule::Path => None,
        };
        if let Some(message) = wrong {
            check.error(&path, message);
        }
    }
}

fn account(value: &str) -> Option<String> {
    let parts: Vec<&str> = value.split('/').collect();
    let message = match parts[..] {
        _ if value.len() > 320 => format!("{value:?} may not be longer than 320"),
        _ if value.contains('*') => format!("service account {value:?} can't have a wildcard"),
        [name] if !name.is_empty() => return None,
        [namespace, name] if !namespace.is_empty() && !name.is_empty() => return None,
        _ => format!("service account {value:?} must be name or namespace/name"),
    };
    Some(message)
}

fn trust_domain(value: &str) -> Option<String> {
    if value.contains('/') {
        return Some(format!("trust domain {value:?} can't have a slash"));
    }
    let stars = value.bytes().filter(|b| *b == b'*').count();
    let at_an_end = value.starts_with('*') || value.ends_with('*');
    (stars > 1 || (stars == 1 && !at_an_end))
        .then(|| format!("trust domain {value:?} can have one *, at its beginning or end"))
}
