//! Security policies: which apply to the workload, and what became of their fields.

mod providers;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Run;
use super::account::Ledger;
use super::memo::{Notes, Planned, hash_debug};
use crate::api::{
    AuthorizationAction, AuthorizationPolicy, AuthorizationRule, ClaimToHeader, ContentHash, JwtHeader, JwtRule,
    LabelSelector, Object, PolicyTargetReference, RequestAuthentication, RuleCondition, RuleFrom, RuleOperation,
    RuleSource, RuleTo,
};
use crate::attach::{Attached, Workload};
use crate::identity::{SpiffeId, TrustDomains};
use crate::snapshot::{Map, Provenance, ProviderPlan, SecurityPlan};
use crate::world::World;
pub(crate) use providers::{asked, authorizers, service};

/// Everything that the policies of a workload depend on.
struct Input<'a> {
    world: &'a World,
    workload: Workload<'a>,
    identity: Option<Arc<str>>,
    places: Map<(Arc<str>, u16), Arc<str>>,
    providers: Vec<Arc<ProviderPlan>>,
}

/// Plans the policies of the workload, remembered.
pub(super) fn compile(run: &mut Run<'_>) -> Arc<SecurityPlan> {
    let client = Arc::clone(&run.client);
    let workload = Workload::new(run.world.root_namespace(), &run.id.namespace, &client.labels);
    let places = places(run, &workload);
    let policies = workload.policies(run.world.authorization_policies());
    let asked = providers::asked(policies.iter().map(|p| &**p));
    let providers = providers::plan(run, &asked);
    let input = Input { world: run.world, workload, identity: identity(run), places, providers };
    let hash = input.hash(&client.labels);
    let planned = run.security_memo.get(hash, || plan(&input));
    run.parts.extend(planned.notes);
    planned.plan
}

impl Input<'_> {
    fn hash(&self, labels: &BTreeMap<String, String>) -> ContentHash {
        let Self { world, workload, identity, places, providers } = self;
        let lists = [
            world.authorization_policies().hash(),
            world.request_authentications().hash(),
            world.egress_policies().hash(),
            hash_debug(identity),
            world.mesh().hash,
            hash_debug(labels),
            super::hash_set(places.iter().map(hash_debug_of_place)),
            hash_providers(providers),
        ];
        let place = ContentHash::default().with_str(workload.root_namespace).with_str(workload.namespace);
        lists.into_iter().fold(place, ContentHash::with)
    }
}

fn hash_debug_of_place(place: (&(Arc<str>, u16), &Arc<str>)) -> ContentHash {
    hash_debug(&place)
}

/// Where a provider was written does not count.
fn hash_providers(providers: &[Arc<ProviderPlan>]) -> ContentHash {
    let one = |h: ContentHash, p: &Arc<ProviderPlan>| {
        let bare = ProviderPlan { origin: Provenance::default(""), ..ProviderPlan::clone(p) };
        h.with(hash_debug(&bare))
    };
    providers.iter().fold(ContentHash(providers.len() as u64), one)
}

/// Who the workload is.
fn identity(run: &Run<'_>) -> Option<Arc<str>> {
    let workload = run.workload?;
    let account = if workload.service_account.is_empty() { "default" } else { &workload.service_account };
    let domains = TrustDomains::of(&run.world.mesh().spec);
    Some(SpiffeId::new(domains.own(), &workload.namespace, account).principal().into())
}

/// Services of the mesh that keys are fetched from, which thereby become visible to this proxy.
fn places(run: &mut Run<'_>, workload: &Workload<'_>) -> Map<(Arc<str>, u16), Arc<str>> {
    let mut out = Map::default();
    for policy in workload.policies(run.world.request_authentications()) {
        for (host, port) in policy.spec.jwt_rules.iter().filter_map(|r| key_host(&r.jwks_uri)) {
            let known = super::visible::service_of(run.world, &run.id.namespace, &host);
            if known.is_some_and(|s| s.ports.iter().any(|p| p.number == port)) {
                let host = run.destination(&host).host;
                out.insert((host.clone(), port), format!("outbound|{port}||{host}").into());
            }
        }
    }
    out
}

/// Host and port of a `jwksUri`.
pub(crate) fn key_host(uri: &str) -> Option<(Arc<str>, u16)> {
    let uri: http::Uri = uri.parse().ok()?;
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    Some((uri.host()?.to_ascii_lowercase().into(), uri.port_u16().unwrap_or(default)))
}

fn plan(input: &Input<'_>) -> Planned<Arc<SecurityPlan>> {
    let Input { world, workload, identity, places, providers } = input;
    let mut notes = Notes::default();
    for policy in world.authorization_policies().iter() {
        account(policy, workload, &mut notes, authorization);
    }
    for policy in world.egress_policies().iter() {
        account(policy, workload, &mut notes, authorization);
    }
    for policy in world.request_authentications().iter() {
        account(policy, workload, &mut notes, authentication);
    }
    let asked = providers::asked(world.authorization_policies().iter().map(|p| &**p).filter(|p| workload.applies(p)));
    let mut mesh = Ledger::new(world.mesh());
    for (i, provider) in providers::authorizers(&world.mesh().spec) {
        if asked.contains(provider.name.as_str()) {
            providers::account(&mut mesh, i, &provider);
        }
    }
    notes.fates.append(&mut mesh.notes.fates);
    let mut plan = SecurityPlan {
        authorization: workload.policies(world.authorization_policies()),
        authentication: workload.policies(world.request_authentications()),
        egress: workload.policies(world.egress_policies()),
        identity: identity.clone(),
        trust_domains: TrustDomains::of(&world.mesh().spec),
        places: places.clone(),
        providers: providers.clone(),
        hash: ContentHash::default(),
    };
    let of_objects = hash_objects(&plan.authorization).with(hash_objects(&plan.authentication));
    let of_objects = of_objects.with(hash_objects(&plan.egress)).with(hash_debug(&plan.identity));
    let places = super::hash_set(plan.places.iter().map(hash_debug_of_place));
    let providers = hash_providers(&plan.providers);
    plan.hash = of_objects.with(hash_debug(&plan.trust_domains)).with(places).with(providers);
    Planned::new(Arc::new(plan), notes)
}

fn hash_objects<S>(objects: &[Arc<Object<S>>]) -> ContentHash {
    let one = |h: ContentHash, o: &Arc<Object<S>>| h.with(o.hash).with_str(&o.key.namespace).with_str(&o.key.name);
    objects.iter().fold(ContentHash(objects.len() as u64), one)
}

/// Why a policy does not apply to a workload.
fn why_not<S: Attached>(policy: &Object<S>, workload: &Workload<'_>) -> &'static str {
    let near = *policy.key.namespace == *workload.namespace || *policy.key.namespace == *workload.root_namespace;
    match policy.spec.targets().next() {
        Some(_) => "it is for Gateways or Services by targetRefs, and sidecars and gateways follow selectors only",
        None if near => "it does not select this workload",
        None => "it is of another namespace",
    }
}

fn account<S: Attached>(
    policy: &Object<S>,
    workload: &Workload<'_>,
    notes: &mut Notes,
    read: impl Fn(&mut Ledger<'_>, &S),
) {
    let mut ledger = Ledger::new(policy);
    match workload.applies(policy) {
        true => read(&mut ledger, &policy.spec),
        false => ledger.inert("spec", why_not(policy, workload)),
    }
    notes.fates.append(&mut ledger.notes.fates);
}

fn attachment(
    ledger: &mut Ledger<'_>,
    selector: Option<&LabelSelector>,
    target: Option<&PolicyTargetReference>,
    targets: &[PolicyTargetReference],
) {
    if let Some(LabelSelector { match_labels }) = selector {
        ledger.consumed("spec.selector");
        ledger.take_map("spec.selector", "matchLabels", match_labels);
    }
    let all = targets.iter().enumerate().map(|(i, t)| (format!("spec.targetRefs[{i}]"), t));
    for (at, target) in target.map(|t| ("spec.targetRef".to_owned(), t)).into_iter().chain(all) {
        let PolicyTargetReference { group, kind, name, namespace } = target;
        ledger.consumed(&at);
        ledger.take(&at, "group", group);
        ledger.take(&at, "kind", kind);
        ledger.take(&at, "name", name);
        ledger.take(&at, "namespace", namespace);
    }
}

fn authorization(ledger: &mut Ledger<'_>, spec: &AuthorizationPolicy) {
    let AuthorizationPolicy { selector, target_ref, target_refs, action, rules, provider } = spec;
    ledger.consumed("spec");
    attachment(ledger, selector.as_ref(), target_ref.as_ref(), target_refs);
    ledger.take("spec", "action", action);
    if let Some(provider) = provider {
        ledger.consumed("spec.provider");
        match action {
            AuthorizationAction::Custom => {
                ledger.take("spec.provider", "name", &provider.name);
            }
            _ => ledger.inert("spec.provider", "only action CUSTOM asks a provider"),
        }
    }
    for (i, rule) in rules.iter().enumerate() {
        self::rule(ledger, &format!("spec.rules[{i}]"), rule);
    }
}

fn rule(ledger: &mut Ledger<'_>, at: &str, rule: &AuthorizationRule) {
    let AuthorizationRule { from, to, when } = rule;
    ledger.consumed(at);
    for (i, RuleFrom { source }) in from.iter().flatten().enumerate() {
        let at = format!("{at}.from[{i}]");
        ledger.consumed(&at);
        if let Some(source) = source {
            self::source(ledger, &format!("{at}.source"), source);
        }
    }
    for (i, RuleTo { operation }) in to.iter().flatten().enumerate() {
        let at = format!("{at}.to[{i}]");
        ledger.consumed(&at);
        if let Some(operation) = operation {
            self::operation(ledger, &format!("{at}.operation"), operation);
        }
    }
    for (i, RuleCondition { key, values, not_values }) in when.iter().enumerate() {
        let at = format!("{at}.when[{i}]");
        ledger.take(&at, "key", key);
        ledger.take_list(&at, "values", values);
        ledger.take_list(&at, "notValues", not_values);
    }
}

fn source(ledger: &mut Ledger<'_>, at: &str, source: &RuleSource) {
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
    ledger.consumed(at);
    for (name, values) in [
        ("principals", principals),
        ("notPrincipals", not_principals),
        ("requestPrincipals", request_principals),
        ("notRequestPrincipals", not_request_principals),
        ("namespaces", namespaces),
        ("notNamespaces", not_namespaces),
        ("serviceAccounts", service_accounts),
        ("notServiceAccounts", not_service_accounts),
        ("trustDomains", trust_domains),
        ("notTrustDomains", not_trust_domains),
        ("ipBlocks", ip_blocks),
        ("notIpBlocks", not_ip_blocks),
        ("remoteIpBlocks", remote_ip_blocks),
        ("notRemoteIpBlocks", not_remote_ip_blocks),
    ] {
        ledger.take_list(at, name, values);
    }
}

fn operation(ledger: &mut Ledger<'_>, at: &str, operation: &RuleOperation) {
    let RuleOperation { hosts, not_hosts, ports, not_ports, methods, not_methods, paths, not_paths } = operation;
    ledger.consumed(at);
    for (name, values) in [
        ("hosts", hosts),
        ("notHosts", not_hosts),
        ("ports", ports),
        ("notPorts", not_ports),
        ("methods", methods),
        ("notMethods", not_methods),
        ("paths", paths),
        ("notPaths", not_paths),
    ] {
        ledger.take_list(at, name, values);
    }
}

fn authentication(ledger: &mut Ledger<'_>, spec: &RequestAuthentication) {
    let RequestAuthentication { selector, target_ref, target_refs, jwt_rules } = spec;
    ledger.consumed("spec");
    attachment(ledger, selector.as_ref(), target_ref.as_ref(), target_refs);
    for (i, rule) in jwt_rules.iter().enumerate() {
        jwt_rule(ledger, &format!("spec.jwtRules[{i}]"), rule);
    }
}

fn jwt_rule(ledger: &mut Ledger<'_>, at: &str, rule: &JwtRule) {
    let JwtRule {
        issuer,
        audiences,
        jwks_uri,
        jwks,
        from_headers,
        from_params,
        from_cookies,
        output_payload_to_header,
        forward_original_token,
        output_claim_to_headers,
        timeout,
        space_delimited_claims,
        presence,
    } = rule;
    ledger.consumed(at);
    ledger.take(at, "issuer", issuer);
    ledger.take_list(at, "audiences", audiences);
    ledger.take(at, "jwks", jwks);
    match jwks.is_empty() {
        true => {
            ledger.take(at, "jwksUri", jwks_uri);
            ledger.take(at, "timeout", timeout);
        }
        false => {
            ledger.without_effect(at, "jwksUri", jwks_uri, "the keys are in jwks");
            ledger.without_effect(at, "timeout", timeout, "the keys are in jwks: nothing is fetched");
        }
    }
    for (i, JwtHeader { name, prefix }) in from_headers.iter().enumerate() {
        let at = format!("{at}.fromHeaders[{i}]");
        ledger.take(&at, "name", name);
        ledger.take(&at, "prefix", prefix);
    }
    ledger.take_list(at, "fromParams", from_params);
    ledger.take_list(at, "fromCookies", from_cookies);
    ledger.take(at, "outputPayloadToHeader", output_payload_to_header);
    ledger.take(at, "forwardOriginalToken", forward_original_token);
    for (i, ClaimToHeader { header, claim }) in output_claim_to_headers.iter().enumerate() {
        let at = format!("{at}.outputClaimToHeaders[{i}]");
        ledger.take(&at, "header", header);
        ledger.take(&at, "claim", claim);
    }
    ledger.take_list(at, "spaceDelimitedClaims", space_delimited_claims);
    ledger.take(at, "presence", presence);
}
