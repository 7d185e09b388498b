//! ServiceEntry and WorkloadEntry.

use std::collections::HashSet;
use std::net::IpAddr;

use super::Check;
use super::common::{self, export_to, fqdn, is_label, is_partial_wildcard, port, subnet, wildcard_domain};
use crate::api::{ServiceEntry, ServiceResolution, WorkloadEntry};
use crate::model::AppProtocol;
use crate::yaml::{child, item};

pub(super) fn check(check: &mut Check<'_>, spec: &ServiceEntry, namespace: &str) {
    hosts(check, spec);
    addresses(check, spec);
    ports(check, spec);
    if !spec.endpoints.is_empty() && spec.workload_selector.is_some() {
        check.error("spec.endpoints", "only one of WorkloadSelector or Endpoints can be set");
    }
    if let Some(selector) = &spec.workload_selector {
        let at = "spec.workloadSelector.labels";
        if selector.labels.is_empty() {
            check.warn("spec.workloadSelector", "service entry: workload selector specified without labels");
        }
        let text = "wildcard is not supported in selector";
        common::selector(check, at, &selector.labels, [text, text]);
    }
    if spec.endpoints.len() > 4096 {
        check.invalid("spec.endpoints", spec.endpoints.len(), "must have at most 4096 items");
    }
    for (i, endpoint) in spec.endpoints.iter().enumerate() {
        workload(check, endpoint, &item("spec.endpoints", i));
    }
    resolution(check, spec);
    export_to(check, &spec.export_to, namespace, true);
}

fn hosts(check: &mut Check<'_>, spec: &ServiceEntry) {
    if spec.hosts.is_empty() {
        check.error("spec.hosts", "service entry must have at least one host");
    }
    if spec.hosts.len() > 256 {
        check.invalid("spec.hosts", spec.hosts.len(), "must have at most 256 items");
    }
    for (i, host) in spec.hosts.iter().enumerate() {
        let path = item("spec.hosts", i);
        if host == "*" {
            check.error(&path, format!("invalid host {host}: hostname cannot be wildcard"));
        } else if let Err(message) = wildcard_domain(host) {
            check.error(&path, message);
        } else if is_partial_wildcard(host) {
            check.warn(&path, format!("partial wildcard host {host:?}; write *.suffix"));
        }
    }
}

fn addresses(check: &mut Check<'_>, spec: &ServiceEntry) {
    let ranges = matches!(spec.resolution, ServiceResolution::None | ServiceResolution::Static);
    if spec.addresses.len() > 256 {
        check.invalid("spec.addresses", spec.addresses.len(), "must have at most 256 items");
    }
    for (i, address) in spec.addresses.iter().enumerate() {
        let path = item("spec.addresses", i);
        check.ok(&path, subnet(address));
        if address.contains('/') && !ranges {
            check.error(&path, "CIDR addresses are allowed only for NONE/STATIC resolution types");
        }
    }
}

fn ports(check: &mut Check<'_>, spec: &ServiceEntry) {
    let (mut names, mut numbers) = (HashSet::new(), HashSet::new());
    for (i, p) in spec.ports.iter().enumerate() {
        let path = item("spec.ports", i);
        let (at_name, at_number) = (child(&path, "name"), child(&path, "number"));
        if p.name.is_empty() {
            check.required(&at_name);
        } else if !is_label(&p.name) {
            check.error(&at_name, format!("invalid port name: {:?}", p.name));
        } else if !names.insert(&p.name) {
            check.error(&at_name, format!("service entry port name {:?} already defined", p.name));
        }
        check.ok(&at_number, port(p.number));
        if !numbers.insert(p.number) {
            check.error(&at_number, format!("service entry port {} already defined", p.number));
        }
        if p.target_port != 0 {
            check.ok(&child(&path, "targetPort"), port(p.target_port));
        }
        let known = [
            "", "HTTP", "HTTPS", "HTTP2", "GRPC", "GRPC-WEB", "GRPCWEB", "TCP", "TLS", "MONGO", "REDIS", "MYSQL", "UDP",
        ];
        let protocol = p.protocol.to_ascii_uppercase();
        if !known.contains(&protocol.as_str()) && protocol != "HTTP_PROXY" {
            check.error(&child(&path, "protocol"), format!("unsupported protocol: {}", p.protocol));
        }
        if p.number == 0 {
            continue;
        }
        let by_content = is_http_or_tls(&p.protocol);
        if spec.hosts.len() > 1 && !by_content && spec.resolution != ServiceResolution::None {
            let message = "multiple hosts provided with non-HTTP, non-TLS ports";
            check.error_fix(&child(&path, "protocol"), message, "use one ServiceEntry for each host");
        }
    }
}

fn is_http_or_tls(protocol: &str) -> bool {
    let protocol = AppProtocol::of_port(Some(protocol), "", 0);
    protocol.is_http() || matches!(protocol, AppProtocol::Https | AppProtocol::Tls)
}

fn resolution(check: &mut Check<'_>, spec: &ServiceEntry) {
    let endpoints = &spec.endpoints;
    let wildcard_host = spec.hosts.iter().find(|h| h.starts_with('*'));
    match spec.resolution {
        ServiceResolution::None => {
            if !endpoints.is_empty() {
                check.error_fix("spec.endpoints", "NONE mode cannot set endpoints", "write resolution: STATIC or DNS");
            }
        }
        ServiceResolution::Static => {
            for (i, endpoint) in endpoints.iter().enumerate() {
                let address = &endpoint.address;
                if !address.is_empty() && !address.starts_with("unix://") && address.parse::<IpAddr>().is_err() {
                    let at = child(&item("spec.endpoints", i), "address");
                    let message = format!("invalid endpoint address {address:?}: STATIC needs an IP address");
                    check.error_fix(&at, message, "write resolution: DNS");
                }
            }
        }
        ServiceResolution::Dns | ServiceResolution::DnsRoundRobin => {
            if spec.resolution == ServiceResolution::DnsRoundRobin && endpoints.len() > 1 {
                check.error("spec.endpoints", "DNS_ROUND_ROBIN mode cannot have multiple endpoints");
            }
            if let (Some(host), true, None) = (wildcard_host, endpoints.is_empty(), &spec.workload_selector) {
                let message = format!(
                    "hosts must be FQDN if no endpoints are provided for resolution mode {}: {host}",
                    if spec.resolution == ServiceResolution::Dns { "DNS" } else { "DNS_ROUND_ROBIN" }
                );
                check.error("spec.hosts", message);
            }
            for (i, endpoint) in endpoints.iter().enumerate() {
                let address = &endpoint.address;
                if !address.is_empty() && !address.starts_with("unix://") && address.parse::<IpAddr>().is_err() {
                    check.ok(&child(&item("spec.endpoints", i), "address"), fqdn(address));
                }
            }
        }
        ServiceResolution::DynamicDns => dynamic_dns(check, spec),
    }
}

fn dynamic_dns(check: &mut Check<'_>, spec: &ServiceEntry) {
    if let Some(host) = spec.hosts.iter().find(|h| !h.starts_with('*')) {
        check.error("spec.hosts", format!("DYNAMIC_DNS resolution needs wildcard hosts, {host} is none"));
    }
    if !spec.addresses.is_empty() {
        check.error("spec.addresses", "DYNAMIC_DNS resolution cannot have addresses");
    }
    if !spec.endpoints.is_empty() || spec.workload_selector.is_some() {
        check.error("spec.endpoints", "DYNAMIC_DNS resolution cannot have endpoints");
    }
    for (i, p) in spec.ports.iter().enumerate() {
        if !matches!(p.protocol.to_ascii_uppercase().as_str(), "HTTP" | "HTTP2" | "GRPC" | "TLS") {
            let at = child(&item("spec.ports", i), "protocol");
            check.error(&at, "DYNAMIC_DNS resolution needs protocol HTTP, HTTP2, GRPC or TLS");
        }
    }
}

/// A WorkloadEntry, or an endpoint of a ServiceEntry.
pub(super) fn workload(check: &mut Check<'_>, entry: &WorkloadEntry, path: &str) {
    let WorkloadEntry { address, ports, labels, network, locality, weight: _, service_account } = entry;
    let at = child(path, "address");
    if address.is_empty() {
        if network.is_empty() {
            check.error_fix(&at, "Address is required", "write an IP address, a host name or unix://path");
        } else {
            check.warn(&at, "address is not set; the workload is reached through the gateway of its network");
        }
    } else if let Some(socket) = address.strip_prefix("unix://") {
        if !socket.starts_with(['/', '@']) {
            check
                .error(&at, format!("{at}: Invalid value: {address}: UDS must be an absolute path or abstract socket"));
        }
        if socket.ends_with('/') {
            check.error(&at, format!("{at}: Invalid value: {address}: UDS may not be a dir"));
        }
        if !ports.is_empty() {
            check.error(&child(path, "ports"), "UDS may not include ports");
        }
    } else if address.parse::<IpAddr>().is_err() {
        check.ok(&at, fqdn(address));
    }
    let at = child(path, "ports");
    for (name, number) in ports {
        let is_valid = name.len() < 63 && is_label(name);
        if !is_valid {
            check.error(&child(&at, name), format!("{at}: Invalid value: {name:?}: port name must be valid"));
        }
        if !(1..=65535).contains(number) {
            check.invalid(&child(&at, name), number, "port must be between 1-65535");
        }
    }
    common::labels(check, &child(path, "labels"), labels);
    for (field, value, most) in [
        ("address", address, 256),
        ("network", network, 2048),
        ("locality", locality, 2048),
        ("serviceAccount", service_account, 253),
    ] {
        if value.len() > most {
            check.invalid(&child(path, field), value, &format!("may not be more than {most} bytes"));
        }
    }
}
