//! Telemetry: workloads that it selects, and log settings without a provider.

use std::collections::BTreeMap;

use serde_json::Value;

use super::index::{Index, go_list, selector_text};
use super::messages::{CONFLICTING_TELEMETRIES, DEPRECATED, NO_PROVIDER, NOT_FOUND, SEVERAL_TELEMETRIES};
use crate::api::Object;
use crate::report::Report;

const KIND: &str = "Telemetry";

/// `selector.matchLabels` of a document.
pub(super) fn selector(o: &Object<Value>) -> Option<BTreeMap<String, String>> {
    let labels = o.spec.pointer("/spec/selector/matchLabels")?.as_object()?;
    Some(labels.iter().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect())
}

/// Selectors that pick nothing, or the same pod.
pub(super) fn selectors(index: &Index<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    let mut by_pod: BTreeMap<(&str, &str), Vec<&Object<Value>>> = BTreeMap::new();
    for o in index.documents(KIND) {
        let Some(labels) = selector(o).filter(|l| !l.is_empty()) else { continue };
        let pods: Vec<_> = index.pods.iter().filter(|p| p.namespace == o.key.namespace).collect();
        let mut any = false;
        for pod in pods.into_iter().filter(|p| crate::world::covers(&labels, &p.labels)) {
            any = true;
            by_pod.entry((&pod.namespace, &pod.name)).or_default().push(o);
        }
        if !any {
            let text = format!("Referenced selector not found: {:?}", selector_text(&labels));
            let report = NOT_FOUND.report((&o.key, &o.origin), "spec.selector", text);
            found.push(report.fix(format!("write the labels of pods in namespace {}", o.key.namespace)));
        }
    }
    for ((namespace, pod), all) in by_pod.iter().filter(|(_, a)| a.len() > 1) {
        let names = go_list(all.iter().map(|t| &t.key.name));
        for o in all {
            let text = format!(
                "The Telemetries {names} in namespace {namespace:?} select the same workload pod {pod:?}, which can lead to undefined behavior."
            );
            let report = CONFLICTING_TELEMETRIES.report((&o.key, &o.origin), "spec.selector", text);
            found.push(report.fix("write their settings into one object"));
        }
    }
    found
}

/// Several for a whole namespace.
pub(super) fn general(index: &Index<'_>) -> Vec<Report> {
    let mut general: BTreeMap<&str, Vec<&Object<Value>>> = BTreeMap::new();
    for o in index.documents(KIND).filter(|o| selector(o).is_none_or(|s| s.is_empty())) {
        general.entry(&o.key.namespace).or_default().push(o);
    }
    let mut found = Vec::new();
    for (namespace, all) in general.iter().filter(|(_, a)| a.len() > 1) {
        let names = go_list(all.iter().map(|t| &t.key.name));
        for o in all {
            let text = format!(
                "The Telemetries {names} in namespace {namespace:?} have no workload selector, which can lead to undefined behavior."
            );
            let report = SEVERAL_TELEMETRIES.report((&o.key, &o.origin), "spec", text);
            found.push(report.fix("write their settings into one object"));
        }
    }
    found
}

/// Logs for which neither the object nor the mesh names a provider.
pub(super) fn providers(index: &Index<'_>) -> Vec<Report> {
    let defaults = index.mesh.default_providers.as_ref().and_then(|p| p.get("accessLogging")?.as_array());
    if defaults.is_some_and(|d| !d.is_empty()) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for o in index.documents(KIND) {
        let logs = o.spec.pointer("/spec/accessLogging").and_then(Value::as_array).into_iter().flatten();
        for (i, log) in logs.enumerate() {
            let off = log.get("disabled").and_then(Value::as_bool) == Some(true);
            let some = log.get("providers").and_then(Value::as_array).is_some_and(|p| !p.is_empty());
            if off || some {
                continue;
            }
            let text = format!(
                "The Telemetry {} in namespace {:?} with empty providers will be ignored.",
                o.key.name, o.key.namespace
            );
            let report = NO_PROVIDER.report((&o.key, &o.origin), &format!("spec.accessLogging[{i}]"), text);
            found.push(report.fix("write providers: [{name: envoy}]"));
        }
    }
    found
}

/// Traces to a product that is gone.
pub(super) fn lightstep(index: &Index<'_>) -> Vec<Report> {
    let providers = &index.mesh.extension_providers;
    let named = providers.iter().filter(|p| p.get("lightstep").is_some()).filter_map(|p| p.get("name")?.as_str());
    let names: Vec<&str> = named.collect();
    let mut found = Vec::new();
    for o in index.documents(KIND) {
        let tracing = o.spec.pointer("/spec/tracing").and_then(Value::as_array).into_iter().flatten();
        for (i, t) in tracing.enumerate() {
            let used = t.get("providers").and_then(Value::as_array).into_iter().flatten();
            let used = used.filter_map(|p| p.get("name")?.as_str()).find(|n| names.contains(n));
            if let Some(name) = used {
                let text = format!(
                    "Deprecated: The Lightstep provider {name:?} is deprecated, please migrate to OpenTelemetry provider."
                );
                let field = format!("spec.tracing[{i}].providers");
                let report = DEPRECATED.report((&o.key, &o.origin), &field, text);
                found.push(report.fix("write a provider with opentelemetry"));
            }
        }
    }
    found
}
