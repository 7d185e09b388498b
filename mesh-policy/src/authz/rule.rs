//! Rules, compiled from their resource for one protocol.

use std::sync::Arc;

use mesh_core::api::{
    AuthorizationAction, AuthorizationRule, RuleCondition, RuleFrom, RuleOperation, RuleSource, RuleTo,
};
use mesh_core::matching::PolicyAttribute;

use super::condition::{Condition, Place, Test};
use super::values::Attribute;
use super::{TrustDomains, trust};
use crate::PolicyInput;

/// What the port speaks; a port that is sniffed has policies compiled for both.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Protocol {
    /// HTTP requests.
    Http,
    /// Connections, about which less is known.
    Tcp,
}

/// A rule.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// `ns[foo]-policy[x]-rule[0]`.
    pub(super) name: Arc<str>,
    /// Index of the policy in the set that was compiled.
    pub(super) policy: usize,
    /// Index in the policy.
    pub(super) index: usize,
    /// Alternatives; empty: from anywhere.
    pub(super) from: Box<[All]>,
    /// Alternatives; empty: anything.
    pub(super) to: Box<[All]>,
    pub(super) when: All,
}

/// Conditions all of which have to hold.
pub(super) type All = Box<[Condition]>;

impl Rule {
    pub(super) fn matches(&self, input: &PolicyInput<'_>) -> bool {
        let all = |conditions: &All| conditions.iter().all(|c| c.holds(input));
        (self.to.is_empty() || self.to.iter().any(all))
            && (self.from.is_empty() || self.from.iter().any(all))
            && all(&self.when)
    }
}

/// What a rule is compiled with.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) protocol: Protocol,
    pub(super) action: AuthorizationAction,
    /// Namespace of the policy.
    pub(super) namespace: &'a str,
    pub(super) trust: &'a TrustDomains,
}

/// Parts of a compiled rule: `from`, `to` and `when`.
pub(super) type Parts = (Box<[All]>, Box<[All]>, All);

/// Compiles a rule. A field that can't be compared here is left out of a rule that denies, which then denies more; a
/// rule that allows is left out as a whole.
///
/// # Errors
/// Why the rule is left out.
pub(super) fn compile(rule: &AuthorizationRule, scope: Scope<'_>) -> Result<Parts, String> {
    let AuthorizationRule { from, to, when } = rule;
    let mut sources = Vec::new();
    for (i, RuleFrom { source }) in from.iter().flatten().enumerate() {
        let mut fields = Fields { scope, place: |f| Place::From(short(i), f), out: Vec::new() };
        match source {
            Some(source) => self::source(&mut fields, source)?,
            None => fields.unusable("from without source")?,
        }
        sources.push(fields.out.into());
    }
    let mut operations = Vec::new();
    for (i, RuleTo { operation }) in to.iter().flatten().enumerate() {
        let mut fields = Fields { scope, place: |f| Place::To(short(i), f), out: Vec::new() };
        match operation {
            Some(operation) => self::operation(&mut fields, operation)?,
            None => fields.unusable("to without operation")?,
        }
        operations.push(fields.out.into());
    }
    let mut conditions = Vec::new();
    for (i, RuleCondition { key, values, not_values }) in when.iter().enumerate() {
        let attribute = PolicyAttribute::parse(key)?;
        let http = attribute.is_http_only();
        let attribute = Attribute::from(attribute);
        let mut fields = Fields { scope, place: |f| Place::When(short(i), f), out: Vec::new() };
        fields.add("values", &attribute, http, values, false)?;
        fields.add("notValues", &attribute, http, not_values, true)?;
        conditions.extend(fields.out);
    }
    for (name, empty) in
        [("from", from.as_ref().is_some_and(Vec::is_empty)), ("to", to.as_ref().is_some_and(Vec::is_empty))]
    {
        if empty && scope.allows() {
            return Err(format!("{name} has no alternative that could match"));
        }
    }
    Ok((sources.into(), operations.into(), conditions.into()))
}

fn short(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}

impl Scope<'_> {
    fn allows(&self) -> bool {
        self.action == AuthorizationAction::Allow
    }
}

/// Collects the conditions of one source, operation or entry of `when`.
struct Fields<'a, F> {
    scope: Scope<'a>,
    place: F,
    out: Vec<Condition>,
}

impl<F: Fn(&'static str) -> Place> Fields<'_, F> {
    /// A part that can't be compared: nothing when the rule denies.
    fn unusable(&self, why: &str) -> Result<(), String> {
        if self.scope.allows() { Err(why.to_owned()) } else { Ok(()) }
    }

    fn add(
        &mut self,
        field: &'static str,
        attribute: &Attribute,
        http: bool,
        values: &[String],
        negated: bool,
    ) -> Result<(), String> {
        if values.is_empty() {
            return Ok(());
        }
        if http && self.scope.protocol == Protocol::Tcp {
            return self.unusable(&format!("{field} is HTTP's, and this port's connections have no HTTP"));
        }
        let values = trust::expanded(self.scope.trust, attribute, values);
        match Test::new(attribute, &values, self.scope.namespace) {
            Ok(test) => {
                let attribute = attribute.clone();
                self.out.push(Condition { attribute, test, negated, place: (self.place)(field) });
                Ok(())
            }
            Err(why) => self.unusable(&why),
        }
    }
}

fn source<F: Fn(&'static str) -> Place>(fields: &mut Fields<'_, F>, source: &RuleSource) -> Result<(), String> {
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
    fields.add("principals", &Attribute::Principal, false, principals, false)?;
    fields.add("notPrincipals", &Attribute::Principal, false, not_principals, true)?;
    fields.add("requestPrincipals", &Attribute::RequestPrincipal, true, request_principals, false)?;
    fields.add("notRequestPrincipals", &Attribute::RequestPrincipal, true, not_request_principals, true)?;
    fields.add("namespaces", &Attribute::Namespace, false, namespaces, false)?;
    fields.add("notNamespaces", &Attribute::Namespace, false, not_namespaces, true)?;
    fields.add("serviceAccounts", &Attribute::ServiceAccount, false, service_accounts, false)?;
    fields.add("notServiceAccounts", &Attribute::ServiceAccount, false, not_service_accounts, true)?;
    fields.add("trustDomains", &Attribute::TrustDomain, false, trust_domains, false)?;
    fields.add("notTrustDomains", &Attribute::TrustDomain, false, not_trust_domains, true)?;
    fields.add("ipBlocks", &Attribute::SourceIp, false, ip_blocks, false)?;
    fields.add("notIpBlocks", &Attribute::SourceIp, false, not_ip_blocks, true)?;
    fields.add("remoteIpBlocks", &Attribute::RemoteIp, false, remote_ip_blocks, false)?;
    fields.add("notRemoteIpBlocks", &Attribute::RemoteIp, false, not_remote_ip_blocks, true)
}

fn operation<F: Fn(&'static str) -> Place>(
    fields: &mut Fields<'_, F>,
    operation: &RuleOperation,
) -> Result<(), String> {
    let RuleOperation { hosts, not_hosts, ports, not_ports, methods, not_methods, paths, not_paths } = operation;
    // Envoy takes `a.example.` for another host than `a.example`, so that whoever is kept from one asks for the other.
    let (wanted, unwanted) = match fields.scope.allows() {
        true => (Attribute::Host, Attribute::AnyHost),
        false => (Attribute::AnyHost, Attribute::Host),
    };
    fields.add("hosts", &wanted, true, hosts, false)?;
    fields.add("notHosts", &unwanted, true, not_hosts, true)?;
    fields.add("ports", &Attribute::Port, false, ports, false)?;
    fields.add("notPorts", &Attribute::Port, false, not_ports, true)?;
    fields.add("methods", &Attribute::Method, true, methods, false)?;
    fields.add("notMethods", &Attribute::Method, true, not_methods, true)?;
    // What some servers cut off a path (`/admin;x`, `/public/..;/admin`) opens nothing either.
    let (wanted, unwanted) = match fields.scope.allows() {
        true => (Attribute::EveryPath, Attribute::AnyPath),
        false => (Attribute::AnyPath, Attribute::EveryPath),
    };
    fields.add("paths", &read_as(paths, wanted), true, paths, false)?;
    fields.add("notPaths", &read_as(not_paths, unwanted), true, not_paths, true)
}

/// Whoever writes parameters into a path means it as it is.
fn read_as(paths: &[String], attribute: Attribute) -> Attribute {
    if paths.iter().any(|p| p.contains(';')) { Attribute::Path } else { attribute }
}
