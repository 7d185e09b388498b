//! What a control plane has written into the status of objects.

use serde_json::Value;

use super::index::Index;
use super::messages::NEGATIVE_CONDITION;
use crate::api::{Condition, Key, Origin, Resource};
use crate::report::Report;

const WAYPOINT: &str = "WaypointAccepted";

/// Conditions that say no.
pub(super) fn negative(index: &Index<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    for r in index.resources {
        let (key, origin) = (r.key(), r.origin());
        let bad = bad_when_false(key);
        if bad.is_empty() {
            continue;
        }
        let own = &r.meta().conditions;
        let of_parents = if let Resource::Unread(o) = r { parents(&o.spec) } else { Vec::new() };
        for (i, c) in own.iter().enumerate() {
            found.extend(report((key, origin), bad, c, &format!("status.conditions[{i}]")));
        }
        for (p, c) in &of_parents {
            found.extend(report((key, origin), bad, c, &format!("status.parents[{p}].conditions")));
        }
    }
    found
}

/// Conditions of a kind that mean trouble when they are false.
fn bad_when_false(key: &Key) -> &'static [&'static str] {
    match (&*key.kind.group, &*key.kind.kind) {
        ("", "Service") | ("networking.istio.io", "ServiceEntry" | "WorkloadEntry") => &["istio.io/WaypointBound"],
        ("security.istio.io", "AuthorizationPolicy") => &["ZtunnelAccepted", WAYPOINT],
        ("gateway.networking.k8s.io", "Gateway" | "HTTPRoute" | "GRPCRoute") => {
            &["Accepted", "Programmed", "ResolvedRefs"]
        }
        _ => &[],
    }
}

/// Conditions of a route with each of its parents.
fn parents(document: &Value) -> Vec<(usize, Condition)> {
    let all = document.pointer("/status/parents").and_then(Value::as_array).into_iter().flatten();
    all.enumerate().flat_map(|(i, p)| Condition::of(p).into_iter().map(move |c| (i, c))).collect()
}

fn report(subject: (&Key, &Origin), bad: &[&str], c: &Condition, field: &str) -> Option<Report> {
    let Condition { r#type: kind, status, reason, message } = c;
    let partly = kind == WAYPOINT && reason == "PartiallyInvalid" && bad.contains(&WAYPOINT);
    if !((status == "False" && bad.contains(&kind.as_str())) || partly) {
        return None;
    }
    let text =
        format!("A condition with a negative status is present: type={kind}, reason={reason}, message={message}.");
    Some(NEGATIVE_CONDITION.report(subject, field, text))
}
