//! DestinationRules: hosts, subsets and server verification.

use super::index::{Index, seen_from};
use super::messages::{EMPTY_SUBSET, NO_CA, NO_CA_PORT, UNKNOWN_HOST};
use crate::api::{ClientTlsMode, ClientTlsSettings, DestinationRule, Object};
use crate::report::Report;
use crate::world::covers;

/// Hosts that nothing has, subsets that select no pod.
pub(super) fn subsets(index: &Index<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    for o in &index.destination_rules {
        let from = seen_from(&o.spec.export_to, &o.key.namespace);
        let subject = (&o.key, &o.origin);
        if o.spec.host.starts_with('*') {
            continue;
        }
        let Some(host) = index.host(&o.spec.host, &o.key.namespace, &from) else {
            let text = format!(
                "The host {} defined in the DestinationRule does not match any services in the mesh.",
                o.spec.host
            );
            found.push(UNKNOWN_HOST.report(subject, "spec.host", text));
            continue;
        };
        let Some(selector) = host.selector else { continue };
        for (i, s) in o.spec.subsets.iter().enumerate() {
            // What a node says about its pods is known to a cluster only; an empty value never holds.
            let (topology, own): (Vec<_>, Vec<_>) = s.labels.iter().partition(|(k, _)| is_topology(k));
            let own = own.into_iter().map(|(k, v)| (k.clone(), v.clone())).collect();
            let nowhere = topology.iter().any(|(_, v)| v.is_empty());
            if !nowhere && index.select(selector, Some(host.namespace)).any(|p| covers(&own, &p.labels)) {
                continue;
            }
            let text = format!(
                "The Subset {} defined in the DestinationRule does not select any pods. Which may lead to 503 UH (NoHealthyUpstream).",
                s.name
            );
            found.push(EMPTY_SUBSET.report(subject, &format!("spec.subsets[{i}].labels"), text));
        }
    }
    found
}

fn is_topology(label: &str) -> bool {
    matches!(
        label,
        "topology.kubernetes.io/region"
            | "topology.kubernetes.io/zone"
            | "topology.istio.io/subzone"
            | "kubernetes.io/hostname"
    )
}

/// TLS without anything to check the server by.
pub(super) fn certificates(index: &Index<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    for o in &index.destination_rules {
        let Some(policy) = &o.spec.traffic_policy else { continue };
        if let Some(mode) = policy.tls.as_ref().and_then(|t| unverified(o, t)) {
            let text = format!("{} for host: {}", head(o, mode), o.spec.host);
            found.push(NO_CA.report((&o.key, &o.origin), "spec.trafficPolicy.tls", text));
        }
        for (i, p) in policy.port_level_settings.iter().enumerate() {
            let Some(mode) = p.tls.as_ref().and_then(|t| unverified(o, t)) else { continue };
            let port = p.port.as_ref().map_or(String::new(), |p| p.number.to_string());
            let text = format!("{} for host: {} at port {port}", head(o, mode), o.spec.host);
            let field = format!("spec.trafficPolicy.portLevelSettings[{i}].tls");
            found.push(NO_CA_PORT.report((&o.key, &o.origin), &field, text));
        }
    }
    found.into_iter().map(|r| r.fix("write tls.caCertificates")).collect()
}

fn head(o: &Object<DestinationRule>, mode: &str) -> String {
    format!(
        "DestinationRule {} in namespace {} has TLS mode set to {mode} but no caCertificates are set to validate server identity",
        o.key.name, o.key.namespace
    )
}

fn unverified(o: &Object<DestinationRule>, tls: &ClientTlsSettings) -> Option<&'static str> {
    let mode = match tls.mode {
        ClientTlsMode::Simple => "SIMPLE",
        ClientTlsMode::Mutual => "MUTUAL",
        _ => return None,
    };
    let from_secret = !tls.credential_name.is_empty() && o.spec.workload_selector.is_some();
    (tls.ca_certificates.is_empty() && !from_secret).then_some(mode)
}
