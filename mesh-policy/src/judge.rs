//! Policies asked about a request that nobody sent: for `explain`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use http::header::HOST;
use mesh_core::api::ContentHash;
use mesh_core::explain::{Case, Judgement, Refused, Said};
use mesh_core::matching::{Claims, RequestFacts};
use mesh_core::snapshot::{AuthorizerPlan, ProviderPlan, SecurityPlan};

use crate::authz::{AuthzInput, Custom, Explanation, NearestRule, Protocol, Provider, Tried};
use crate::jwt::{Authenticator, JwtError, KeySet, KeyStore, Outcome};
use crate::refusal::Attempt;
use crate::{Decision, Denial, Peer, Policies, PolicyInput, egress};

/// Asks policies, as the proxies' Layers do. Keys that would have to be fetched are not there: tokens of such issuers are
/// not known to be good.
pub struct Judge {
    now: SystemTime,
    /// Key sets by their address.
    documents: BTreeMap<String, Vec<u8>>,
    known: Mutex<HashMap<ContentHash, Arc<Compiled>>>,
}

struct Compiled {
    http: Policies,
    bytes: Policies,
    egress: Policies,
    egress_bytes: Policies,
    authenticator: Authenticator,
}

impl Compiled {
    fn of(plan: &SecurityPlan, documents: &BTreeMap<String, Vec<u8>>) -> Self {
        let compile = |policies: &[_], protocol| {
            let trust_domains = &plan.trust_domains;
            let kind = |p: &Arc<ProviderPlan>| match p.speaks {
                AuthorizerPlan::Http(_) => Provider::Http,
                AuthorizerPlan::Grpc => Provider::Grpc,
            };
            let providers = plan.providers.iter().map(|p| (p.name.to_string(), kind(p))).collect();
            Policies::compile(&AuthzInput { policies, protocol, trust_domains, providers: &providers })
        };
        let (authenticator, fetched) = Authenticator::compile(&plan.authentication, &KeyStore::default());
        for keys in fetched {
            let found = documents.get(keys.place().1).and_then(|d| KeySet::parse(d).ok());
            if let Some(found) = found {
                keys.hold(found);
            }
        }
        Self {
            http: compile(&plan.authorization, Protocol::Http),
            bytes: compile(&plan.authorization, Protocol::Tcp),
            egress: compile(&plan.egress, Protocol::Http),
            egress_bytes: compile(&egress::for_bytes(&plan.egress), Protocol::Tcp),
            authenticator,
        }
    }
}

impl Judge {
    /// At a time, by which tokens expire.
    pub fn at(now: SystemTime) -> Self {
        Self { now, documents: BTreeMap::new(), known: Mutex::default() }
    }

    /// With what is at a `jwksUri`: a JSON Web Key Set.
    #[must_use]
    pub fn knowing(mut self, uri: &str, document: &[u8]) -> Self {
        self.documents.insert(uri.to_owned(), document.to_vec());
        self
    }

    fn compiled(&self, plan: &SecurityPlan) -> Arc<Compiled> {
        // What is in the map is whole, whoever panicked meanwhile.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(plan.hash).or_insert_with(|| Arc::new(Compiled::of(plan, &self.documents))))
    }

    /// The rules about tokens: the request as it goes on, or the refusal.
    fn tokens(&self, compiled: &Compiled, case: &Case<'_>, judgement: &mut Judgement) -> Option<JwtError> {
        let (Some(request), None) = (case.request, case.claims) else { return None };
        for outcome in compiled.authenticator.explain(request, self.now) {
            let said = Attempt::of_token(&outcome);
            let (field, what) = (format!("spec.jwtRules[{}]", outcome.index), "authn");
            let (object, location) = (said.policy, said.location);
            judgement.tried.push(Said { what, value: said.why, object, field, location });
        }
        match compiled.authenticator.check(request, self.now) {
            Outcome::Pass(changes) => {
                let mut request = request.clone();
                judgement.claims.clone_from(&changes.claims);
                changes.apply(&mut request);
                judgement.request = Some(request);
                None
            }
            Outcome::Refuse(error) => Some(error),
            Outcome::Wait(_) => Some(JwtError::KeysUnavailable),
        }
    }
}

impl mesh_core::explain::Judge for Judge {
    fn judge(&self, case: &Case<'_>) -> Judgement {
        let compiled = self.compiled(case.plan);
        let mut judgement = Judgement::default();
        // External authorizers are asked before tokens are looked at, about the request as it came.
        if !case.egress
            && let Some(request) = case.request
            && let Some(rule) =
                external(&compiled.http, &input(case, Some(request), &authority(request), case.claims), &mut judgement)
        {
            judgement.refused = Some(refused_by(&Denial { rule }));
            return judgement;
        }
        let refused = if case.egress { None } else { self.tokens(&compiled, case, &mut judgement) };
        if let Some(error) = refused {
            judgement.refused = Some(Refused {
                status: error.status().as_u16(),
                body: error.text().to_owned(),
                details: error.details(),
                nearest: None,
            });
            return judgement;
        }
        let request = judgement.request.clone();
        let request = request.as_ref().or(case.request);
        let policies = match (case.egress, request.is_some()) {
            (false, true) => &compiled.http,
            (false, false) => &compiled.bytes,
            (true, true) => &compiled.egress,
            (true, false) => &compiled.egress_bytes,
        };
        let authority = request.map(authority).unwrap_or_default();
        let claims = judgement.claims.clone();
        let input = input(case, request, &authority, claims.as_ref().or(case.claims));
        let explanation = policies.explain(&input);
        let what = if case.egress { "egress" } else { "authz" };
        judgement.tried.extend(explanation.tried.iter().map(|t| Said { what, ..said(t) }));
        judgement.refused = refusal(&explanation);
        // Nobody is asked about bytes that are refused anyway.
        if judgement.refused.is_none() && !case.egress && request.is_none() {
            let rule = external(policies, &input, &mut judgement);
            judgement.refused = rule.map(|rule| refused_by(&Denial { rule }));
        }
        judgement
    }
}

fn authority(request: &http::Request<()>) -> String {
    request.headers().get(HOST).and_then(|h| h.to_str().ok()).unwrap_or_default().to_owned()
}

fn input<'a>(
    case: &Case<'a>,
    request: Option<&'a http::Request<()>>,
    authority: &'a str,
    claims: Option<&'a Claims>,
) -> PolicyInput<'a> {
    let facts = request.map(|request| RequestFacts {
        method: request.method(),
        scheme: case.scheme,
        authority,
        path: request.uri().path(),
        query: request.uri().query(),
        headers: request.headers(),
        claims,
    });
    let input = PolicyInput::connection(case.conn, case.remote);
    let peer = match case.egress {
        // Whoever has no name is nobody.
        true => case.plan.identity.as_deref().map_or(Peer::Anonymous, Peer::Spiffe),
        false => input.peer,
    };
    PolicyInput { request: facts, destination_port: case.port, peer, ..input }
}

/// The external authorizer that is asked; what it would say is not known. `Some`: there is none, and this rule wants one.
fn external(policies: &Policies, input: &PolicyInput<'_>, judgement: &mut Judgement) -> Option<Arc<str>> {
    match policies.custom(input)? {
        Custom::Refuse { rule } => Some(Arc::clone(rule)),
        Custom::Ask { provider, rule } => {
            let (what, field) = ("extAuthz", "spec.provider.name".to_owned());
            let value = format!("{provider} is asked for {rule}; what it says is not known here");
            let (object, location) = (rule.to_string(), None);
            judgement.tried.push(Said { what, value, object, field, location });
            None
        }
    }
}

fn refused_by(denial: &Denial) -> Refused {
    Refused { status: 403, body: denial.to_string(), details: denial.details(), nearest: None }
}

fn said(tried: &Tried) -> Said {
    let attempt = Attempt::of(tried);
    let rule = tried.matched.as_ref().or(tried.nearest.as_ref());
    let field = rule.map_or("spec.rules".to_owned(), |r| format!("spec.rules[{}]", r.index));
    let dry = if attempt.dry_run { " (dry run)" } else { "" };
    Said {
        what: "authz",
        value: format!("{}{dry}: {}", attempt.action, attempt.why),
        object: attempt.policy,
        field,
        location: rule.and_then(|r| r.location.clone()).or(attempt.location),
    }
}

fn refusal(explanation: &Explanation) -> Option<Refused> {
    let Decision::Deny(denial) = &explanation.decision else { return None };
    let nearest = explanation.nearest().map(|(tried, rule)| (said(tried), misses(rule)));
    Some(Refused { nearest: nearest.filter(|_| *denial.rule == *"none"), ..refused_by(denial) })
}

/// What a rule missed, one line for each.
fn misses(rule: &NearestRule) -> Vec<String> {
    match &rule.left_out {
        Some(why) => vec![why.clone()],
        None => rule.missed.iter().map(ToString::to_string).collect(),
    }
}

#[cfg(test)]
mod tests;
