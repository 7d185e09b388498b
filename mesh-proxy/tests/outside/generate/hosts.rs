//! Hosts outside, and other services than those of the topology.

use serde_json::{Value, json};

use super::settings::proxy_config;
use super::{export_to, maybe, object};
use crate::lab::Block;
use crate::rng::Rng;

/// A host outside, with addresses of its own, those of workloads, or the ones that clients dial.
pub(super) fn service_entry(rng: &mut Rng, block: &Block) -> Vec<Value> {
    let host = rng.pick(&["a.example.com", "nobody.example.org", "*.example.org", "b.example.com"]);
    let namespace = rng.pick(&["shop", "other"]);
    let protocol = rng.pick(&["HTTP", "HTTP", "HTTP2"]);
    let mut spec = json!({
        "hosts": [host],
        "ports": [{"number": rng.pick(&[80, 80, 8081]), "name": "web", "protocol": protocol, "targetPort": 8080}],
        "location": rng.pick(&["MESH_EXTERNAL", "MESH_INTERNAL"]),
    });
    maybe(rng, 25, &mut spec, "exportTo", export_to);
    maybe(rng, 60, &mut spec, "subjectAltNames", |r| json!([r.pick(&["up.example", "up.example", "nobody.example"])]));
    let mut out = Vec::new();
    match rng.below(5) {
        0 => spec["resolution"] = json!("NONE"),
        1 | 2 => {
            spec["resolution"] = json!("STATIC");
            let all: Vec<Value> = (0..1 + rng.below(2)).map(|i| endpoint(rng, block, [51, 52][i])).collect();
            spec["endpoints"] = Value::Array(all);
        }
        _ => {
            spec["resolution"] = json!("STATIC");
            spec["workloadSelector"] = json!({"labels": {"app": "outside"}});
            let mut entry = endpoint(rng, block, 52);
            entry["labels"] = json!({"app": rng.pick(&["outside", "outside", "other"])});
            out.push(object("WorkloadEntry", namespace, "vm", entry));
        }
    }
    out.push(object("ServiceEntry", namespace, "more", spec));
    out
}

fn endpoint(rng: &mut Rng, block: &Block, last: u8) -> Value {
    let mut out = json!({"address": block.ip(last).to_string(), "weight": rng.pick(&[1, 3])});
    maybe(rng, 50, &mut out, "locality", |r| json!(r.pick(&["r1/z1", "r2/z1/s1", "r3"])));
    maybe(rng, 40, &mut out, "network", |r| json!(r.pick(&["", "far"])));
    maybe(rng, 45, &mut out, "ports", |r| json!({"web": r.pick(&[8080, 8081])}));
    maybe(rng, 20, &mut out, "serviceAccount", |_| json!("outside"));
    maybe(rng, 30, &mut out, "labels", |r| json!({"version": r.pick(&["v1", "v2"])}));
    out
}

/// Other protocols of ports, other visibility of services, namespaces that are not looked at, settings of one proxy.
pub(super) fn vary(rng: &mut Rng, block: &Block, docs: &mut [Value]) {
    let of = |docs: &[Value], kind: &str, name: &str| {
        docs.iter().position(|d| d["kind"] == kind && d["metadata"]["name"] == name).unwrap()
    };
    if rng.percent(15) {
        let (srv, back) = (of(docs, "Service", "srv"), of(docs, "Service", "back"));
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
    if rng.percent(40) {
        let back = of(docs, "Namespace", "back");
        docs[back]["metadata"]["labels"]["mesh"] = json!("out");
    }
    if rng.percent(40) {
        let pod = of(docs, "Pod", rng.pick(&["front", "cron", "side"]));
        let config = mesh_core::yaml::to_yaml(&proxy_config(rng, block));
        docs[pod]["metadata"]["annotations"]["proxy.istio.io/config"] = json!(config);
    }
}
