//! Each field of TLS that is said to be consumed makes a difference.

use serde_json::json;

use super::accounted::{Sample, flip_samples};

#[test]
fn towards_services() {
    flip_samples(clients());
}

#[test]
fn of_gateways() {
    flip_samples(servers());
}

/// Objects with TLS of both sides.
pub(super) fn samples() -> Vec<Sample> {
    clients().into_iter().chain(servers()).collect()
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
