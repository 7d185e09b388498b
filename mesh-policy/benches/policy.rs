//! What authorization costs a request: the last of so many rules is the one that allows it.
//!
//! ```text
//! cargo bench -p mesh-policy --bench policy --profile quick
//! ```
//!
//! `examples/bench/micro` counts their instructions.

use std::collections::BTreeMap;
use std::fmt::Write;

use divan::{Bencher, black_box};
use http::{HeaderMap, Method};
use mesh_core::api::Resource;
use mesh_core::matching::RequestFacts;
use mesh_policy::authz::{AuthzInput, Protocol, TrustDomains};
use mesh_policy::{Decision, Peer, Policies, PolicyInput};

fn main() {
    divan::main();
}

const RULES: [usize; 2] = [10, 10_000];

fn policies(rules: usize, rule: impl Fn(usize) -> String) -> Policies {
    let mut yaml = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                    metadata: {name: many, namespace: shop}\nspec:\n  rules:\n"
        .to_owned();
    for n in 0..rules {
        let _ = writeln!(yaml, "  - {}", rule(n));
    }
    let (resources, reports) = mesh_core::yaml::read("policy.yaml", &yaml);
    assert!(reports.is_empty(), "{reports:?}");
    let of = |resource| match resource {
        Resource::AuthorizationPolicy(policy) => Some(policy),
        _ => None,
    };
    let policies: Vec<_> = resources.into_iter().filter_map(of).collect();
    Policies::compile(&AuthzInput {
        policies: &policies,
        protocol: Protocol::Http,
        trust_domains: &TrustDomains::default(),
        providers: &BTreeMap::new(),
    })
}

fn decide(bencher: Bencher<'_, '_>, policies: &Policies, who: &str, path: &str) {
    let headers = HeaderMap::new();
    let facts = RequestFacts {
        method: &Method::GET,
        scheme: "https",
        authority: "shop",
        path,
        query: None,
        headers: &headers,
        claims: None,
    };
    let ip = [192, 0, 2, 1].into();
    let input = PolicyInput {
        source_ip: ip,
        remote_ip: ip,
        destination_ip: ip,
        destination_port: 80,
        sni: "",
        peer: Peer::Spiffe(who),
        request: Some(facts),
    };
    assert!(matches!(policies.decide(&input), Decision::Allow));
    bencher.bench(|| matches!(policies.decide(black_box(&input)), Decision::Allow));
}

#[divan::bench(args = RULES)]
fn principals(bencher: Bencher<'_, '_>, rules: usize) {
    let name = |n: usize| format!("cluster.local/ns/shop/sa/client-{n}");
    let policies = policies(rules, |n| format!("from: [{{source: {{principals: [{}]}}}}]", name(n)));
    decide(bencher, &policies, &name(rules - 1), "/");
}

#[divan::bench(args = RULES)]
fn exact_paths(bencher: Bencher<'_, '_>, rules: usize) {
    let policies = policies(rules, |n| format!("to: [{{operation: {{methods: [GET], paths: [/api/r{n}]}}}}]"));
    decide(bencher, &policies, "cluster.local/ns/shop/sa/client", &format!("/api/r{}", rules - 1));
}

#[divan::bench(args = RULES)]
fn prefix_paths(bencher: Bencher<'_, '_>, rules: usize) {
    let policies = policies(rules, |n| format!("to: [{{operation: {{methods: [GET], paths: ['/api/r{n}/*']}}}}]"));
    decide(bencher, &policies, "cluster.local/ns/shop/sa/client", &format!("/api/r{}/x", rules - 1));
}
