//! Gateway.

use super::{accepted, refused};

#[test]
fn gateways() {
    let server = |s: &str| format!("servers: [{{{s}}}]");
    let http = "port: {number: 80, name: http, protocol: HTTP}";
    let https = "port: {number: 443, name: https, protocol: https}";
    let tls = |t: &str| server(&format!("{https}, hosts: ['*'], tls: {{{t}}}"));
    accepted(
        "Gateway",
        &[
            &server(&format!("{http}, hosts: ['*', ns/a.com, ./*.b.com], tls: {{httpsRedirect: true}}")),
            &tls("mode: SIMPLE, credentialName: c"),
            &tls("mode: MUTUAL, serverCertificate: a, privateKey: b, caCertificates: c"),
            &tls("{}").replace("tls: {{}}", "tls: {}"),
        ],
    );
    refused(
        "Gateway",
        &[
            ("selector: {a: b}", "spec.servers", "gateway must have at least one server"),
            (&server(http), "spec.servers[0].hosts", "at least one host"),
            (&server("hosts: ['*']"), "spec.servers[0].port", "Required value"),
            (
                &server(&format!("{http}, hosts: [short]")),
                "spec.servers[0].hosts[0]",
                "short names (non FQDN) are not allowed",
            ),
            (&server(&format!("{http}, hosts: ['*a.com']")), "spec.servers[0].hosts[0]", "partial wildcard"),
            (
                &server("port: {number: 0, name: a, protocol: HTTP}, hosts: ['*']"),
                "spec.servers[0].port.number",
                "1..65535",
            ),
            (
                &server("port: {number: 1, name: a, protocol: FOO}, hosts: ['*']"),
                "spec.servers[0].port.protocol",
                "invalid protocol \"FOO\", supported protocols are",
            ),
            (
                &server("port: {number: 1, protocol: HTTP}, hosts: ['*']"),
                "spec.servers[0].port.name",
                "port name must be set",
            ),
            (
                &server(&format!("{https}, hosts: ['*']")),
                "spec.servers[0].tls",
                "server must have TLS settings for HTTPS/TLS protocols",
            ),
            (
                &server(&format!("{http}, hosts: ['*'], tls: {{mode: SIMPLE}}")),
                "spec.servers[0].tls",
                "cannot have TLS settings for plain text HTTP ports",
            ),
            (&tls("mode: SIMPLE"), "spec.servers[0].tls.serverCertificate", "SIMPLE TLS requires a server certificate"),
            (
                &tls("mode: MUTUAL, serverCertificate: a, privateKey: b"),
                "spec.servers[0].tls.caCertificates",
                "MUTUAL TLS requires a client CA bundle",
            ),
            (
                &tls("mode: ISTIO_MUTUAL, privateKey: b"),
                "spec.servers[0].tls.privateKey",
                "ISTIO_MUTUAL TLS cannot have associated",
            ),
            (
                &tls("mode: SIMPLE, credentialName: a, credentialNames: [b]"),
                "spec.servers[0].tls",
                "only one of credentialName or credentialNames",
            ),
            (
                &format!("servers:\n- {{{http}, hosts: ['*']}}\n- {{{http}, hosts: [a.b]}}"),
                "spec.servers[1].port.name",
                "port names in servers must be unique: duplicate name http",
            ),
        ],
    );
}
