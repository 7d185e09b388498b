//! DestinationRule.

use std::collections::HashSet;

use super::common::{export_to, is_label, labels, selector, wildcard_domain};
use super::{Check, traffic_policy};
use crate::api::DestinationRule;
use crate::yaml::{child, item};

pub(super) fn check(check: &mut Check<'_>, spec: &DestinationRule, namespace: &str) {
    let DestinationRule { host, traffic_policy, subsets, export_to: visible, workload_selector } = spec;
    if host.is_empty() {
        check.required("spec.host");
    } else {
        check.ok("spec.host", wildcard_domain(host));
    }
    if let Some(policy) = traffic_policy {
        traffic_policy::check(check, "spec.trafficPolicy", policy);
    }
    let mut names = HashSet::new();
    for (i, subset) in subsets.iter().enumerate() {
        let path = item("spec.subsets", i);
        let at = child(&path, "name");
        if subset.name.is_empty() {
            check.required(&at);
        } else if !is_label(&subset.name) {
            check.error(&at, format!("subset name is invalid: {:?}", subset.name));
        } else if !names.insert(&subset.name) {
            check.error(&at, format!("duplicate subset names: {}", subset.name));
        }
        labels(check, &child(&path, "labels"), &subset.labels);
        if let Some(policy) = &subset.traffic_policy {
            traffic_policy::check(check, &child(&path, "trafficPolicy"), policy);
        }
    }
    export_to(check, visible, namespace, false);
    if let Some(workloads) = workload_selector {
        let texts = ["wildcard not allowed in label key match", "wildcard not allowed in label value match"];
        selector(check, "spec.workloadSelector.matchLabels", &workloads.match_labels, texts);
        if visible.iter().any(|v| v != "." && v != namespace) {
            let message = "exportTo of a destination rule with workloadSelector may only be its own namespace";
            check.error_fix("spec.exportTo", message, "write exportTo: [\".\"] or leave it out");
        }
    }
}
