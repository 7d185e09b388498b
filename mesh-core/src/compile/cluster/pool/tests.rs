use std::time::Duration;

use crate::compile::sim::Sim;
use crate::report::Outcome;
use crate::snapshot::{ClusterPlan, Http2Ping, Keepalive, RetryBudgetPlan, UpstreamProtocol};

fn doc(kind: &str, meta: &str, spec: &str) -> String {
    format!("---\napiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{{meta}}}\nspec: {{{spec}}}\n")
}

fn rule(policy: &str) -> String {
    doc("DestinationRule", "name: r, namespace: ns", &format!("host: b, trafficPolicy: {{{policy}}}"))
}

fn mesh(settings: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata: {{mesh: '{{{settings}}}'}}\n"
    )
}

fn cluster(yaml: &str, proxy: &str, name: &str) -> ClusterPlan {
    let snapshot = Sim::of(yaml.trim_start_matches("---")).compile(proxy).snapshot;
    ClusterPlan::clone(
        snapshot.clusters.get(name).unwrap_or_else(|| panic!("{name} in {:?}", snapshot.clusters.keys())),
    )
}

const B: &str = "outbound|8080||b.ns.svc.cluster.local";

#[test]
fn every_field_of_a_block() {
    let yaml = rule(
        "connectionPool: {tcp: {maxConnections: 1, connectTimeout: 2s, maxConnectionDuration: 3s, idleTimeout: 4s, \
         tcpKeepalive: {probes: 5, time: 6s, interval: 7s}}, http: {http1MaxPendingRequests: 8, http2MaxRequests: 9, \
         maxRequestsPerConnection: 10, maxRetries: 11, idleTimeout: 12s}}",
    );
    let plan = cluster(&yaml, "a-1", B);
    let pool = &plan.pool;
    let seconds = Duration::from_secs;
    assert_eq!((plan.connect_timeout, pool.max_connection_duration), (seconds(2), Some(seconds(3))));
    assert_eq!((pool.max_connections, pool.max_pending, pool.max_requests), (1, 8, 9));
    assert_eq!((pool.max_requests_per_connection, pool.max_retries), (Some(10), 11));
    assert_eq!(pool.idle_timeout, Some(seconds(12)));
    let keepalive = Keepalive { probes: Some(5), time: Some(seconds(6)), interval: Some(seconds(7)) };
    assert_eq!(pool.keepalive, Some(keepalive));
    assert_eq!(&*plan.pool_origin.field, "spec.trafficPolicy.connectionPool");
}

#[test]
fn zero_is_unset_for_counts_and_off_for_times() {
    let plan = cluster(&rule("connectionPool: {tcp: {maxConnections: 0, idleTimeout: 0s}}"), "a-1", B);
    assert_eq!((plan.pool.max_connections, plan.pool.idle_timeout), (u32::MAX, None));
    let plan = cluster(&rule("connectionPool: {tcp: {idleTimeout: 5s}, http: {maxRetries: 0}}"), "a-1", B);
    assert_eq!((plan.pool.max_retries, plan.pool.idle_timeout), (u32::MAX, Some(Duration::from_secs(5))));
}

#[test]
fn http_versions() {
    for (mesh_policy, http, name, want) in [
        ("", "", B, UpstreamProtocol::Http1),
        ("", "h2UpgradePolicy: UPGRADE", B, UpstreamProtocol::Http2),
        ("h2UpgradePolicy: UPGRADE", "", B, UpstreamProtocol::Http2),
        ("h2UpgradePolicy: UPGRADE", "h2UpgradePolicy: DO_NOT_UPGRADE", B, UpstreamProtocol::Http1),
        ("", "useClientProtocol: true", B, UpstreamProtocol::Client),
        ("h2UpgradePolicy: UPGRADE", "", "outbound|7000||c.other.svc.cluster.local", UpstreamProtocol::Client),
        ("h2UpgradePolicy: UPGRADE", "", "outbound|9000||c.other.svc.cluster.local", UpstreamProtocol::Tcp),
        ("h2UpgradePolicy: UPGRADE", "", "inbound|8080||", UpstreamProtocol::Http1),
    ] {
        let rule = rule(&format!("connectionPool: {{http: {{maxRetries: 1, {http}}}}}"));
        let yaml = if mesh_policy.is_empty() { rule } else { rule + &mesh(mesh_policy) };
        assert_eq!(cluster(&yaml, "a-1", name).protocol, want, "mesh {mesh_policy}, rule {http}, {name}");
    }
    let undeclared = doc(
        "DestinationRule",
        "name: r, namespace: other",
        "host: c, trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}",
    );
    let of = |port| cluster(&undeclared, "a-1", &format!("outbound|{port}||c.other.svc.cluster.local")).protocol;
    assert_eq!((of(7000), of(9000)), (UpstreamProtocol::Http2, UpstreamProtocol::Tcp));
}

#[test]
fn streams_and_pings_are_of_http2() {
    let http = |more: &str| {
        rule(&format!(
            "connectionPool: {{http: {{maxConcurrentStreams: 5, http2KeepAlive: {{interval: 1s, timeout: 2s}}{more}}}}}"
        ))
    };
    let plan = cluster(&http(", h2UpgradePolicy: UPGRADE"), "a-1", B);
    let ping = Http2Ping { interval: Duration::from_secs(1), timeout: Duration::from_secs(2) };
    assert_eq!((plan.pool.max_concurrent_streams, plan.pool.http2_keepalive), (5, Some(ping)));
    let plan = cluster(&http(""), "a-1", B);
    assert_eq!((plan.pool.max_concurrent_streams, plan.pool.http2_keepalive), (u32::MAX, None));
}

#[test]
fn the_mesh_fills_whole_blocks_and_caps_passthrough() {
    let default = "defaultTrafficPolicy: {connectionPool: {tcp: {maxConnections: 7, connectTimeout: 8s}}}, \
                   tcpKeepalive: {time: 9s}, connectTimeout: 10s";
    let yaml = mesh(default);
    let plan = cluster(&yaml, "a-1", B);
    assert_eq!((plan.pool.max_connections, plan.connect_timeout.as_secs()), (7, 8));
    assert_eq!(plan.pool.keepalive.and_then(|k| k.time), Some(Duration::from_secs(9)));
    assert_eq!(&*plan.pool_origin.field, "spec.defaultTrafficPolicy.connectionPool");
    assert_eq!(cluster(&yaml, "a-1", "PassthroughCluster").pool.max_connections, 7);
    assert_eq!(cluster(&yaml, "a-1", "InboundPassthroughCluster").pool.max_connections, u32::MAX);
    // Nothing of the mesh's block is left where there is an own one.
    let plan = cluster(&(yaml + &rule("connectionPool: {http: {maxRetries: 1}}")), "a-1", B);
    assert_eq!((plan.pool.max_connections, plan.connect_timeout.as_secs()), (u32::MAX, 10));
}

#[test]
fn budgets() {
    let budget = "retryBudget: {percent: 5.5, minRetryConcurrency: 2, budgetInterval: 3s}";
    let plan = cluster(&rule(budget), "a-1", B);
    let want = RetryBudgetPlan { percent: 5.5, min_concurrency: 2, interval: Duration::from_secs(3) };
    assert_eq!(plan.pool.retry_budget, Some(want));
    let by_default = RetryBudgetPlan { percent: 20.0, min_concurrency: 3, interval: Duration::ZERO };
    assert_eq!(cluster(&rule("retryBudget: {}"), "a-1", B).pool.retry_budget, Some(by_default));
    let port = "portLevelSettings: [{port: {number: 8080}, connectionPool: {http: {maxRetries: 4}}}]";
    let plan = cluster(&rule(&format!("{budget}, {port}")), "a-1", B);
    assert_eq!((&plan.pool.retry_budget, plan.pool.max_retries), (&None, 4));
    // The number of retries is the budget's: maxRetries beside it is said to be without effect.
    let sim =
        Sim::of(rule(&format!("{budget}, connectionPool: {{http: {{maxRetries: 4}}}}")).trim_start_matches("---"));
    let compiled = sim.compile("a-1");
    let fate = compiled.account.fates().find(|f| f.field.ends_with("http.maxRetries")).unwrap();
    assert_eq!(fate.outcome, Outcome::Overridden { by: "retryBudget".into() });
}

#[test]
fn limits_towards_the_own_application() {
    let at = |n: u32| format!("connectionPool: {{tcp: {{maxConnections: {n}}}}}");
    let inbound = |yaml: &str| {
        let plan = cluster(yaml, "b-1", "inbound|8081||");
        (plan.pool.max_connections, plan.pool_origin.field.to_string())
    };
    let yaml = mesh(&format!("defaultTrafficPolicy: {{{}}}", at(1)));
    assert_eq!(inbound(&yaml), (1, "spec.defaultTrafficPolicy.connectionPool".into()));
    let yaml = yaml + &rule(&at(2));
    assert_eq!(inbound(&yaml), (2, "spec.trafficPolicy.connectionPool".into()));
    let by_port = rule(&format!("portLevelSettings: [{{port: {{number: 8080}}, {}}}]", at(3)));
    assert_eq!(inbound(&by_port), (3, "spec.trafficPolicy.portLevelSettings[0].connectionPool".into()));
    // A rule for single clients is none for the server.
    let selecting = doc(
        "DestinationRule",
        "name: q, namespace: ns",
        &format!("host: b, workloadSelector: {{matchLabels: {{app: b}}}}, trafficPolicy: {{{}}}", at(9)),
    );
    assert_eq!(inbound(&(selecting + &yaml)).0, 2);
    let of_sidecar = "inboundConnectionPool: {tcp: {maxConnections: 4}}";
    let sidecar = |more: &str| doc("Sidecar", "name: s, namespace: ns", &format!("{of_sidecar}{more}"));
    let with = yaml.clone() + &sidecar("");
    assert_eq!(inbound(&with), (4, "spec.inboundConnectionPool".into()));
    let ingress = format!(", ingress: [{{port: {{number: 8081, protocol: HTTP}}, {}}}]", at(5));
    let with = yaml + &sidecar(&ingress);
    assert_eq!(inbound(&with), (5, "spec.ingress[0].connectionPool".into()));
    let sim = Sim::of(with.trim_start_matches("---"));
    let compiled = sim.compile("b-1");
    let fate = compiled.account.fates().find(|f| &*f.field == "spec.inboundConnectionPool").unwrap();
    assert_eq!(fate.outcome, Outcome::Overridden { by: "connectionPool of each ingress".into() });
}

#[test]
fn retries_towards_the_own_application() {
    let of = |yaml: &str| {
        let snapshot = Sim::of(yaml.trim_start_matches("---")).compile("b-1").snapshot;
        let listener = snapshot.inbound(8081);
        let routes = &listener.http.as_ref().unwrap().routes;
        let host = routes.virtual_hosts().next().unwrap().clone();
        host.routes[0].retry.as_ref().map(ToString::to_string)
    };
    assert_eq!(of("").as_deref(), Some("2 on reset-before-request, back-off from 25ms"));
    let policy = "attempts: 4, retryOn: \"connect-failure,503\", backoff: 1s, perTryTimeout: 9s, retryIgnorePreviousHosts: false";
    let yaml = mesh(&format!("defaultInboundHttpRetryPolicy: {{{policy}}}"));
    assert_eq!(of(&yaml).as_deref(), Some("4 on connect-failure,503, back-off from 1s"));
    assert_eq!(of(&mesh("defaultInboundHttpRetryPolicy: {attempts: 0}")), None);
    assert_eq!(
        of(&mesh("defaultInboundHttpRetryPolicy: {attempts: 3}")).as_deref(),
        Some("3 on reset-before-request, back-off from 25ms")
    );
}
