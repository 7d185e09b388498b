//! What clients send, and what servers take: DestinationRules against PeerAuthentications.

use std::collections::BTreeMap;

use super::super::index::{DOMAIN, Index, Pod, full_name};
use super::super::messages::MTLS_CONFLICT;
use super::view::{Port, ports};
use crate::api::kube::ServiceSpec;
use crate::api::{ClientTlsMode, DestinationRule, Object, TrafficPolicy};
use crate::peer::{PeerModes, PortMode, Scopes};
use crate::report::Report;
use crate::snapshot::MtlsMode;
use crate::world::{covers, full_host};

/// Clients that send what the workload refuses.
pub(in super::super) fn conflicts(index: &Index<'_>) -> Vec<Report> {
    let mut services: BTreeMap<_, Vec<&Object<ServiceSpec>>> = BTreeMap::new();
    for s in index.services.iter().filter(|s| !s.spec.selector.is_empty()) {
        services.entry(full_host(&s.key.name, &s.key.namespace, DOMAIN)).or_default().push(s);
    }
    let mut found = Vec::new();
    for rule in &index.destination_rules {
        let host = full_host(&rule.spec.host, &rule.key.namespace, DOMAIN);
        for service in services.get(&host).into_iter().flatten() {
            of_rule(index, rule, service, &mut found);
        }
    }
    if index.mesh.enable_auto_mtls == Some(false) {
        for service in services.values().flatten() {
            found.extend(without_automatic(index, service));
        }
    }
    found
}

fn of_rule(index: &Index<'_>, rule: &Object<DestinationRule>, service: &Object<ServiceSpec>, found: &mut Vec<Report>) {
    let none = BTreeMap::new();
    let subsets = rule.spec.subsets.iter().enumerate();
    let own = subsets.map(|(i, s)| (Some((i, s.traffic_policy.as_ref())), &s.labels));
    for (subset, labels) in own.chain([(None, &none)]) {
        let pods = index.select(&service.spec.selector, Some(&service.key.namespace));
        for pod in pods.filter(|p| covers(labels, &p.labels)) {
            for port in ports(index, pod).iter().filter(|p| p.service.key == service.key) {
                let Some((field, mode)) = sent(&rule.spec, subset, port.service_port) else { continue };
                // A subset that says nothing is in the same boat as the whole.
                if subset.is_some() && field.starts_with("spec.trafficPolicy") {
                    continue;
                }
                let Some((why, fix)) = refused(index, pod, port, mode) else { continue };
                let text = format!("{} to {}: {why}", sends(mode), full_name(service));
                let report = MTLS_CONFLICT.report((&rule.key, &rule.origin), &format!("{field}.mode"), text);
                if !found.iter().any(|r| r.object == report.object && r.field == report.field) {
                    found.push(report.fix(fix));
                }
            }
        }
    }
}

/// What clients of a port send, if the rule says so, and the block that does: of the port, else of the subset, else of all.
fn sent(
    rule: &DestinationRule,
    subset: Option<(usize, Option<&TrafficPolicy>)>,
    port: u32,
) -> Option<(String, ClientTlsMode)> {
    let top = rule.traffic_policy.as_ref().map(|p| ("spec.trafficPolicy".to_owned(), p));
    let own = subset.and_then(|(i, p)| Some((format!("spec.subsets[{i}].trafficPolicy"), p?)));
    let levels = [own, top];
    for (at, policy) in levels.iter().flatten() {
        let mut entries = policy.port_level_settings.iter().enumerate();
        if let Some((i, entry)) = entries.find(|(_, e)| e.port.as_ref().is_some_and(|p| p.number == port)) {
            // An entry replaces the blocks around it, also with nothing.
            return entry.tls.as_ref().map(|t| (format!("{at}.portLevelSettings[{i}].tls"), t.mode));
        }
    }
    levels.iter().flatten().find_map(|(at, p)| Some((format!("{at}.tls"), p.tls.as_ref()?.mode)))
}

fn sends(mode: ClientTlsMode) -> &'static str {
    match mode {
        ClientTlsMode::Disable => "plaintext",
        ClientTlsMode::Simple => "TLS without a certificate of the mesh",
        ClientTlsMode::Mutual => "TLS with a certificate of its own",
        ClientTlsMode::IstioMutual => "the mesh's mutual TLS",
    }
}

/// Why a workload refuses it, and what to write instead.
fn refused(index: &Index<'_>, pod: &Pod, port: &Port<'_>, mode: ClientTlsMode) -> Option<(String, String)> {
    let own = taken(index, pod, port.number);
    let by = decided_by(&own);
    let place = format!("port {} of workload {}", port.number, pod.workload);
    let mesh = mode == ClientTlsMode::IstioMutual;
    if !index.in_mesh(pod) {
        let why = format!("workload {} has no proxy that could end it", pod.workload);
        return mesh.then(|| (why, "write mode: DISABLE, or give the workload a proxy".to_owned()));
    }
    match own.mode {
        MtlsMode::Strict if !mesh => {
            let why = format!("{place} takes mutual TLS only ({by} is STRICT), and resets the connection");
            Some((why, "write mode: ISTIO_MUTUAL, or leave tls out".to_owned()))
        }
        MtlsMode::Disable if mesh => {
            let why = format!("{place} takes plaintext only ({by} is DISABLE), and gives the bytes to the application");
            Some((why, "leave tls out, or write mode: PERMISSIVE in the PeerAuthentication".to_owned()))
        }
        _ => None,
    }
}

/// Services whose workloads take mutual TLS only, where clients do not start it by themselves.
fn without_automatic(index: &Index<'_>, service: &Object<ServiceSpec>) -> Option<Report> {
    let host = full_host(&service.key.name, &service.key.namespace, DOMAIN);
    let covered = |r: &&Object<DestinationRule>| {
        let pattern = crate::matching::HostPattern::parse(&full_host(&r.spec.host, &r.key.namespace, DOMAIN));
        crate::matching::HostPattern::parse(&host).subset_of(&pattern)
    };
    if index.destination_rules.iter().copied().any(|r| covered(&r)) {
        return None;
    }
    let mut pods = index.select(&service.spec.selector, Some(&service.key.namespace)).filter(|p| index.in_mesh(p));
    let (policy, number) = pods.find_map(|pod| {
        let port = ports(index, pod).into_iter().find(|p| p.service.key == service.key)?;
        let own = taken(index, pod, port.number);
        let by = own.origin.object.clone().filter(|_| own.mode == MtlsMode::Strict)?;
        Some((*index.peer_authentications.iter().find(|p| p.key == by)?, port.number))
    })?;
    let text = format!(
        "clients of Service {} send plaintext (enableAutoMtls is false, and no DestinationRule says otherwise), which port {number} refuses",
        full_name(service)
    );
    let report = MTLS_CONFLICT.report((&policy.key, &policy.origin), "spec", text);
    Some(report.fix(format!("write a DestinationRule for {host} with trafficPolicy: {{tls: {{mode: ISTIO_MUTUAL}}}}")))
}

/// What a port of a workload takes, and who says so.
pub(super) fn taken(index: &Index<'_>, pod: &Pod, port: u16) -> PortMode {
    let policies = index.peer_authentications.iter().copied();
    let scopes = Scopes::of(index.root(), (&pod.namespace, &pod.labels), policies);
    PeerModes::of_scopes(scopes).port(port).clone()
}

/// `PeerAuthentication ns/name`, who decided a mode.
pub(super) fn decided_by(mode: &PortMode) -> String {
    mode.origin.object.as_ref().map_or("nobody".to_owned(), ToString::to_string)
}
