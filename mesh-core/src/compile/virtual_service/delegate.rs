//! Delegation: rules of a VirtualService without hosts, taken into one with hosts.

use std::sync::Arc;

use crate::compile::account::fate;
use crate::compile::memo::{Notes, Planned};
use crate::matching::{ClaimMatch, HeaderMatch, QueryMatch, RequestMatch, StringMatcher};
use crate::model::{Route, Rule, RuleAction, RuleMatch, StaticMatch};
use crate::report::Outcome;
use crate::snapshot::HeaderOps;

/// Namespace and name of a delegate.
pub(in crate::compile) type DelegateName = (Arc<str>, Arc<str>);

/// Replaces each delegating rule by the delegate's rules, merged with it. A delegate that is not there, or that is not
/// exported to the root, takes its rule out and leaves the others.
pub(in crate::compile) fn with_delegates(
    root: &Arc<Route>,
    delegates: &[(DelegateName, Option<Arc<Route>>)],
) -> Planned<Arc<Route>> {
    let mut notes = Notes::default();
    let mut out = Route::clone(root);
    out.http.clear();
    for rule in &root.http {
        let RuleAction::Delegate(namespace, name) = &rule.action else {
            out.http.push(rule.clone());
            continue;
        };
        let found = delegates.iter().find(|((ns, n), _)| ns == namespace && n == name);
        let Some(delegate) = found.and_then(|(_, d)| d.as_ref()) else {
            let because = format!("VirtualService {namespace}/{name} does not exist or is not exported to here");
            notes.fates.extend(fate(&rule.origin, Outcome::Inert { because: because.into() }));
            continue;
        };
        notes.fates.extend(fate(&rule.origin, Outcome::Consumed));
        out.hash = out.hash.with(delegate.hash);
        out.includes.push(delegate.key.clone());
        for inner in &delegate.http {
            if let RuleAction::Delegate(..) = inner.action {
                let because = "a delegate can't delegate".into();
                notes.fates.extend(fate(&inner.origin, Outcome::Inert { because }));
                continue;
            }
            match merge(rule, inner) {
                Some(merged) => out.http.push(Arc::new(merged)),
                None => {
                    let because = format!("none of its matches fits those of {} {}", root.key, rule.origin.field);
                    notes.fates.extend(fate(&inner.origin, Outcome::Inert { because: because.into() }));
                }
            }
        }
    }
    Planned::new(Arc::new(out), notes)
}

/// The delegate's rule inside the root's: its own value if it has one, else the root's.
fn merge(root: &Rule, leaf: &Rule) -> Option<Rule> {
    let Rule {
        origin,
        name,
        precedence,
        matches,
        action,
        rewrite,
        authority,
        filters,
        timeout,
        retries,
        request_headers,
        response_headers,
    } = leaf.clone();
    let matches = merge_matches(&root.matches, &matches)?;
    let no_rewrite = rewrite.is_none() && authority.is_none();
    let no_headers = request_headers.is_empty() && response_headers.is_empty();
    let headers = |leaf: HeaderOps, root: &HeaderOps| if no_headers { root.clone() } else { leaf };
    Some(Rule {
        origin,
        name: match (&*root.name, &*name) {
            ("", _) => name,
            (_, "") => root.name.clone(),
            (a, b) => format!("{a}-{b}").into(),
        },
        precedence,
        matches,
        action,
        rewrite: if no_rewrite { root.rewrite.clone() } else { rewrite },
        authority: if no_rewrite { root.authority.clone() } else { authority },
        filters: filters.inside(&root.filters),
        timeout: timeout.or_else(|| root.timeout.clone()),
        retries: retries.or_else(|| root.retries.clone()),
        request_headers: headers(request_headers, &root.request_headers),
        response_headers: headers(response_headers, &root.response_headers),
    })
}

/// Every match of the delegate must fit one of the root; `None` if one does not.
fn merge_matches(root: &[RuleMatch], leaf: &[RuleMatch]) -> Option<Vec<RuleMatch>> {
    if root.is_empty() || leaf.is_empty() {
        return Some(if root.is_empty() { leaf } else { root }.to_vec());
    }
    let mut out = Vec::new();
    for l in leaf {
        let before = out.len();
        out.extend(root.iter().filter(|r| !conflict(r, l)).map(|r| merge_match(r, l)));
        if out.len() == before {
            return None;
        }
    }
    Some(out)
}

fn conflict(root: &RuleMatch, leaf: &RuleMatch) -> bool {
    let (r, l) = (&root.request, &leaf.request);
    let text = |a: &Option<StringMatcher>, b: &Option<StringMatcher>| match (a, b) {
        (Some(a), Some(b)) => text_conflict(a, b),
        _ => false,
    };
    text(&r.uri, &l.uri)
        || text(&r.scheme, &l.scheme)
        || text(&r.method, &l.method)
        || text(&r.authority, &l.authority)
        || r.ignore_uri_case != l.ignore_uri_case
        || r.headers.iter().any(|a| l.headers.iter().any(|b| same_header(a, b) && text_conflict(&a.value, &b.value)))
        || r.query.iter().any(|a| l.query.iter().any(|b| a.name == b.name && text_conflict(&a.value, &b.value)))
        || r.claims.iter().any(|a| l.claims.iter().any(|b| same_claim(a, b) && text_conflict(&a.value, &b.value)))
        || static_conflict(&root.only, &leaf.only)
}

fn text_conflict(root: &StringMatcher, leaf: &StringMatcher) -> bool {
    match (root, leaf) {
        (StringMatcher::Present, _) | (_, StringMatcher::Present) => false,
        (StringMatcher::Regex(_), _) | (_, StringMatcher::Regex(_)) => true,
        (StringMatcher::Exact(a), StringMatcher::Exact(b)) => a != b,
        (StringMatcher::Exact(_), StringMatcher::Prefix(_)) => true,
        (StringMatcher::Prefix(a), StringMatcher::Exact(b) | StringMatcher::Prefix(b)) => !b.starts_with(&**a),
    }
}

fn static_conflict(root: &StaticMatch, leaf: &StaticMatch) -> bool {
    let port = matches!((root.port, leaf.port), (Some(a), Some(b)) if a != b);
    let labels = root.source_labels.iter().any(|(k, v)| leaf.source_labels.get(k).is_some_and(|l| l != v));
    let gateways = !root.gateways.is_empty() && leaf.gateways.iter().any(|g| !root.gateways.contains(g));
    let namespace = !root.source_namespace.is_empty() && root.source_namespace != leaf.source_namespace;
    port || labels || gateways || namespace
}

fn same_header(a: &HeaderMatch, b: &HeaderMatch) -> bool {
    a.name == b.name && a.pseudo == b.pseudo && a.invert == b.invert
}

fn same_claim(a: &ClaimMatch, b: &ClaimMatch) -> bool {
    a.path == b.path && a.invert == b.invert
}

fn merge_match(root: &RuleMatch, leaf: &RuleMatch) -> RuleMatch {
    let (r, l) = (&root.request, &leaf.request);
    let mut headers: Vec<_> =
        r.headers.iter().filter(|a| !l.headers.iter().any(|b| same_header(a, b))).cloned().collect();
    headers.extend(l.headers.iter().cloned());
    let unset = |a: &&QueryMatch| !l.query.iter().any(|b| b.name == a.name);
    let mut query: Vec<_> = r.query.iter().filter(unset).cloned().collect();
    query.extend(l.query.iter().cloned());
    let unsaid = |a: &&ClaimMatch| !l.claims.iter().any(|b| same_claim(a, b));
    let mut claims: Vec<_> = r.claims.iter().filter(unsaid).cloned().collect();
    claims.extend(l.claims.iter().cloned());
    let mut source_labels = root.only.source_labels.clone();
    source_labels.extend(leaf.only.source_labels.clone());
    let or = |a: &Option<StringMatcher>, b: &Option<StringMatcher>| a.clone().or_else(|| b.clone());
    let empty = leaf.only.gateways.is_empty();
    RuleMatch {
        origin: leaf.origin.clone(),
        name: if leaf.name.is_empty() { root.name.clone() } else { leaf.name.clone() },
        request: RequestMatch {
            uri: or(&l.uri, &r.uri),
            ignore_uri_case: l.ignore_uri_case,
            segment_prefix: l.segment_prefix,
            scheme: or(&l.scheme, &r.scheme),
            method: or(&l.method, &r.method),
            authority: or(&l.authority, &r.authority),
            headers,
            query,
            claims,
        },
        only: StaticMatch {
            port: leaf.only.port.or(root.only.port),
            source_labels,
            source_namespace: match &*leaf.only.source_namespace {
                "" => root.only.source_namespace.clone(),
                _ => leaf.only.source_namespace.clone(),
            },
            gateways: if empty { root.only.gateways.clone() } else { leaf.only.gateways.clone() },
        },
        stat_prefix: if leaf.stat_prefix.is_empty() { root.stat_prefix.clone() } else { leaf.stat_prefix.clone() },
    }
}
