//! VirtualServices: what their destinations, gateways and hosts refer to.

use std::collections::{BTreeMap, BTreeSet};

use super::index::{DOMAIN, Index, full_name, go_list, seen_from};
use super::messages::{
    CONFLICTING_HOSTS, HOST_NOT_IN_GATEWAY, INTERNAL_GATEWAY, NOT_AT_INGRESS, NOT_FOUND, PORT_REQUIRED,
};
use crate::api::{Destination, Object, VirtualService};
use crate::matching::HostPattern;
use crate::report::Report;
use crate::scope::gateway_name;
use crate::world::full_host;

type Rule = Object<VirtualService>;

/// A destination with its field, and whether it is a mirror. `None`: the entry has no destination.
pub(super) fn destinations(o: &Rule) -> Vec<(String, bool, Option<&Destination>)> {
    let mut all = Vec::new();
    for (r, route) in o.spec.http.iter().enumerate() {
        for (d, w) in route.route.iter().enumerate() {
            all.push((format!("spec.http[{r}].route[{d}].destination"), false, w.destination.as_ref()));
        }
        if let Some(mirror) = &route.mirror {
            all.push((format!("spec.http[{r}].mirror"), true, Some(mirror)));
        }
        for (m, mirror) in route.mirrors.iter().enumerate() {
            all.push((format!("spec.http[{r}].mirrors[{m}].destination"), true, mirror.destination.as_ref()));
        }
    }
    let l4 = |list: &str, r: usize, d: usize| format!("spec.{list}[{r}].route[{d}].destination");
    for (r, route) in o.spec.tls.iter().enumerate() {
        all.extend(route.route.iter().enumerate().map(|(d, w)| (l4("tls", r, d), false, w.destination.as_ref())));
    }
    for (r, route) in o.spec.tcp.iter().enumerate() {
        all.extend(route.route.iter().enumerate().map(|(d, w)| (l4("tcp", r, d), false, w.destination.as_ref())));
    }
    all
}

fn not_found(o: &Rule, field: &str, what: &str, value: &str) -> Report {
    NOT_FOUND.report((&o.key, &o.origin), field, format!("Referenced {what} not found: {value:?}"))
}

/// Hosts and ports of destinations.
pub(super) fn hosts(index: &Index<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    for o in &index.virtual_services {
        let from = seen_from(&o.spec.export_to, &o.key.namespace);
        for (field, mirror, destination) in destinations(o) {
            let none = Destination::default();
            let d = destination.unwrap_or(&none);
            let Some(host) = index.host(&d.host, &o.key.namespace, &from) else {
                let what = if mirror { "mirror host" } else { "host" };
                found.push(not_found(o, &format!("{field}.host"), what, &d.host).fix(host_fix(o, d)));
                continue;
            };
            // An entry without ports stands for a host whose ports nobody has said.
            if host.ports.is_empty() {
                continue;
            }
            match &d.port {
                Some(p) if host.ports.contains(&p.number) => {}
                Some(p) if p.number != 0 => {
                    let value = format!("{}:{}", d.host, p.number);
                    let fix = format!("write one of its ports: {}", go_list(&host.ports));
                    found.push(not_found(o, &format!("{field}.port.number"), "host:port", &value).fix(fix));
                }
                _ if host.ports.len() > 1 && !host.is_entry => {
                    let text = format!(
                        "This VirtualService routes to a service {:?} that exposes multiple ports {}. Specifying a port in the destination is required to disambiguate.",
                        d.host,
                        go_list(&host.ports)
                    );
                    let report = PORT_REQUIRED.report((&o.key, &o.origin), &field, text);
                    found.push(report.fix(format!("write port: {{number: {}}}", host.ports[0])));
                }
                _ => {}
            }
        }
    }
    found
}

fn host_fix(o: &Rule, d: &Destination) -> String {
    let name = full_host(&d.host, &o.key.namespace, DOMAIN);
    if d.host.is_empty() {
        "write destination.host".into()
    } else if *name == *d.host {
        "write the name of a Service or ServiceEntry that is visible here".into()
    } else {
        format!("it stands for {name}; write the full name if the service is in another namespace")
    }
}

/// Subsets of destinations.
pub(super) fn subsets(index: &Index<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    for o in &index.virtual_services {
        for (field, mirror, destination) in destinations(o) {
            let Some(d) = destination.filter(|d| !d.subset.is_empty()) else { continue };
            let rules = index.rules_of(&d.host, &o.key.namespace);
            if rules.iter().any(|r| r.spec.subsets.iter().any(|s| s.name == d.subset)) {
                continue;
            }
            let what = if mirror { "mirror+subset in destinationrule" } else { "host+subset in destinationrule" };
            let report = not_found(o, &format!("{field}.subset"), what, &format!("{}+{}", d.host, d.subset));
            let known: BTreeSet<&str> = rules.iter().flat_map(|r| &r.spec.subsets).map(|s| s.name.as_str()).collect();
            found.push(report.fix(match known.is_empty() {
                true => format!("write a DestinationRule for {} with a subset {}", d.host, d.subset),
                false => format!("write one of its subsets: {}", go_list(known)),
            }));
        }
    }
    found
}

/// What a gateway serves: `namespace/host` patterns of the servers.
struct Served {
    hosts: Vec<(Option<String>, HostPattern)>,
}

/// Gateways, and hosts on them.
pub(super) fn gateways(index: &Index<'_>) -> Vec<Report> {
    let mut served: BTreeMap<(&str, &str), Served> = BTreeMap::new();
    for g in &index.gateways {
        let all = g.spec.servers.iter().flat_map(|s| &s.hosts);
        let hosts = all.map(|h| match h.split_once('/') {
            Some(("*", host)) => (None, HostPattern::parse(host)),
            Some((".", host)) => (Some(g.key.namespace.to_string()), HostPattern::parse(host)),
            Some((ns, host)) => (Some(ns.to_owned()), HostPattern::parse(host)),
            None => (None, HostPattern::parse(h)),
        });
        served.insert((&g.key.namespace, &g.key.name), Served { hosts: hosts.collect() });
    }
    for g in index.unread.iter().filter(|u| &*u.key.kind.kind == "Gateway") {
        let listeners = g.spec.pointer("/spec/listeners").and_then(|l| l.as_array());
        let name = |l: &serde_json::Value| l.get("hostname").and_then(|h| h.as_str()).unwrap_or("*").to_owned();
        let hosts = listeners.into_iter().flatten().map(|l| (None, HostPattern::parse(&name(l)))).collect();
        served.entry((&g.key.namespace, &g.key.name)).or_insert(Served { hosts });
    }
    let mut found = Vec::new();
    for o in &index.virtual_services {
        for (i, reference) in o.spec.gateways.iter().enumerate().filter(|(_, g)| *g != "mesh") {
            found.extend(bound(o, &format!("spec.gateways[{i}]"), reference, &served));
        }
    }
    found
}

fn bound(o: &Rule, field: &str, reference: &str, served: &BTreeMap<(&str, &str), Served>) -> Vec<Report> {
    let subject = (&o.key, &o.origin);
    let mut found = Vec::new();
    if reference.contains("-istio-autogenerated-k8s-gateway") {
        let text = format!(
            "Gateway reference in VirtualService {} is to an implementation-generated internal Gateway: {reference}.",
            full_name(o)
        );
        found.push(INTERNAL_GATEWAY.report(subject, field, text));
    }
    let gateway = served.get(&gateway_name(reference, &o.key.namespace));
    if gateway.is_none() {
        let report = NOT_FOUND.report(subject, field, format!("Referenced gateway not found: {reference:?}"));
        let name = gateway_name(reference, &o.key.namespace);
        found.push(report.fix(format!("there is no Gateway {} in namespace {}", name.1, name.0)));
    }
    let has = |h: &String| {
        let host = HostPattern::parse(h);
        let all = gateway.map_or(&[][..], |g| &g.hosts);
        all.iter().any(|(ns, p)| ns.as_ref().is_none_or(|n| **n == *o.key.namespace) && p.overlaps(&host))
    };
    if !o.spec.hosts.iter().any(has) {
        let text = format!(
            "one or more host {} defined in VirtualService {} not found in Gateway {reference}.",
            go_list(&o.spec.hosts),
            full_name(o)
        );
        found.push(HOST_NOT_IN_GATEWAY.report(subject, "spec.hosts", text));
    }
    found
}

/// Hosts that several VirtualServices define for the same clients.
pub(super) fn conflicting_hosts(index: &Index<'_>) -> Vec<Report> {
    let in_mesh = |o: &&&Rule| o.spec.gateways.is_empty() || o.spec.gateways.iter().any(|g| g == "mesh");
    let mut exact: BTreeMap<HostPattern, Vec<&Rule>> = BTreeMap::new();
    for o in index.virtual_services.iter().filter(in_mesh) {
        for h in &o.spec.hosts {
            let pattern = HostPattern::parse(&full_host(h, &o.key.namespace, DOMAIN));
            exact.entry(pattern).or_default().push(o);
        }
    }
    let wild: Vec<&HostPattern> = exact.keys().filter(|p| !p.is_exact()).collect();
    let mut found = Vec::new();
    for o in index.virtual_services.iter().filter(in_mesh) {
        let others = o.spec.hosts.iter().enumerate().find_map(|(i, h)| {
            let name = full_host(h, &o.key.namespace, DOMAIN);
            let pattern = HostPattern::parse(&name);
            let similar =
                wild.iter().copied().filter(|p| !pattern.is_exact() && p.overlaps(&pattern) && **p != pattern);
            let names = std::iter::once(&pattern).chain(similar).filter_map(|p| exact.get(p)).flatten();
            let others: Vec<&&Rule> = names.filter(|other| other.key != o.key && share_clients(o, other)).collect();
            (!others.is_empty()).then_some((i, name, others))
        });
        let Some((i, host, others)) = others else { continue };
        let names: BTreeSet<String> = others.iter().map(|x| full_name(x)).chain([full_name(o)]).collect();
        let names = names.into_iter().collect::<Vec<_>>().join(",");
        let text = format!(
            "The VirtualServices {names} associated with mesh gateway define the same host {host} which can lead to undefined behavior. This can be fixed by merging the conflicting VirtualServices into a single resource."
        );
        found.push(CONFLICTING_HOSTS.report((&o.key, &o.origin), &format!("spec.hosts[{i}]"), text));
    }
    found
}

/// Two VirtualServices are visible to a common namespace.
fn share_clients(a: &Rule, b: &Rule) -> bool {
    let names = |o: &Rule| -> Option<BTreeSet<String>> {
        let list = &o.spec.export_to;
        let all = list.is_empty() || list.iter().any(|e| e == "*");
        let own = |e: &String| if e == "." { o.key.namespace.to_string() } else { e.clone() };
        (!all).then(|| list.iter().map(own).collect())
    };
    match (names(a), names(b)) {
        (Some(a), Some(b)) => !a.is_disjoint(&b),
        _ => true,
    }
}

/// Gateway rules that go to a host whose subsets are chosen by a VirtualService of the mesh, which a gateway does not
/// read.
pub(super) fn ingress(index: &Index<'_>) -> Vec<Report> {
    let routes = |o: &Rule| -> Vec<(String, std::sync::Arc<str>, bool)> {
        let plain = destinations(o).into_iter().filter(|(field, mirror, _)| !mirror && field.starts_with("spec.http"));
        plain
            .filter_map(|(field, _, d)| {
                let d = d?;
                Some((field, full_host(&d.host, &o.key.namespace, DOMAIN), !d.subset.is_empty()))
            })
            .collect()
    };
    let mut split: BTreeMap<std::sync::Arc<str>, BTreeSet<String>> = BTreeMap::new();
    for o in &index.virtual_services {
        if o.spec.gateways.is_empty() || o.spec.gateways.iter().any(|g| g == "mesh") {
            for (_, host, subset) in routes(o) {
                if subset {
                    split.entry(host).or_default().insert(full_name(o));
                }
            }
        }
    }
    let mut found = Vec::new();
    for o in index.virtual_services.iter().filter(|o| o.spec.gateways.iter().any(|g| g != "mesh")) {
        let mut said = BTreeSet::new();
        for (field, host, subset) in routes(o) {
            let others = split.get(&host).into_iter().flatten().filter(|n| **n != full_name(o));
            for other in others.filter(|_| !subset) {
                if said.insert(other.clone()) {
                    let text = format!(
                        "Subset in virtual service {other} has no effect on ingress gateway {} requests",
                        full_name(o)
                    );
                    found.push(NOT_AT_INGRESS.report((&o.key, &o.origin), &field, text));
                }
            }
        }
    }
    found
}
