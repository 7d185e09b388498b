//! Configurations, over every field that decides HTTP routing.

#[path = "generate/rules.rs"]
mod rules;

use serde_json::{Map, Value, json};

use super::lab::{Block, GATEWAY_PORTS};
use super::rng::Rng;
use super::topology;

/// Text of the access log's lines.
const LOG: &str = r#"{"agent": "%REQ(USER-AGENT)%", "remote": "%DOWNSTREAM_REMOTE_ADDRESS%", "route": "%ROUTE_NAME%",
 "config": "%MESH_CONFIG%", "origin": "%MESH_ROUTE_ORIGIN%", "code": "%RESPONSE_CODE%", "flags": "%RESPONSE_FLAGS%",
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
        made.push(sidecar(rng));
    }
    let mut fixed = topology::documents(block);
    if rng.percent(15) {
        vary_services(rng, &mut fixed);
    }
    Config { fixed, made }
}

pub(super) fn object(kind: &str, namespace: &str, name: &str, spec: Value) -> Value {
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
pub(super) fn maybe(rng: &mut Rng, percent: usize, of: &mut Value, field: &str, make: impl FnOnce(&mut Rng) -> Value) {
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
    maybe(rng, 10, &mut mesh, "defaultConfig", |_| json!({"gatewayTopology": {"numTrustedProxies": 1}}));
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
    let mut out = Map::new();
    let simple = rng.pick(&["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "UNSPECIFIED"]);
    out.insert("loadBalancer".into(), json!({"simple": simple}));
    if rng.percent(30) {
        out.insert("connectionPool".into(), json!({"tcp": {"connectTimeout": "20s"}}));
    }
    if rng.percent(15) {
        out.insert("connectionPool".into(), json!({"http": {"h2UpgradePolicy": "UPGRADE"}}));
    }
    Value::Object(out)
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
    maybe(rng, 30, &mut spec, "outboundTrafficPolicy", |r| json!({"mode": r.pick(&["REGISTRY_ONLY", "ALLOW_ANY"])}));
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
