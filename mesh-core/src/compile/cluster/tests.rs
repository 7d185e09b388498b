use std::time::Duration;

use crate::compile::sim::Sim;
use crate::snapshot::{Balancer, ClusterPlan, EndpointSource, UpstreamProtocol};

fn dr(meta: &str, spec: &str) -> String {
    format!("---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{{meta}}}\nspec: {{{spec}}}\n")
}

fn cluster(yaml: &str, proxy: &str, name: &str) -> ClusterPlan {
    let snapshot = Sim::of(yaml.trim_start_matches("---")).compile(proxy).snapshot;
    let found = snapshot.clusters.get(&format!("outbound|{name}.svc.cluster.local") as &str);
    ClusterPlan::clone(found.unwrap_or_else(|| panic!("no cluster {name} in {:?}", snapshot.clusters.keys())))
}

fn timeout(seconds: u32) -> String {
    format!("connectionPool: {{tcp: {{connectTimeout: {seconds}s}}}}")
}

fn seconds(yaml: &str, proxy: &str, name: &str) -> u64 {
    cluster(yaml, proxy, name).connect_timeout.as_secs()
}

#[test]
fn without_a_rule() {
    let plan = cluster("", "a-1", "8080||b.ns");
    assert_eq!((plan.balancer, plan.connect_timeout), (Balancer::LeastRequest, Duration::from_secs(10)));
    assert_eq!((plan.protocol, &*plan.service_name), (UpstreamProtocol::Http1, "b"));
    assert_eq!(cluster("", "a-1", "7000||c.other").protocol, UpstreamProtocol::Client);
    assert_eq!(cluster("", "a-1", "9000||c.other").protocol, UpstreamProtocol::Tcp);
}

#[test]
fn balancers() {
    for (simple, want) in [
        ("ROUND_ROBIN", Balancer::RoundRobin),
        ("RANDOM", Balancer::Random),
        ("LEAST_REQUEST", Balancer::LeastRequest),
        ("LEAST_CONN", Balancer::LeastRequest),
    ] {
        let yaml =
            dr("name: r, namespace: ns", &format!("host: b, trafficPolicy: {{loadBalancer: {{simple: {simple}}}}}"));
        let plan = cluster(&yaml, "a-1", "8080||b.ns");
        assert_eq!(plan.balancer, want);
        assert_eq!(&*plan.policy_origin.field, "spec.trafficPolicy.loadBalancer");
    }
    let yaml = dr("name: r, namespace: ns", "host: b, trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}");
    assert_eq!(cluster(&yaml, "a-1", "8080||b.ns").source, EndpointSource::OriginalDst { port: None });
}

#[test]
fn subsets_inherit_block_by_block() {
    let spec = format!(
        "host: b, trafficPolicy: {{loadBalancer: {{simple: RANDOM}}, {}}}, subsets: [{{name: v1, labels: {{version: v1}}}}, \
         {{name: v2, labels: {{version: v2}}, trafficPolicy: {{loadBalancer: {{simple: ROUND_ROBIN}}}}}}]",
        timeout(3)
    );
    let yaml = dr("name: r, namespace: ns", &spec);
    let v1 = cluster(&yaml, "a-1", "8080|v1|b.ns");
    assert_eq!((v1.balancer, v1.connect_timeout.as_secs(), &*v1.subset), (Balancer::Random, 3, "v1"));
    let EndpointSource::Service { labels, .. } = &v1.source else { panic!("{:?}", v1.source) };
    assert_eq!(labels.get("version").map(String::as_str), Some("v1"));
    let v2 = cluster(&yaml, "a-1", "8080|v2|b.ns");
    assert_eq!((v2.balancer, v2.connect_timeout.as_secs()), (Balancer::RoundRobin, 3));
}

#[test]
fn port_level_settings_replace_everything() {
    let port = format!("portLevelSettings: [{{port: {{number: 9000}}, {}}}]", timeout(4));
    let spec = format!(
        "host: c.other.svc.cluster.local, trafficPolicy: {{loadBalancer: {{simple: RANDOM}}, {}, {port}}}",
        timeout(3)
    );
    let yaml = dr("name: r, namespace: ns", &spec);
    let (http, tcp) = (cluster(&yaml, "a-1", "8080||c.other"), cluster(&yaml, "a-1", "9000||c.other"));
    assert_eq!((http.balancer, http.connect_timeout.as_secs()), (Balancer::Random, 3));
    assert_eq!((tcp.balancer, tcp.connect_timeout.as_secs()), (Balancer::LeastRequest, 4));
}

#[test]
fn the_clients_namespace_then_the_services_then_the_root() {
    let host = "host: c.other.svc.cluster.local";
    let root = dr("name: r, namespace: istio-system", &format!("{host}, trafficPolicy: {{{}}}", timeout(1)));
    let service =
        root.clone() + &dr("name: s, namespace: other", &format!("{host}, trafficPolicy: {{{}}}", timeout(2)));
    let client =
        service.clone() + &dr("name: c, namespace: ns", &format!("host: '*.local', trafficPolicy: {{{}}}", timeout(3)));
    for (yaml, want) in [(&root, 1), (&service, 2), (&client, 3)] {
        assert_eq!(seconds(yaml, "a-1", "8080||c.other"), want);
    }
    // Somewhere else nobody sees the client's; a private one of the service's namespace is for that namespace.
    assert_eq!(seconds(&client, "c-1", "8080||c.other"), 2);
    let private =
        dr("name: s, namespace: other", &format!("{host}, exportTo: ['.'], trafficPolicy: {{{}}}", timeout(2)));
    assert_eq!((seconds(&private, "a-1", "8080||c.other"), seconds(&private, "c-1", "8080||c.other")), (10, 2));
}

#[test]
fn the_most_specific_host_wins_inside_a_namespace() {
    let wide = dr("name: a, namespace: ns", &format!("host: '*.svc.cluster.local', trafficPolicy: {{{}}}", timeout(1)));
    let narrow = wide.clone()
        + &dr("name: b, namespace: ns", &format!("host: '*.ns.svc.cluster.local', trafficPolicy: {{{}}}", timeout(2)));
    let exact = narrow.clone() + &dr("name: c, namespace: ns", "host: b, subsets: [{name: v1}]");
    assert_eq!((seconds(&wide, "a-1", "8080||b.ns"), seconds(&narrow, "a-1", "8080||b.ns")), (1, 2));
    assert_eq!(seconds(&exact, "a-1", "8080||b.ns"), 10, "levels of specificity are not merged");
}

#[test]
fn rules_for_one_host_are_merged() {
    let first = dr("name: a, namespace: ns", "host: b, subsets: [{name: v1, labels: {version: v1}}]");
    let second = dr(
        "name: b, namespace: ns",
        &format!(
            "host: b.ns.svc.cluster.local, trafficPolicy: {{{}}}, subsets: [{{name: v1, labels: {{version: v9}}}}, {{name: v2}}]",
            timeout(5)
        ),
    );
    let yaml = first + &second;
    assert_eq!(seconds(&yaml, "a-1", "8080||b.ns"), 5);
    assert_eq!(seconds(&yaml, "a-1", "8080|v2|b.ns"), 5);
    let EndpointSource::Service { labels, .. } = cluster(&yaml, "a-1", "8080|v1|b.ns").source else { panic!() };
    assert_eq!(labels["version"], "v1", "of two subsets of one name the older counts");
}

#[test]
fn a_rule_that_selects_the_client_comes_first() {
    let all = dr("name: a, namespace: ns", &format!("host: b, trafficPolicy: {{{}}}", timeout(1)));
    let selected = all
        + &dr(
            "name: z, namespace: ns",
            &format!("host: b, workloadSelector: {{matchLabels: {{app: a}}}}, trafficPolicy: {{{}}}", timeout(2)),
        );
    assert_eq!((seconds(&selected, "a-1", "8080||b.ns"), seconds(&selected, "b-1", "8080||b.ns")), (2, 1));
}

#[test]
fn mesh_defaults() {
    let mesh = |m: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata: {{mesh: '{m}'}}\n"
        )
    };
    assert_eq!(seconds(&mesh("connectTimeout: 6s"), "a-1", "8080||b.ns"), 6);
    let policy = format!("defaultTrafficPolicy: {{{}}}", timeout(7));
    assert_eq!(seconds(&mesh(&policy), "a-1", "8080||b.ns"), 7);
}

#[test]
fn service_entries() {
    let entry = |rest: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: ns}}\nspec: {{hosts: [x.svc.cluster.local], ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 8000}}], {rest}}}\n"
        )
    };
    let source = |rest: &str| cluster(&entry(rest), "a-1", "80||x").source;
    assert_eq!(source("resolution: NONE"), EndpointSource::OriginalDst { port: Some(8000) });
    let dns = |rest: &str| match source(rest) {
        EndpointSource::Dns { names, first_only, retry } => {
            let names: Vec<_> = names.iter().map(|n| format!("{}:{}*{}", n.host, n.port, n.workload.weight)).collect();
            (names.join(" "), first_only, retry.as_secs())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(dns("resolution: DNS"), ("x.svc.cluster.local:8000*0".into(), false, 60));
    let endpoints = "resolution: DNS_ROUND_ROBIN, endpoints: [{address: e.example}]";
    assert_eq!(dns(endpoints), ("e.example:8000*1".into(), true, 60));
    let mixed = "resolution: DNS, endpoints: [{address: e.example, ports: {http: 81}, weight: 3}, {address: 1.2.3.4}]";
    assert_eq!(dns(mixed).0, "e.example:81*3 1.2.3.4:8000*1");
    assert!(matches!(source("resolution: DYNAMIC_DNS"), EndpointSource::DynamicDns { port: Some(8000) }));
    assert!(matches!(source("resolution: STATIC, endpoints: [{address: 1.2.3.4}]"), EndpointSource::Service { .. }));
    assert!(cluster(&entry("resolution: DNS"), "a-1", "80||x").external);
}
