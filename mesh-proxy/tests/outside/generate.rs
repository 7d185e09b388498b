//! Configurations, over every field that decides HTTP routing.

#[path = "generate/rules.rs"]
pub(crate) mod rules;

use serde_json::{Value, json};

use super::lab::{Block, GATEWAY_PORTS};
use super::rng::Rng;
use super::topology;

/// Text of the access log's lines.
pub(crate) const LOG: &str = r#"{"agent": "%REQ(USER-AGENT)%", "remote": "%DOWNSTREAM_REMOTE_ADDRESS%", "route": "%ROUTE_NAME%",
 "config": "%MESH_CONFIG%", "origin": "%MESH_ROUTE_ORIGIN%", "code": "%RESPONSE_CODE%", "flags": "%RESPONSE_FLAGS%", "details": "%RESPONSE_CODE_DETAILS%",
 "cluster": "%UPSTREAM_CLUSTER_RAW%", "host": "%UPSTREAM_HOST%"}"#;

/// Hosts of VirtualServices; the last ones are no services.
const HOSTS: [&str; 17] = [
    "srv",
    "srv.shop.svc.cluster.local",
    "SRV.shop.svc.cluster.local",
    "back.back.svc.cluster.local",
    "side.shop.svc.cluster.local",
    "auto.back.svc.cluster.local",
    "rpc.other.svc.cluster.local",
    "*.shop.svc.cluster.local",
    "*.svc.cluster.local",
    "headless",
    "ext.example.com",
    "*.example.com",
    "*.com",
    "a.example.com",
    "nobody.example.org",
    "*",
    "*",
];

const TIMES: [&str; 3] = ["2024-01-01T00:00:00Z", "2024-06-01T00:00:00Z", "2025-01-01T00:00:00Z"];

/// A configuration: the documents that are always there, and those that were made up.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) fixed: Vec<Value>,
    pub(crate) made: Vec<Value>,
}

impl Config {
    pub(crate) fn documents(&self) -> Vec<Value> {
        self.fixed.iter().chain(&self.made).cloned().collect()
    }
}

/// One configuration.
pub(crate) fn config(rng: &mut Rng, block: &Block) -> Config {
    let mut made = vec![settings(rng)];
    made.extend(gateways(rng));
    for i in 0..1 + rng.below(5) {
        made.push(virtual_service(rng, i));
    }
    made.extend(delegates(rng));
    made.extend(destination_rules(rng));
    if rng.percent(20) {
        made.push(bytes(rng));
    }
    if rng.percent(25) {
        made.extend(service_entry(rng, block));
    }
    if rng.percent(20) {
        made.push(sidecar(rng));
    }
    let mut fixed = topology::documents(block);
    if rng.percent(15) {
        vary_services(rng, &mut fixed);
    }
    Config { fixed, made }
}

pub(crate) fn object(kind: &str, namespace: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    })
}

fn aged(rng: &mut Rng, mut object: Value) -> Value {
    if rng.percent(70) {
        object["metadata"]["creationTimestamp"] = rng.pick(&TIMES).into();
    }
    object
}

/// Sets a field in some of a hundred cases.
pub(crate) fn maybe(rng: &mut Rng, percent: usize, of: &mut Value, field: &str, make: impl FnOnce(&mut Rng) -> Value) {
    if rng.percent(percent) {
        of[field] = make(rng);
    }
}

fn export_to(rng: &mut Rng) -> Value {
    let lists: [&[&str]; 6] = [&["*"], &["."], &["shop"], &["other", "istio-system"], &["shop", "back"], &["."]];
    json!(rng.pick(&lists))
}

/// The mesh's settings. The access log is always there: it is observed.
fn settings(rng: &mut Rng) -> Value {
    let mut mesh = json!({"accessLogFile": "/dev/stdout", "accessLogEncoding": "JSON", "accessLogFormat": LOG});
    maybe(rng, 30, &mut mesh, "outboundTrafficPolicy", |r| json!({"mode": r.pick(&["REGISTRY_ONLY", "ALLOW_ANY"])}));
    maybe(
        rng,
        40,
        &mut mesh,
        "pathNormalization",
        |r| json!({"normalization": r.pick(&["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"])}),
    );
    maybe(rng, 20, &mut mesh, "defaultHttpRetryPolicy", |r| match r.below(3) {
        0 => json!({"attempts": 0}),
        1 => json!({"attempts": 1, "retryOn": "5xx", "backoff": "0.001s"}),
        _ => json!({"attempts": 3, "retryOn": "gateway-error,retriable-4xx", "backoff": "0.001s"}),
    });
    let visible = |r: &mut Rng| json!([r.pick(&["*", ".", "shop"])]);
    maybe(rng, 8, &mut mesh, "defaultVirtualServiceExportTo", visible);
    maybe(rng, 5, &mut mesh, "defaultDestinationRuleExportTo", visible);
    maybe(rng, 5, &mut mesh, "defaultServiceExportTo", visible);
    maybe(rng, 15, &mut mesh, "defaultConfig", |r| match r.below(3) {
        0 => json!({"proxyHeaders": {"attemptCount": {"disabled": true}}}),
        1 => json!({"proxyHeaders": {"server": {"value": "mesh"}}}),
        _ => json!({"gatewayTopology": {"numTrustedProxies": 1}}),
    });
    maybe(rng, 25, &mut mesh, "h2UpgradePolicy", |r| json!(r.pick(&["UPGRADE", "DO_NOT_UPGRADE"])));
    maybe(rng, 8, &mut mesh, "connectTimeout", |_| json!("12s"));
    maybe(rng, 10, &mut mesh, "defaultTrafficPolicy", |r| json!({"connectionPool": pool(r)}));
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": mesh_core::yaml::to_yaml(&mesh)},
    })
}

fn gateways(rng: &mut Rng) -> Vec<Value> {
    let hosts: [&[&str]; 8] = [
        &["*"],
        &["*"],
        &["srv.shop.svc.cluster.local", "a.example.com"],
        &["*.example.com"],
        &["shop/*"],
        &["./a.example.com", "back/*"],
        &["*.svc.cluster.local"],
        &["*.com", "other/nobody.example.org"],
    ];
    let mut out = Vec::new();
    for (namespace, name) in [("shop", "gw1"), ("istio-system", "gw2")] {
        if !rng.percent(80) {
            continue;
        }
        let mut servers = Vec::new();
        for (i, port) in rng.some(&GATEWAY_PORTS, 3).into_iter().enumerate() {
            let mut server = json!({
                "port": {"number": port, "name": format!("http-{i}"), "protocol": rng.pick(&["HTTP", "HTTP2", "GRPC"])},
                "hosts": rng.pick(&hosts),
            });
            maybe(rng, 6, &mut server, "tls", |_| json!({"httpsRedirect": true}));
            servers.push(server);
        }
        let ingress = if rng.percent(95) { "ingressgateway" } else { "another" };
        let spec = json!({"selector": {"istio": ingress}, "servers": servers});
        let gateway = object("Gateway", namespace, name, spec);
        out.push(aged(rng, gateway));
    }
    out
}

fn virtual_service(rng: &mut Rng, index: usize) -> Value {
    let namespace = rng.pick(&["shop", "shop", "shop", "back", "other", "istio-system"]);
    let mut hosts = rng.some(&HOSTS, 2);
    let lists: [&[&str]; 9] = [
        &[],
        &[],
        &["mesh"],
        &["gw1"],
        &["shop/gw1"],
        &["istio-system/gw2"],
        &["shop/gw1", "mesh"],
        &["./gw1", "istio-system/gw2"],
        &["mesh", "istio-system/gw2", "shop/gw1"],
    ];
    let gateways = rng.pick(&lists);
    if hosts.contains(&"*") {
        // Not for sidecars, and nothing beside it.
        hosts = vec!["*"];
    }
    let gateways = match (hosts[0], gateways) {
        ("*", list) if list.is_empty() || list.contains(&"mesh") => &["shop/gw1", "istio-system/gw2"][..],
        (_, list) => list,
    };
    let mut spec = json!({"hosts": hosts});
    if !gateways.is_empty() {
        spec["gateways"] = json!(gateways);
    }
    maybe(rng, 25, &mut spec, "exportTo", export_to);
    spec["http"] = rules::http(rng, true);
    let object = object("VirtualService", namespace, &format!("vs-{index}"), spec);
    aged(rng, object)
}

/// Rules for a port that carries bytes.
fn bytes(rng: &mut Rng) -> Value {
    let to = rng.pick(&[("back.back.svc.cluster.local", 80), ("srv.shop.svc.cluster.local", 8081), ("dead.shop", 80)]);
    let host = if to.0 == "dead.shop" { "dead.shop.svc.cluster.local" } else { to.0 };
    let mut rule = json!({"route": [{"destination": {"host": host, "port": {"number": to.1}}}]});
    maybe(rng, 60, &mut rule, "match", |r| match r.below(4) {
        0 => json!([{"port": 9001}]),
        1 => json!([{"port": r.pick(&[9001, 9002]), "sourceLabels": {"app": r.pick(&["front", "cron"])}}]),
        2 => json!([{"sourceNamespace": r.pick(&["shop", "other"])}]),
        _ => json!([{"gateways": [r.pick(&["mesh", "shop/gw1"])]}]),
    });
    let object = object("VirtualService", "back", "bytes", json!({"hosts": ["raw"], "tcp": [rule]}));
    aged(rng, object)
}

/// A host outside, with addresses of its own, those of workloads, or the ones that clients dial.
fn service_entry(rng: &mut Rng, block: &Block) -> Vec<Value> {
    let host = rng.pick(&["a.example.com", "nobody.example.org", "*.example.org", "b.example.com"]);
    let namespace = rng.pick(&["shop", "other"]);
    let protocol = rng.pick(&["HTTP", "HTTP", "HTTP2"]);
    let mut spec = json!({
        "hosts": [host],
        "ports": [{"number": rng.pick(&[80, 80, 8081]), "name": "web", "protocol": protocol, "targetPort": 8080}],
        "location": rng.pick(&["MESH_EXTERNAL", "MESH_INTERNAL"]),
    });
    maybe(rng, 25, &mut spec, "exportTo", export_to);
    let mut out = Vec::new();
    let address = |last: u8| json!(block.ip(last).to_string());
    match rng.below(3) {
        0 => spec["resolution"] = json!("NONE"),
        1 => {
            spec["resolution"] = json!("STATIC");
            spec["endpoints"] = json!([{"address": address(51), "weight": rng.pick(&[1, 3])}]);
        }
        _ => {
            spec["resolution"] = json!("STATIC");
            spec["workloadSelector"] = json!({"labels": {"app": "outside"}});
            let entry = json!({"address": address(52), "labels": {"app": rng.pick(&["outside", "outside", "other"])}});
            out.push(object("WorkloadEntry", namespace, "vm", entry));
        }
    }
    out.push(object("ServiceEntry", namespace, "more", spec));
    out
}

fn delegates(rng: &mut Rng) -> Vec<Value> {
    let mut out = Vec::new();
    for (namespace, name) in [("shop", "del-1"), ("back", "del-2")] {
        if rng.percent(75) {
            let mut spec = json!({"http": rules::http(rng, false)});
            maybe(rng, 15, &mut spec, "exportTo", export_to);
            out.push(object("VirtualService", namespace, name, spec));
        }
    }
    out
}

fn subsets(rng: &mut Rng) -> Value {
    let mut list = Vec::new();
    for version in ["v1", "v2", "v3"] {
        if rng.percent(85) {
            let labels = if rng.percent(90) { json!({"version": version}) } else { json!({"version": "v2"}) };
            let mut subset = json!({"name": version, "labels": labels});
            maybe(rng, 15, &mut subset, "trafficPolicy", policy);
            list.push(subset);
        }
    }
    list.push(json!({"name": "all"}));
    Value::Array(list)
}

fn policy(rng: &mut Rng) -> Value {
    let mut out = json!({});
    out["loadBalancer"] = match rng.below(10) {
        0 => json!({"consistentHash": {"httpHeaderName": "x-a"}}),
        1 => json!({"consistentHash": {"httpQueryParameterName": "k", "maglev": {"tableSize": 1009}}}),
        2 => json!({"consistentHash": {"useSourceIp": true, "ringHash": {"minimumRingSize": 64}}}),
        3 => json!({"simple": "ROUND_ROBIN", "warmup": {"duration": "1s"}, "localityLbSetting": {"enabled": false}}),
        _ => json!({"simple": rng.pick(&["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "UNSPECIFIED"])}),
    };
    maybe(rng, 40, &mut out, "connectionPool", pool);
    // With fewer than ten endpoints nothing is ever ejected.
    maybe(
        rng,
        15,
        &mut out,
        "outlierDetection",
        |r| json!({"consecutive5xxErrors": r.pick(&[0, 1, 5]), "interval": "60s", "baseEjectionTime": "60s"}),
    );
    out
}

/// Limits that are never reached, so that each request has one outcome; and what shows in the protocol.
fn pool(rng: &mut Rng) -> Value {
    let mut out = json!({});
    maybe(rng, 60, &mut out, "tcp", |r| {
        let mut tcp = json!({"connectTimeout": r.pick(&["15s", "20s"])});
        maybe(r, 30, &mut tcp, "maxConnections", |r| json!(r.pick(&[500, 1000])));
        maybe(r, 30, &mut tcp, "idleTimeout", |_| json!("600s"));
        maybe(r, 20, &mut tcp, "maxConnectionDuration", |_| json!("3600s"));
        maybe(r, 20, &mut tcp, "tcpKeepalive", |_| json!({"time": "60s", "interval": "10s", "probes": 3}));
        tcp
    });
    if rng.percent(60) || out == json!({}) {
        let mut http = json!({"idleTimeout": "300s"});
        match rng.below(4) {
            0 | 2 => http["h2UpgradePolicy"] = json!(rng.pick(&["UPGRADE", "DO_NOT_UPGRADE", "DEFAULT"])),
            1 => http["useClientProtocol"] = json!(true),
            _ => {}
        }
        maybe(rng, 30, &mut http, "maxRequestsPerConnection", |r| json!(r.pick(&[0, 1, 2])));
        maybe(rng, 30, &mut http, "http1MaxPendingRequests", |_| json!(1000));
        maybe(rng, 30, &mut http, "http2MaxRequests", |_| json!(1000));
        maybe(rng, 30, &mut http, "maxRetries", |_| json!(100));
        maybe(rng, 30, &mut http, "maxConcurrentStreams", |_| json!(100));
        maybe(rng, 20, &mut http, "http2KeepAlive", |_| json!({"interval": "60s", "timeout": "10s"}));
        out["http"] = http;
    }
    out
}

fn destination_rules(rng: &mut Rng) -> Vec<Value> {
    let mut out = Vec::new();
    for i in 0..rng.below(4) {
        let host =
            rng.pick(&["srv", "srv.shop.svc.cluster.local", "back.back.svc.cluster.local", "*.shop.svc.cluster.local"]);
        let namespace = rng.pick(&["shop", "back", "other", "istio-system"]);
        let mut spec = json!({"host": host, "subsets": subsets(rng)});
        maybe(rng, 40, &mut spec, "trafficPolicy", |r| {
            let mut all = policy(r);
            if r.percent(40) {
                let mut port = policy(r);
                port["port"] = json!({"number": r.pick(&[80, 8081])});
                all["portLevelSettings"] = json!([port]);
            }
            all
        });
        maybe(rng, 25, &mut spec, "exportTo", export_to);
        let rule = object("DestinationRule", namespace, &format!("dr-{i}"), spec);
        out.push(aged(rng, rule));
    }
    for (namespace, host) in [("shop", "srv"), ("back", "back")] {
        if rng.percent(80) {
            out.push(object("DestinationRule", namespace, host, json!({"host": host, "subsets": subsets(rng)})));
        }
    }
    out
}

fn sidecar(rng: &mut Rng) -> Value {
    let lists: [&[&str]; 6] = [
        &["*/*"],
        &["./*"],
        &["./*", "back/*"],
        &["*/back.back.svc.cluster.local", "*/*.example.com"],
        &["~/*"],
        &["*/*", "~back/back.back.svc.cluster.local"],
    ];
    let mut egress = Vec::new();
    if rng.percent(25) {
        egress.push(json!({
            "port": {"number": 80, "name": "http", "protocol": "HTTP"},
            "hosts": rng.pick(&lists),
        }));
    }
    egress.push(json!({"hosts": rng.pick(&lists)}));
    let mut spec = json!({"egress": egress});
    maybe(rng, 40, &mut spec, "workloadSelector", |r| json!({"labels": {"app": r.pick(&["front", "cron", "none"])}}));
    maybe(rng, 20, &mut spec, "inboundConnectionPool", pool);
    maybe(rng, 60, &mut spec, "outboundTrafficPolicy", |r| match r.below(4) {
        0 => json!({"mode": "REGISTRY_ONLY"}),
        1 => json!({"mode": "ALLOW_ANY"}),
        _ => {
            let to = json!({"host": "back.back.svc.cluster.local", "port": {"number": 80}});
            json!({"mode": "ALLOW_ANY", "egressProxy": to})
        }
    });
    let namespace = rng.pick(&["shop", "shop", "other", "istio-system"]);
    object("Sidecar", namespace, "limits", spec)
}

/// Other protocols of ports, other visibility of services.
fn vary_services(rng: &mut Rng, docs: &mut [Value]) {
    let of =
        |docs: &[Value], name: &str| docs.iter().position(|d| d["kind"] == "Service" && d["metadata"]["name"] == name);
    let (srv, back) = (of(docs, "srv").unwrap(), of(docs, "back").unwrap());
    match rng.below(4) {
        0 => docs[srv]["spec"]["ports"][1]["name"] = json!("plain"),
        1 => docs[srv]["spec"]["ports"][1]["appProtocol"] = json!(rng.pick(&["tcp", "http2", "grpc"])),
        2 => {
            docs[back]["metadata"]["annotations"] =
                json!({"networking.istio.io/exportTo": rng.pick(&[".", "shop", "*"])})
        }
        _ => docs[srv]["spec"]["ports"][0]["targetPort"] = json!(8081),
    }
}
