use std::time::Duration;

use crate::compile::sim::Sim;
use crate::report::Outcome;
use crate::snapshot::{
    Balancer, Balancing, ClusterPlan, EndpointSource, FailoverPlan, HashKey, LocalityPlan, OutlierPlan, Warmup,
};

const CLIENT: &str = "apiVersion: v1
kind: Pod
metadata: {name: d-1, namespace: ns, labels: {app: d, version: v1, istio-locality: r1.z1.s1}}
spec: {containers: [{name: main, image: d}]}
";

fn rule(spec: &str) -> String {
    format!(
        "{CLIENT}---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: r, namespace: ns}}\nspec: {{{spec}}}\n"
    )
}

fn with_mesh(mesh: &str, rest: &str) -> String {
    format!(
        "{rest}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata: {{mesh: '{mesh}'}}\n"
    )
}

fn cluster(yaml: &str, name: &str) -> ClusterPlan {
    let snapshot = Sim::of(yaml).compile("d-1").snapshot;
    ClusterPlan::clone(&snapshot.clusters[&format!("outbound|{name}.svc.cluster.local") as &str])
}

fn of(policy: &str) -> (Balancer, Balancing) {
    let plan = cluster(&rule(&format!("host: b, trafficPolicy: {{{policy}}}")), "8080||b.ns");
    (plan.balancer, Balancing::clone(&plan.balancing))
}

fn locality(policy: &str) -> LocalityPlan {
    of(policy).1.locality
}

fn outlier(yaml: &str, name: &str) -> Option<OutlierPlan> {
    cluster(yaml, name).balancing.outlier.clone()
}

#[test]
fn consistent_hashes() {
    let key = |hash: &str| {
        let (balancer, balancing) = of(&format!("loadBalancer: {{consistentHash: {{{hash}}}}}"));
        (balancer, balancing.hash_key)
    };
    let header = HashKey::Header("x-user".parse().unwrap());
    assert_eq!(key("httpHeaderName: X-User"), (Balancer::RingHash(1024), Some(header)));
    assert_eq!(key("useSourceIp: true, ringHash: {minimumRingSize: 7}").0, Balancer::RingHash(7));
    assert_eq!(key("useSourceIp: true, minimumRingSize: 8"), (Balancer::RingHash(8), Some(HashKey::SourceIp)));
    assert_eq!(key("useSourceIp: false"), (Balancer::RingHash(1024), None));
    assert_eq!(key("httpQueryParameterName: q, maglev: {tableSize: 101}").0, Balancer::Maglev(101));
    let cookie = |text: &str| match key(&format!("httpCookie: {{name: c, {text}}}")).1 {
        Some(HashKey::Cookie(plan)) => plan.attributes.map(|a| a.to_string()),
        other => panic!("{other:?}"),
    };
    assert_eq!(cookie("path: /p"), None, "R2");
    assert_eq!(cookie("ttl: 60s, path: /p").as_deref(), Some("; Max-Age=60; Path=/p; HttpOnly"), "R1");
    assert_eq!(cookie("ttl: 0s").as_deref(), Some("; HttpOnly"), "R1");
    let attributes = "ttl: 0s, attributes: [{name: SameSite, value: Lax}, {name: HttpOnly}]";
    assert_eq!(cookie(attributes).as_deref(), Some("; SameSite=Lax; HttpOnly; HttpOnly"), "R1");
}

#[test]
fn tcp_hashes_the_address_only() {
    let key = |hash: &str| {
        let yaml = rule(&format!(
            "host: c.other.svc.cluster.local, trafficPolicy: {{loadBalancer: {{consistentHash: {{{hash}}}}}}}"
        ));
        cluster(&yaml, "9000||c.other").balancing.hash_key.clone()
    };
    assert_eq!((key("httpHeaderName: x"), key("useSourceIp: true")), (None, Some(HashKey::SourceIp)));
}

#[test]
fn warm_up() {
    let warmup = |text: &str| of(&format!("loadBalancer: {{{text}}}")).1.warmup;
    let of_seconds = |s| Warmup { duration: Duration::from_secs(s), minimum: 0.1, aggression: 1.0 };
    assert_eq!(warmup("simple: ROUND_ROBIN, warmupDurationSecs: 5s"), Some(of_seconds(5)));
    let full = Warmup { minimum: 0.3, aggression: 2.0, ..of_seconds(6) };
    assert_eq!(warmup("warmup: {duration: 6s, minimumPercent: 30, aggression: 2}"), Some(full));
    assert_eq!(warmup("simple: RANDOM, warmup: {duration: 6s}"), None);
}

#[test]
fn outlier_defaults_and_inheritance() {
    assert_eq!(of("outlierDetection: {}").1.outlier, Some(OutlierPlan::default()));
    assert_eq!(of("loadBalancer: {simple: RANDOM}").1.outlier, None);
    let mesh = "defaultTrafficPolicy: {outlierDetection: {consecutive5xxErrors: 9}}";
    let errors = |yaml: &str, name: &str| outlier(yaml, name).map(|o| o.consecutive_5xx);
    assert_eq!(errors(&with_mesh(mesh, CLIENT), "8080||b.ns"), Some(9));
    let own = |n: u32| format!("outlierDetection: {{consecutive5xxErrors: {n}}}");
    let by_port = "portLevelSettings: [{port: {number: 8080}, loadBalancer: {simple: RANDOM}}]";
    let spec = format!(
        "host: b, trafficPolicy: {{{}}}, subsets: [{{name: v1}}, {{name: v2, trafficPolicy: {{{}}}}}, {{name: v3, trafficPolicy: {{{by_port}}}}}]",
        own(1),
        own(2)
    );
    let yaml = with_mesh(mesh, &rule(&spec));
    let all = ["8080||b.ns", "8080|v1|b.ns", "8080|v2|b.ns", "8080|v3|b.ns"].map(|n| errors(&yaml, n));
    assert_eq!(
        all,
        [Some(1), Some(1), Some(2), None],
        "a subset's entry for the port replaces even the mesh's default"
    );
    let spec = format!("host: b, trafficPolicy: {{{}, {by_port}}}", own(1));
    assert_eq!(errors(&with_mesh(mesh, &rule(&spec)), "8080||b.ns"), Some(9), "the mesh fills what a port leaves out");
}

#[test]
fn outlier_fields() {
    let got = of("outlierDetection: {consecutive5xxErrors: 0, consecutiveGatewayErrors: 2, interval: 1s, \
                  baseEjectionTime: 2s, maxEjectionPercent: 55, minHealthPercent: 20, splitExternalLocalOriginErrors: true, \
                  consecutiveLocalOriginFailures: 4, outlierDetectionHttpErrorCodes: [429]}");
    let want = OutlierPlan {
        consecutive_5xx: 0,
        consecutive_gateway: 2,
        split_local: true,
        consecutive_local: 4,
        interval: Duration::from_secs(1),
        base_ejection_time: Duration::from_secs(2),
        max_ejection_percent: 55,
        min_health_percent: 20,
        error_codes: Some([429].into()),
    };
    assert_eq!(got.1.outlier, Some(want));
}

#[test]
fn which_locality_setting_is_in_force() {
    let failover = |p: &LocalityPlan| matches!(p, LocalityPlan::Failover(FailoverPlan { near: Some(_), .. }));
    assert_eq!(locality("loadBalancer: {simple: RANDOM}"), LocalityPlan::Ignored, "no outlier detection, no failover");
    assert!(failover(&locality("outlierDetection: {}")), "the mesh's default, with outlier detection");
    let off = "outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: false}}";
    assert_eq!(locality(off), LocalityPlan::Ignored);
    let distribute = "loadBalancer: {localityLbSetting: {distribute: [{from: r2, to: {r3: 100}}, {from: r1/*, to: {r1/z1: 70, r2: 30}}]}}";
    let shares = vec![("r1/z1".into(), 70), ("r2".into(), 30)];
    assert_eq!(locality(distribute), LocalityPlan::Distribute(shares));
    let elsewhere =
        "loadBalancer: {localityLbSetting: {distribute: [{from: r2, to: {r3: 100}}]}}, outlierDetection: {}";
    assert_eq!(locality(elsewhere), LocalityPlan::Ignored);
    let mesh = with_mesh("localityLbSetting: {distribute: [{from: r1, to: {r9: 100}}]}", CLIENT);
    assert_eq!(cluster(&mesh, "8080||b.ns").balancing.locality, LocalityPlan::Distribute(vec![("r9".into(), 100)]));
    let both = with_mesh(
        "localityLbSetting: {distribute: [{from: r1, to: {r9: 100}}]}",
        &rule(
            "host: b, trafficPolicy: {outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: r1, to: r5}]}}}",
        ),
    );
    let LocalityPlan::Failover(FailoverPlan { near: Some(near), labels }) =
        cluster(&both, "8080||b.ns").balancing.locality.clone()
    else {
        panic!("the rule's setting replaces the mesh's");
    };
    assert_eq!((near.to.as_deref(), &*near.client.subzone, labels.len()), (Some("r5"), "s1", 0));
}

#[test]
fn priorities_by_labels() {
    let policy = "outlierDetection: {}, loadBalancer: {localityLbSetting: {failoverPriority: [version, tier=gold, \
                  topology.kubernetes.io/zone, gpu]}}";
    let LocalityPlan::Failover(FailoverPlan { labels, near: None }) = locality(policy) else { panic!() };
    let labels: Vec<_> = labels.iter().map(|(l, v)| (&**l, v.as_deref())).collect();
    let zone = "topology.kubernetes.io/zone";
    assert_eq!(labels, [("version", Some("v1")), ("tier", Some("gold")), (zone, Some("z1")), ("gpu", None)]);
}

#[test]
fn traffic_distribution_of_a_service() {
    let service = |extra: &str| {
        format!(
            "{CLIENT}---\napiVersion: v1\nkind: Service\nmetadata: {{name: t, namespace: ns{}}}\nspec: {{selector: {{app: b}}, ports: [{{name: http, port: 80}}]{}}}\n",
            extra
                .strip_prefix('@')
                .map_or(String::new(), |a| format!(", annotations: {{networking.istio.io/traffic-distribution: {a}}}")),
            if extra.starts_with('@') || extra.is_empty() {
                String::new()
            } else {
                format!(", trafficDistribution: {extra}")
            },
        )
    };
    let labels = |extra: &str| match &cluster(&service(extra), "80||t.ns").balancing.locality {
        LocalityPlan::Failover(plan) => plan.labels.len(),
        _ => 0,
    };
    let got = ["", "PreferClose", "PreferSameZone", "PreferSameNode", "@PreferClose"].map(labels);
    assert_eq!(got, [0, 4, 4, 5, 4]);
    let mesh = with_mesh("localityLbSetting: {distribute: [{from: r1, to: {r9: 100}}]}", &service("PreferClose"));
    let plan = cluster(&mesh, "80||t.ns").balancing;
    assert!(matches!(plan.locality, LocalityPlan::Failover(_)), "it beats the mesh");
    assert_eq!(&*plan.locality_origin.clone().unwrap().field, "spec.trafficDistribution");
}

#[test]
fn zone_aware_routing_needs_self_discovery() {
    let zones = rule("host: b, trafficPolicy: {loadBalancer: {zoneAwareLbSetting: {enabled: true}}}");
    assert_eq!(cluster(&zones, "8080||b.ns").balancing.locality, LocalityPlan::Ignored);
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: d, namespace: ns}\nspec: {selector: {app: d}, ports: [{name: http, port: 80}]}\n";
    let mesh = "defaultConfig: {proxyMetadata: {ISTIO_META_ENABLE_SELF_DISCOVERY: \"true\"}}";
    let on = with_mesh(mesh, &format!("{zones}{service}"));
    let LocalityPlan::ZoneAware(plan) = cluster(&on, "8080||b.ns").balancing.locality.clone() else { panic!() };
    assert_eq!((plan.min_cluster_size, plan.peers.len(), &*plan.client.zone), (6, 1, "z1"));
}

/// Field, what became of it: `+` consumed, `o` overridden, `-` without effect.
#[test]
fn fates() {
    let policy = "loadBalancer: {simple: RANDOM, warmupDurationSecs: 3s, localityLbSetting: {failover: [{from: r9, to: r5}, {from: r1, to: r2}]}}, \
                  outlierDetection: {consecutive5xxErrors: 2, consecutiveGatewayErrors: 3, consecutiveErrors: 1}";
    let compiled = Sim::of(&rule(&format!("host: b, trafficPolicy: {{{policy}}}"))).compile("d-1");
    let merged = compiled.account.merged();
    let sim = Sim::of(&rule(&format!("host: b, trafficPolicy: {{{policy}}}")));
    let rule = sim.world.destination_rules().iter().next().unwrap().clone();
    let leaves = merged.leaves(&rule);
    let fate = |field: &str| {
        let leaf = leaves.iter().find(|l| l.field == format!("spec.trafficPolicy.{field}"));
        match leaf.unwrap_or_else(|| panic!("{field} in {leaves:?}")).outcome {
            Some(Outcome::Consumed) => '+',
            Some(Outcome::Inert { .. }) => '-',
            Some(Outcome::Overridden { .. }) => 'o',
            _ => '?',
        }
    };
    for (field, want) in [
        ("loadBalancer.simple", '+'),
        ("loadBalancer.warmupDurationSecs", '-'),
        ("loadBalancer.localityLbSetting.failover[0].from", '-'),
        ("loadBalancer.localityLbSetting.failover[1].to", '+'),
        ("outlierDetection.consecutive5xxErrors", '+'),
        ("outlierDetection.consecutiveGatewayErrors", '-'),
        ("outlierDetection.consecutiveErrors", '-'),
    ] {
        assert_eq!(fate(field), want, "{field}");
    }
}

#[test]
fn without_endpoints_nothing_is_balanced() {
    let plan = cluster(
        &rule("host: b, trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}, outlierDetection: {}}"),
        "8080||b.ns",
    );
    assert_eq!(plan.source, EndpointSource::OriginalDst { port: None });
    assert_eq!(*plan.balancing, Balancing::default());
}
