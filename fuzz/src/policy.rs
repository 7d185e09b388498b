//! AuthorizationPolicies: what the index of rules finds is what trying every rule finds; and valid policies decide as an
//! evaluator does that was written for this and reads the resources field by field.
//!
//! The input is YAML documents, then a line `requests`, then lines `PEER METHOD AUTHORITY TARGET`, where PEER is `-` for
//! nobody.

mod naive;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, HeaderValue, Method, Uri};
use mesh_core::api::{AuthorizationAction, Resource};
use mesh_core::matching::RequestFacts;
use mesh_core::report::Level;
use mesh_core::validate::validate;
use mesh_core::yaml;
use mesh_policy::authz::{AuthzInput, Protocol, TrustDomains};
use mesh_policy::{Decision, Peer, Policies, PolicyInput};

/// Compiles the policies, valid or not, and asks them.
pub fn policy(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (documents, requests) = text.split_once("\nrequests\n").unwrap_or((&text, ""));
    let (resources, _) = yaml::read("f", documents);
    let valid = resources.iter().flat_map(validate).filter(|report| report.level == Level::Error).count() == 0;
    let policies: Vec<_> = resources
        .into_iter()
        .filter_map(|r| match r {
            Resource::AuthorizationPolicy(policy) => Some(policy),
            _ => None,
        })
        .collect();
    let compile = |protocol| {
        Policies::compile(&AuthzInput {
            policies: &policies,
            protocol,
            trust_domains: &TrustDomains::new(naive::DOMAINS[0], [naive::DOMAINS[1]]),
            providers: &BTreeMap::new(),
        })
    };
    let (http, tcp) = (compile(Protocol::Http), compile(Protocol::Tcp));
    for line in requests.lines().take(50) {
        let mut words = line.split(' ');
        let mut next = || words.next().unwrap_or_default();
        let (peer, method, authority, target) = (next(), next(), next(), next());
        let (Ok(method), Ok(uri)) = (method.parse::<Method>(), target.parse::<Uri>()) else { continue };
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_str(authority) {
            headers.insert("x-a", value);
        }
        let request = RequestFacts {
            method: &method,
            scheme: "http",
            authority,
            path: uri.path(),
            query: uri.query(),
            headers: &headers,
            claims: None,
        };
        let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        let input = PolicyInput {
            source_ip: address,
            remote_ip: address,
            destination_ip: address,
            destination_port: 80,
            sni: authority,
            peer: if peer == "-" { Peer::Anonymous } else { Peer::Spiffe(peer) },
            request: Some(request),
        };
        let bytes = PolicyInput { request: None, ..input };
        check(&http, &input);
        check(&tcp, &bytes);
        // An identity has a trust domain, and its parts are texts.
        if valid && !peer.starts_with('/') {
            let read: Vec<_> = policies.iter().map(|p| &**p).collect();
            assert_eq!(decision(&http, &input), naive::decide(&read, &input), "{line}");
            assert_eq!(decision(&tcp, &bytes), naive::decide(&read, &bytes), "{line}, as bytes");
        }
    }
}

fn decision(policies: &Policies, input: &PolicyInput<'_>) -> &'static str {
    match policies.decide(input) {
        Decision::Allow => "allowed",
        Decision::Deny(denial) if &*denial.rule == "none" => "none",
        Decision::Deny(_) => "denied",
    }
}

fn check(policies: &Policies, input: &PolicyInput<'_>) {
    policies.custom(input);
    policies.audit(input);
    policies.dry_run(input);
    let said = policies.explain(input);
    let of = |action| said.tried.iter().filter(move |t| t.action == action && !t.dry_run);
    let matched = |action| of(action).any(|t| t.matched.is_some());
    let has_allow = of(AuthorizationAction::Allow).next().is_some();
    let want = match (matched(AuthorizationAction::Deny), has_allow, matched(AuthorizationAction::Allow)) {
        (true, _, _) => "denied",
        (false, true, false) => "none",
        (false, _, _) => "allowed",
    };
    assert_eq!(decision(policies, input), want, "{said:#?}");
}
