//! ServiceEntry and WorkloadEntry.

use super::{accepted, refused};

#[test]
fn service_entries() {
    let entry = |rest: &str| format!("hosts: [a.com]\nports: [{{number: 80, name: http, protocol: HTTP}}]\n{rest}");
    accepted(
        "ServiceEntry",
        &[
            &entry("resolution: DNS"),
            &entry("resolution: STATIC\nendpoints: [{address: 1.1.1.1}, {address: 'unix:///a/b'}]"),
            &entry("addresses: [10.0.0.0/8]\nexportTo: ['~']"),
            "hosts: ['*.a.com']\nresolution: DYNAMIC_DNS\nports: [{number: 443, name: tls, protocol: TLS}]",
        ],
    );
    refused(
        "ServiceEntry",
        &[
            ("ports: []", "spec.hosts", "at least one host"),
            ("hosts: ['*']", "spec.hosts[0]", "invalid host *"),
            (
                &entry("addresses: [10.0.0.0/8]\nresolution: DNS"),
                "spec.addresses[0]",
                "CIDR addresses are allowed only for NONE/STATIC",
            ),
            (&entry("endpoints: [{address: 1.1.1.1}]"), "spec.endpoints", "NONE mode cannot set endpoints"),
            (
                &entry("resolution: STATIC\nendpoints: [{address: b.com}]"),
                "spec.endpoints[0].address",
                "STATIC needs an IP address",
            ),
            (
                &entry("resolution: STATIC\nendpoints: [{address: 1.1.1.1}]\nworkloadSelector: {labels: {a: b}}"),
                "spec.endpoints",
                "only one of",
            ),
            (
                &entry("resolution: DNS_ROUND_ROBIN\nendpoints: [{address: a.b}, {address: c.d}]"),
                "spec.endpoints",
                "cannot have multiple endpoints",
            ),
            (&entry("exportTo: ['~', a]"), "spec.exportTo", "cannot export service entry to no one (~) and someone"),
            ("hosts: ['*.a.com']\nresolution: DNS", "spec.hosts", "hosts must be FQDN"),
            (
                "hosts: [a.com, b.com]\nresolution: DNS\nports: [{number: 1, name: a, protocol: TCP}]",
                "spec.ports[0].protocol",
                "multiple hosts provided with non-HTTP, non-TLS ports",
            ),
            (
                "hosts: [a.com]\nports: [{number: 1, name: a}, {number: 1, name: b}]",
                "spec.ports[1].number",
                "service entry port 1 already defined",
            ),
            (
                "hosts: [a.com]\nports: [{number: 1, name: a}, {number: 2, name: a}]",
                "spec.ports[1].name",
                "service entry port name \"a\" already defined",
            ),
        ],
    );
}
