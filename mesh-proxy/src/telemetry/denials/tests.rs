use std::collections::BTreeMap;

use mesh_core::api::Resource;
use mesh_core::matching::RequestFacts;
use mesh_core::record::ConnInfo;
use mesh_core::snapshot::Direction;
use mesh_policy::authz::{AuthzInput, Protocol, TrustDomains};
use mesh_policy::{Decision, Policies, PolicyInput};

use super::*;
use crate::net::HostEnv;

const POLICY: &str = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  rules:
  - to:
    - operation: {methods: [GET], paths: [/a]}
";

fn policies() -> Policies {
    let found = mesh_core::yaml::read("p.yaml", POLICY).0.into_iter().filter_map(|r| match r {
        Resource::AuthorizationPolicy(o) => Some(o),
        _ => None,
    });
    let (policies, trust_domains) = (found.collect::<Vec<_>>(), TrustDomains::default());
    let (policies, trust_domains) = (&policies, &trust_domains);
    Policies::compile(&AuthzInput { policies, protocol: Protocol::Http, trust_domains, providers: &BTreeMap::new() })
}

fn cx() -> Cx {
    let (peer, local) = ("10.0.0.9:1234".parse().unwrap(), "10.0.0.1:8080".parse().unwrap());
    let conn = ConnInfo {
        direction: Direction::Inbound,
        peer,
        local,
        direct: None,
        sni: "".into(),
        tls: None,
        peer_text: Default::default(),
    };
    Cx::new(Arc::new(conn), mesh_core::api::ContentHash(7))
}

/// Refuses a GET of a path.
fn refuse(denials: &Denials, policies: &Policies, path: &str) -> Cx {
    let (cx, headers) = (cx(), http::HeaderMap::new());
    let facts = RequestFacts {
        method: &http::Method::GET,
        scheme: "http",
        authority: "a.example",
        path,
        query: None,
        headers: &headers,
        claims: None,
    };
    let input = PolicyInput::request(&cx.conn, cx.remote().ip(), facts);
    let Decision::Deny(denial) = policies.decide(&input) else { panic!("{path} is allowed") };
    denials.refused(&cx, &Refusal::Policies { denial: &denial, policies, input: &input });
    cx
}

#[tokio::test(start_paused = true)]
async fn the_latest_are_kept_with_their_reasons() {
    let (denials, policies) = (Denials::new(Arc::new(HostEnv)), policies());
    let cx = refuse(&denials, &policies, "/b");
    let [denial] = &denials.latest()[..] else { panic!() };
    assert_eq!((&*denial.what, &*denial.principal), ("GET a.example/b", ""));
    assert_eq!(denial.reasons.details, "rbac_access_denied_matched_policy[none]");
    let nearest = denial.reasons.nearest.clone().unwrap();
    assert!(nearest.starts_with("ns[shop]-policy[readers]-rule[0] at p.yaml:6"), "{nearest}");
    assert!(nearest.contains("path is /b, wanted one of /a"), "{nearest}");
    assert_eq!(cx.verdict.get().unwrap(), &format!("nearest: {nearest}"));
    let tried = denial.reasons.tried[0].to_string();
    assert!(tried.starts_with("ALLOW AuthorizationPolicy shop/readers (p.yaml:"), "{tried}");
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_counted_and_costs_no_reasons() {
    let (denials, policies) = (Denials::new(Arc::new(HostEnv)), policies());
    let long = format!("/{}", "ü".repeat(300));
    for _ in 0..1_000 {
        refuse(&denials, &policies, &long);
    }
    let counters: BTreeMap<_, _> = denials.counters().into();
    assert_eq!((counters["rbac.denied"], counters["denials.unexplained"]), (1_000, 1_000 - u64::from(BURST)));
    assert_eq!(denials.latest().len(), BURST as usize);
    assert!(denials.latest()[0].what.len() <= 250);
    // Later there are reasons again, and the oldest go.
    for i in 0..300 {
        tokio::time::advance(Duration::from_millis(50)).await;
        refuse(&denials, &policies, &format!("/{i}"));
    }
    let latest = denials.latest();
    assert_eq!((latest.len(), &*latest[0].what), (KEPT, "GET a.example/299"));
}
