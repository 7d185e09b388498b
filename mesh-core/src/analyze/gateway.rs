//! Gateways: pods that they select, ports, certificates, and conflicts between them.

use std::collections::{BTreeMap, BTreeSet};

use super::index::{Index, SYSTEM, full_name, go_list, selector_text};
use super::messages::{
    CONFLICTING_GATEWAYS, DUPLICATE_CERTIFICATE, INVALID_CREDENTIAL, NOT_FOUND, PORT_NOT_ON_SERVICE,
};
use crate::api::{Gateway, IntOrString, Object, Server};
use crate::report::Report;
use crate::world::covers;

/// Pods of the selector, and that their Services have the ports.
pub(super) fn ports(index: &Index<'_>) -> Vec<Report> {
    let mut services: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for s in index.services.iter().filter(|s| !s.spec.selector.is_empty()) {
        services.entry(&s.key.namespace).or_default().push(*s);
    }
    let mut found = Vec::new();
    for g in &index.gateways {
        let pods: Vec<_> = index.select(&g.spec.selector, None).collect();
        let text = selector_text(&g.spec.selector);
        if pods.is_empty() && !g.spec.selector.is_empty() {
            let message = format!("Referenced selector not found: {text:?}");
            let report = NOT_FOUND.report((&g.key, &g.origin), "spec.selector", message);
            found.push(
                report.fix("write the labels of your gateway's pods; the built-in one has istio: ingressgateway"),
            );
            continue;
        }
        let mut ports = BTreeSet::new();
        for pod in &pods {
            let near = services.get(&*pod.namespace).map_or(&[][..], Vec::as_slice);
            for p in near.iter().filter(|s| covers(&s.spec.selector, &pod.labels)).flat_map(|s| &s.spec.ports) {
                ports.insert(p.port);
                if let Some(IntOrString::Int(n)) = p.target_port {
                    ports.extend(u32::try_from(n));
                }
            }
        }
        // Without any Service of its own it is the built-in gateway, which opens what the Gateways ask for.
        if ports.is_empty() {
            continue;
        }
        for (i, port) in g.spec.servers.iter().enumerate().filter_map(|(i, s)| Some((i, s.port.as_ref()?))) {
            if !ports.contains(&port.number) {
                let message = format!(
                    "The gateway is listening on a target port (port {}) that is not defined in the Service associated with its workload instances (Pod selector {text}). If you need to access the gateway port through the gateway Service, it will not be available.",
                    port.number
                );
                let field = format!("spec.servers[{i}].port.number");
                let report = PORT_NOT_ON_SERVICE.report((&g.key, &g.origin), &field, message);
                found.push(report.fix(format!("the Service has ports {}", go_list(&ports))));
            }
        }
    }
    found
}

/// Gateways with the same port and host on the same pods.
pub(super) fn conflicts(index: &Index<'_>) -> Vec<Report> {
    let mut by_port: BTreeMap<u32, Vec<(&Object<Gateway>, &Server)>> = BTreeMap::new();
    for g in &index.gateways {
        for s in &g.spec.servers {
            if let Some(port) = s.port.as_ref().filter(|p| p.number != 0) {
                by_port.entry(port.number).or_default().push((g, s));
            }
        }
    }
    let mut found = Vec::new();
    for (port, servers) in by_port.iter().filter(|(_, s)| s.len() > 1) {
        // Hosts first: only servers that share one are compared.
        let mut by_host: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (i, (_, s)) in servers.iter().enumerate() {
            s.hosts.iter().for_each(|h| by_host.entry(h).or_default().push(i));
        }
        for (i, (g, s)) in servers.iter().enumerate() {
            let near: BTreeSet<usize> =
                s.hosts.iter().filter_map(|h| by_host.get(h.as_str())).flatten().copied().filter(|j| *j != i).collect();
            let with: Vec<&Object<Gateway>> = near
                .into_iter()
                .map(|j| servers[j])
                .filter(|(other, o)| other.key != g.key && o.bind == s.bind && same_pods(index, g, other))
                .map(|(other, _)| other)
                .collect();
            if !with.is_empty() {
                found.push(conflict(g, &with, *port, s));
            }
        }
    }
    found
}

fn conflict(g: &Object<Gateway>, with: &[&Object<Gateway>], port: u32, server: &Server) -> Report {
    let names: BTreeSet<String> = with.iter().map(|o| full_name(o)).collect();
    let names = names.into_iter().collect::<Vec<_>>().join(",");
    let text = format!(
        "Conflict with gateways {names} (workload selector {}, port {port}, hosts {}).",
        selector_text(&g.spec.selector),
        server.hosts.join(",")
    );
    let at = g.spec.servers.iter().position(|s| std::ptr::eq(s, server)).unwrap_or_default();
    CONFLICTING_GATEWAYS.report((&g.key, &g.origin), &format!("spec.servers[{at}]"), text)
}

fn same_pods(index: &Index<'_>, a: &Object<Gateway>, b: &Object<Gateway>) -> bool {
    let (a, b) = (&a.spec.selector, &b.spec.selector);
    a == b || index.select(a, None).any(|p| covers(b, &p.labels))
}

/// Several Gateways of the same pods with one certificate: an HTTP/2 client reuses its connection for the wrong one.
pub(super) fn certificates(index: &Index<'_>) -> Vec<Report> {
    let mut by_certificate: BTreeMap<String, Vec<&Object<Gateway>>> = BTreeMap::new();
    for g in &index.gateways {
        let own: BTreeSet<String> = g.spec.servers.iter().filter_map(certificate).collect();
        for c in own {
            by_certificate.entry(c).or_default().push(g);
        }
    }
    let mut found = Vec::new();
    for all in by_certificate.values().filter(|a| a.len() > 1) {
        for g in all {
            let superset = |o: &&&Object<Gateway>| o.key != g.key && covers(&g.spec.selector, &o.spec.selector);
            let others: BTreeSet<String> = all.iter().filter(superset).map(|o| full_name(o)).collect();
            if others.is_empty() {
                continue;
            }
            let names: Vec<String> = [full_name(g)].into_iter().chain(others).collect();
            let text = format!(
                "Duplicate certificate in multiple gateways {} may cause 404s if clients re-use HTTP2 connections.",
                go_list(names)
            );
            found.push(DUPLICATE_CERTIFICATE.report((&g.key, &g.origin), "spec.servers", text));
        }
    }
    found
}

fn certificate(s: &Server) -> Option<String> {
    let tls = s.tls.as_ref()?;
    match (tls.credential_name.as_str(), tls.server_certificate.as_str()) {
        ("", "") => None,
        ("", file) => Some(format!("file {file} {}", tls.private_key)),
        (name, _) => Some(format!("secret {name}")),
    }
}

/// Secrets that `credentialName` names, in the namespace of the gateway's pods.
pub(super) fn secrets(index: &Index<'_>) -> Vec<Report> {
    let secrets: BTreeMap<(&str, &str), &serde_json::Value> =
        index.documents("Secret").map(|u| ((&*u.key.namespace, &*u.key.name), &u.spec)).collect();
    let mut found = Vec::new();
    for g in &index.gateways {
        let pods: BTreeSet<&str> = index.select(&g.spec.selector, None).map(|p| &*p.namespace).collect();
        for (i, s) in g.spec.servers.iter().enumerate() {
            let Some(name) = s.tls.as_ref().map(|t| t.credential_name.as_str()).filter(|n| !n.is_empty()) else {
                continue;
            };
            let field = format!("spec.servers[{i}].tls.credentialName");
            if let Some(secret) = pods.iter().find_map(|ns| secrets.get(&(*ns, name))) {
                if let Err(why) = usable(secret) {
                    let text = format!(
                        "The credential referenced by the Gateway {} in namespace {} is invalid, which can cause the traffic not to work as expected.",
                        g.key.name, g.key.namespace
                    );
                    found.push(INVALID_CREDENTIAL.report((&g.key, &g.origin), &field, text).fix(why));
                }
                continue;
            }
            if name.contains("://") {
                continue;
            }
            let message = format!("Referenced credentialName not found: {name:?}");
            let place = pods.first().copied().unwrap_or(SYSTEM);
            let report = NOT_FOUND.report((&g.key, &g.origin), &field, message);
            found.push(report.fix(format!("the Secret belongs in the namespace of the gateway's pods ({place})")));
        }
    }
    found
}

/// A certificate and a key, in one of the two forms that Istio reads; whether they fit is seen where they are loaded.
fn usable(secret: &serde_json::Value) -> Result<(), String> {
    let has = |key: &str| {
        let value = |f: &str| secret.get(f).and_then(|d| d.get(key)).and_then(|v| v.as_str());
        value("data").or_else(|| value("stringData")).is_some_and(|v| !v.trim().is_empty())
    };
    if (has("cert") && has("key")) || (has("tls.crt") && has("tls.key")) {
        return Ok(());
    }
    Err("write keys tls.crt and tls.key (or cert and key) in the Secret".to_owned())
}
