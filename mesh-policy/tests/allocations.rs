//! Deciding allocates nothing, whether a request is allowed or refused, among ten rules and among thousands.

#![allow(clippy::unwrap_used, unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue, Method};
use mesh_core::api::Resource;
use mesh_core::matching::{Claims, RequestFacts};
use mesh_policy::authz::{AuthzInput, Protocol, TrustDomains};
use mesh_policy::{Decision, Peer, Policies, PolicyInput};
use serde_json::Value;

struct Counting;

thread_local!(static ALLOCATIONS: Cell<u64> = const { Cell::new(0) });

// SAFETY: everything is the system's allocator; besides, a number is counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTER: Counting = Counting;

fn policies(rules: usize) -> Policies {
    let head = |i: usize, action: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p{i}, namespace: foo}}\nspec:\n  \
             action: {action}\n  rules:\n"
        )
    };
    let mut text = head(0, "ALLOW");
    let _ = writeln!(
        text,
        "  - from: [{{source: {{principals: ['*/sa/a', 'x/*'], requestPrincipals: ['i/*'], ipBlocks: [10.0.0.0/8], namespaces: ['f*o', 'b**r']}}}}]\n    \
         to: [{{operation: {{hosts: ['*.Example'], methods: [GET], paths: ['/a/{{*}}/{{**}}'], notPaths: ['/b*']}}}}]\n    \
         when: [{{key: 'request.headers[x-a]', values: ['1*']}}, {{key: 'request.headers[:path]', values: ['*c']}}, \
         {{key: 'request.auth.claims[groups]', values: [g1]}}]"
    );
    for policy in 0..rules.div_ceil(500) {
        let _ = write!(text, "---\n{}", head(policy + 1, "DENY"));
        for i in policy * 500..rules.min(policy * 500 + 500) {
            let _ = writeln!(text, "  - from: [{{source: {{namespaces: [n{i}], notPrincipals: [x]}}}}]");
        }
    }
    let (resources, reports) = mesh_core::yaml::read("f", &text);
    assert!(reports.is_empty(), "{reports:#?}");
    let found = resources.into_iter().filter_map(|r| match r {
        Resource::AuthorizationPolicy(policy) => Some(policy),
        _ => None,
    });
    Policies::compile(&AuthzInput {
        policies: &found.collect::<Vec<_>>(),
        protocol: Protocol::Http,
        trust_domains: &TrustDomains::default(),
        providers: &BTreeMap::new(),
    })
}

#[test]
fn a_decision_allocates_nothing() {
    let mut headers = HeaderMap::new();
    headers.insert("x-a", HeaderValue::from_static("12"));
    let payload = serde_json::from_str::<Value>(r#"{"iss": "i", "sub": "s", "groups": ["g0", "g1"]}"#).unwrap();
    let Value::Object(payload) = payload else { panic!() };
    let claims = Claims::new(payload);
    let request = RequestFacts {
        method: &Method::GET,
        scheme: "http",
        authority: "Some.EXAMPLE",
        path: "/a/b/c",
        query: Some("q=c"),
        headers: &headers,
        claims: Some(&claims),
    };
    let address = "10.1.2.3".parse().unwrap();
    let input = |peer| PolicyInput {
        source_ip: address,
        remote_ip: address,
        destination_ip: address,
        destination_port: 8080,
        sni: "",
        peer: Peer::Spiffe(peer),
        request: Some(request),
    };
    for rules in [10, 10_000] {
        let policies = policies(rules);
        for (peer, allowed) in [("td/ns/foo/sa/a", true), ("td/ns/n7/sa/a", false), ("td/ns/foo/sa/b", false)] {
            let input = input(peer);
            // The first time, a thread makes room for the matching of patterns.
            policies.decide(&input);
            let before = ALLOCATIONS.with(Cell::get);
            let decision = policies.decide(&input);
            let after = ALLOCATIONS.with(Cell::get);
            assert_eq!(
                decision == Decision::Allow,
                allowed,
                "{rules} {peer}: {decision:?}\n{:#?}",
                policies.explain(&input)
            );
            assert_eq!(after - before, 0, "{rules} {peer}");
        }
    }
}
