//! Many rules: the same answers from an index, no allocation, and few rules tried.

use std::fmt::Write as _;

use super::*;

/// Policies with this many rules altogether, each of which names its own caller, path, host, address, header or claim.
fn many(action: &str, rules: usize) -> String {
    let mut text = String::new();
    for chunk in 0..rules.div_ceil(500) {
        let mut spec = format!("action: {action}, rules: [");
        for i in chunk * 500..rules.min(chunk * 500 + 500) {
            let rule = match i % 8 {
                0 => format!("from: [{{source: {{principals: [cluster.local/ns/n{i}/sa/a], namespaces: [n{i}]}}}}]"),
                1 => format!("from: [{{source: {{namespaces: [n{i}]}}}}], to: [{{operation: {{methods: [GET]}}}}]"),
                2 => format!("to: [{{operation: {{paths: ['/p{i}/*', '/q/{i}'], methods: [GET]}}}}]"),
                3 => format!("to: [{{operation: {{hosts: ['*.h{i}.example']}}}}]"),
                4 => format!("from: [{{source: {{ipBlocks: [172.16.{}.{}/32]}}}}]", i / 250, i % 250),
                5 => format!("when: [{{key: 'request.headers[x-tenant]', values: [t{i}]}}]"),
                6 => format!("when: [{{key: 'request.auth.claims[group]', values: [g{i}]}}]"),
                _ => format!(
                    "from: [{{source: {{requestPrincipals: ['i/u{i}']}}}}], to: [{{operation: {{ports: ['80']}}}}]"
                ),
            };
            let _ = write!(spec, "{{{rule}}}, ");
        }
        spec.push(']');
        text.push_str(&policy(&format!("p{chunk}"), &spec));
    }
    text
}

/// A request that only the rule with this number matches.
fn hit(i: usize) -> Facts {
    let plain = Facts { port: 80, method: Method::POST, ..Facts::default() };
    match i % 8 {
        0 => Facts { peer: Some(format!("cluster.local/ns/n{i}/sa/a")), ..plain },
        1 => Facts { peer: Some(format!("x/ns/n{i}/sa/b")), method: Method::GET, ..plain },
        2 => Facts { path: format!("/p{i}/x"), method: Method::GET, ..plain },
        3 => Facts { authority: format!("A.H{i}.example"), ..plain },
        4 => Facts { source_ip: format!("172.16.{}.{}", i / 250, i % 250), ..plain },
        5 => {
            let mut facts = plain;
            facts.headers.insert("x-tenant", format!("t{i}").parse().unwrap());
            facts
        }
        6 => plain.claims(&format!(r#"{{"iss": "x", "sub": "y", "group": ["a", "g{i}"]}}"#)),
        _ => plain.claims(&format!(r#"{{"iss": "i", "sub": "u{i}"}}"#)),
    }
}

#[test]
fn each_of_ten_thousand_rules_is_found_and_few_are_tried() {
    let (allow, deny) =
        (compiled(&many("ALLOW", 10_000), Protocol::Http), compiled(&many("DENY", 10_000), Protocol::Http));
    for i in (0..10_000).step_by(97) {
        let facts = hit(i);
        let name = format!("ns[foo]-policy[p{}]-rule[{}]", i / 500, i % 500);
        facts.with(|input| {
            assert_eq!(allow.decide(input), Decision::Allow, "{i}");
            assert_eq!(deny.decide(input), Decision::Deny(Denial { rule: name.into() }), "{i}");
            assert!(deny.deny.candidates(input) <= 2, "{i}: {}", deny.deny.candidates(input));
        });
    }
    assert_eq!(decision(&allow, &Facts::default()), "none");
    assert_eq!(decision(&deny, &Facts::default()), "allow");
}
