//! Gateways.

use serde_json::{Value, json};

use super::{aged, maybe, object};
use crate::lab::{BOUND, Block, GATEWAY_PORTS, PORT_TCP, PORTS_TLS};
use crate::requests::{CURVES, SUITES};
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
            servers.push(tls_server(rng, block, i));
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

fn tls_server(rng: &mut Rng, block: &Block, i: usize) -> Value {
    let hosts: [&[&str]; 6] = [
        &["*"],
        &["a.example.com"],
        &["*.example.com"],
        &["srv.shop.svc.cluster.local", "a.example.com"],
        &["*.com", "nobody.example.org"],
        &["shop/a.example.com", "back/*.svc.cluster.local"],
    ];
    let mode = rng.pick(&["SIMPLE", "SIMPLE", "SIMPLE", "MUTUAL", "MUTUAL", "OPTIONAL_MUTUAL", "PASSTHROUGH"]);
    let protocol = match mode {
        "PASSTHROUGH" => rng.pick(&["TLS", "HTTPS"]),
        _ => rng.pick(&["HTTPS", "HTTPS", "HTTPS", "TLS"]),
    };
    let mut tls = json!({"mode": mode});
    if mode != "PASSTHROUGH" {
        let in_files = certificates(rng, block, &mut tls);
        if mode != "SIMPLE" {
            clients(rng, block, &mut tls, in_files);
        }
        speaks(rng, &mut tls);
    }
    json!({
        "port": {"number": rng.pick(&PORTS_TLS), "name": format!("tls-{i}"), "protocol": protocol},
        "hosts": rng.pick(&hosts),
        "tls": tls,
    })
}

/// Versions, suites and curves.
pub(super) fn speaks(rng: &mut Rng, tls: &mut Value) {
    match rng.below(5) {
        0 => tls["minProtocolVersion"] = json!(rng.pick(&["TLSV1_2", "TLSV1_3", "TLS_AUTO"])),
        1 => tls["maxProtocolVersion"] = json!(rng.pick(&["TLSV1_2", "TLSV1_3", "TLS_AUTO"])),
        _ => {}
    }
    maybe(rng, 25, tls, "cipherSuites", |r| json!(r.some(&SUITES, 2)));
    maybe(rng, 25, tls, "ecdhCurves", |r| json!(r.some(&CURVES, 2)));
}

/// What a server shows; true: out of files.
fn certificates(rng: &mut Rng, block: &Block, tls: &mut Value) -> bool {
    let file = |name: &str| json!(block.files.join(name));
    let pair = |name: &str| [file(&format!("{name}.pem")), file(&format!("{name}-key.pem"))];
    match rng.below(6) {
        0 | 1 => tls["credentialName"] = json!(rng.pick(&["gateway", "other"])),
        2 => tls["credentialNames"] = json!(rng.some(&["gateway", "other"], 2)),
        3 | 4 => [tls["serverCertificate"], tls["privateKey"]] = pair(rng.pick(&["first", "second"])),
        _ => {
            let all = rng.some(&["first", "second"], 2).into_iter().map(|name| {
                let [certificate, key] = pair(name);
                json!({"serverCertificate": certificate, "privateKey": key})
            });
            tls["tlsCertificates"] = all.collect();
        }
    }
    tls.get("credentialName").is_none() && tls.get("credentialNames").is_none()
}

/// Who may be a client.
pub(super) fn clients(rng: &mut Rng, block: &Block, tls: &mut Value, in_files: bool) {
    let file = |name: &str| json!(block.files.join(name));
    let authorities = |r: &mut Rng| file(r.pick(&["ca.pem", "ca.pem", "elsewhere.pem"]));
    if rng.percent(if in_files { 25 } else { 50 }) {
        tls["caCertCredentialName"] = json!(rng.pick(&["gateway", "checked", "elsewhere"]));
    } else if in_files {
        match tls.pointer_mut("/tlsCertificates/0") {
            Some(first) if rng.percent(60) => first["caCertificates"] = authorities(rng),
            _ => tls["caCertificates"] = authorities(rng),
        }
        maybe(rng, 50, tls, "caCrl", |_| file("crl.pem"));
    }
    maybe(rng, 30, tls, "subjectAltNames", |r| {
        json!(r.pick(&[["client.example", "x.example"], ["y.example", "x.example"]]))
    });
    let [hash, key] = &block.pins;
    let others = "ab".repeat(32);
    maybe(rng, 20, tls, "verifyCertificateHash", |r| json!([if r.percent(60) { hash } else { &others }]));
    maybe(rng, 20, tls, "verifyCertificateSpki", |_| json!([key]));
    maybe(rng, 20, tls, "insecureSkipVerify", |r| json!(r.percent(50)));
}
