//! EgressPolicy: an AuthorizationPolicy for what its workloads ask of others.

use super::{Check, authorization_policy};
use crate::api::{AuthorizationAction, AuthorizationPolicy, Object};

pub(super) fn check(check: &mut Check<'_>, object: &Object<AuthorizationPolicy>) {
    let AuthorizationPolicy { selector: _, target_ref, target_refs, action, rules, provider } = &object.spec;
    if target_ref.is_some() || !target_refs.is_empty() {
        check.error("spec.targetRefs", "an EgressPolicy is for workloads: write a selector");
    }
    if !matches!(action, AuthorizationAction::Allow | AuthorizationAction::Deny) || provider.is_some() {
        check.error("spec.action", "an EgressPolicy has the action ALLOW or DENY");
    }
    let about_tokens = rules.iter().enumerate().flat_map(|(i, rule)| {
        let from = rule.from.iter().flatten().enumerate().filter_map(|(j, f)| Some((j, f.source.as_ref()?)));
        let tokens = from.filter(|(_, s)| !s.request_principals.is_empty() || !s.not_request_principals.is_empty());
        tokens.map(move |(j, _)| format!("spec.rules[{i}].from[{j}].source.requestPrincipals"))
    });
    for field in about_tokens.collect::<Vec<_>>() {
        check.error(&field, "tokens are verified where they arrive, not where they are sent");
    }
    authorization_policy::check(check, object);
}
