//! Gateways of the Gateway API: policies that select their pods by labels, and the versions of its kinds.

use std::collections::BTreeMap;

use super::index::Index;
use super::messages::{INEFFECTIVE_SELECTOR, OLD_CRD};
use crate::api::{Key, Origin};
use crate::report::Report;

/// Label of pods that belong to a Gateway of the Gateway API.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
const BUNDLE_VERSION: &str = "gateway.networking.k8s.io/bundle-version";
/// The oldest release of the Gateway API whose form of a kind Istio reads.
const MINIMUM: [(&str, [u64; 3]); 3] = [
    ("grpcroutes.gateway.networking.k8s.io", [1, 1, 0]),
    ("backendtlspolicies.gateway.networking.k8s.io", [1, 4, 0]),
    ("tlsroutes.gateway.networking.k8s.io", [1, 5, 0]),
];

/// Policies with a selector that picks the pods of a Gateway.
pub(super) fn selectors(index: &Index<'_>) -> Vec<Report> {
    let mut all: Vec<(&Key, &Origin, BTreeMap<String, String>)> = Vec::new();
    for o in index.authorization_policies.iter().filter(|o| o.spec.target_ref.is_none()) {
        all.extend(o.spec.selector.as_ref().map(|s| (&o.key, &o.origin, s.match_labels.clone())));
    }
    for o in index.request_authentications.iter().filter(|o| o.spec.target_ref.is_none()) {
        all.extend(o.spec.selector.as_ref().map(|s| (&o.key, &o.origin, s.match_labels.clone())));
    }
    for o in ["Telemetry", "WasmPlugin"].into_iter().flat_map(|kind| index.documents(kind)) {
        if o.spec.pointer("/spec/targetRef").is_none_or(serde_json::Value::is_null) {
            all.extend(super::telemetry::selector(o).map(|s| (&o.key, &o.origin, s)));
        }
    }
    let mut found = Vec::new();
    for (key, origin, labels) in &all {
        for pod in index.select(labels, Some(&key.namespace)) {
            let Some(gateway) = pod.labels.get(GATEWAY_NAME) else { continue };
            let text =
                format!("Ineffective selector on Kubernetes Gateway {gateway}. Use the TargetRef field instead.");
            let report = INEFFECTIVE_SELECTOR.report((key, origin), "spec.selector", text);
            let group = "group: gateway.networking.k8s.io, kind: Gateway";
            found.push(report.fix(format!("write targetRefs: [{{{group}, name: {gateway}}}] instead of selector")));
        }
    }
    found
}

/// Definitions of kinds that are too old to be read.
pub(super) fn versions(index: &Index<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    for o in index.documents("CustomResourceDefinition") {
        let Some((name, minimum)) = MINIMUM.iter().find(|(n, _)| *n == &*o.key.name) else { continue };
        let Some(installed) = o.meta.annotations.get(BUNDLE_VERSION).and_then(|v| version(v)) else { continue };
        if installed.0 >= *minimum {
            continue;
        }
        let minimum = minimum.map(|n| n.to_string()).join(".");
        let text = format!(
            "Gateway API CRD {name:?} is at version {:?} but Istio requires at least {minimum:?}; resources of this kind will not be processed. Upgrade the Gateway API CRDs to satisfy the minimum version.",
            installed.1
        );
        let field = crate::yaml::child("metadata.annotations", BUNDLE_VERSION);
        let report = OLD_CRD.report((&o.key, &o.origin), &field, text);
        found.push(report.fix(format!("install the Gateway API from version {minimum} on")));
    }
    found
}

/// `v1.4.1-rc.1`: the numbers, without what a pre-release adds to them, and the text without its `v`.
fn version(text: &str) -> Option<([u64; 3], &str)> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let numbers = text.split(['-', '+']).next().unwrap_or_default();
    let mut parts = numbers.split('.').map(|p| p.parse().ok());
    let found = [parts.next()??, parts.next().unwrap_or(Some(0))?, parts.next().unwrap_or(Some(0))?];
    parts.next().is_none().then_some((found, text))
}
