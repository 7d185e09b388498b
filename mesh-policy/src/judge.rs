//! Policies asked about a request that nobody sent: for `explain`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use http::HeaderValue;
use http::header::HOST;
use mesh_core::api::ContentHash;
use mesh_core::explain::{Case, Judgement, Refused, Said};
use mesh_core::matching::RequestFacts;
use mesh_core::snapshot::{AuthorizerPlan, ProviderPlan, SecurityPlan};

use crate::authz::{AuthzInput, Explanation, NearestRule, Protocol, Provider, Tried};
use crate::jwt::{Authenticator, JwtError, KeyStore, Outcome};
use crate::refusal::Attempt;
use crate::{Decision, Peer, Policies, PolicyInput, egress};

/// Asks policies, as the proxies' Layers do. Keys that would have to be fetched are not there: tokens of such issuers are
/// not known to be good.
pub struct Judge {
    now: SystemTime,
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
    fn of(plan: &SecurityPlan) -> Self {
        let compile = |policies: &[_], protocol| {
            let trust_domains = &plan.trust_domains;
            let kind = |p: &Arc<ProviderPlan>| match p.speaks {
                AuthorizerPlan::Http(_) => Provider::Http,
                AuthorizerPlan::Grpc => Provider::Grpc,
            };
            let providers = plan.providers.iter().map(|p| (p.name.to_string(), kind(p))).collect();
            Policies::compile(&AuthzInput { policies, protocol, trust_domains, providers: &providers })
        };
        let (authenticator, _) = Authenticator::compile(&plan.authentication, &KeyStore::default());
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
        Self { now, known: Mutex::default() }
    }

    fn compiled(&self, plan: &SecurityPlan) -> Arc<Compiled> {
        // What is in the map is whole, whoever panicked meanwhile.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(plan.hash).or_insert_with(|| Arc::new(Compiled::of(plan))))
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
        let host = |r: &http::Request<()>| {
            r.headers().get(HOST).and_then(|h: &HeaderValue| h.to_str().ok().map(str::to_owned))
        };
        let authority = request.and_then(host).unwrap_or_default();
        let facts = request.map(|request| RequestFacts {
            method: request.method(),
            scheme: case.scheme,
            authority: &authority,
            path: request.uri().path(),
            query: request.uri().query(),
            headers: request.headers(),
            claims: judgement.claims.as_ref().or(case.claims),
        });
        let input = PolicyInput::connection(case.conn, case.conn.peer.ip());
        let own = case.plan.identity.as_deref().filter(|_| case.egress).map(Peer::Spiffe);
        let peer = own.unwrap_or(input.peer);
        let input = PolicyInput { request: facts, destination_port: case.port, peer, ..input };
        let explanation = policies.explain(&input);
        let what = if case.egress { "egress" } else { "authz" };
        let mut tried: Vec<Said> = explanation.tried.iter().map(|t| Said { what, ..said(t) }).collect();
        let refused = refusal(&explanation);
        judgement.tried.append(&mut tried);
        judgement.refused = refused;
        judgement
    }
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
    // What an external authorizer would say is not known; that there is none is.
    let unasked = explanation.asks.as_ref().filter(|a| a.provider.is_none());
    let denial = match (&explanation.decision, unasked) {
        (_, Some(asked)) => crate::Denial { rule: Arc::clone(&asked.rule) },
        (Decision::Deny(denial), None) => denial.clone(),
        (Decision::Allow, None) => return None,
    };
    let nearest = explanation.nearest().map(|(tried, rule)| (said(tried), misses(rule)));
    Some(Refused {
        status: 403,
        body: denial.to_string(),
        details: denial.details(),
        nearest: nearest.filter(|_| *denial.rule == *"none"),
    })
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
