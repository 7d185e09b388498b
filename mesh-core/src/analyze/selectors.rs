//! Sidecars, namespaces and deprecated fields.

use std::collections::BTreeMap;

use super::index::{Index, SYSTEM, go_list, selector_text};
use super::messages::{
    CONFLICTING_SIDECARS, DEPRECATED, INJECTED_BY_DEFAULT, NOT_FOUND, NOT_INJECTED, POD_WITHOUT_PROXY, SEVERAL_LABELS,
    SEVERAL_SIDECARS,
};
use crate::api::kube::PodSpec;
use crate::api::{Object, Sidecar};
use crate::report::Report;

/// Sidecars: selectors that select nothing, or the same pod.
pub(super) fn sidecars(index: &Index<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    let mut by_pod: BTreeMap<_, Vec<&Object<Sidecar>>> = BTreeMap::new();
    let mut general: BTreeMap<&str, Vec<&Object<Sidecar>>> = BTreeMap::new();
    for o in &index.sidecars {
        let Some(selector) = o.spec.workload_selector.as_ref().filter(|s| !s.labels.is_empty()) else {
            general.entry(&o.key.namespace).or_default().push(o);
            continue;
        };
        let mut any = false;
        for pod in index.select(&selector.labels, Some(&o.key.namespace)) {
            any = true;
            by_pod.entry((pod.namespace.clone(), pod.name.clone())).or_default().push(o);
        }
        if !any {
            let text = format!("Referenced selector not found: {:?}", selector_text(&selector.labels));
            found.push(NOT_FOUND.report((&o.key, &o.origin), "spec.workloadSelector", text));
        }
    }
    for ((namespace, pod), all) in by_pod.iter().filter(|(_, a)| a.len() > 1) {
        for o in all {
            let text = format!(
                "The Sidecars {} in namespace {namespace:?} select the same workload pod {pod:?}, which can lead to undefined behavior.",
                go_list(all.iter().map(|s| &s.key.name))
            );
            found.push(CONFLICTING_SIDECARS.report((&o.key, &o.origin), "spec.workloadSelector", text));
        }
    }
    for (namespace, all) in general.iter().filter(|(_, a)| a.len() > 1) {
        for o in all {
            let text = format!(
                "The Sidecars {} in namespace {namespace:?} have no workload selector, which can lead to undefined behavior.",
                go_list(all.iter().map(|s| &s.key.name))
            );
            found.push(SEVERAL_SIDECARS.report((&o.key, &o.origin), "spec", text));
        }
    }
    found
}

const INJECTION: &str = "istio-injection";
const REVISION: &str = "istio.io/rev";
const MODE: &str = "istio.io/dataplane-mode";

/// Namespaces and pods that are not, or not clearly, part of the mesh.
pub(super) fn injection(index: &Index<'_>) -> Vec<Report> {
    let by_default = injected_by_default(index);
    let mut found = Vec::new();
    for o in index.namespaces.iter().filter(|n| !is_system(&n.key.name)) {
        let subject = (&o.key, &o.origin);
        let value = |k: &str| o.meta.labels.get(k).map(String::as_str);
        let disabled = value(INJECTION).is_some_and(|v| v != "enabled");
        let kinds: Vec<String> =
            [INJECTION, REVISION, MODE].iter().filter_map(|k| Some(format!("{k}={}", value(k)?))).collect();
        if kinds.len() > 1 && !disabled {
            let text = format!(
                "The namespace has more than one type of injection labels {}, which may lead to undefined behavior. Make sure only one injection label exists.",
                go_list(kinds)
            );
            found.push(SEVERAL_LABELS.report(subject, "metadata.labels", text));
        } else if value(INJECTION).is_none() && value(REVISION).is_none() && value(MODE) != Some("ambient") {
            let name = &o.key.name;
            let report = if by_default {
                let text =
                    "is enabled for Istio injection, as Istio is installed with enableNamespacesByDefault as true.";
                INJECTED_BY_DEFAULT.report(subject, "", text)
            } else {
                let text = format!(
                    "The namespace is not enabled for Istio injection. Run 'kubectl label namespace {name} istio-injection=enabled' to enable it, or 'kubectl label namespace {name} istio-injection=disabled' to explicitly mark it as not needing injection."
                );
                NOT_INJECTED.report(subject, "", text)
            };
            found.push(report);
        }
    }
    for o in &index.written_pods {
        let namespace = index.namespace_labels(&o.key.namespace);
        let enabled = namespace.and_then(|l| l.get(INJECTION)).is_some_and(|v| v == "enabled");
        let several = namespace.is_some_and(|l| l.contains_key(REVISION) || l.contains_key(MODE));
        if enabled && !several && !is_system(&o.key.namespace) && !index.is_host_network(&o.key) && lacks_proxy(o) {
            let text = format!(
                "The pod {} is missing the Istio proxy. This can often be resolved by restarting or redeploying the workload.",
                o.key.name
            );
            found.push(POD_WITHOUT_PROXY.report((&o.key, &o.origin), "", text));
        }
    }
    found
}

fn is_system(namespace: &str) -> bool {
    namespace == SYSTEM || namespace.starts_with("kube-") || namespace == "local-path-storage"
}

fn injected_by_default(index: &Index<'_>) -> bool {
    let of = |m: &&&Object<crate::api::kube::ConfigMap>| m.key.name.starts_with("istio-sidecar-injector");
    let values = index.config_maps.iter().filter(of).filter_map(|m| m.spec.data.get("values"));
    let parsed = values.filter_map(|v| serde_json::from_str::<serde_json::Value>(v).ok());
    parsed.into_iter().any(|v| v.pointer("/sidecarInjectorWebhook/enableNamespacesByDefault") == Some(&true.into()))
}

fn lacks_proxy(o: &Object<PodSpec>) -> bool {
    let inject = "sidecar.istio.io/inject";
    let out = o.meta.labels.get(inject).or_else(|| o.meta.annotations.get(inject)).is_some_and(|v| v == "false");
    let proxy = o.spec.containers.iter().chain(&o.spec.init_containers).any(|c| c.name == "istio-proxy");
    !out && !proxy
}

/// Fields that Istio has deprecated.
pub(super) fn deprecated(index: &Index<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    for o in &index.virtual_services {
        for (i, r) in o.spec.http.iter().enumerate() {
            if r.fault.as_ref().and_then(|f| f.delay.as_ref()).is_some_and(|d| d.percent > 0) {
                let text = "Deprecated: use of deprecated field fault.delay.percent: use percentage instead";
                let field = format!("spec.http[{i}].fault.delay.percent");
                let percent = r.fault.as_ref().and_then(|f| f.delay.as_ref()).map_or(0, |d| d.percent);
                let report = DEPRECATED.report((&o.key, &o.origin), &field, text);
                found.push(report.fix(format!("write percentage: {{value: {percent}}}")));
            }
        }
    }
    for o in &index.sidecars {
        if o.spec.outbound_traffic_policy.as_ref().is_some_and(|p| p.egress_proxy.is_some()) {
            let text = "Deprecated: outboundTrafficPolicy.egressProxy is deprecated and ignored";
            found.push(DEPRECATED.report((&o.key, &o.origin), "spec.outboundTrafficPolicy.egressProxy", text));
        }
    }
    for o in index.documents("CustomResourceDefinition") {
        let text = |p: &str| o.spec.pointer(p).and_then(|v| v.as_str()).unwrap_or_default();
        let (group, kind) = (text("/spec/group"), text("/spec/names/kind"));
        if group == "rbac.istio.io" && REMOVED.contains(&kind) {
            let text = format!("Deprecated: Custom resource type rbac.istio.io {kind} is removed");
            let report = DEPRECATED.report((&o.key, &o.origin), "spec.names.kind", text);
            found.push(report.fix("write AuthorizationPolicy objects, and delete the definition"));
        }
    }
    found
}

/// Kinds of the group rbac.istio.io, which AuthorizationPolicy replaced.
const REMOVED: [&str; 4] = ["ClusterRbacConfig", "RbacConfig", "ServiceRole", "ServiceRoleBinding"];
