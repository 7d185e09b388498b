//! Kubernetes Service -> model.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Settings, export_to, parse_ip};
use crate::api::kube::{self, ServiceSpec};
use crate::api::{IntOrString, Meta, Object};
use crate::model::{AppProtocol, Location, Resolution, Service, ServicePort, TrafficDistribution};

/// Annotation with the namespaces that may see a Service, comma-separated.
pub const EXPORT_TO: &str = "networking.istio.io/exportTo";

/// Annotation with the meaning of `spec.trafficDistribution`.
const TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";

/// A Service. `virtual_address` is what the mesh gave it, if it names none itself.
pub fn service(object: &Object<ServiceSpec>, virtual_address: Option<IpAddr>, settings: &Settings) -> Service {
    let spec = &object.spec;
    let namespace: Arc<str> = object.key.namespace.clone();
    let external = spec.r#type == "ExternalName";
    let headless = !external && spec.cluster_ip == "None";
    let annotation = object.meta.annotations.get(EXPORT_TO).map(String::as_str).unwrap_or_default();
    let exported: Vec<&str> = annotation.split(',').map(str::trim).filter(|s| !s.is_empty()).collect();
    let addresses = if headless || external { Vec::new() } else { own_addresses(spec, virtual_address) };
    let export_to = export_to(&exported, &settings.service_export_to, &namespace);
    let mut hash = object.hash.with_str(&settings.domain);
    for text in addresses.iter().map(ToString::to_string).chain(export_to.iter().map(ToString::to_string)) {
        hash = hash.with_str(&text);
    }
    Service {
        key: object.key.clone(),
        origin: object.origin.clone(),
        hostname: format!("{}.{namespace}.svc.{}", object.key.name, settings.domain).to_ascii_lowercase().into(),
        namespace,
        addresses,
        networks: Box::default(),
        ports: spec.ports.iter().filter_map(port).collect(),
        selector: (!spec.selector.is_empty()).then(|| (&spec.selector).into()),
        endpoints: Vec::new(),
        resolution: if external { Resolution::Dns } else { Resolution::Static },
        location: Location::Internal,
        export_to,
        headless,
        traffic_distribution: traffic_distribution(&spec.traffic_distribution, &object.meta),
        external_name: external.then(|| spec.external_name.trim_end_matches('.').to_ascii_lowercase().into()),
        subject_alt_names: Vec::new(),
        labels: object.meta.labels.clone(),
        created: object.meta.creation_timestamp.as_deref().map(Into::into),
        hash,
    }
}

/// `spec.trafficDistribution`; Istio's annotation of the same meaning comes first, and is all that a ServiceEntry has.
pub(super) fn traffic_distribution(field: &str, meta: &Meta) -> TrafficDistribution {
    let annotation = meta.annotations.get(TRAFFIC_DISTRIBUTION).map(|a| a.trim());
    match annotation.filter(|a| !a.is_empty()).unwrap_or(field) {
        "PreferClose" | "PreferSameZone" => TrafficDistribution::SameZone,
        "PreferSameNode" => TrafficDistribution::SameNode,
        _ => TrafficDistribution::Any,
    }
}

fn own_addresses(spec: &ServiceSpec, given: Option<IpAddr>) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> =
        std::iter::once(&spec.cluster_ip).chain(&spec.cluster_ips).filter_map(|a| parse_ip(a)).collect();
    all.extend(given.filter(|_| all.is_empty()));
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|a| seen.insert(*a));
    // IPv4 first, otherwise in the order of the object.
    all.sort_by_key(IpAddr::is_ipv6);
    all
}

fn port(p: &kube::ServicePort) -> Option<ServicePort> {
    let number = u16::try_from(p.port).ok().filter(|n| *n > 0)?;
    let protocol = match p.protocol.as_str() {
        "UDP" => AppProtocol::Udp,
        _ => AppProtocol::of_port(p.app_protocol.as_deref(), &p.name, number),
    };
    let (target_port, target_name) = match &p.target_port {
        Some(IntOrString::Int(n)) if *n > 0 => (u16::try_from(*n).ok()?, None),
        Some(IntOrString::String(name)) if !name.is_empty() => match name.parse() {
            Ok(n) => (n, None),
            Err(_) => (0, Some(name.as_str().into())),
        },
        _ => (number, None),
    };
    Some(ServicePort {
        number,
        name: p.name.as_str().into(),
        protocol,
        target_port,
        target_name,
        node_port: u16::try_from(p.node_port).unwrap_or(0),
    })
}
