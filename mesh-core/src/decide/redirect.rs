//! Redirects: the `location` header.

use crate::matching::RequestFacts;
use crate::snapshot::{RedirectPath, RedirectPlan};

/// The value of `location` for a request.
///
/// Without a port in the plan the request's is kept, except the old scheme's default when the scheme changes; a new
/// authority replaces host and port. The plan's port goes before one in the new authority; one that is the scheme's default
/// is left out.
pub fn apply_redirect(plan: &RedirectPlan, request: &RequestFacts<'_>) -> String {
    let RedirectPlan { code: _, scheme, authority, port, path } = plan;
    let scheme = scheme.as_deref().unwrap_or(request.scheme);
    let mut out = format!("{scheme}://");
    match (authority, port) {
        (Some(authority), None) => out.push_str(authority),
        (Some(authority), Some(_)) => out.push_str(crate::matching::host_without_port(authority)),
        (None, Some(_)) => out.push_str(crate::matching::host_without_port(request.authority)),
        (None, None) => {
            let stale = match (request.scheme, scheme) {
                ("http", "https") => ":80",
                ("https", "http") => ":443",
                _ => "",
            };
            let authority = request.authority;
            out.push_str(match stale {
                "" => authority,
                stale => authority.strip_suffix(stale).unwrap_or(authority),
            });
        }
    }
    match (port, scheme) {
        (None, _) | (Some(80), "http") | (Some(443), "https") => {}
        (Some(port), _) => out.extend([":", &port.to_string()]),
    }
    let keeps_query = match path {
        None => {
            out.push_str(request.path);
            true
        }
        Some(RedirectPath::Full(path)) => {
            out.push_str(path);
            !path.contains('?')
        }
        Some(RedirectPath::Prefix(length, with)) => {
            out.push_str(with);
            out.push_str(request.path.get(*length..).unwrap_or_default());
            true
        }
    };
    if let (true, Some(query)) = (keeps_query, request.query) {
        out.push('?');
        out.push_str(query);
    }
    out
}

#[cfg(test)]
mod tests;
