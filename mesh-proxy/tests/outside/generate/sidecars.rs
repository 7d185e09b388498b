//! Sidecars.

use serde_json::{Value, json};

use super::settings::unknown;
use super::traffic_policy::pool;
use super::{maybe, object};
use crate::lab::{BOUND, Block};
use crate::rng::Rng;

/// What the clients' proxies know.
pub(super) fn egress(rng: &mut Rng, block: &Block) -> Value {
    let lists: [&[&str]; 6] = [
        &["*/*"],
        &["./*"],
        &["./*", "back/*"],
        &["*/back.back.svc.cluster.local", "*/*.example.com"],
        &["~/*"],
        &["*/*", "~back/back.back.svc.cluster.local"],
    ];
    let mut egress = Vec::new();
    if rng.percent(40) {
        let mut listener = json!({
            "port": {"number": 80, "name": "http", "protocol": "HTTP"},
            "hosts": rng.pick(&lists),
        });
        if rng.percent(60) {
            listener["bind"] = json!(block.ip(BOUND).to_string());
            maybe(rng, 70, &mut listener, "captureMode", |r| json!(r.pick(&["NONE", "DEFAULT", "IPTABLES"])));
        }
        egress.push(listener);
    }
    egress.push(json!({"hosts": rng.pick(&lists)}));
    let mut spec = json!({"egress": egress});
    maybe(rng, 40, &mut spec, "workloadSelector", |r| json!({"labels": {"app": r.pick(&["front", "cron", "none"])}}));
    maybe(rng, 50, &mut spec, "inboundConnectionPool", pool);
    maybe(rng, 60, &mut spec, "outboundTrafficPolicy", unknown);
    let namespace = rng.pick(&["shop", "shop", "other", "istio-system"]);
    object("Sidecar", namespace, "limits", spec)
}

/// How `side.shop` hands requests to its application.
pub(super) fn ingress(rng: &mut Rng, block: &Block) -> Value {
    let port = block.local;
    let mut listener =
        json!({"port": {"number": port, "name": "in", "protocol": rng.pick(&["HTTP", "HTTP", "HTTP2"])}});
    maybe(rng, 80, &mut listener, "defaultEndpoint", |r| {
        json!(r.pick(&["127.0.0.1:", "0.0.0.0:", ":", "127.0.0.1:"]).to_owned() + &port.to_string())
    });
    maybe(rng, 30, &mut listener, "captureMode", |r| json!(r.pick(&["NONE", "DEFAULT", "IPTABLES"])));
    maybe(rng, 20, &mut listener, "bind", |_| json!(block.ip(31).to_string()));
    maybe(rng, 60, &mut listener, "connectionPool", pool);
    let mut spec = json!({"workloadSelector": {"labels": {"app": "side"}}, "ingress": [listener]});
    maybe(rng, 50, &mut spec, "inboundConnectionPool", pool);
    object("Sidecar", "shop", "server", spec)
}
