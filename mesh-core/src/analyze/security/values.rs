//! Values of rules that nothing ever has.

use super::super::index::Index;
use super::tokens::is_token;
use super::view::{For, View, Workload};
use crate::api::Key;
use crate::identity::TrustDomains;
use crate::snapshot::MtlsMode;

/// What a rule is looked at with.
pub(super) struct Context<'v, 'i> {
    pub(super) view: &'v View<'i>,
    pub(super) key: &'v Key,
    /// Workloads that the policy is for.
    workloads: Vec<&'v Workload<'i>>,
    domains: TrustDomains,
    /// Issuers of the tokens that they take; `None`: any, or nothing is known about them.
    issuers: Option<Vec<&'i str>>,
    /// Nothing at any of them reads tokens.
    no_tokens: bool,
    /// Mutual TLS is off at all of them.
    no_identity: Option<String>,
}

/// Why a value, or a whole list, fits nothing, and what to write instead.
pub(super) struct Dead {
    pub(super) why: String,
    pub(super) fix: String,
}

fn dead(why: impl Into<String>, fix: impl Into<String>) -> Option<Dead> {
    Some(Dead { why: why.into(), fix: fix.into() })
}

impl<'v, 'i> Context<'v, 'i> {
    pub(super) fn new(view: &'v View<'i>, policy: &'v For<'v>) -> Self {
        let mesh = &view.index.mesh;
        let workloads: Vec<_> = view.of(policy).collect();
        let federated = mesh.ca_certificates.iter().flat_map(|c| &c.trust_domains).map(String::as_str);
        let own = if mesh.trust_domain.is_empty() { "cluster.local" } else { &mesh.trust_domain };
        let domains = TrustDomains::new(own, mesh.trust_domain_aliases.iter().map(String::as_str));
        let readers: Vec<_> = workloads.iter().flat_map(|w| view.authentication(w.pod)).collect();
        let issuers: Vec<&str> = readers.iter().flat_map(|o| &o.spec.jwt_rules).map(|r| r.issuer.as_str()).collect();
        Self {
            view,
            key: policy.key,
            no_tokens: !workloads.is_empty() && issuers.is_empty(),
            issuers: (!issuers.is_empty() && issuers.iter().all(|i| !i.is_empty())).then_some(issuers),
            no_identity: plaintext(view.index, &workloads),
            domains: domains.with_federated(federated),
            workloads,
        }
    }

    /// Identities of peers: `principals`.
    pub(super) fn principal(&self, value: &str) -> Option<Dead> {
        if value.starts_with("spiffe://") {
            // Said with a code of its own; here it only counts.
            return dead("", "");
        }
        if let Some(d) = self.identity().or_else(|| middle_star(value)) {
            return Some(d);
        }
        if value.contains('*') {
            return None;
        }
        let parts: Vec<&str> = value.split('/').collect();
        let &[domain, "ns", namespace, "sa", account] = &parts[..] else {
            let example = format!("{}/ns/{}/sa/default", self.domains.own(), self.key.namespace);
            let form = "an identity is TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT";
            return dead(form, format!("write {example}, for example"));
        };
        if domain != "cluster.local" && !self.domains.accepts(&format!("spiffe://{value}")) {
            let why = format!("no peer of trust domain {domain} is accepted");
            return dead(why, format!("write {}/ns/{namespace}/sa/{account}", self.domains.own()));
        }
        self.account(namespace, account)
    }

    /// `serviceAccounts`: a name in the policy's namespace, or `namespace/name`.
    pub(super) fn service_account(&self, value: &str) -> Option<Dead> {
        let (namespace, name) = value.split_once('/').unwrap_or((&self.key.namespace, value));
        self.identity().or_else(|| self.account(namespace, name))
    }

    /// Nobody in a namespace whose workloads are known runs as this account.
    fn account(&self, namespace: &str, account: &str) -> Option<Dead> {
        let index = self.view.index;
        let here = index.pods.iter().filter(|p| *p.namespace == *namespace);
        let accounts: std::collections::BTreeSet<&str> = here.map(|p| p.account.as_str()).collect();
        let written = index.service_accounts.iter().any(|k| *k.namespace == *namespace && *k.name == *account);
        if accounts.is_empty() || written || accounts.contains(account) {
            return None;
        }
        let names = accounts.into_iter().collect::<Vec<_>>().join(", ");
        let why = format!("no workload of namespace {namespace} runs as service account {account}");
        dead(why, format!("write one of the accounts there: {names}"))
    }

    pub(super) fn trust_domain(&self, value: &str) -> Option<Dead> {
        let known = value.contains('*') || self.domains.accepts(&format!("spiffe://{value}/x"));
        let why = || format!("no peer of trust domain {value} is accepted");
        self.identity().or_else(|| if known { None } else { dead(why(), format!("write {}", self.domains.own())) })
    }

    /// Anything about the peer.
    pub(super) fn identity(&self) -> Option<Dead> {
        let why = self.no_identity.as_ref()?;
        dead(why.clone(), "write mode: PERMISSIVE or STRICT in that PeerAuthentication")
    }

    /// Anything about the token.
    pub(super) fn token(&self) -> Option<Dead> {
        let why = "no RequestAuthentication is for the policy's workloads, so that no request has a token that counts";
        if self.no_tokens { dead(why, "write a RequestAuthentication for the same workloads") } else { None }
    }

    /// `requestPrincipals`: `issuer/subject`.
    pub(super) fn request_principal(&self, value: &str) -> Option<Dead> {
        if let Some(d) = self.token().or_else(|| middle_star(value)) {
            return Some(d);
        }
        let Some((issuer, _)) = value.rsplit_once('/') else {
            let fix = format!("write {value}/* for any subject of that issuer");
            return if value.contains('*') { None } else { dead("it is ISSUER/SUBJECT, and this has no subject", fix) };
        };
        self.issuer(issuer)
    }

    /// A token of an issuer that nothing takes tokens of is refused before rules are asked.
    fn issuer(&self, issuer: &str) -> Option<Dead> {
        let issuers = self.issuers.as_ref().filter(|all| !issuer.contains('*') && !all.contains(&issuer))?;
        let why = format!("the RequestAuthentications here take no tokens of issuer {issuer}");
        dead(why, format!("write one of theirs: {}", issuers.join(", ")))
    }

    /// A value of a condition.
    pub(super) fn condition(&self, key: &str, value: &str) -> Option<Dead> {
        match key {
            "source.principal" => self.principal(value),
            "source.serviceAccount" => self.service_account(value),
            "source.trustDomain" => self.trust_domain(value),
            "source.namespace" => self.identity(),
            "request.auth.principal" => self.request_principal(value),
            "request.auth.claims[iss]" => self.token().or_else(|| self.issuer(value)),
            "request.auth.claims[exp]" | "request.auth.claims[nbf]" | "request.auth.claims[iat]" => {
                let why = "the claim is a number, and only claims that are texts or lists are compared";
                dead(why, "leave it out: expired tokens are refused before rules are asked")
            }
            k if is_token(k) => self.token(),
            _ => None,
        }
    }

    /// No workload of the policy has a port with HTTP, of those that `covers` leaves in; the TCP ports that there are.
    pub(super) fn only_tcp(&self, covers: impl Fn(u16) -> bool) -> Option<String> {
        let ports: Vec<_> = self.workloads.iter().flat_map(|w| &w.ports).filter(|p| covers(p.number)).collect();
        let tcp = !ports.is_empty() && ports.iter().all(|p| p.is_tcp());
        tcp.then(|| super::tcp::name(ports[0]))
    }
}

/// A star in the middle, or at both ends, stands for itself.
fn middle_star(value: &str) -> Option<Dead> {
    let inside = match value.strip_prefix('*') {
        Some(rest) => rest,
        None => value.strip_suffix('*').unwrap_or(value),
    };
    let why = "one star at the beginning or the end stands for other characters; any further one is a star";
    if inside.contains('*') { dead(why, "write several values, or a shorter one with one star") } else { None }
}

pub(super) fn method(value: &str) -> Option<Dead> {
    let upper = value.to_ascii_uppercase();
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    let name = upper.trim_matches('*');
    match value != upper && known.contains(&name) {
        true => dead("methods are compared with their letter case", format!("write {upper}")),
        false => middle_star(value),
    }
}

pub(super) fn host(value: &str) -> Option<Dead> {
    if let Some((_, rest)) = value.split_once("://") {
        let host = rest.split('/').next().unwrap_or_default();
        return dead("a host has no scheme", format!("write {host}"));
    }
    match value.split_once('/') {
        Some((host, _)) => dead("a host has no path", format!("write {host}, and the path in paths")),
        None => middle_star(value),
    }
}

pub(super) fn path(value: &str) -> Option<Dead> {
    if value.contains("{*}") || value.contains("{**}") {
        return None;
    }
    if let Some((path, _)) = value.split_once(['?', '#']) {
        return dead("paths are compared without the query", format!("write {path}"));
    }
    match value.starts_with(['/', '*']) {
        true => middle_star(value),
        false => dead("every path begins with a slash", format!("write /{value}")),
    }
}

/// Who says that none of the workloads takes mutual TLS at any port.
fn plaintext(index: &Index<'_>, workloads: &[&Workload<'_>]) -> Option<String> {
    let mut by = None;
    for w in workloads {
        for number in w.ports.iter().map(|p| p.number).chain([0]) {
            let own = super::mtls::taken(index, w.pod, number);
            if own.mode != MtlsMode::Disable {
                return None;
            }
            by = Some(super::mtls::decided_by(&own));
        }
    }
    Some(format!("{} turns mutual TLS off there, so that no peer has an identity", by?))
}
