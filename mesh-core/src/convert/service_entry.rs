//! ServiceEntry -> model: one service for each host.

use std::net::IpAddr;
use std::sync::Arc;

use super::workload::entry;
use super::{Settings, export_to, parse_ip};
use crate::api::{Object, ServiceEntry, ServiceLocation, ServiceResolution};
use crate::matching::Cidr;
use crate::model::{AppProtocol, Location, Resolution, Service, ServicePort, Workload};

/// The services of a ServiceEntry. `allocate` gives the virtual address of a host; it is asked only for hosts that may
/// have one (no `addresses`, a resolution other than NONE, a wildcard only with DYNAMIC_DNS, not switched off by label), and says `None` if
/// the mesh does not give out addresses.
pub fn service_entry(
    object: &Object<ServiceEntry>,
    settings: &Settings,
    mut allocate: impl FnMut(&str) -> Option<IpAddr>,
) -> Vec<Service> {
    let spec = &object.spec;
    let namespace: Arc<str> = object.key.namespace.clone();
    let addresses: Vec<IpAddr> = spec.addresses.iter().filter_map(|a| single_address(a)).collect();
    let networks = spec.addresses.iter().filter(|a| single_address(a).is_none());
    let networks: Box<[Cidr]> = networks.filter_map(|a| Cidr::parse(a).ok()).collect();
    let exported: Vec<&str> = spec.export_to.iter().map(String::as_str).collect();
    let export_to = export_to(&exported, &settings.service_export_to, &namespace);
    let resolution = resolution(spec.resolution);
    let endpoints: Vec<Arc<Workload>> = spec
        .endpoints
        .iter()
        .enumerate()
        .map(|(i, e)| Arc::new(entry(e, &format!("{}-{i}", object.key.name), &object.key, settings)))
        .collect();
    let allocatable = spec.addresses.is_empty()
        && resolution != Resolution::None
        && object.meta.labels.get("networking.istio.io/enable-autoallocate-ip").is_none_or(|v| v != "false");
    let mut hash = object.hash.with_str(&settings.cluster);
    for e in &export_to {
        hash = hash.with_str(e);
    }
    let make = |host: &String| {
        let hostname: Arc<str> = host.trim_end_matches('.').to_ascii_lowercase().into();
        let mut addresses = addresses.clone();
        if allocatable && (!hostname.starts_with('*') || resolution == Resolution::DynamicDns) {
            addresses.extend(allocate(&format!("{namespace}/{hostname}")));
        }
        let hash = addresses.iter().fold(hash.with_str(&hostname), |h, a| h.with_str(&a.to_string()));
        Service {
            key: object.key.clone(),
            origin: object.origin.clone(),
            hostname,
            namespace: namespace.clone(),
            addresses,
            networks: networks.clone(),
            ports: spec.ports.iter().filter_map(port).collect(),
            selector: spec.workload_selector.as_ref().map(|s| (&s.labels).into()),
            endpoints: endpoints.clone(),
            resolution,
            location: match spec.location {
                ServiceLocation::MeshExternal => Location::External,
                ServiceLocation::MeshInternal => Location::Internal,
            },
            export_to: export_to.clone(),
            headless: false,
            traffic_distribution: super::service::traffic_distribution("", &object.meta),
            external_name: None,
            subject_alt_names: spec.subject_alt_names.iter().map(|s| s.as_str().into()).collect(),
            labels: object.meta.labels.clone(),
            created: object.meta.creation_timestamp.as_deref().map(Into::into),
            hash,
        }
    };
    spec.hosts.iter().map(make).collect()
}

/// An address, also written as a network of one.
pub(super) fn single_address(text: &str) -> Option<IpAddr> {
    match text.split_once('/') {
        None => parse_ip(text),
        Some((a, length)) => parse_ip(a).filter(|a| length == if a.is_ipv4() { "32" } else { "128" }),
    }
}

fn resolution(r: ServiceResolution) -> Resolution {
    match r {
        ServiceResolution::None => Resolution::None,
        ServiceResolution::Static => Resolution::Static,
        ServiceResolution::Dns => Resolution::Dns,
        ServiceResolution::DnsRoundRobin => Resolution::DnsRoundRobin,
        ServiceResolution::DynamicDns => Resolution::DynamicDns,
    }
}

fn port(p: &crate::api::ServicePort) -> Option<ServicePort> {
    let number = u16::try_from(p.number).ok().filter(|n| *n > 0)?;
    Some(ServicePort {
        number,
        name: p.name.as_str().into(),
        protocol: AppProtocol::of_port(Some(&p.protocol), "", number),
        target_port: u16::try_from(p.target_port).ok().filter(|n| *n > 0).unwrap_or(number),
        target_name: None,
        node_port: 0,
    })
}
