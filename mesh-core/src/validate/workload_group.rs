//! WorkloadGroup.

use super::{Check, common};
use crate::api::kube::Probe;
use crate::api::{WorkloadGroup, WorkloadGroupMeta};
use crate::yaml::child;

pub(super) fn check(check: &mut Check<'_>, spec: &WorkloadGroup) {
    let WorkloadGroup { metadata, template, probe } = spec;
    if let Some(WorkloadGroupMeta { labels, annotations: _ }) = metadata {
        common::labels(check, "spec.metadata.labels", labels);
    }
    match template {
        None => check.error("spec.template", "template is required"),
        Some(template) => {
            if !template.labels.is_empty() {
                check.error_fix(
                    "spec.template.labels",
                    "labels should be set in metadata",
                    "write them in spec.metadata.labels",
                );
            }
            if !template.address.is_empty() {
                check.error("spec.template.address", "address should not be set: each machine brings its own");
            }
            for (name, number) in template.ports.iter().filter(|(_, n)| !(1..=65535).contains(*n)) {
                check.invalid(&child("spec.template.ports", name), number, "port must be between 1-65535");
            }
        }
    }
    if let Some(probe) = probe {
        self::probe(check, probe);
    }
}

fn probe(check: &mut Check<'_>, probe: &Probe) {
    let Probe {
        http_get,
        tcp_socket,
        exec,
        grpc,
        initial_delay_seconds,
        timeout_seconds,
        period_seconds,
        success_threshold,
        failure_threshold,
    } = probe;
    for (field, value) in [
        ("initialDelaySeconds", initial_delay_seconds),
        ("timeoutSeconds", timeout_seconds),
        ("periodSeconds", period_seconds),
        ("successThreshold", success_threshold),
        ("failureThreshold", failure_threshold),
    ] {
        if *value < 0 {
            check.error(&child("spec.probe", field), format!("{field} must be non-negative"));
        }
    }
    let methods = [http_get.is_some(), tcp_socket.is_some(), exec.is_some(), grpc.is_some()];
    match methods.iter().filter(|m| **m).count() {
        0 => check.error("spec.probe", "a probe needs one of httpGet, tcpSocket, exec, grpc"),
        1 => {}
        _ => check.error("spec.probe", "At most one of [httpGet tcpSocket exec grpc] should be set"),
    }
    if exec.as_ref().is_some_and(|e| e.command.is_empty()) {
        check.error("spec.probe.exec.command", "command must have at least one word");
    }
}
