//! Rules of VirtualServices for bytes and for TLS that is passed on.

use serde_json::{Value, json};

use super::{aged, maybe, object};
use crate::lab::{Block, PORT_TCP};
use crate::rng::Rng;
use crate::topology::NAMES;

/// What takes HTTP as bytes.
const PLAIN: [(&str, &str, u16); 7] = [
    ("back.back.svc.cluster.local", "", 80),
    ("back.back.svc.cluster.local", "v1", 80),
    ("srv.shop.svc.cluster.local", "", 8081),
    ("srv.shop.svc.cluster.local", "v2", 80),
    ("srv.shop.svc.cluster.local", "missing", 80),
    ("dead.shop.svc.cluster.local", "", 80),
    ("raw.back.svc.cluster.local", "", 9001),
];

/// What takes TLS as bytes.
const SECURE: [(&str, &str, u16); 4] = [
    ("secure.back.svc.cluster.local", "", 443),
    ("secure.back.svc.cluster.local", "v1", 443),
    ("one.tls.example", "", 443),
    ("two.tls.example", "", 443),
];

/// Rules for ports that carry bytes: of the service `raw`, and of gateways.
pub(super) fn bytes(rng: &mut Rng, block: &Block) -> Value {
    // At which of its addresses a gateway is dialled, `explain` is not told.
    let of_mesh = rng.percent(65);
    let rules: Vec<Value> = (0..1 + rng.below(2))
        .map(|_| {
            let mut rule = json!({"route": routes(rng, &PLAIN)});
            maybe(rng, 65, &mut rule, "match", |r| {
                let mut m = condition(r, &[9001, 9001, 9002]);
                maybe(r, if of_mesh { 50 } else { 0 }, &mut m, "destinationSubnets", |r| networks(r, block, 106));
                maybe(r, 5, &mut m, "sourceSubnet", |_| json!("10.0.0.0/8"));
                json!([m])
            });
            rule
        })
        .collect();
    let mut spec = json!({"hosts": ["raw"], "tcp": rules});
    if !of_mesh {
        spec["gateways"] = json!(["mesh", "shop/gw1", "istio-system/gw2"]);
        spec["hosts"] = json!(["raw.back.svc.cluster.local"]);
        if rng.percent(40) {
            spec["tcp"] = json!([{"match": [{"port": PORT_TCP}], "route": routes(rng, &PLAIN)}]);
        }
    }
    let object = object("VirtualService", "back", "bytes", spec);
    aged(rng, object)
}

/// Rules for TLS, by the name that the client asks for.
pub(super) fn passed_on(rng: &mut Rng, block: &Block, index: usize) -> Value {
    let names = [NAMES[0], NAMES[1], "*.tls.example", "secure.back.svc.cluster.local"];
    let hosts = rng.some(&names, 2);
    let gateways: [&[&str]; 4] = [&[], &[], &["mesh", "shop/gw1"], &["istio-system/gw2", "shop/gw1"]];
    let gateways = rng.pick(&gateways);
    let of_mesh = gateways.is_empty();
    let hosts: Vec<&str> = match gateways.contains(&"shop/gw1") && rng.percent(60) {
        true => vec![rng.pick(&["a.example.com", "*.example.com"])],
        false => hosts,
    };
    let rules: Vec<Value> = (0..1 + rng.below(2))
        .map(|_| {
            let mut m = condition(rng, &[443, 443, 7443]);
            let own = rng.pick(&hosts);
            m["sniHosts"] = json!([own.replace('*', rng.pick(&["*", "one", "a"]))]);
            maybe(rng, if of_mesh { 25 } else { 0 }, &mut m, "destinationSubnets", |r| networks(r, block, 111));
            json!({"match": [m], "route": routes(rng, &SECURE)})
        })
        .collect();
    let mut spec = json!({"hosts": hosts, "tls": rules});
    if !gateways.is_empty() {
        spec["gateways"] = json!(gateways);
    }
    let namespace = rng.pick(&["shop", "back"]);
    let object = object("VirtualService", namespace, &format!("tls-{index}"), spec);
    aged(rng, object)
}

fn condition(rng: &mut Rng, ports: &[u16]) -> Value {
    let mut m = json!({});
    match rng.below(6) {
        0 => m["port"] = json!(rng.pick(ports)),
        1 => {
            m["port"] = json!(rng.pick(ports));
            m["sourceLabels"] = json!({"app": rng.pick(&["front", "cron"])});
        }
        2 => m["sourceNamespace"] = json!(rng.pick(&["shop", "other"])),
        3 => m["gateways"] = json!([rng.pick(&["mesh", "shop/gw1"])]),
        _ => {}
    }
    m
}

/// Networks that have an address, or don't.
fn networks(rng: &mut Rng, block: &Block, last: u8) -> Value {
    let at = block.ip(last);
    match rng.below(4) {
        0 => json!([at.to_string()]),
        1 => json!([format!("{at}/24")]),
        2 => json!([format!("{}/32", block.ip(last - 1))]),
        _ => json!(["10.0.0.0/8", format!("{at}/30")]),
    }
}

fn routes(rng: &mut Rng, from: &[(&str, &str, u16)]) -> Value {
    let mut chosen = rng.some(from, 2);
    chosen.dedup();
    let many = chosen.len() > 1;
    let mut out = Vec::new();
    for (host, subset, port) in chosen {
        let mut destination = json!({"host": host, "port": {"number": port}});
        if !subset.is_empty() {
            destination["subset"] = json!(subset);
        }
        let mut one = json!({"destination": destination});
        if many {
            one["weight"] = json!(rng.pick(&[10, 50, 90]));
        }
        out.push(one);
    }
    Value::Array(out)
}
