mod corpus;
mod examples;
mod naive;
mod rbac;
mod scale;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use mesh_core::api::{AuthorizationPolicy, Object, Resource};
use mesh_core::matching::{Claims, RequestFacts};
use mesh_core::yaml;
use serde_json::Value;

use super::*;
use crate::Peer;

/// Policies of a text with YAML documents.
pub(super) fn read(text: &str) -> Vec<Arc<Object<AuthorizationPolicy>>> {
    let (resources, reports) = yaml::read("f.yaml", text);
    assert!(reports.is_empty(), "{reports:#?}");
    let policies = resources.into_iter().map(|r| match r {
        Resource::AuthorizationPolicy(o) => o,
        other => panic!("{} is no policy", other.key()),
    });
    policies.collect()
}

/// A policy of namespace foo from the flow form of its spec.
pub(super) fn policy(name: &str, spec: &str) -> String {
    let head = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n";
    format!("{head}metadata: {{name: {name}, namespace: foo}}\nspec: {{{spec}}}\n---\n")
}

pub(super) fn compiled(text: &str, protocol: Protocol) -> Policies {
    compiled_in(text, protocol, &TrustDomains::default(), &[])
}

pub(super) fn compiled_in(
    text: &str,
    protocol: Protocol,
    trust_domains: &TrustDomains,
    providers: &[(&str, Provider)],
) -> Policies {
    let providers: BTreeMap<String, Provider> = providers.iter().map(|(n, p)| ((*n).to_owned(), *p)).collect();
    Policies::compile(&AuthzInput { policies: &read(text), protocol, trust_domains, providers: &providers })
}

/// What a request is, owned.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) source_ip: String,
    pub(super) remote_ip: String,
    pub(super) destination_ip: String,
    pub(super) port: u16,
    pub(super) sni: String,
    pub(super) peer: Option<String>,
    pub(super) method: Method,
    pub(super) authority: String,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) claims: Option<Claims>,
    pub(super) tcp: bool,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            source_ip: "10.0.0.1".into(),
            remote_ip: "10.0.0.1".into(),
            destination_ip: "10.0.0.2".into(),
            port: 8080,
            sni: String::new(),
            peer: None,
            method: Method::GET,
            authority: "a.example".into(),
            path: "/".into(),
            query: None,
            headers: HeaderMap::new(),
            claims: None,
            tcp: false,
        }
    }
}

impl Facts {
    pub(super) fn with<R>(&self, f: impl FnOnce(&PolicyInput<'_>) -> R) -> R {
        let request = RequestFacts {
            method: &self.method,
            scheme: "http",
            authority: &self.authority,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            claims: self.claims.as_ref(),
        };
        f(&PolicyInput {
            source_ip: self.source_ip.parse().unwrap(),
            remote_ip: self.remote_ip.parse().unwrap(),
            destination_ip: self.destination_ip.parse().unwrap(),
            destination_port: self.port,
            sni: &self.sni,
            peer: self.peer.as_deref().map_or(Peer::Anonymous, Peer::Spiffe),
            request: (!self.tcp).then_some(request),
        })
    }

    pub(super) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    pub(super) fn claims(mut self, json: &str) -> Self {
        let Value::Object(map) = serde_json::from_str(json).unwrap() else { panic!("{json}") };
        self.claims = Some(Claims::new(map));
        self
    }

    pub(super) fn tcp(port: u16) -> Self {
        Self { tcp: true, port, ..Self::default() }
    }
}

pub(super) const A: &str = "cluster.local/ns/foo/sa/a";
pub(super) const B: &str = "cluster.local/ns/bar/sa/b";

pub(super) fn from(peer: &str) -> Facts {
    Facts { peer: (!peer.is_empty()).then(|| peer.to_owned()), ..Facts::default() }
}

pub(super) fn to(method: &str, path: &str) -> Facts {
    let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q.to_owned())));
    Facts { method: method.parse().unwrap(), path: path.into(), query, ..Facts::default() }
}

/// `allow`, or the rule that refused.
pub(super) fn decision(policies: &Policies, facts: &Facts) -> String {
    let decision = facts.with(|input| policies.decide(input));
    let nearest = facts.with(|input| policies.explain(input));
    assert_eq!(nearest.decision, decision);
    match decision {
        Decision::Allow => "allow".to_owned(),
        Decision::Deny(denial) => denial.rule.to_string(),
    }
}
