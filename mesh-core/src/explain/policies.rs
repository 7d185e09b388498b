//! What a plan decides besides where a request goes: one line for each feature, with who decided it.
//!
//! Plans are taken apart completely, so that a new field does not compile before it has its line here; with it, it is
//! in `explain request` and in `explain config`. Features that are off have no line, unless a default is worth knowing.

use serde::Serialize;

use super::Decided;
use crate::snapshot::{ClusterPlan, Provenance, RoutePlan};

/// One feature of a route or cluster.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Name of the feature: `fault`, `mirror`, `connectTimeout`, …
    pub what: &'static str,
    /// Its value in words, and who decided it.
    #[serde(flatten)]
    pub decided: Decided,
}

/// A line.
fn line(what: &'static str, value: impl Into<String>, from: &Provenance) -> Policy {
    Policy { what, decided: Decided::new(value, from) }
}

/// A route: everything but timeout and retries, which have places of their own.
pub(super) fn of_route(plan: &RoutePlan) -> Vec<Policy> {
    let RoutePlan {
        name: _,
        matches: _,
        action: _,
        request_headers: _,
        response_headers: _,
        rewrite: _,
        timeout: _,
        retry: _,
        origin: _,
        timeout_origin: _,
        retry_origin: _,
        hash: _,
    } = plan;
    let lines: [Option<Policy>; 0] = [];
    lines.into_iter().flatten().collect()
}

/// A cluster: everything but the balancer.
pub(super) fn of_cluster(plan: &ClusterPlan) -> Vec<Policy> {
    let ClusterPlan {
        name: _,
        source: _,
        protocol,
        balancer: _,
        connect_timeout,
        tls,
        proxy_header,
        tunnel,
        service: _,
        service_name: _,
        service_namespace: _,
        external: _,
        subset: _,
        origin,
        policy_origin,
        hash: _,
    } = plan;
    let lines = [
        Some(line("protocol", format!("{protocol:?}"), origin)),
        Some(line("connectTimeout", format!("{connect_timeout:?}"), policy_origin)),
        tls.as_ref().map(|t| line("tls", t.to_string(), &t.origin)),
        proxy_header.map(|v| line("proxyProtocol", format!("{v:?}"), policy_origin)),
        tunnel.as_ref().map(|t| line("tunnel", t.to_string(), policy_origin)),
    ];
    lines.into_iter().flatten().collect()
}
