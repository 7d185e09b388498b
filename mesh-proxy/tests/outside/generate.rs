//! Configurations, over every field in force.

#[path = "generate/cards.rs"]
mod cards;
#[path = "generate/gateways.rs"]
mod gateways;
#[path = "generate/hosts.rs"]
mod hosts;
#[path = "generate/policies.rs"]
mod policies;
#[path = "generate/rules.rs"]
pub(crate) mod rules;
#[path = "generate/settings.rs"]
mod settings;
#[path = "generate/sidecars.rs"]
mod sidecars;
#[path = "generate/streams.rs"]
mod streams;
#[path = "generate/traffic_policy.rs"]
mod traffic_policy;

pub(crate) use cards::Card;
use serde_json::{Value, json};

use super::lab::Block;
use super::rng::Rng;
use super::topology;

/// Text of the access log's lines.
pub(crate) const LOG: &str = r#"{"agent": "%REQ(USER-AGENT)%", "remote": "%DOWNSTREAM_REMOTE_ADDRESS%", "route": "%ROUTE_NAME%",
 "config": "%MESH_CONFIG%", "origin": "%MESH_ROUTE_ORIGIN%", "code": "%RESPONSE_CODE%", "flags": "%RESPONSE_FLAGS%", "details": "%RESPONSE_CODE_DETAILS%",
 "cluster": "%UPSTREAM_CLUSTER_RAW%", "host": "%UPSTREAM_HOST%", "up": "%UPSTREAM_LOCAL_ADDRESS%",
 "ended": "%CONNECTION_TERMINATION_DETAILS%"}"#;

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
    pub(crate) card: Option<&'static Card>,
}

impl Config {
    pub(crate) fn documents(&self) -> Vec<Value> {
        self.fixed.iter().chain(&self.made).cloned().collect()
    }

    /// All that was made up, and what was varied, as text.
    pub(crate) fn text(&self) -> String {
        self.made.iter().chain(self.fixed.iter().filter(|d| d["kind"] == "Pod")).map(Value::to_string).collect()
    }

    /// The mesh's settings.
    pub(crate) fn mesh(&self) -> Value {
        let text = self.made[0]["data"]["mesh"].as_str().expect("invariant: the settings come first");
        mesh_core::yaml::documents(text).0.remove(0).value
    }
}

/// One configuration.
pub(crate) fn config(rng: &mut Rng, block: &Block) -> Config {
    let mut made = vec![settings::settings(rng, block)];
    made.extend(gateways::gateways(rng, block));
    for i in 0..1 + rng.below(5) {
        made.push(virtual_service(rng, i));
    }
    made.extend(delegates(rng));
    made.extend(traffic_policy::destination_rules(rng, block));
    if rng.percent(30) {
        made.push(streams::bytes(rng, block));
    }
    for i in 0..rng.below(3) {
        made.push(streams::passed_on(rng, block, i));
    }
    if rng.percent(40) {
        made.extend(hosts::service_entry(rng, block));
    }
    let card = cards::deal(rng, block, &mut made);
    // A Sidecar may take away what a card is about.
    if card.is_none() && rng.percent(60) {
        made.push(sidecars::egress(rng, block));
    }
    if rng.percent(25) {
        made.extend(sidecars::ingress(rng, block));
    }
    made.extend(policies::policies(rng, block));
    let mut fixed = topology::documents(block);
    hosts::vary(rng, block, &mut fixed);
    Config { fixed, made, card }
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
#[track_caller]
pub(crate) fn maybe(rng: &mut Rng, percent: usize, of: &mut Value, field: &str, make: impl FnOnce(&mut Rng) -> Value) {
    if rng.percent(percent) {
        of[field] = rng.within(make);
    }
}

fn export_to(rng: &mut Rng) -> Value {
    let lists: [&[&str]; 6] = [&["*"], &["."], &["shop"], &["other", "istio-system"], &["shop", "back"], &["."]];
    json!(rng.pick(&lists))
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
