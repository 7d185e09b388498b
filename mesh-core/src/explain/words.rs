//! What parts of a plan say, in words.

use std::sync::Arc;

use super::Decided;
use crate::decide::rewrite_path;
use crate::snapshot::{Action, EndpointSource, HeaderOps, RewritePath, RoutePlan, SomeOps};

/// Timeout of a route that forwards.
pub(super) fn timeout(route: &RoutePlan) -> Decided {
    let timeout = route.timeout.map_or("none".to_owned(), |t| format!("{t:?}"));
    Decided::new(timeout, &route.timeout_origin)
}

/// Retries of a route that forwards.
pub(super) fn retries(route: &RoutePlan) -> Decided {
    let retries = route.retry.as_ref().map_or("none".to_owned(), ToString::to_string);
    Decided::new(retries, &route.retry_origin)
}

/// Where a cluster's endpoints come from, in words.
pub(super) fn source(source: &EndpointSource) -> String {
    match source {
        EndpointSource::Service { namespace: _, hostname, port, labels } if labels.is_empty() => {
            format!("instances of {hostname}, port {port}")
        }
        EndpointSource::Service { namespace: _, hostname, port, labels } => {
            let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("instances of {hostname} with {}, port {port}", labels.join(","))
        }
        EndpointSource::Dns { names, first_only, retry } => {
            let names: Vec<String> = names.iter().map(|n| format!("{}:{}", n.host, n.port)).collect();
            let first = if *first_only { ", first address" } else { "" };
            format!("DNS {}{first}, again after {retry:?} where it fails", names.join(", "))
        }
        EndpointSource::DynamicDns { port } => {
            let port = port.map_or(String::new(), |p| format!(", port {p}"));
            format!("the host that the request names, by DNS{port}")
        }
        EndpointSource::OriginalDst { port: Some(port) } => {
            format!("the address that the client dialled, with port {port}")
        }
        EndpointSource::OriginalDst { port: None } | EndpointSource::LocalOriginalDst => {
            "the address that the client dialled".into()
        }
        EndpointSource::LocalApp { port, ip } => {
            format!("the application{}, port {port}", ip.map_or(String::new(), |ip| format!(" at {ip}")))
        }
        EndpointSource::LocalSocket(path) => format!("the application at the unix socket {path}"),
        EndpointSource::BlackHole => "nothing".into(),
    }
}

/// Header operations and rewrites that do not depend on a request.
pub(super) fn static_changes(route: &RoutePlan) -> Vec<String> {
    let mut out = operations(route);
    if let Some(rewrite) = &route.rewrite {
        out.extend(rewrite.path.as_ref().map(|p| match p {
            RewritePath::Prefix(_, to) => format!("the matched prefix of the path becomes {to}"),
            RewritePath::Full(to) => format!("path becomes {to}"),
            RewritePath::Regex(from, to) => format!("in the path, {} becomes {to}", from.as_str()),
        }));
        out.extend(rewrite.authority.as_ref().map(|a| format!("Host becomes {a}")));
    }
    out
}

fn operations(route: &RoutePlan) -> Vec<String> {
    let mut out = Vec::new();
    ops("request", &route.request_headers, &mut out);
    ops("response", &route.response_headers, &mut out);
    if let Action::Forward(clusters) = &route.action {
        for c in clusters {
            ops(&format!("{} request", c.cluster), &c.request_headers, &mut out);
            ops(&format!("{} response", c.cluster), &c.response_headers, &mut out);
            out.extend(c.authority.as_ref().map(|a| format!("{} Host becomes {a}", c.cluster)));
        }
    }
    out
}

/// The same for a request of this path.
pub(super) fn changes(route: &Arc<RoutePlan>, path: &str, query: Option<&str>) -> Vec<String> {
    let mut out = operations(route);
    if let Some(rewrite) = &route.rewrite {
        if let Some(p) = &rewrite.path {
            out.push(format!("path becomes {}", rewrite_path(p, path, query)));
        }
        out.extend(rewrite.authority.as_ref().map(|a| format!("Host becomes {a}")));
    }
    out
}

fn ops(of: &str, ops: &HeaderOps, out: &mut Vec<String>) {
    let SomeOps { remove, set, add } = &**ops;
    out.extend(remove.iter().map(|n| format!("{of} header {n} is removed")));
    out.extend(set.iter().map(|(n, v)| format!("{of} header {n} is set to {v}")));
    out.extend(add.iter().map(|(n, v)| format!("{of} header {n} gets {v} added")));
}
