//! AuthorizationPolicy: from the policies that apply to a workload to a decision for each request.
//!
//! The order is Istio's: an external authorizer where a `CUSTOM` rule matches, then denial where a `DENY` rule matches,
//! then, if any `ALLOW` policy applies at all, denial unless one of its rules matches. `AUDIT` and policies that are only
//! tried (`istio.io/dry-run`) decide nothing.

mod condition;
mod explain;
mod filing;
mod ips;
mod rule;
mod set;
mod strings;
mod trust;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use mesh_core::api::{AuthorizationAction, AuthorizationPolicy, DRY_RUN, Object, go_bool};
use mesh_core::matching::PolicyAttribute;

pub use explain::{Asked, Explanation, Missed, NearestRule, Tried};
pub use mesh_core::identity::TrustDomains;
pub use rule::Protocol;

use crate::PolicyInput;
use rule::{Rule, Scope};
use set::{Entry, RuleSet, rule_name};

/// What policies are compiled from.
#[derive(Clone, Debug)]
pub struct AuthzInput<'a> {
    /// The policies that apply, as [`crate::attach::Workload::policies`] gives them.
    pub policies: &'a [Arc<Object<AuthorizationPolicy>>],
    /// What the port speaks.
    pub protocol: Protocol,
    /// Trust domain and aliases of the mesh.
    pub trust_domains: &'a TrustDomains,
    /// External authorizers of the mesh (`extensionProviders`) that can be asked, by name.
    pub providers: &'a BTreeMap<String, Provider>,
}

/// What an external authorizer speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Provider {
    /// `envoyExtAuthzHttp`; TCP connections are not brought before it.
    Http,
    /// `envoyExtAuthzGrpc`.
    Grpc,
}

/// What a policy says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Go on.
    Allow,
    /// Refuse.
    Deny(Denial),
}

/// Which policy refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denial {
    /// `ns[foo]-policy[x]-rule[0]`; `none` where nothing allowed.
    pub rule: Arc<str>,
}

impl Denial {
    /// `%RESPONSE_CODE_DETAILS%` of a request, `%CONNECTION_TERMINATION_DETAILS%` of a connection.
    pub fn details(&self) -> String {
        let rule: String = self.rule.chars().map(|c| if c.is_whitespace() { '_' } else { c }).collect();
        format!("rbac_access_denied_matched_policy[{rule}]")
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RBAC: access denied")
    }
}

/// What `CUSTOM` policies ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Custom<'a> {
    /// Ask this external authorizer.
    Ask {
        /// Name of the provider.
        provider: &'a Arc<str>,
        /// Which rule wants it.
        rule: &'a Arc<str>,
    },
    /// Refuse: there is no such authorizer, or several are named, of which Istio can ask one only.
    Refuse {
        /// Which rule wants it.
        rule: &'a Arc<str>,
    },
}

/// What policies that are only tried would have done.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DryRun<'a> {
    /// The `DENY` rule that would have refused.
    pub denied_by: Option<&'a Arc<str>>,
    /// With `ALLOW` policies: the rule that would have allowed; `Some(None)`: none, so it would have been refused.
    pub allowed_by: Option<Option<&'a Arc<str>>>,
}

/// The policies of a workload, compiled for one protocol. The default is none at all, which allows everything.
#[derive(Clone, Debug)]
pub struct Policies {
    custom: Vec<Group>,
    deny: RuleSet,
    /// `None`: no policy has this action, so nothing has to be allowed.
    allow: Option<RuleSet>,
    audit: RuleSet,
    tried_deny: RuleSet,
    tried_allow: Option<RuleSet>,
    objects: Box<[Arc<Object<AuthorizationPolicy>>]>,
    left_out: Vec<LeftOut>,
    reads_server_names: bool,
    /// What Envoy calls it when no rule matched.
    none: Arc<str>,
}

impl Default for Policies {
    fn default() -> Self {
        Self::compile(&AuthzInput {
            policies: &[],
            protocol: Protocol::Http,
            trust_domains: &TrustDomains::default(),
            providers: &BTreeMap::new(),
        })
    }
}

/// `CUSTOM` rules of one provider.
#[derive(Clone, Debug)]
struct Group {
    provider: Arc<str>,
    usable: bool,
    rules: RuleSet,
}

/// A rule that can't match anything here.
#[derive(Clone, Debug)]
struct LeftOut {
    policy: usize,
    index: usize,
    because: String,
}

/// Rules by what they are for, while they are collected.
#[derive(Default)]
struct Sets {
    custom: BTreeMap<String, Vec<Entry>>,
    deny: Vec<Entry>,
    allow: Option<Vec<Entry>>,
    audit: Vec<Entry>,
    tried_deny: Vec<Entry>,
    tried_allow: Option<Vec<Entry>>,
}

/// Whether a policy is only tried. Its `CUSTOM` rules ask all the same, as Istio's do.
fn is_tried(policy: &Object<AuthorizationPolicy>) -> bool {
    policy.meta.annotations.get(DRY_RUN).and_then(|v| go_bool(v)) == Some(true)
}

fn reads_server_names(spec: &AuthorizationPolicy) -> bool {
    let mut conditions = spec.rules.iter().flat_map(|rule| &rule.when);
    conditions.any(|c| PolicyAttribute::parse(&c.key) == Ok(PolicyAttribute::Sni))
}

impl Policies {
    /// Compiles. Pure; rules that can't be compiled are left out of what allows, and wider in what denies.
    pub fn compile(input: &AuthzInput<'_>) -> Self {
        let AuthzInput { policies, protocol, trust_domains, providers } = input;
        let mut sets = Sets::default();
        let mut left_out = Vec::new();
        for (number, policy) in policies.iter().enumerate() {
            let AuthorizationPolicy { selector: _, target_ref: _, target_refs: _, action, rules, provider } =
                &policy.spec;
            let namespace = &*policy.key.namespace;
            let scope = Scope { protocol: *protocol, action: *action, namespace, trust: trust_domains };
            let provider = provider.as_ref().map_or("", |p| p.name.as_str());
            if *action == AuthorizationAction::Custom && !scope.is_asked(providers.get(provider)) {
                continue;
            }
            let set = sets.of(*action, is_tried(policy), provider);
            for (index, rule) in rules.iter().enumerate() {
                match rule::compile(rule, scope) {
                    Ok((from, to, when)) => {
                        let ways = ways(rule, (&from, &to, &when), namespace, scope);
                        let name = rule_name(namespace, &policy.key.name, index);
                        set.push(Entry { rule: Rule { name, policy: number, index, from, to, when }, ways });
                    }
                    Err(because) => left_out.push(LeftOut { policy: number, index, because }),
                }
            }
        }
        Self {
            custom: sets.custom(providers),
            deny: RuleSet::new(sets.deny),
            allow: sets.allow.map(RuleSet::new),
            audit: RuleSet::new(sets.audit),
            tried_deny: RuleSet::new(sets.tried_deny),
            tried_allow: sets.tried_allow.map(RuleSet::new),
            objects: policies.iter().cloned().collect(),
            left_out,
            reads_server_names: policies.iter().any(|p| reads_server_names(&p.spec)),
            none: "none".into(),
        }
    }

    /// Nothing is ever refused, asked or marked.
    pub fn is_empty(&self) -> bool {
        self.custom.is_empty()
            && self.deny.is_empty()
            && self.allow.is_none()
            && self.audit.is_empty()
            && self.tried_deny.is_empty()
            && self.tried_allow.is_none()
    }

    /// Whether there are policies that decide nothing and yet may have something to say: `AUDIT`, and those that are only
    /// tried.
    pub fn has_notices(&self) -> bool {
        !self.audit.is_empty() || !self.tried_deny.is_empty() || self.tried_allow.is_some()
    }

    /// Whether anything can be refused by `DENY` or for want of an `ALLOW`.
    pub fn decides(&self) -> bool {
        !self.deny.is_empty() || self.allow.is_some()
    }

    /// Whether anything depends on the server name of a connection's TLS (`connection.sni`), which whoever asks has to
    /// find out then.
    pub fn reads_server_names(&self) -> bool {
        self.reads_server_names
    }

    /// Whether there are `CUSTOM` policies.
    pub fn has_custom(&self) -> bool {
        !self.custom.is_empty()
    }

    /// Which external authorizer is to be asked, before tokens are looked at.
    pub fn custom(&self, input: &PolicyInput<'_>) -> Option<Custom<'_>> {
        self.custom.iter().find_map(|Group { provider, usable, rules }| {
            let rule = &rules.first(input)?.name;
            Some(if *usable { Custom::Ask { provider, rule } } else { Custom::Refuse { rule } })
        })
    }

    /// Decides by `DENY` and `ALLOW`. Allocates nothing.
    pub fn decide(&self, input: &PolicyInput<'_>) -> Decision {
        if let Some(rule) = self.deny.first(input) {
            return Decision::Deny(Denial { rule: Arc::clone(&rule.name) });
        }
        match &self.allow {
            Some(allow) if !allow.any(input) => Decision::Deny(Denial { rule: Arc::clone(&self.none) }),
            Some(_) | None => Decision::Allow,
        }
    }

    /// The `AUDIT` rule that marks it.
    pub fn audit(&self, input: &PolicyInput<'_>) -> Option<&Arc<str>> {
        self.audit.first(input).map(|r| &r.name)
    }

    /// What policies that are only tried would have done.
    pub fn dry_run(&self, input: &PolicyInput<'_>) -> DryRun<'_> {
        DryRun {
            denied_by: self.tried_deny.first(input).map(|r| &r.name),
            allowed_by: self.tried_allow.as_ref().map(|set| set.first(input).map(|r| &r.name)),
        }
    }
}

impl Scope<'_> {
    /// Whether there is anything to ask at this port: authorizers over HTTP are not asked about TCP connections.
    fn is_asked(&self, provider: Option<&Provider>) -> bool {
        !(self.protocol == Protocol::Tcp && provider == Some(&Provider::Http))
    }
}

impl Sets {
    fn of(&mut self, action: AuthorizationAction, tried: bool, provider: &str) -> &mut Vec<Entry> {
        match (action, tried) {
            (AuthorizationAction::Custom, _) => self.custom.entry(provider.to_owned()).or_default(),
            (AuthorizationAction::Audit, _) => &mut self.audit,
            (AuthorizationAction::Deny, false) => &mut self.deny,
            (AuthorizationAction::Deny, true) => &mut self.tried_deny,
            (AuthorizationAction::Allow, false) => self.allow.get_or_insert_default(),
            (AuthorizationAction::Allow, true) => self.tried_allow.get_or_insert_default(),
        }
    }

    /// With several providers, or one that does not exist, what matches is refused.
    fn custom(&mut self, providers: &BTreeMap<String, Provider>) -> Vec<Group> {
        let all = std::mem::take(&mut self.custom);
        let names: BTreeSet<String> = all.keys().cloned().collect();
        let group = |(provider, mut entries): (String, Vec<Entry>)| {
            let usable = names.len() == 1 && providers.contains_key(&provider);
            let suffix = if usable { "" } else { "-deny-due-to-bad-CUSTOM-action" };
            for Entry { rule, .. } in &mut entries {
                rule.name = format!("istio-ext-authz-{provider}-{}{suffix}", rule.name).into();
            }
            Group { provider: provider.into(), usable, rules: RuleSet::new(entries) }
        };
        all.into_iter().map(group).collect()
    }
}

/// The ways in which a rule can be filed: by where requests come from, by what they want, or by any condition in `when`.
fn ways(
    rule: &mesh_core::api::AuthorizationRule,
    (from, to, when): (&[rule::All], &[rule::All], &rule::All),
    namespace: &str,
    scope: Scope<'_>,
) -> Vec<set::Way> {
    let filing = |c: &condition::Condition| {
        if c.negated {
            return None;
        }
        let values = explain::written(rule, c.place);
        filing::filing(&c.attribute, &trust::expanded(scope.trust, &c.attribute, values), namespace)
    };
    // Of alternatives each has to be filed.
    let side = |alternatives: &[rule::All]| -> Option<set::Way> {
        let way: set::Way = alternatives.iter().map(|all| all.iter().filter_map(filing).collect()).collect();
        (!way.is_empty() && way.iter().all(|filings| !filings.is_empty())).then_some(way)
    };
    let conditions = when.iter().filter_map(|c| Some(vec![vec![filing(c)?]]));
    side(from).into_iter().chain(side(to)).chain(conditions).collect()
}

#[cfg(test)]
mod tests;
