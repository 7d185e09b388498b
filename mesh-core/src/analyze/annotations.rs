//! Istio's annotations on Kubernetes' own kinds: unknown, misplaced, wrong, on their way out.

mod catalogue;

pub use catalogue::{ANNOTATIONS, Annotation};

use super::index::Index;
use super::messages::{ALPHA, DEPRECATED_ANNOTATION, INVALID_ANNOTATION, MISPLACED, UNKNOWN_ANNOTATION};
use crate::api::{Key, Meta, Origin};
use crate::report::Report;

const INJECT: &str = "sidecar.istio.io/inject";

/// What is written down for a kind: its key, origin, metadata, and names of its init containers.
type Subject<'a> = (&'a Key, &'a Origin, &'a Meta, Vec<&'a str>);

fn subjects<'a>(index: &Index<'a>) -> Vec<Subject<'a>> {
    let mut all: Vec<Subject<'a>> = Vec::new();
    all.extend(index.namespaces.iter().map(|o| (&o.key, &o.origin, &o.meta, Vec::new())));
    all.extend(index.services.iter().map(|o| (&o.key, &o.origin, &o.meta, Vec::new())));
    all.extend(index.deployments.iter().map(|o| (&o.key, &o.origin, &o.meta, Vec::new())));
    for o in &index.written_pods {
        let init = o.spec.init_containers.iter().map(|c| c.name.as_str()).collect();
        all.push((&o.key, &o.origin, &o.meta, init));
    }
    all
}

fn is_istios(name: &str) -> bool {
    let domain = name.split('/').next().unwrap_or_default();
    (name.contains('/') && domain.ends_with("istio.io")) || name == "kubernetes.io/ingress.class"
}

fn field(name: &str) -> String {
    crate::yaml::child("metadata.annotations", name)
}

/// The analyzer of Istio's default set.
pub(super) fn annotations(index: &Index<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    for (key, origin, meta, _) in subjects(index) {
        let subject = (key, origin);
        for (name, value) in meta.annotations.iter().filter(|(n, _)| is_istios(n) && !by_the_mesh(n)) {
            let field = field(name);
            let Some(known) = ANNOTATIONS.iter().find(|a| a.name == *name) else {
                let report = UNKNOWN_ANNOTATION.report(subject, &field, format!("Unknown annotation: {name}"));
                let near = nearest(name).map(|n| format!("the nearest that Istio knows is {n}"));
                found.push(Report { fix: near, ..report });
                continue;
            };
            if !known.kinds.contains(&"Any") && !known.kinds.contains(&&*key.kind.kind) {
                let text = format!("Misplaced annotation: {name} can only be applied to {}", known.kinds.join(", "));
                let report = MISPLACED.report(subject, &field, text);
                let pod = known.kinds.contains(&"Pod") && &*key.kind.kind == "Deployment";
                found.push(if pod { report.fix("write it at spec.template.metadata.annotations") } else { report });
            }
            if let Err(why) = check(name, value) {
                let text = format!("Invalid annotation {name}: {why}");
                found.push(INVALID_ANNOTATION.report(subject, &field, text));
            }
            // With the label there too, the annotation has nothing to say.
            let silent = name == INJECT && meta.labels.contains_key(INJECT);
            if known.deprecated && !silent {
                let label = format!(" in favor of the {INJECT:?} label");
                let hint = if name == INJECT { label.as_str() } else { "" };
                let text =
                    format!("Annotation {name:?} has been deprecated{hint} and may not work in future Istio versions.");
                found.push(DEPRECATED_ANNOTATION.report(subject, &field, text));
            }
        }
    }
    found
}

/// Not in the default set, as in Istio.
pub(super) fn alpha(index: &Index<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    for (key, origin, meta, init) in subjects(index) {
        let by_cni = init.contains(&"istio-validation");
        for name in meta.annotations.keys() {
            let Some(known) = ANNOTATIONS.iter().find(|a| a.name == *name && a.alpha) else { continue };
            if by_the_mesh(name) || (by_cni && CNI.contains(&known.name)) {
                continue;
            }
            let text =
                format!("Annotation {name:?} is part of an alpha-phase feature and may be incompletely supported.");
            found.push(ALPHA.report((key, origin), &field(name), text));
        }
    }
    found
}

/// Annotations that the control plane writes.
fn by_the_mesh(name: &str) -> bool {
    matches!(
        name,
        "sidecar.istio.io/status"
            | "istio.io/rev"
            | "ambient.istio.io/redirection"
            | "gateway.istio.io/controller-version"
    )
}

/// Annotations that Istio's CNI plugin writes.
const CNI: [&str; 4] = [
    "sidecar.istio.io/interceptionMode",
    "traffic.sidecar.istio.io/includeInboundPorts",
    "traffic.sidecar.istio.io/excludeInboundPorts",
    "traffic.sidecar.istio.io/includeOutboundIPRanges",
];

fn nearest(name: &str) -> Option<&'static str> {
    let common = |a: &str| a.bytes().zip(name.bytes()).take_while(|(x, y)| x == y).count();
    let best = ANNOTATIONS.iter().map(|a| (common(a.name), a.name)).max_by_key(|(n, _)| *n)?;
    let domain = name.find('/').unwrap_or(name.len());
    (best.0 > domain + 1).then_some(best.1)
}

/// Whether a value has the form that its annotation wants.
fn check(name: &str, value: &str) -> Result<(), String> {
    let number = |v: &str| v.trim().parse::<u32>().map(drop).map_err(|_| format!("{v:?} is not a number from 0"));
    let port = |v: &str| match v.trim().parse::<u16>() {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("{v:?} is not a port")),
    };
    let ports = |v: &str| v.split(',').filter(|p| !p.trim().is_empty()).try_for_each(port);
    let networks = |v: &str| {
        let entries = v.split(',').filter(|e| !e.trim().is_empty());
        entries.map(str::trim).try_for_each(|e| crate::matching::Cidr::parse(e).map(drop))
    };
    match name {
        INJECT | "prometheus.istio.io/merge-metrics" | "sidecar.istio.io/rewriteAppHTTPProbers" => {
            let booleans = ["1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"];
            match booleans.contains(&value) {
                true => Ok(()),
                false => Err(format!("{value:?} is neither true nor false")),
            }
        }
        "sidecar.istio.io/interceptionMode" => match value {
            "REDIRECT" | "TPROXY" | "NONE" => Ok(()),
            _ => Err(format!("{value:?} is none of REDIRECT, TPROXY, NONE")),
        },
        "readiness.status.sidecar.istio.io/initialDelaySeconds"
        | "readiness.status.sidecar.istio.io/periodSeconds"
        | "readiness.status.sidecar.istio.io/failureThreshold" => number(value),
        "status.sidecar.istio.io/port" => port(value),
        "readiness.status.sidecar.istio.io/applicationPorts"
        | "traffic.sidecar.istio.io/excludeInboundPorts"
        | "traffic.sidecar.istio.io/includeOutboundPorts"
        | "traffic.sidecar.istio.io/excludeOutboundPorts"
        | "traffic.sidecar.istio.io/includeInboundPorts" => {
            if value == "*" {
                Ok(())
            } else {
                ports(value)
            }
        }
        "traffic.sidecar.istio.io/includeOutboundIPRanges" => {
            if value == "*" {
                Ok(())
            } else {
                networks(value)
            }
        }
        "traffic.sidecar.istio.io/excludeOutboundIPRanges" => networks(value),
        _ => Ok(()),
    }
}
