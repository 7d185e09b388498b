//! Sidecar.

use super::{accepted, refused};

#[test]
fn sidecars() {
    accepted(
        "Sidecar",
        &[
            "egress: [{hosts: ['./*', istio-system/*, '~/*', 'a/*.b.com', '~x/a.b']}]",
            "ingress: [{port: {number: 80, protocol: HTTP, name: a}, defaultEndpoint: '127.0.0.1:8080'}]",
            "outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a.b, port: {number: 80}}}",
        ],
    );
    let ingress = |rest: &str| format!("ingress: [{{port: {{number: 80, protocol: HTTP, name: a}}, {rest}}}]");
    refused(
        "Sidecar",
        &[
            ("{}", "spec", "sidecar: empty configuration provided"),
            ("egress: [{hosts: [a]}]", "spec.egress[0].hosts[0]", "namespace/dnsName"),
            ("egress: [{hosts: [a/b]}]", "spec.egress[0].hosts[0]", "short names"),
            ("egress: [{}]", "spec.egress[0].hosts", "at least one host"),
            ("egress: [{hosts: [a/*]}, {hosts: [b/*]}]", "spec.egress[0]", "should be the last listener in the list"),
            (
                "egress: [{port: {number: 1}, hosts: [a/*]}, {port: {number: 1}, hosts: [b/*]}]",
                "spec.egress[1].port.number",
                "unique",
            ),
            ("ingress: [{}]", "spec.ingress[0].port", "port is required"),
            (
                &ingress("defaultEndpoint: '1.2.3.4:80'"),
                "spec.ingress[0].defaultEndpoint",
                "defaultEndpoint must be of form 127.0.0.1:<port>",
            ),
            (
                &ingress("tls: {mode: SIMPLE, serverCertificate: a, privateKey: b}"),
                "spec.ingress[0].tls",
                "HTTPS or TLS",
            ),
            (
                "outboundTrafficPolicy: {egressProxy: {host: a.b, port: {number: 1}}}",
                "spec.outboundTrafficPolicy.egressProxy",
                "ALLOW_ANY",
            ),
        ],
    );
}
