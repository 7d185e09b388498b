//! Services, the Deployments behind them, and ServiceEntries.

use std::collections::{BTreeMap, BTreeSet};

use super::index::{Index, SYSTEM, full_name, go_list};
use super::messages::{
    ADDRESSES_REQUIRED, CONFLICTING_PORTS, CONFLICTING_PROTOCOLS, EXTERNAL_PORT_NAME, PORT_NAME, SEVERAL_SERVICES,
};
use crate::api::kube::{ServicePort, ServiceSpec};
use crate::api::{IntOrString, Object, ServiceEntry};
use crate::model::AppProtocol;
use crate::report::Report;
use crate::world::covers;

/// Port names that do not tell a protocol.
pub(super) fn port_names(index: &Index<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    for s in &index.services {
        let system = s.key.namespace.starts_with("kube-") || &*s.key.namespace == "local-path-storage";
        let own = &*s.key.namespace == SYSTEM
            && (s.meta.labels.contains_key("istio") || s.meta.labels.get("release").is_some_and(|r| r == "istio"));
        let managed = s.meta.labels.contains_key("gateway.istio.io/managed");
        if system || own || managed {
            continue;
        }
        for (i, p) in s.spec.ports.iter().enumerate().filter(|(_, p)| p.protocol != "UDP") {
            found.extend(port_name(s, i, p));
        }
    }
    found
}

fn port_name(s: &Object<ServiceSpec>, i: usize, p: &ServicePort) -> Option<Report> {
    let number = u16::try_from(p.port).unwrap_or(0);
    let protocol = AppProtocol::of_port(p.app_protocol.as_deref(), &p.name, number);
    let field = format!("spec.ports[{i}].name");
    let subject = (&s.key, &s.origin);
    if s.spec.r#type == "ExternalName" {
        let text = "Port name for ExternalName service is invalid. Proxy may prevent tcp named ports and unmatched traffic for ports serving TCP protocol from being forwarded correctly";
        let bad = matches!(protocol, AppProtocol::Auto | AppProtocol::Tcp);
        return bad.then(|| EXTERNAL_PORT_NAME.report(subject, &field, text).fix("write name: http, https or tls"));
    }
    let text = format!(
        "Port name {} (port: {}, targetPort: {}) doesn't follow the naming convention of Istio port.",
        p.name,
        p.port,
        target(p)
    );
    let fix = "write a name that begins with the protocol (http, http2, grpc, https, tls, tcp), or appProtocol";
    (protocol == AppProtocol::Auto).then(|| PORT_NAME.report(subject, &field, text).fix(fix))
}

fn target(p: &ServicePort) -> String {
    match &p.target_port {
        Some(IntOrString::Int(n)) if *n != 0 => n.to_string(),
        Some(IntOrString::String(s)) => s.clone(),
        _ => "0".to_owned(),
    }
}

/// Deployments whose Services disagree about a port.
pub(super) fn deployments(index: &Index<'_>) -> Vec<Report> {
    let mut services: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for s in index.services.iter().filter(|s| !s.spec.selector.is_empty()) {
        services.entry(&s.key.namespace).or_default().push(*s);
    }
    let mut found = Vec::new();
    for d in &index.deployments {
        let template = &d.spec.template.metadata;
        let inject = "sidecar.istio.io/inject";
        let out =
            template.labels.get(inject).or_else(|| template.annotations.get(inject)).is_some_and(|v| v == "false");
        let off = index.namespace_labels(&d.key.namespace).and_then(|l| l.get("istio-injection"));
        if out || off.is_some_and(|v| v == "disabled") {
            continue;
        }
        let near = services.get(&*d.key.namespace).map_or(&[][..], Vec::as_slice);
        let own: Vec<_> = near.iter().filter(|s| covers(&s.spec.selector, &template.labels)).copied().collect();
        let mut by_port: BTreeMap<u32, BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
        let mut by_target: BTreeMap<String, (BTreeSet<u32>, BTreeSet<&str>)> = BTreeMap::new();
        for (s, p) in own.iter().flat_map(|s| s.spec.ports.iter().map(move |p| (s, p))) {
            let protocol = if p.protocol.is_empty() { "TCP" } else { &p.protocol };
            by_port.entry(p.port).or_default().entry(protocol).or_default().insert(&s.key.name);
            let target = if p.target_port.is_none() { p.port.to_string() } else { target(p) };
            let (ports, names) = by_target.entry(target).or_default();
            ports.insert(p.port);
            names.insert(&s.key.name);
        }
        let subject = (&d.key, &d.origin);
        for (port, protocols) in by_port.iter().filter(|(_, p)| p.len() > 1) {
            let names: BTreeSet<&str> = protocols.values().flatten().copied().collect();
            let text = format!(
                "This deployment {} is associated with multiple services using port {port} but different protocols: {}",
                full_name(d),
                go_list(names)
            );
            found.push(SEVERAL_SERVICES.report(subject, "", text));
        }
        for (target, (ports, names)) in by_target.iter().filter(|(_, (p, _))| p.len() > 1) {
            let text = format!(
                "This deployment {} is associated with multiple services {} using targetPort {target:?} but different ports: {}.",
                full_name(d),
                go_list(names),
                go_list(ports)
            );
            found.push(CONFLICTING_PORTS.report(subject, "", text));
        }
    }
    found
}

/// TCP ports without an address: every connection to the port looks the same.
pub(super) fn entry_addresses(index: &Index<'_>) -> Vec<Report> {
    let metadata = index.mesh.default_config.as_ref().map(|c| &c.proxy_metadata);
    let on = |name: &str| metadata.and_then(|m| m.get(name)).is_some_and(|v| v == "true");
    // Capture alone is enough: addresses are given out unless the label says otherwise.
    if on("ISTIO_META_DNS_CAPTURE") {
        return Vec::new();
    }
    let mut found = Vec::new();
    for o in index.service_entries.iter().filter(|o| o.spec.addresses.is_empty()) {
        let tcp = |p: &crate::api::ServicePort| p.protocol.is_empty() || p.protocol.eq_ignore_ascii_case("tcp");
        if let Some(i) = o.spec.ports.iter().position(tcp) {
            let text = "ServiceEntry addresses are required for this protocol.";
            let report = ADDRESSES_REQUIRED.report((&o.key, &o.origin), &format!("spec.ports[{i}]"), text);
            found.push(report.fix("write addresses, or a protocol that names its host (HTTP, TLS)"));
        }
    }
    found
}

/// ServiceEntries that give one host and port different protocols.
pub(super) fn entry_protocols(index: &Index<'_>) -> Vec<Report> {
    let mut by_host: BTreeMap<_, Vec<(&Object<ServiceEntry>, String)>> = BTreeMap::new();
    for o in &index.service_entries {
        for host in &o.spec.hosts {
            for p in &o.spec.ports {
                let key = (host.to_ascii_lowercase(), p.number);
                by_host.entry(key).or_default().push((o, p.protocol.to_ascii_uppercase()));
            }
        }
    }
    let mut found = Vec::new();
    for ((host, port), all) in by_host.iter().filter(|(_, a)| a.len() > 1) {
        for (o, protocol) in all {
            let others = all.iter().filter(|(x, p)| x.key != o.key && p != protocol && overlap(o, x));
            let others: Vec<_> = others.collect();
            if others.is_empty() {
                continue;
            }
            let names: BTreeSet<String> = others.iter().map(|(x, _)| full_name(x)).chain([full_name(o)]).collect();
            let protocols: BTreeSet<&str> = others.iter().map(|(_, p)| p.as_str()).chain([protocol.as_str()]).collect();
            let text = format!(
                "Multiple ServiceEntries ({}) define the same host {host:?} and port {port} with conflicting protocols ({}).",
                names.into_iter().collect::<Vec<_>>().join(", "),
                protocols.into_iter().collect::<Vec<_>>().join(", ")
            );
            found.push(CONFLICTING_PROTOCOLS.report((&o.key, &o.origin), "spec.ports", text));
        }
    }
    found
}

fn overlap(a: &Object<ServiceEntry>, b: &Object<ServiceEntry>) -> bool {
    let names = |o: &Object<ServiceEntry>| -> Option<BTreeSet<String>> {
        let list = &o.spec.export_to;
        let own = |e: &String| if e == "." { o.key.namespace.to_string() } else { e.clone() };
        (!list.is_empty() && !list.iter().any(|e| e == "*")).then(|| list.iter().map(own).collect())
    };
    match (names(a), names(b)) {
        (Some(a), Some(b)) => !a.is_disjoint(&b),
        _ => true,
    }
}
