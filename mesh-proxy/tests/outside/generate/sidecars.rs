//! Sidecars.

use serde_json::{Value, json};

use super::gateways::{clients, speaks};
use super::settings::unknown;
use super::traffic_policy::pool;
use super::{maybe, object};
use crate::lab::{BOUND, Block};
use crate::rng::Rng;
use crate::topology::SIDE;

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

/// How `side.shop` hands requests to its application, and takes them: with TLS of its own, instead of the mesh's.
pub(super) fn ingress(rng: &mut Rng, block: &Block) -> Vec<Value> {
    let port = block.local;
    let mut listener =
        json!({"port": {"number": port, "name": "in", "protocol": rng.pick(&["HTTP", "HTTP", "HTTP2"])}});
    maybe(rng, 80, &mut listener, "defaultEndpoint", |r| {
        json!(r.pick(&["127.0.0.1:", "0.0.0.0:", ":", "127.0.0.1:"]).to_owned() + &port.to_string())
    });
    maybe(rng, 30, &mut listener, "captureMode", |r| json!(r.pick(&["NONE", "DEFAULT", "IPTABLES"])));
    maybe(rng, 20, &mut listener, "bind", |_| json!(block.ip(SIDE).to_string()));
    maybe(rng, 60, &mut listener, "connectionPool", pool);
    let mut out = Vec::new();
    maybe(rng, 60, &mut listener, "tls", |r| tls(r, block));
    if listener.get("tls").is_some() {
        listener["port"]["protocol"] = json!(rng.pick(&["HTTPS", "HTTPS", "TLS"]));
        // Else what is inside the mesh's TLS would be bytes, which the log's lines don't say whose they are.
        let ports = json!({port.to_string(): {"mode": "DISABLE"}});
        out.push(own_authentication(json!({"portLevelMtls": ports})));
    }
    let mut spec = json!({"workloadSelector": {"labels": {"app": "side"}}, "ingress": [listener]});
    maybe(rng, 50, &mut spec, "inboundConnectionPool", pool);
    out.push(object("Sidecar", "shop", "server", spec));
    out
}

/// How clients of `side.shop` are known, which no other policy changes: the oldest counts.
fn own_authentication(mut spec: Value) -> Value {
    spec["selector"] = json!({"matchLabels": {"app": "side"}});
    json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "before", "namespace": "shop", "creationTimestamp": "2019-01-01T00:00:00Z"},
        "spec": spec,
    })
}

/// TLS that ends in a sidecar: certificates are files.
fn tls(rng: &mut Rng, block: &Block) -> Value {
    let mode = rng.pick(&["SIMPLE", "MUTUAL", "MUTUAL", "OPTIONAL_MUTUAL"]);
    let name = rng.pick(&["first", "second"]);
    let [certificate, key] = ["", "-key"].map(|part| json!(block.files.join(format!("{name}{part}.pem"))));
    let mut tls = json!({"mode": mode, "serverCertificate": certificate, "privateKey": key});
    if mode != "SIMPLE" {
        clients(rng, block, &mut tls, true);
        tls.as_object_mut().expect("invariant: it is an object").remove("subjectAltNames");
    }
    speaks(rng, &mut tls);
    tls
}
