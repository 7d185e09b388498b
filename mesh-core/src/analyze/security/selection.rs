//! Policies that are for nobody, and ports that are a Service's instead of a workload's.

use super::super::messages::{SELECTS_NOTHING, SERVICE_PORT};
use super::view::{For, View};
use crate::api::{Key, LabelSelector, Origin};
use crate::report::Report;
use crate::yaml::child;

const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// PeerAuthentications and RequestAuthentications that select no workload (of AuthorizationPolicies IST0127 says it), and
/// targets that do not exist.
pub(super) fn nothing(view: &View<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    let root = view.index.root();
    for o in &view.index.peer_authentications {
        let selector = o.spec.selector.as_ref().filter(|s| !s.match_labels.is_empty());
        let subject = (&o.key, &o.origin);
        if *o.key.namespace == *root && selector.is_some() {
            let text = "in the root namespace a PeerAuthentication with a selector is for nobody";
            let report = SELECTS_NOTHING.report(subject, "spec.selector", text);
            found.push(report.fix("write it in the namespace of the workload, or leave the selector out"));
        } else {
            found.extend(unselected(view, &For::peers(o), selector, &o.origin));
        }
    }
    for o in &view.index.request_authentications {
        let policy = For::policy(*o);
        found.extend(unselected(view, &policy, o.spec.selector.as_ref(), &o.origin));
        found.extend(targets(view, &policy, &o.origin));
    }
    for o in &view.index.authorization_policies {
        found.extend(targets(view, &For::policy(*o), &o.origin));
    }
    found
}

fn unselected(view: &View<'_>, policy: &For<'_>, selector: Option<&LabelSelector>, origin: &Origin) -> Option<Report> {
    let general = selector.is_none() && *policy.key.namespace == *view.index.root();
    let has_targets = policy.targets().next().is_some();
    if !view.has_workloads || general || has_targets || view.of(policy).next().is_some() {
        return None;
    }
    let namespace = &policy.key.namespace;
    let (field, text, fix) = match selector {
        Some(s) => {
            let labels = super::super::index::selector_text(&s.match_labels);
            let outside: Vec<_> =
                view.index.pods.iter().filter(|p| crate::world::covers(&s.match_labels, &p.labels)).collect();
            let fix = match outside.first() {
                Some(p) if p.namespace == *namespace => format!("workload {} has the labels, but no proxy", p.workload),
                Some(p) => format!("workload {} has the labels, in namespace {}", p.workload, p.namespace),
                None => format!("write labels that pods in namespace {namespace} have"),
            };
            (
                "spec.selector.matchLabels",
                format!("selects no workload: none with a proxy has the labels {labels}"),
                fix,
            )
        }
        None => {
            let text = format!("selects no workload: namespace {namespace} has none with a proxy");
            ("metadata.namespace", text, "write it in the namespace of the workloads".to_owned())
        }
    };
    Some(SELECTS_NOTHING.report((policy.key, origin), field, text).fix(fix))
}

fn targets(view: &View<'_>, policy: &For<'_>, origin: &Origin) -> Vec<Report> {
    let mut found = Vec::new();
    let here = |key: &Key, name: &str| key.namespace == policy.key.namespace && *key.name == *name;
    for t in policy.targets() {
        let exists = match (t.group.as_str(), t.kind.as_str()) {
            (GATEWAY_API, "Gateway") => {
                let mut gateways = view.index.documents("Gateway");
                gateways.any(|o| &*o.key.kind.group == GATEWAY_API && here(&o.key, &t.name))
            }
            ("" | "core", "Service") => view.index.services.iter().any(|o| here(&o.key, &t.name)),
            ("networking.istio.io", "ServiceEntry") => view.index.service_entries.iter().any(|o| here(&o.key, &t.name)),
            _ => true,
        };
        if !exists {
            let text = format!("is attached to {} {}/{}, which does not exist", t.kind, policy.key.namespace, t.name);
            let report = SELECTS_NOTHING.report((policy.key, origin), "spec.targetRefs", text);
            found.push(report.fix("targets are in the policy's own namespace; write the name of one there"));
        }
    }
    found
}

/// Ports of policies are those of workloads. One that is a Service's, and leads to another of the workload, is a mistake.
pub(super) fn service_ports(view: &View<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    for o in &view.index.peer_authentications {
        let policy = For::peers(o);
        for text in o.spec.port_level_mtls.iter().flat_map(|p| p.keys()) {
            let field = child("spec.portLevelMtls", text);
            found.extend(service_port(view, &policy, text).map(|w| w.report(&o.key, &o.origin, &field)));
        }
    }
    for o in &view.index.authorization_policies {
        let policy = For::policy(*o);
        for (i, rule) in o.spec.rules.iter().enumerate() {
            for (j, to) in rule.to.iter().flatten().filter_map(|t| t.operation.as_ref()).enumerate() {
                for (name, list) in [("ports", &to.ports), ("notPorts", &to.not_ports)] {
                    for (k, text) in list.iter().enumerate() {
                        let field = format!("spec.rules[{i}].to[{j}].operation.{name}[{k}]");
                        found.extend(service_port(view, &policy, text).map(|w| w.report(&o.key, &o.origin, &field)));
                    }
                }
            }
            for (j, c) in rule.when.iter().enumerate().filter(|(_, c)| c.key == "destination.port") {
                for (k, text) in c.values.iter().enumerate() {
                    let field = format!("spec.rules[{i}].when[{j}].values[{k}]");
                    found.extend(service_port(view, &policy, text).map(|w| w.report(&o.key, &o.origin, &field)));
                }
            }
        }
    }
    found
}

struct Wrong {
    service: String,
    service_port: u32,
    port: u16,
}

impl Wrong {
    fn report(&self, key: &Key, origin: &Origin, field: &str) -> Report {
        let Self { service, service_port, port } = self;
        let text =
            format!("{service_port} is a port of Service {service}; at the workload, which counts here, it is {port}");
        SERVICE_PORT.report((key, origin), field, text).fix(format!("write {port}"))
    }
}

/// No workload of the policy has the port, but a Service does.
fn service_port(view: &View<'_>, policy: &For<'_>, text: &str) -> Option<Wrong> {
    let port: u16 = text.parse().ok()?;
    let of = || view.of(policy).flat_map(|w| &w.ports);
    let declared = view.of(policy).flat_map(|w| w.pod.ports.values()).any(|p| *p == port);
    if declared || of().any(|p| p.number == port) {
        return None;
    }
    let near = of().find(|p| p.service_port == u32::from(port))?;
    let service = super::super::index::full_name(near.service);
    Some(Wrong { service, service_port: near.service_port, port: near.number })
}
