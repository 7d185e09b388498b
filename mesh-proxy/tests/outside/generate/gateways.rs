//! Gateways.

use serde_json::{Value, json};

use super::{aged, maybe, object};
use crate::lab::{BOUND, Block, GATEWAY_PORTS, PORT_TCP, PORTS_TLS};
use crate::rng::Rng;

const HOSTS: [&[&str]; 8] = [
    &["*"],
    &["*"],
    &["srv.shop.svc.cluster.local", "a.example.com"],
    &["*.example.com"],
    &["shop/*"],
    &["./a.example.com", "back/*"],
    &["*.svc.cluster.local"],
    &["*.com", "other/nobody.example.org"],
];

pub(super) fn gateways(rng: &mut Rng, block: &Block) -> Vec<Value> {
    let mut out = Vec::new();
    for (namespace, name) in [("shop", "gw1"), ("istio-system", "gw2")] {
        if !rng.percent(80) {
            continue;
        }
        let mut servers = Vec::new();
        for (i, port) in rng.some(&GATEWAY_PORTS, 3).into_iter().enumerate() {
            let mut server = json!({
                "port": {"number": port, "name": format!("http-{i}"), "protocol": rng.pick(&["HTTP", "HTTP2", "GRPC"])},
                "hosts": rng.pick(&HOSTS),
            });
            maybe(rng, 6, &mut server, "tls", |_| json!({"httpsRedirect": true}));
            servers.push(server);
        }
        if rng.percent(15) {
            servers.push(json!({
                "port": {"number": 80, "name": "bound", "protocol": "HTTP"},
                "bind": block.ip(BOUND).to_string(),
                "hosts": rng.pick(&HOSTS),
            }));
        }
        for i in 0..rng.below(3) {
            servers.push(tls_server(rng, i));
        }
        if rng.percent(25) {
            servers.push(json!({"port": {"number": PORT_TCP, "name": "tcp", "protocol": "TCP"}, "hosts": ["*"]}));
        }
        let ingress = if rng.percent(95) { "ingressgateway" } else { "another" };
        let spec = json!({"selector": {"istio": ingress}, "servers": servers});
        let gateway = object("Gateway", namespace, name, spec);
        out.push(aged(rng, gateway));
    }
    out
}

fn tls_server(rng: &mut Rng, i: usize) -> Value {
    let hosts: [&[&str]; 6] = [
        &["*"],
        &["a.example.com"],
        &["*.example.com"],
        &["srv.shop.svc.cluster.local", "a.example.com"],
        &["*.com", "nobody.example.org"],
        &["shop/a.example.com", "back/*.svc.cluster.local"],
    ];
    let mode = rng.pick(&["SIMPLE", "SIMPLE", "SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL", "PASSTHROUGH"]);
    let protocol = match mode {
        "PASSTHROUGH" => rng.pick(&["TLS", "HTTPS"]),
        _ => rng.pick(&["HTTPS", "HTTPS", "HTTPS", "TLS"]),
    };
    let mut tls = json!({"mode": mode});
    if mode != "PASSTHROUGH" {
        tls["credentialName"] = json!(rng.pick(&["gateway", "other"]));
        maybe(rng, 20, &mut tls, "minProtocolVersion", |r| json!(r.pick(&["TLSV1_2", "TLSV1_3", "TLS_AUTO"])));
        maybe(rng, 20, &mut tls, "maxProtocolVersion", |r| json!(r.pick(&["TLSV1_3", "TLS_AUTO"])));
        if mode != "SIMPLE" {
            maybe(rng, 30, &mut tls, "insecureSkipVerify", |r| json!(r.percent(70)));
        }
    }
    json!({
        "port": {"number": rng.pick(&PORTS_TLS), "name": format!("tls-{i}"), "protocol": protocol},
        "hosts": rng.pick(&hosts),
        "tls": tls,
    })
}
