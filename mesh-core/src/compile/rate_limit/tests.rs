use crate::compile::sim::{Sim, route};
use crate::snapshot::RoutePlan;

const BUCKET: &str = "tokenBucket: {maxTokens: 5, tokensPerFill: 2, fillInterval: 1s}";

fn limit(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "\n---\napiVersion: policy.mesh.local/v1\nkind: LocalRateLimit\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\nspec: {{{spec}, {BUCKET}}}"
    )
}

fn names(route: &RoutePlan) -> Vec<&str> {
    route.filters.rate_limits.iter().map(|l| &*l.name).collect()
}

#[test]
fn what_comes_in_at_selected_workloads() {
    let yaml = [
        limit("b", "ns", "selector: {matchLabels: {app: b}}"),
        limit("all", "ns", "statusCode: 503"),
        limit("elsewhere", "other", "statusCode: 503"),
        limit("mesh", "istio-system", "selector: {matchLabels: {app: b}}"),
    ];
    let sim = Sim::of(&yaml.concat());
    let inbound = |pod: &str| {
        let snapshot = sim.compile(pod).snapshot;
        let listeners = snapshot.listeners.values().filter(|l| l.key.direction == crate::snapshot::Direction::Inbound);
        let tables: Vec<_> = listeners.filter_map(|l| l.http.clone()).collect();
        assert!(!tables.is_empty());
        let all = tables.iter().map(|t| names(&t.routes.lookup("*").unwrap().routes[0]).join(" "));
        let all: std::collections::BTreeSet<String> = all.collect();
        assert_eq!(all.len(), 1, "all ports alike");
        all.into_iter().next().unwrap()
    };
    assert_eq!(inbound("b-1"), "ns/all ns/b istio-system/mesh");
    assert_eq!(inbound("a-1"), "ns/all");
    assert!(names(&route(&sim.compile("a-1").snapshot, "GET http://b:8080/")).is_empty(), "nothing that goes out");
}

#[test]
fn rules_of_a_virtual_service_in_each_proxy_that_uses_them() {
    let vs = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, namespace: ns}\nspec:\n  \
              hosts: [b]\n  http:\n  - {name: api, match: [{uri: {prefix: /api}}], route: [{destination: {host: b}}]}\n  \
              - {name: rest, route: [{destination: {host: b}}]}\n";
    let target = |section: &str| {
        format!("targetRefs: [{{group: networking.istio.io, kind: VirtualService, name: v, sectionName: '{section}'}}]")
    };
    let yaml = [
        vs.to_owned(),
        limit("api", "ns", &target("api")),
        limit("both", "ns", &target("")),
        limit("none", "ns", &target("none")),
    ];
    let sim = Sim::of(&yaml.concat());
    let compiled = sim.compile("a-1");
    assert_eq!(names(&route(&compiled.snapshot, "GET http://b:8080/api")), ["ns/api", "ns/both"]);
    assert_eq!(names(&route(&compiled.snapshot, "GET http://b:8080/")), ["ns/both"]);
    let inert: Vec<_> =
        compiled.account.fates().filter(|f| matches!(f.outcome, crate::report::Outcome::Inert { .. })).collect();
    assert!(inert.iter().any(|f| *f.object.name == *"none" && *f.field == *"spec"), "{inert:?}");
}
