//! VirtualService: hosts, gateways, TLS and TCP rules.

use std::net::IpAddr;

use super::common::{destination, export_to, is_label, port, subnet, wildcard_domain};
use super::{Check, common, http_route, overlap};
use crate::api::{L4MatchAttributes, RouteDestination, TlsMatchAttributes, VirtualService};
use crate::matching::HostPattern;
use crate::yaml::{child, item};

pub(super) fn check(check: &mut Check<'_>, spec: &VirtualService, namespace: &str) {
    let is_delegate = spec.hosts.is_empty();
    if is_delegate {
        delegate(check, spec);
    }
    let names = &spec.gateways;
    let in_mesh = names.is_empty() || names.iter().any(|g| g == "mesh");
    let on_gateway = names.iter().any(|g| g != "mesh");
    hosts(check, &spec.hosts, in_mesh);
    gateways(check, "spec.gateways", names);
    if spec.http.is_empty() && spec.tls.is_empty() && spec.tcp.is_empty() {
        check.error("spec", "http, tcp or tls must be provided in virtual service");
    }
    let on_gateway = on_gateway || is_delegate;
    for (i, route) in spec.http.iter().enumerate() {
        http_route::check(check, &item("spec.http", i), i, route, http_route::Place { is_delegate, on_gateway });
    }
    for (i, route) in spec.tls.iter().enumerate() {
        let path = item("spec.tls", i);
        if route.r#match.is_empty() {
            check.error(&path, "TLS route must have at least one match condition");
        }
        for (j, m) in route.r#match.iter().enumerate() {
            tls_match(check, &item(&child(&path, "match"), j), m, &spec.hosts);
        }
        destinations(check, &path, &route.route, "TLS route");
    }
    for (i, route) in spec.tcp.iter().enumerate() {
        let path = item("spec.tcp", i);
        for (j, m) in route.r#match.iter().enumerate() {
            tcp_match(check, &item(&child(&path, "match"), j), m);
        }
        destinations(check, &path, &route.route, "TCP route");
    }
    export_to(check, &spec.export_to, namespace, false);
    overlap::check(check, spec);
}

fn delegate(check: &mut Check<'_>, spec: &VirtualService) {
    if !spec.gateways.is_empty() {
        // The text is Istio's; a delegate is bound by the VirtualService that names it.
        check.error("spec.gateways", "delegate virtual service must have no gateways specified");
    }
    if !spec.tls.is_empty() {
        check.error("spec.tls", "delegate virtual service must have no tls route specified");
    }
    if !spec.tcp.is_empty() {
        check.error("spec.tcp", "delegate virtual service must have no tcp route specified");
    }
}

fn hosts(check: &mut Check<'_>, hosts: &[String], in_mesh: bool) {
    let mut patterns: Vec<(&str, HostPattern)> = Vec::new();
    for (i, host) in hosts.iter().enumerate() {
        let path = item("spec.hosts", i);
        let is_sni = host.starts_with("outbound_.");
        if !is_sni && host.parse::<IpAddr>().is_err() {
            check.ok(&path, wildcard_domain(host));
        }
        if host == "*" && in_mesh {
            let message = format!("wildcard host {host} is not allowed for virtual services bound to the mesh gateway");
            check.error_fix(&path, message, "name the hosts, or the gateways that this is for");
        }
        let pattern = HostPattern::parse(host);
        if let Some((other, _)) = patterns.iter().find(|(_, p)| p.overlaps(&pattern)) {
            check.error(&path, format!("duplicate hosts in virtual service: {other} & {host}"));
        }
        patterns.push((host, pattern));
    }
}

pub(super) fn gateways(check: &mut Check<'_>, field: &str, names: &[String]) {
    for (i, name) in names.iter().enumerate() {
        let path = item(field, i);
        match name.split_once('/') {
            _ if name == "mesh" => {}
            Some((namespace, gateway)) if (namespace == "." || is_label(namespace)) && is_label(gateway) => {}
            Some(_) => {
                let message = format!("config namespace and gateway name cannot be empty or invalid in {name:?}");
                check.error_fix(&path, message, "write namespace/name");
            }
            None if name.contains('.') => {
                check.ok(&path, common::fqdn(name));
                check.warn(&path, format!("using legacy gatewayName with FQDN format {name:?}; write namespace/name"));
            }
            None if !is_label(name) => check.error(&path, format!("invalid value for gateway name: {name:?}")),
            None => {}
        }
    }
}

fn destinations(check: &mut Check<'_>, route: &str, values: &[RouteDestination], what: &str) {
    let field = child(route, "route");
    if values.is_empty() {
        check.error(route, format!("{what} must have at least one route destination"));
    }
    for (i, value) in values.iter().enumerate() {
        destination(check, &child(&item(&field, i), "destination"), &value.destination);
    }
    common::weights(check, &field, &values.iter().map(|v| v.weight).collect::<Vec<_>>());
}

fn tls_match(check: &mut Check<'_>, field: &str, m: &TlsMatchAttributes, hosts: &[String]) {
    let sni = child(field, "sniHosts");
    if m.sni_hosts.is_empty() {
        check.error(field, "TLS match must have at least one SNI host");
    }
    for (i, host) in m.sni_hosts.iter().enumerate() {
        let path = item(&sni, i);
        if host.parse::<IpAddr>().is_ok() {
            check.warn(
                &path,
                format!("using an IP address ({host:?}) goes against SNI spec and most clients do not support this"),
            );
            continue;
        }
        if !host.starts_with("outbound_.") {
            check.ok(&path, wildcard_domain(host));
        }
        let pattern = HostPattern::parse(host);
        if !hosts.iter().any(|h| pattern.subset_of(&HostPattern::parse(h))) {
            let message = format!(
                "SNI host {host:?} is not a compatible subset of any of the virtual service hosts: [{}]",
                hosts.join(", ")
            );
            check.error(&path, message);
        }
    }
    let TlsMatchAttributes { destination_subnets, port, source_labels, gateways: names, source_namespace, .. } = m;
    subnets(check, &child(field, "destinationSubnets"), destination_subnets);
    l4(check, field, *port, source_labels, names, source_namespace);
}

fn tcp_match(check: &mut Check<'_>, field: &str, m: &L4MatchAttributes) {
    let L4MatchAttributes {
        destination_subnets,
        port,
        source_subnet,
        source_labels,
        gateways: names,
        source_namespace,
    } = m;
    subnets(check, &child(field, "destinationSubnets"), destination_subnets);
    if !source_subnet.is_empty() {
        check.warn(&child(field, "sourceSubnet"), "sourceSubnet is deprecated and has no effect");
    }
    l4(check, field, *port, source_labels, names, source_namespace);
}

fn subnets(check: &mut Check<'_>, field: &str, values: &[String]) {
    for (i, value) in values.iter().enumerate() {
        check.ok(&item(field, i), subnet(value));
    }
}

fn l4(
    check: &mut Check<'_>,
    field: &str,
    number: u32,
    source_labels: &std::collections::BTreeMap<String, String>,
    names: &[String],
    source_namespace: &str,
) {
    if number != 0 {
        check.ok(&child(field, "port"), port(number));
    }
    common::labels(check, &child(field, "sourceLabels"), source_labels);
    gateways(check, &child(field, "gateways"), names);
    if !source_namespace.is_empty() && !is_label(source_namespace) {
        check.error(&child(field, "sourceNamespace"), format!("sourceNamespace match {source_namespace:?} is invalid"));
    }
}
