//! Each field of TLS that is said to be consumed makes a difference.

use serde_json::json;

use super::accounted::{Sample, flip_samples};
use crate::compile::sim::{Sim, inbound};
use crate::decide::Detected;

#[test]
fn towards_services() {
    flip_samples(clients());
}

#[test]
fn of_gateways() {
    flip_samples(servers());
}

#[test]
fn of_a_sidecars_ingress() {
    flip_samples(ingress());
}

#[test]
fn defaults_of_the_mesh() {
    flip_samples(defaults());
}

/// Objects with TLS of both sides.
pub(super) fn samples() -> Vec<Sample> {
    clients().into_iter().chain(servers()).chain(ingress()).chain(defaults()).collect()
}

fn clients() -> Vec<Sample> {
    let rule = |spec| Sample { yaml: String::new(), proxy: "a-1", kind: "DestinationRule", namespace: "ns", spec };
    let mut all = Vec::new();
    let selector = json!({"matchLabels": {"app": "a"}});
    for (policy, selector) in [
        (
            json!({"tls": {"mode": "SIMPLE", "sni": "a", "subjectAltNames": ["b"], "caCertificates": "c", "caCrl": "d"}}),
            None,
        ),
        (
            json!({"tls": {"mode": "MUTUAL", "clientCertificate": "a", "privateKey": "b", "insecureSkipVerify": false}}),
            None,
        ),
        (json!({"tls": {"mode": "MUTUAL", "credentialName": "a"}, "proxyProtocol": {"version": "V2"}}), Some(selector)),
        (json!({"tls": {"mode": "ISTIO_MUTUAL", "sni": "a", "subjectAltNames": ["b"]}}), None),
    ] {
        let mut spec = json!({"host": "b", "trafficPolicy": policy});
        if let Some(selector) = selector {
            spec["workloadSelector"] = selector;
        }
        all.push(rule(spec));
    }
    let policy = json!({"tunnel": {"protocol": "CONNECT", "targetHost": "a", "targetPort": 1}});
    let spec = json!({"host": "c.other.svc.cluster.local", "trafficPolicy": policy});
    all.push(rule(spec));
    all
}

fn servers() -> Vec<Sample> {
    let mut all = Vec::new();
    let route =
        super::vs("name: v, namespace: ns", "'*.example.com'", "b").replace("spec:\n", "spec:\n  gateways: [all]\n");
    let certificate = json!({"serverCertificate": "a", "privateKey": "b", "caCertificates": "c"});
    for tls in [
        json!({"mode": "SIMPLE", "credentialName": "a", "minProtocolVersion": "TLSV1_3"}),
        json!({"mode": "SIMPLE", "credentialNames": ["a", "b"], "maxProtocolVersion": "TLSV1_2"}),
        json!({"mode": "OPTIONAL_MUTUAL", "serverCertificate": "a", "privateKey": "b", "caCertificates": "c", "caCrl": "d"}),
        json!({"mode": "MUTUAL", "tlsCertificates": [certificate], "insecureSkipVerify": false}),
        json!({"mode": "MUTUAL", "credentialName": "a", "caCertCredentialName": "b", "subjectAltNames": ["c"],
               "verifyCertificateSpki": ["d"], "verifyCertificateHash": ["e"],
               "cipherSuites": ["ECDHE-RSA-AES128-GCM-SHA256"], "ecdhCurves": ["P-256"]}),
    ] {
        let port = json!({"number": 443, "name": "https", "protocol": "HTTPS"});
        let server = json!({"port": port, "hosts": ["*.a.example.com"], "tls": tls, "bind": "127.0.0.1"});
        let spec = json!({"selector": {"istio": "ingressgateway"}, "servers": [server]});
        all.push(Sample { yaml: route.clone(), proxy: "gw-1", kind: "Gateway", namespace: "ns", spec });
    }
    all
}

/// TLS of a Sidecar's own counts where the mesh's is not let in.
fn ingress() -> Vec<Sample> {
    let disabled = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: plain, namespace: ns}\n\
        spec: {mtls: {mode: DISABLE}}\n";
    let of = |protocol: &str, tls| {
        let port = json!({"number": 9000, "name": "own", "protocol": protocol});
        let spec = json!({"ingress": [{"port": port, "defaultEndpoint": "127.0.0.1:7070", "tls": tls}], "egress": [{"hosts": ["./*"]}]});
        Sample { yaml: disabled.into(), proxy: "a-1", kind: "Sidecar", namespace: "ns", spec }
    };
    vec![
        of(
            "HTTPS",
            json!({"mode": "SIMPLE", "serverCertificate": "a", "privateKey": "b", "minProtocolVersion": "TLSV1_3"}),
        ),
        of(
            "HTTPS",
            json!({"mode": "MUTUAL", "serverCertificate": "a", "privateKey": "b", "caCertCredentialName": "c"}),
        ),
        of(
            "TLS",
            json!({"mode": "MUTUAL", "serverCertificate": "a", "privateKey": "b", "caCertificates": "c", "caCrl": "d",
                   "verifyCertificateSpki": ["d"], "verifyCertificateHash": ["e"], "insecureSkipVerify": false,
                   "cipherSuites": ["ECDHE-RSA-AES128-GCM-SHA256"], "ecdhCurves": ["P-256"], "maxProtocolVersion": "TLSV1_2"}),
        ),
    ]
}

fn defaults() -> Vec<Sample> {
    let route =
        super::vs("name: v, namespace: ns", "a.example.com", "b").replace("spec:\n", "spec:\n  gateways: [all]\n");
    let server = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: all, namespace: ns}\nspec:\n  \
        selector: {istio: ingressgateway}\n  servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.example.com], \
        tls: {mode: SIMPLE, credentialName: c}}]\n";
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d, namespace: ns}\n\
        spec: {host: b, trafficPolicy: {tls: {mode: SIMPLE}}}\n";
    let spec = json!({"connectTimeout": "3s", "h2UpgradePolicy": "UPGRADE", "tlsDefaults": {
        "minProtocolVersion": "TLSV1_3", "cipherSuites": ["ECDHE-RSA-AES128-GCM-SHA256"], "ecdhCurves": ["P-256"]}});
    let of = |yaml: String, proxy, spec| Sample { yaml, proxy, kind: "MeshConfig", namespace: "istio-system", spec };
    let mut client = spec.clone();
    client["tlsDefaults"].as_object_mut().unwrap().remove("minProtocolVersion");
    vec![of(format!("{route}---\n{server}"), "gw-1", spec), of(rule.into(), "a-1", client)]
}

/// What a server or a client says itself goes before the mesh's defaults.
#[test]
fn whose_limits_are_in_force() {
    let mesh = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  \
        mesh: |\n    tlsDefaults: {minProtocolVersion: TLSV1_3, cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256, none], ecdhCurves: [P-256]}\n---\n";
    let limits = |tls: &str| {
        let server = format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: all, namespace: ns}}\nspec:\n  \
             selector: {{istio: ingressgateway}}\n  servers: [{{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: ['*'], tls: {{{tls}}}}}]\n---\n"
        );
        let route =
            super::vs("name: v, namespace: ns", "a.example.com", "b").replace("spec:\n", "spec:\n  gateways: [all]\n");
        let sim = Sim::of(&format!("{mesh}{server}{route}"));
        let compiled = sim.compile("gw-1");
        let listener = compiled.snapshot.gateway(443).unwrap();
        listener.tls[0].tls.parameters.to_string()
    };
    let of_mesh = ", TLS 1.3 only, cipher suites ECDHE-RSA-AES128-GCM-SHA256, key exchange by P-256";
    assert_eq!(limits("mode: SIMPLE, credentialName: c"), of_mesh);
    let own = "minProtocolVersion: TLSV1_2, cipherSuites: [ECDHE-RSA-AES256-GCM-SHA384], ecdhCurves: [X25519]";
    let said = ", cipher suites ECDHE-RSA-AES256-GCM-SHA384, key exchange by X25519";
    assert_eq!(limits(&format!("mode: SIMPLE, credentialName: c, {own}")), said);
    assert_eq!(limits("mode: ISTIO_MUTUAL"), "", "they are not for the mesh's own");

    let rule = |mode: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: d, namespace: ns}}\n\
             spec: {{host: b, trafficPolicy: {{tls: {{mode: {mode}}}}}}}\n"
        )
    };
    let of_client = |mode: &str| {
        let compiled = Sim::of(&format!("{mesh}{}", rule(mode))).compile("a-1");
        let cluster = &compiled.snapshot.clusters["outbound|8080||b.ns.svc.cluster.local"];
        cluster.tls.as_ref().unwrap().parameters.clone()
    };
    // The lowest version is for servers.
    assert_eq!(of_client("SIMPLE").to_string(), ", cipher suites ECDHE-RSA-AES128-GCM-SHA256, key exchange by P-256");
    assert_eq!(of_client("ISTIO_MUTUAL"), crate::snapshot::TlsParameters::mesh(false, []));
}

#[test]
fn a_sidecars_own_tls_ends_where_the_meshs_is_not_let_in() {
    let sidecar = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: own, namespace: ns}\nspec:\n  \
        egress: [{hosts: ['./*']}]\n  ingress:\n  \
        - {port: {number: 9000, name: https, protocol: HTTPS}, tls: {mode: SIMPLE, serverCertificate: a, privateKey: b}}\n  \
        - {port: {number: 9001, name: tls, protocol: TLS}, tls: {mode: SIMPLE, serverCertificate: a, privateKey: b}}\n---\n";
    let policy = |modes: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: p, namespace: ns}}\n\
             spec: {{selector: {{matchLabels: {{app: a}}}}, {modes}}}\n"
        )
    };
    let foreign = || Some(Detected::Tls { sni: None, alpn: vec!["h2".into()] });
    let seen = |modes: &str, port| {
        let compiled = Sim::of(&format!("{sidecar}{}", policy(modes))).compile("a-1");
        [foreign(), Some(Detected::Http1)].map(|first| inbound(&compiled.snapshot, port, first))
    };
    let refused = "closed filter_chain_not_found";
    assert_eq!(seen("mtls: {mode: DISABLE}", 9000), ["http inbound|http|9000", refused]);
    assert_eq!(seen("mtls: {mode: DISABLE}", 9001), ["tls tcp inbound|9001||", refused]);
    // Otherwise the mesh's own is let in, and what is not the mesh's goes to the application as it is.
    assert_eq!(seen("mtls: {mode: PERMISSIVE}", 9000), ["inbound|9000||", "inbound|9000||"]);
    let one = "portLevelMtls: {'9000': {mode: DISABLE}}";
    assert_eq!((&*seen(one, 9000)[0], &*seen(one, 9001)[0]), ("http inbound|http|9000", "inbound|9001||"));
}
