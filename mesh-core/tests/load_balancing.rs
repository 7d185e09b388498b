//! The examples of docs/load-balancing.md, as `meshctl explain` shows them.
#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]

use std::fs;
use std::path::Path;

use mesh_core::convert::{Addresses, Options, inputs};
use mesh_core::explain::{Caller, ExplainRequest, Explanation, From, explain};

fn read(relative: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(relative)).unwrap()
}

/// What productpage's request to `url` meets, with an example in force.
fn with(example: &str, url: &str) -> Explanation {
    let text = format!(
        "{}\n---\n{}",
        read("examples/bookinfo/platform/bookinfo.yaml"),
        read(&format!("docs/examples/{example}"))
    );
    let (resources, reports) = mesh_core::yaml::read("all.yaml", &text);
    assert!(reports.is_empty(), "{reports:?}");
    let world = inputs(&resources, &Options::default(), &mut Addresses::default()).world;
    let from = From::Workload("productpage-v1".into());
    let request = ExplainRequest {
        from,
        method: "GET".parse().unwrap(),
        url: url.into(),
        headers: Default::default(),
        claims: None,
        caller: Caller::default(),
    };
    explain(&world, &request).unwrap()
}

fn line(explanation: &Explanation, what: &str) -> (String, String) {
    let policies = &explanation.hops[0].clusters[0].policies;
    let found = policies.iter().find(|p| p.what == what).unwrap_or_else(|| panic!("{what} in {policies:?}"));
    (found.decided.value.clone(), found.decided.field.clone())
}

#[test]
fn a_cookie() {
    let e = with("reviews-sticky.yaml", "http://reviews:9080/");
    assert_eq!(e.hops[0].clusters[0].balancer.as_ref().unwrap().value, "ring hash, 1024 points or more");
    let want = "by cookie reviews-user; a client without it gets one; Max-Age=600; Path=/; HttpOnly";
    assert_eq!(line(&e, "consistentHash"), (want.into(), "spec.trafficPolicy.loadBalancer".into()));
}

#[test]
fn ejection_and_warm_up() {
    let e = with("reviews-outlier.yaml", "http://reviews:9080/");
    assert_eq!(e.hops[0].clusters[0].balancer.as_ref().unwrap().value, "ROUND_ROBIN");
    let want = "ejects after 3 5xx in a row, for 20s or more, at most 50% of the endpoints, checked every 5s";
    assert_eq!(line(&e, "outlierDetection"), (want.into(), "spec.trafficPolicy.outlierDetection".into()));
    assert_eq!(line(&e, "warmup").0, "new endpoints start at 10% of their share and have all of it after 30s");
    // Outlier detection alone switches failover by locality on, by the mesh's default.
    assert_eq!(
        line(&e, "locality"),
        ("nearest first, seen from an unknown locality".into(), "localities count by default".into())
    );
    assert_eq!(e.hops[0].clusters[0].endpoints.len(), 3);
}

#[test]
fn shares_by_locality() {
    let e = with("catalog-locality.yaml", "http://catalog.example/");
    let want = "distribute 80% to eu/*, 20% to us/*, nothing elsewhere";
    let field = "spec.trafficPolicy.loadBalancer.localityLbSetting".to_owned();
    assert_eq!(line(&e, "locality"), (want.to_owned(), field));
    let endpoints = &e.hops[0].clusters[0].endpoints;
    let want = [
        ("192.0.2.2:80", "60.0%"),
        ("192.0.2.1:80", "20.0%"),
        ("192.0.2.3:80", "20.0%"),
        ("192.0.2.4:80", "gets nothing"),
    ];
    for (got, (address, share)) in endpoints.iter().zip(want) {
        assert!(got.starts_with(address) && got.contains(share), "{got} for {address} {share}");
    }
    assert_eq!(endpoints.len(), 4);
}
