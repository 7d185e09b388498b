//! Fields one by one: what is written, and what is then in the plan. Without the field it is not there.

use crate::compile::sim::Sim;
use crate::snapshot::ListenerKey;

/// Everything that a proxy has in force, as text.
fn plan(yaml: &str, proxy: &str) -> String {
    let snapshot = Sim::of(yaml).compile(proxy).snapshot;
    let mut listeners: Vec<_> = snapshot.listeners.iter().collect();
    listeners.sort_by_key(|(k, _): &(&ListenerKey, _)| **k);
    let mut clusters: Vec<_> = snapshot.clusters.values().collect();
    clusters.sort_by(|a, b| a.name.cmp(&b.name));
    format!("{:?} {listeners:?} {clusters:?}", snapshot.proxy)
}

/// Each row: what is written, and a part of the plan that comes from it.
fn rows(proxy: &str, without: &str, rows: &[(&str, &str)], write: impl Fn(&str) -> String) {
    let before = plan(without, proxy);
    for (written, part) in rows {
        assert!(!before.contains(part), "{part} is there without {written}");
        let after = plan(&write(written), proxy);
        assert!(after.contains(part), "{written}: no {part}");
    }
}

fn settings(text: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    {}\n",
        text.replace('\n', "\n    ")
    )
}

#[test]
fn settings_of_the_mesh() {
    let table = [
        ("accessLogFile: /dev/stdout", "access_log: true"),
        ("accessLogEncoding: JSON", "access_log_json: true"),
        ("accessLogFormat: '%PROTOCOL%'", "access_log_format: Some(\"%PROTOCOL%\")"),
        ("disableEnvoyListenerLog: true", "listener_log: false"),
        ("protocolDetectionTimeout: 77s", "detection_timeout: Some(77s)"),
        ("outboundTrafficPolicy: {mode: REGISTRY_ONLY}", "allow_any: false"),
        (
            "outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: b.ns.svc.cluster.local, subset: v7, port: {number: 8080}}}",
            "outbound|8080|v7|b.ns",
        ),
        ("connectTimeout: 77s", "77s"),
        ("tcpKeepalive: {probes: 7, time: 76s, interval: 75s}", "probes: Some(7)"),
        ("tcpKeepalive: {probes: 7, time: 76s, interval: 75s}", "76s"),
        ("tcpKeepalive: {probes: 7, time: 76s, interval: 75s}", "75s"),
        ("defaultHttpRetryPolicy: {attempts: 7, retryOn: reset}", "attempts: 7"),
        ("defaultHttpRetryPolicy: {attempts: 7, retryOn: reset}", "reset: true"),
        ("defaultHttpRetryPolicy: {attempts: 7, perTryTimeout: 77s}", "per_try_timeout: Some(77s)"),
        ("defaultHttpRetryPolicy: {attempts: 7, backoff: 77s}", "backoff: 77s"),
        ("defaultHttpRetryPolicy: {attempts: 7, retryRemoteLocalities: true}", "remote_localities: true"),
        (
            "defaultHttpRetryPolicy: {attempts: 7, retryIgnorePreviousHosts: false}",
            "ignore_previous_hosts: Some(false)",
        ),
        ("defaultInboundHttpRetryPolicy: {attempts: 7, retryOn: reset}", "attempts: 7"),
        ("defaultInboundHttpRetryPolicy: {attempts: 7, retryOn: reset}", "reset: true"),
        ("defaultInboundHttpRetryPolicy: {attempts: 7, backoff: 77s}", "backoff: 77s"),
    ];
    rows("a-1", "", &table, settings);
    let entry = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e, namespace: ns}\nspec: {hosts: [x.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}\n";
    let beside = |text: &str| format!("{entry}---\n{}", settings(text));
    rows("a-1", entry, &[("dnsRefreshRate: 77s", "retry: 77s")], beside);
}

#[test]
fn settings_of_the_proxy() {
    let config = |text: &str| settings(&format!("defaultConfig: {{{text}}}"));
    let table = [
        ("drainDuration: 77s", "drain_duration: 77s"),
        ("terminationDrainDuration: 77s", "termination_drain_duration: 77s"),
        ("proxyHeaders: {server: {value: seven}}", "Overwrite(\"seven\")"),
        ("proxyHeaders: {server: {disabled: true}}", "server: PassThrough"),
        ("proxyHeaders: {requestId: {disabled: true}}", "request_id: false"),
        ("proxyHeaders: {xForwardedPort: {enabled: true}}", "forwarded_port: true"),
        ("proxyHeaders: {forwardedClientCert: ALWAYS_FORWARD_ONLY}", "client_cert: AlwaysForwardOnly"),
        (
            "proxyHeaders: {setCurrentClientCertDetails: {subject: false}}",
            "{ subject: false, cert: false, chain: false, uri: true, dns: true }",
        ),
        (
            "proxyHeaders: {setCurrentClientCertDetails: {cert: true}}",
            "{ subject: true, cert: true, chain: false, uri: true, dns: true }",
        ),
        (
            "proxyHeaders: {setCurrentClientCertDetails: {chain: true}}",
            "{ subject: true, cert: false, chain: true, uri: true, dns: true }",
        ),
        (
            "proxyHeaders: {setCurrentClientCertDetails: {uri: false}}",
            "{ subject: true, cert: false, chain: false, uri: false, dns: true }",
        ),
        (
            "proxyHeaders: {setCurrentClientCertDetails: {dns: false}}",
            "{ subject: true, cert: false, chain: false, uri: true, dns: false }",
        ),
        ("proxyHeaders: {preserveHttp1HeaderCase: true}", "preserve_case: true"),
        ("proxyMetadata: {ISTIO_META_HTTP10: '1'}", "http10: true"),
        ("proxyMetadata: {ISTIO_META_IDLE_TIMEOUT: 77s}", "idle_timeout: Some(77s)"),
        ("connectionSettings: {httpHeadersWithUnderscoresAction: DROP_HEADER}", "underscores: Drop"),
        ("connectionSettings: {httpPathWithEscapedSlashesAction: REJECT_REQUEST}", "escaped_slashes: Reject"),
        ("connectionSettings: {httpRequestHeadersTimeout: 77s}", "headers_timeout: Some(77s)"),
        ("connectionSettings: {httpIdleTimeout: 77s}", "idle_timeout: Some(77s)"),
        ("connectionSettings: {httpMaxConnectionDuration: 77s}", "max_connection_duration: Some(77s)"),
        ("connectionSettings: {httpDrainTimeout: 77s}", "drain_timeout: 77s"),
        ("connectionSettings: {httpRequestTimeout: 77s}", "request_timeout: Some(77s)"),
        ("connectionSettings: {httpStreamIdleTimeout: 77s}", "stream_idle_timeout: Some(77s)"),
        ("connectionSettings: {httpMaxStreamDuration: 77s}", "max_stream_duration: Some(77s)"),
        ("connectionSettings: {perConnectionBufferLimitBytes: 7777}", "buffer_limit: Some(7777)"),
        ("connectionSettings: {http2MaxConcurrentStreams: 77}", "max_streams: 77"),
        ("connectionSettings: {http2InitialStreamWindowSize: 77777}", "stream_window: 77777"),
        ("connectionSettings: {http2InitialConnectionWindowSize: 77777}", "connection_window: 77777"),
        ("connectionSettings: {profile: EDGE}", "underscores: Reject"),
        ("connectionSettings: {httpMergeSlashes: true}", "MergeSlashes"),
    ];
    rows("a-1", "", &table, config);
}

fn vs(http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v, namespace: ns}}\nspec: {{hosts: [b], http: [{{{http}}}]}}\n"
    )
}

#[test]
fn what_rules_do_beside_forwarding() {
    let to = "route: [{destination: {host: b}}]";
    let rule = |text: &str| vs(&format!("{to}, {text}"));
    let table = [
        ("corsPolicy: {allowOrigins: [{exact: 'http://one'}]}", "http://one"),
        ("corsPolicy: {allowOrigins: [{prefix: 'http://two'}]}", "http://two"),
        ("corsPolicy: {allowOrigins: [{regex: 'http://three.*'}]}", "http://three.*"),
        ("corsPolicy: {allowOrigin: ['http://four']}", "http://four"),
        ("corsPolicy: {allowMethods: [GET, PUT]}", "allow_methods: Some(\"GET,PUT\")"),
        ("corsPolicy: {allowHeaders: [x-a, x-b]}", "allow_headers: Some(\"x-a,x-b\")"),
        ("corsPolicy: {exposeHeaders: [x-c]}", "expose_headers: Some(\"x-c\")"),
        ("corsPolicy: {maxAge: 77s}", "max_age: Some(77)"),
        ("corsPolicy: {allowCredentials: true}", "allow_credentials: true"),
        ("corsPolicy: {allowMethods: [GET], unmatchedPreflights: IGNORE}", "forward_unmatched: false"),
        (
            "mirror: {host: c.other.svc.cluster.local}",
            "MirrorPlan { cluster: \"outbound|8080||c.other.svc.cluster.local\"",
        ),
        ("mirror: {host: b, port: {number: 8080}, subset: v7}", "MirrorPlan { cluster: \"outbound|8080|v7|b.ns"),
        ("mirrors: [{destination: {host: a}}]", "MirrorPlan { cluster: \"outbound|8080||a.ns"),
        (
            "mirrors: [{destination: {host: b, port: {number: 8080}, subset: v7}}]",
            "MirrorPlan { cluster: \"outbound|8080|v7|b.ns",
        ),
        ("match: [{statPrefix: mine}]", "prefix: \"mine\""),
        ("retries: {attempts: 7}", "attempts: 7"),
        ("retries: {attempts: 7, retryOn: reset}", "reset: true"),
        ("retries: {attempts: 7, perTryTimeout: 77s}", "per_try_timeout: Some(77s)"),
        ("retries: {attempts: 7, backoff: 77s}", "backoff: 77s"),
        ("retries: {attempts: 7, retryRemoteLocalities: true}", "remote_localities: true"),
        ("retries: {attempts: 7, retryIgnorePreviousHosts: false}", "ignore_previous_hosts: Some(false)"),
        ("timeout: 77s", "77s"),
        ("name: seven", "seven"),
        ("match: [{name: seven}]", "seven"),
    ];
    rows("a-1", &vs(to), &table, rule);
    let answer = |text: &str| vs(&format!("directResponse: {{{text}}}"));
    let table = [
        ("status: 418", "418"),
        ("status: 200, body: {string: seven}", "seven"),
        ("status: 200, body: {bytes: c2V2ZW4=}", "seven"),
    ];
    rows("a-1", &vs(to), &table, answer);
}

/// Requests to `b` over HTTP, and over HTTPS as somebody before the proxy says; which of them a scheme picks.
#[test]
fn schemes() {
    for (scheme, http) in [
        ("exact: http", true),
        ("exact: https", false),
        ("prefix: ht", true),
        ("prefix: https", false),
        ("regex: 'http.'", false),
        ("regex: 'htt.'", true),
    ] {
        let rules = format!(
            "match: [{{scheme: {{{scheme}}}}}], directResponse: {{status: 418}}}}, {{route: [{{destination: {{host: b}}}}]"
        );
        let expected = if http { "418 \"\"" } else { "8080||b.ns" };
        assert_eq!(Sim::of(&vs(&rules)).request("a-1", "GET http://b:8080/"), expected, "{scheme}");
    }
}

/// Objects without `exportTo` are for whom the mesh says.
#[test]
fn visibility_by_default() {
    let rule = vs("route: [{destination: {host: a}}]")
        .replace("namespace: ns", "namespace: other")
        .replace("[b]", "[b.ns.svc.cluster.local]")
        .replace("host: a", "host: a.ns.svc.cluster.local");
    let ask = |yaml: &str| Sim::of(yaml).request("a-1", "GET http://b:8080/");
    assert_eq!(ask(&rule), "8080||a.ns");
    assert_eq!(ask(&format!("{rule}---\n{}", settings("defaultVirtualServiceExportTo: ['.']"))), "8080||b.ns");
    let other = |yaml: &str| Sim::of(yaml).request("a-1", "GET http://c.other:8080/");
    assert_eq!(other(""), "8080||c.other");
    assert_eq!(other(&settings("defaultServiceExportTo: ['.']")), "PassthroughCluster");
    let limit = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d, namespace: other}\nspec: {host: b.ns.svc.cluster.local, trafficPolicy: {connectionPool: {tcp: {maxConnections: 7777}}}}\n";
    let root = limit.replace("namespace: other", "namespace: istio-system");
    assert!(plan(&root, "a-1").contains("7777"), "the root namespace is for everybody");
    assert!(
        !plan(&format!("{root}---\n{}", settings("defaultDestinationRuleExportTo: ['.']")), "a-1").contains("7777")
    );
    let moved = format!("{root}---\n{}", settings("rootNamespace: elsewhere"));
    assert!(!plan(&moved, "a-1").contains("7777"));
}

#[test]
fn namespaces_that_are_read() {
    let named = "apiVersion: v1\nkind: Namespace\nmetadata: {name: ns, labels: {team: a}}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: other, labels: {team: b}}\n---\n";
    let ask = |selectors: &str| {
        let yaml = format!("{named}{}", settings(&format!("discoverySelectors: [{selectors}]")));
        Sim::of(&yaml).request("a-1", "GET http://c.other:8080/")
    };
    assert_eq!(ask("{matchLabels: {team: a}}, {matchLabels: {team: b}}"), "8080||c.other");
    assert_eq!(ask("{matchLabels: {team: a}}"), "PassthroughCluster");
    let with = |operator: &str, values: &str| {
        ask(&format!("{{matchExpressions: [{{key: team, operator: {operator}{values}}}]}}"))
    };
    assert_eq!(with("In", ", values: [a, b]"), "8080||c.other");
    assert_eq!(with("NotIn", ", values: [b]"), "PassthroughCluster");
    assert_eq!(with("Exists", ""), "8080||c.other");
}

/// An instance that Kubernetes does not know: what is written, and what is then in the model.
#[test]
fn instances_outside() {
    let instances = |entry: &str| {
        let yaml = format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: w, namespace: ns}}\nspec: {{address: 10.7.7.7, {entry}}}\n"
        );
        let sim = Sim::of(&yaml);
        sim.world.workloads().iter().filter(|w| w.name.starts_with('w')).map(|w| format!("{w:?}")).collect::<String>()
    };
    let listed = |entry: &str| {
        let yaml = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: ns}}\nspec: {{hosts: [x.example.com], resolution: STATIC, ports: [{{number: 80, name: http, protocol: HTTP}}], endpoints: [{{address: 10.7.7.7, {entry}}}]}}\n"
        );
        let sim = Sim::of(&yaml);
        sim.world.services_of_host("x.example.com").iter().map(|s| format!("{s:?}")).collect::<String>()
    };
    for (entry, part) in [
        ("labels: {tier: seven}", "\"tier\": \"seven\""),
        ("locality: r7/z7", "locality: \"r7/z7\""),
        ("network: seven", "network: \"seven\""),
        ("ports: {http: 7777}", "\"http\": 7777"),
        ("weight: 77", "weight: 77"),
        ("serviceAccount: seven", "service_account: \"seven\""),
    ] {
        for found in [(instances(""), instances(entry)), (listed(""), listed(entry))] {
            assert!(
                found.0.contains("10.7.7.7") && !found.0.contains(part) && found.1.contains(part),
                "{entry}: {found:?}"
            );
        }
    }
}

/// ServiceEntries: whom they are for, which side of the mesh they are on, whose pods they mean.
#[test]
fn services_outside() {
    let entry = |text: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: other}}\nspec: {{hosts: [x.example.com], ports: [{{number: 8080, name: http, protocol: HTTP}}], {text}}}\n"
        )
    };
    let ask = |yaml: &str| Sim::of(yaml).request("a-1", "GET http://x.example.com:8080/");
    assert_eq!(ask(&entry("resolution: DNS")), "8080||x.example.com");
    assert_eq!(ask(&entry("resolution: DNS, exportTo: ['.']")), "PassthroughCluster");
    let table = [("location: MESH_INTERNAL, resolution: DNS", "external: false, subset: \"\"")];
    let x = |yaml: &str| {
        let compiled = Sim::of(yaml).compile("a-1");
        format!("{:?}", compiled.snapshot.clusters["outbound|8080||x.example.com"])
    };
    for (text, part) in table {
        assert!(
            x(&entry(text)).contains(part) && !x(&entry("location: MESH_EXTERNAL, resolution: DNS")).contains(part)
        );
    }
    let of = |labels: &str| {
        let sim = Sim::of(&entry(&format!("resolution: STATIC, workloadSelector: {{labels: {{{labels}}}}}")));
        let snapshot = sim.compile("a-1").snapshot;
        crate::endpoints::endpoints(&sim.world, &snapshot.clusters["outbound|8080||x.example.com"]).len()
    };
    assert_eq!((of("app: c"), of("app: nobody")), (1, 0));
}
