//! Rules of a VirtualService that no request reaches, because rules before them take all that theirs take. Istio finds equal
//! matches and rules after one without matches; this looks at what matches mean.

use std::collections::BTreeMap;

use super::index::Index;
use super::messages::SHADOWED;
use crate::api::{HttpMatchRequest, HttpRoute, StringMatch};
use crate::report::Report;

/// Shadowed rules.
pub(super) fn rules(index: &Index<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    for o in &index.virtual_services {
        // After a rule without matches, and for equal matches, IST0130 says it.
        let end = o.spec.http.iter().position(|r| r.r#match.is_empty()).unwrap_or(o.spec.http.len());
        for (r, rule) in o.spec.http.iter().enumerate().take(end + 1).skip(1) {
            let Some(by) = taken(&o.spec.http[..r], rule) else { continue };
            let text = format!(
                "no request reaches rule {}: {} {} all that it matches",
                name(&o.spec.http, r),
                by.iter().map(|i| format!("rule {}", name(&o.spec.http, *i))).collect::<Vec<_>>().join(" and "),
                if by.len() == 1 { "takes" } else { "take" }
            );
            let report = SHADOWED.report((&o.key, &o.origin), &format!("spec.http[{r}]"), text);
            let first = by.iter().min().copied().unwrap_or_default();
            found.push(report.fix(format!("write it before rule {}", name(&o.spec.http, first))));
        }
    }
    found
}

fn name(rules: &[HttpRoute], at: usize) -> String {
    match rules[at].name.as_str() {
        "" => format!("#{at}"),
        name => format!("{name:?}"),
    }
}

/// The earlier rules that take everything of this one, unless that goes without saying.
fn taken(before: &[HttpRoute], rule: &HttpRoute) -> Option<Vec<usize>> {
    let anything = [HttpMatchRequest::default()];
    let own = if rule.r#match.is_empty() { &anything[..] } else { &rule.r#match };
    let mut by = Vec::new();
    let mut equal = true;
    for m in own {
        let takes = |r: &HttpRoute| r.r#match.iter().any(|e| covers(e, m));
        by.push(before.iter().position(takes)?);
        let nameless = |m: &HttpMatchRequest| HttpMatchRequest { name: String::new(), ..m.clone() };
        equal &= before.iter().flat_map(|r| &r.r#match).any(|e| nameless(e) == nameless(m));
    }
    by.sort_unstable();
    by.dedup();
    (!equal).then_some(by)
}

/// Whether every request that `b` takes is taken by `a`.
fn covers(a: &HttpMatchRequest, b: &HttpMatchRequest) -> bool {
    let HttpMatchRequest {
        name: _,
        uri,
        scheme,
        method,
        authority,
        headers,
        without_headers,
        query_params,
        ignore_uri_case,
        port,
        source_labels,
        source_namespace,
        gateways,
        stat_prefix: _,
    } = a;
    path(uri.as_ref(), *ignore_uri_case, b)
        && text(scheme.as_ref(), b.scheme.as_ref())
        && text(method.as_ref(), b.method.as_ref())
        && text(authority.as_ref(), b.authority.as_ref())
        && all(headers, &b.headers)
        && without_headers.iter().all(|(k, v)| b.without_headers.get(k) == Some(v))
        && query_params.iter().all(|(k, v)| b.query_params.get(k).is_some_and(|w| text(Some(v), Some(w))))
        && (*port == 0 || *port == b.port)
        && source_labels.iter().all(|(k, v)| b.source_labels.get(k) == Some(v))
        && (source_namespace.is_empty() || *source_namespace == b.source_namespace)
        && (gateways.is_empty() || (!b.gateways.is_empty() && b.gateways.iter().all(|g| gateways.contains(g))))
}

fn path(a: Option<&StringMatch>, ignores_case: bool, b: &HttpMatchRequest) -> bool {
    // Every path begins with a slash.
    if matches!(a, None | Some(StringMatch::Present)) || a == Some(&StringMatch::Prefix("/".to_owned())) {
        return true;
    }
    let lower = |m: &StringMatch| match m {
        StringMatch::Exact(v) => StringMatch::Exact(v.to_ascii_lowercase()),
        StringMatch::Prefix(v) => StringMatch::Prefix(v.to_ascii_lowercase()),
        other @ (StringMatch::Regex(_) | StringMatch::Present) => other.clone(),
    };
    match (ignores_case, b.ignore_uri_case) {
        (false, false) => text(a, b.uri.as_ref()),
        (true, _) => text(a.map(lower).as_ref(), b.uri.as_ref().map(lower).as_ref()),
        (false, true) => false,
    }
}

fn all(a: &BTreeMap<String, StringMatch>, b: &BTreeMap<String, StringMatch>) -> bool {
    a.iter().all(|(k, v)| b.get(k).is_some_and(|w| text(Some(v), Some(w))))
}

fn text(a: Option<&StringMatch>, b: Option<&StringMatch>) -> bool {
    match (a, b) {
        (None, _) | (Some(StringMatch::Present), Some(_)) => true,
        (Some(StringMatch::Prefix(p)), Some(StringMatch::Exact(v) | StringMatch::Prefix(v))) => {
            v.starts_with(p.as_str())
        }
        (Some(a), Some(b)) => a == b,
        (Some(_), None) => false,
    }
}
