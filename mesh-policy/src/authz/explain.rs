//! Why a decision came out as it did: which policies were tried, which rule was nearest, what it missed. Allocates; it is
//! for denials, `explain` and tests.

use std::fmt;
use std::sync::Arc;

use mesh_core::api::{AuthorizationAction, AuthorizationRule, Key, Object, RuleSource};

use super::condition::{Condition, Place};
use super::rule::{All, Rule};
use super::set::{RuleSet, rule_name};
use super::values::{self, Attribute};
use super::{Custom, Decision, Policies, is_tried};
use crate::{Peer, PolicyInput};

/// A decision and how it came about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// By `DENY` and `ALLOW`; what an external authorizer would say is not known.
    pub decision: Decision,
    /// The external authorizer that is asked first.
    pub asks: Option<Asked>,
    /// Every policy that applies, in order.
    pub tried: Vec<Tried>,
}

/// A `CUSTOM` rule that matched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// The provider that is asked; `None`: it can't be, so the request is refused.
    pub provider: Option<Arc<str>>,
    /// The rule.
    pub rule: Arc<str>,
}

/// A policy that was tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tried {
    /// The policy.
    pub policy: Key,
    /// Its action.
    pub action: AuthorizationAction,
    /// It is only tried, not enforced.
    pub dry_run: bool,
    /// `file:line`; live objects have none.
    pub location: Option<String>,
    /// The first rule that matched.
    pub matched: Option<NearestRule>,
    /// Otherwise the rule that missed the least; `None`: it has no rules.
    pub nearest: Option<NearestRule>,
}

/// A rule, and what it missed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NearestRule {
    /// `ns[foo]-policy[x]-rule[0]`.
    pub name: Arc<str>,
    /// Index in the policy.
    pub index: usize,
    /// `file:line`.
    pub location: Option<String>,
    /// What did not hold; empty: it matched.
    pub missed: Vec<Missed>,
    /// Why it can't match at this port at all.
    pub left_out: Option<String>,
}

/// A condition that did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missed {
    /// `spec.rules[0].from[0].source.principals`.
    pub field: String,
    /// `file:line`.
    pub location: Option<String>,
    /// Name of the attribute, as in `when`.
    pub attribute: String,
    /// What it may be, or may not be; the first few values.
    pub wanted: Vec<String>,
    /// How many more values there are.
    pub more: usize,
    /// None of the values is wanted, instead of one of them.
    pub negated: bool,
    /// What the request has; empty: it has none.
    pub got: Vec<String>,
}

/// Values that are shown of a longer list.
const SHOWN: usize = 5;
/// Bytes that are shown of a value that a client sent.
const MAX_TEXT: usize = 200;

impl Policies {
    /// Decides, and says why. Takes time in proportion to the number of rules.
    pub fn explain(&self, input: &PolicyInput<'_>) -> Explanation {
        let asks = self.custom(input).map(|custom| match custom {
            Custom::Ask { provider, rule } => Asked { provider: Some(Arc::clone(provider)), rule: Arc::clone(rule) },
            Custom::Refuse { rule } => Asked { provider: None, rule: Arc::clone(rule) },
        });
        let sets = [&self.deny, &self.audit, &self.tried_deny].into_iter().chain(&self.allow).chain(&self.tried_allow);
        let rules: Vec<&Rule> = sets.chain(self.custom.iter().map(|g| &g.rules)).flat_map(RuleSet::rules).collect();
        let tried = self.objects.iter().enumerate().map(|(number, object)| {
            let mut best: Option<NearestRule> = None;
            let mut own: Vec<&&Rule> = rules.iter().filter(|r| r.policy == number).collect();
            own.sort_by_key(|r| r.index);
            for rule in own {
                let near = nearest(object, rule, input);
                if best.as_ref().is_none_or(|b| near.missed.len() < b.missed.len()) {
                    best = Some(near);
                }
            }
            let (matched, near) = match best {
                Some(rule) if rule.missed.is_empty() => (Some(rule), None),
                near => (None, near.or_else(|| self.first_left_out(number, object))),
            };
            Tried {
                policy: object.key.clone(),
                action: object.spec.action,
                dry_run: is_tried(object),
                location: object.origin.location(""),
                matched,
                nearest: near,
            }
        });
        Explanation { decision: self.decide(input), asks, tried: tried.collect() }
    }

    fn first_left_out(
        &self,
        policy: usize,
        object: &Object<mesh_core::api::AuthorizationPolicy>,
    ) -> Option<NearestRule> {
        let out = self.left_out.iter().find(|o| o.policy == policy)?;
        Some(NearestRule {
            name: rule_name(&object.key.namespace, &object.key.name, out.index),
            index: out.index,
            location: object.origin.location(&format!("spec.rules[{}]", out.index)),
            missed: Vec::new(),
            left_out: Some(out.because.clone()),
        })
    }
}

impl Explanation {
    /// The rule that came nearest to another decision: of those that allow, the one that missed the least.
    pub fn nearest(&self) -> Option<(&Tried, &NearestRule)> {
        let allows = self.tried.iter().filter(|t| t.action == AuthorizationAction::Allow && !t.dry_run);
        let near = allows.filter_map(|t| Some((t, t.nearest.as_ref()?)));
        near.min_by_key(|(_, r)| if r.left_out.is_some() { usize::MAX } else { r.missed.len() })
    }
}

fn nearest(object: &Object<mesh_core::api::AuthorizationPolicy>, rule: &Rule, input: &PolicyInput<'_>) -> NearestRule {
    let source = &object.spec.rules[rule.index];
    let misses = |all: &All| -> Vec<Missed> {
        let failing = all.iter().filter(|c| !c.holds(input));
        failing.map(|c| missed(object, source, rule.index, c, input)).collect()
    };
    let best = |alternatives: &[All]| alternatives.iter().map(misses).min_by_key(Vec::len).unwrap_or_default();
    let mut missed = best(&rule.from);
    missed.extend(best(&rule.to));
    missed.extend(misses(&rule.when));
    NearestRule {
        name: Arc::clone(&rule.name),
        index: rule.index,
        location: object.origin.location(&format!("spec.rules[{}]", rule.index)),
        missed,
        left_out: None,
    }
}

fn missed(
    object: &Object<mesh_core::api::AuthorizationPolicy>,
    source: &AuthorizationRule,
    index: usize,
    condition: &Condition,
    input: &PolicyInput<'_>,
) -> Missed {
    let field = match condition.place {
        Place::From(i, name) => format!("spec.rules[{index}].from[{i}].source.{name}"),
        Place::To(i, name) => format!("spec.rules[{index}].to[{i}].operation.{name}"),
        Place::When(i, name) => format!("spec.rules[{index}].when[{i}].{name}"),
    };
    let values = written(source, condition.place);
    Missed {
        location: object.origin.location(&field),
        field,
        attribute: condition.attribute.name(),
        wanted: values.iter().take(SHOWN).cloned().collect(),
        more: values.len().saturating_sub(SHOWN),
        negated: condition.negated,
        got: got(&condition.attribute, input),
    }
}

/// What a request has for an attribute.
fn got(attribute: &Attribute, input: &PolicyInput<'_>) -> Vec<String> {
    match attribute {
        Attribute::SourceIp => vec![input.source_ip.to_string()],
        Attribute::RemoteIp => vec![input.remote_ip.to_string()],
        Attribute::DestinationIp => vec![input.destination_ip.to_string()],
        Attribute::Port => vec![input.destination_port.to_string()],
        Attribute::RequestPrincipal => {
            values::issuer_and_subject(input).map(|(i, s)| format!("{i}/{s}")).into_iter().collect()
        }
        Attribute::Principal if matches!(input.peer, Peer::Other(_)) => match input.peer {
            Peer::Other(name) => vec![format!("{name} (no SPIFFE identity)")],
            Peer::Anonymous | Peer::Spiffe(_) => Vec::new(),
        },
        _ => {
            let mut all = Vec::new();
            values::strings(attribute, input, &mut |v| {
                let shown = &v[..v.len().min(MAX_TEXT)];
                all.push(String::from_utf8_lossy(shown).into_owned());
                all.len() == SHOWN
            });
            all
        }
    }
}

/// The values that were written at a place.
pub(super) fn written(rule: &AuthorizationRule, place: Place) -> &[String] {
    let found = match place {
        Place::From(i, name) => {
            let from = rule.from.as_ref().and_then(|f| f.get(usize::from(i)));
            from.and_then(|f| f.source.as_ref()).map(|s| source_field(s, name))
        }
        Place::To(i, name) => {
            let to = rule.to.as_ref().and_then(|t| t.get(usize::from(i)));
            to.and_then(|t| t.operation.as_ref()).map(|o| match name {
                "hosts" => &o.hosts,
                "notHosts" => &o.not_hosts,
                "ports" => &o.ports,
                "notPorts" => &o.not_ports,
                "methods" => &o.methods,
                "notMethods" => &o.not_methods,
                "paths" => &o.paths,
                _ => &o.not_paths,
            })
        }
        Place::When(i, name) => {
            rule.when.get(usize::from(i)).map(|c| if name == "values" { &c.values } else { &c.not_values })
        }
    };
    found.map_or(&[], Vec::as_slice)
}

fn source_field<'a>(source: &'a RuleSource, name: &str) -> &'a Vec<String> {
    match name {
        "principals" => &source.principals,
        "notPrincipals" => &source.not_principals,
        "requestPrincipals" => &source.request_principals,
        "notRequestPrincipals" => &source.not_request_principals,
        "namespaces" => &source.namespaces,
        "notNamespaces" => &source.not_namespaces,
        "serviceAccounts" => &source.service_accounts,
        "notServiceAccounts" => &source.not_service_accounts,
        "trustDomains" => &source.trust_domains,
        "notTrustDomains" => &source.not_trust_domains,
        "ipBlocks" => &source.ip_blocks,
        "notIpBlocks" => &source.not_ip_blocks,
        "remoteIpBlocks" => &source.remote_ip_blocks,
        _ => &source.not_remote_ip_blocks,
    }
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let got = if self.got.is_empty() { "none".to_owned() } else { self.got.join(", ") };
        let what = if self.negated { "none of" } else { "one of" };
        write!(f, "{} is {got}, wanted {what} {}", self.attribute, self.wanted.join(", "))?;
        if self.more > 0 {
            write!(f, " and {} more", self.more)?;
        }
        match &self.location {
            Some(at) => write!(f, " ({}, {at})", self.field),
            None => write!(f, " ({})", self.field),
        }
    }
}

impl fmt::Display for NearestRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(at) = &self.location {
            write!(f, " at {at}")?;
        }
        if let Some(why) = &self.left_out {
            return write!(f, " can't match: {why}");
        }
        for (i, missed) in self.missed.iter().enumerate() {
            write!(f, "{} {missed}", if i == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}
