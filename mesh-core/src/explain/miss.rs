//! A miss in words: the nearest rule, what does not hold, and what to write.

use super::{Decided, NearMiss};
use crate::decide::NearestMiss;
use crate::matching::{ClaimMatch, HeaderMatch, Miss, RequestFacts, RequestMatch, StringMatcher};
use crate::snapshot::{ProxyId, RouteTable, VirtualHostPlan};
use crate::world::{World, full_host};

pub(super) fn words(
    world: &World,
    id: &ProxyId,
    table: &RouteTable,
    miss: &NearestMiss<'_>,
    facts: &RequestFacts<'_>,
) -> NearMiss {
    match miss {
        NearestMiss::Host { nearest, domain } => {
            let mut hosts: Vec<_> = table.virtual_hosts().collect();
            hosts.sort_by(|a, b| a.name.cmp(&b.name));
            let host = nearest.or_else(|| hosts.first().copied());
            let Some(host) = host else {
                let why = vec!["no VirtualService is bound to this gateway and port".to_owned()];
                return NearMiss { nearest: None, why, fix: Some("bind one: gateways: [NAMESPACE/GATEWAY]".into()) };
            };
            let domain = domain.map_or_else(|| host.domains.first().map_or("", |d| d), |d| d);
            let (more, fix) = short_host(world, id, host, domain, facts.authority);
            let mut why = vec![format!("Host is {:?}, the nearest virtual host is for {domain}", facts.authority)];
            why.extend(more);
            NearMiss { nearest: Some(Decided::new(domain, &host.origin)), why, fix: Some(fix) }
        }
        NearestMiss::Route { virtual_host, nearest, misses } => {
            let Some(route) = nearest else {
                let why = vec![format!("virtual host {} has no routes", virtual_host.name)];
                return NearMiss { nearest: Some(Decided::new("", &virtual_host.origin)), why, fix: None };
            };
            let why = misses.iter().map(|m| condition(&route.matches, *m, facts)).collect();
            NearMiss { nearest: Some(Decided::new(&*route.name, &route.origin)), why, fix: None }
        }
    }
}

/// A short name in the VirtualService that made the virtual host: no request from outside has its full form.
fn short_host(
    world: &World,
    id: &ProxyId,
    host: &VirtualHostPlan,
    domain: &str,
    authority: &str,
) -> (Option<String>, String) {
    let plain = format!("write host {authority:?} or \"*\" in the VirtualService, or send Host {domain}");
    // A gateway's virtual host is made by the Gateway's server; its rules say which VirtualService they are from.
    let origins = std::iter::once(&host.origin).chain(host.routes.iter().map(|r| &r.origin));
    let object = origins.filter_map(|o| world.virtual_services().get(o.object.as_ref()?)).next();
    let Some(object) = object else { return (None, plain) };
    let key = &object.key;
    let namespace = &object.key.namespace;
    let completed = |h: &&String| *full_host(h, namespace, &id.domain) == *domain && *h.to_ascii_lowercase() != *domain;
    match object.spec.hosts.iter().find(completed) {
        Some(short) => (
            Some(format!(
                "host {short:?} of {key} is a short name and stands for {domain}, by its namespace {namespace}"
            )),
            format!("write \"*\" or the name that clients use instead of {short:?}, or send Host {domain}"),
        ),
        None => (None, plain),
    }
}

fn condition(m: &RequestMatch, miss: Miss, facts: &RequestFacts<'_>) -> String {
    let said = |what: &str, got: &str, wanted: Option<&StringMatcher>| {
        format!("{what} is {got:?}, wanted is {}", wanted.map_or(String::new(), matcher))
    };
    match miss {
        Miss::Claim(i) => m.claims.get(i).map_or(String::new(), |c| claim(c, facts)),
        Miss::Uri => said("path", facts.path, m.uri.as_ref()),
        Miss::Scheme => said("scheme", facts.scheme, m.scheme.as_ref()),
        Miss::Method => said("method", facts.method.as_str(), m.method.as_ref()),
        Miss::Authority => said("authority", facts.authority, m.authority.as_ref()),
        Miss::Header(i) => m.headers.get(i).map_or(String::new(), |h| header(h, facts)),
        Miss::Query(i) => m.query.get(i).map_or(String::new(), |q| {
            format!("query is {:?}, wanted is {} {}", facts.query.unwrap_or_default(), q.name, matcher(&q.value))
        }),
    }
}

fn header(h: &HeaderMatch, facts: &RequestFacts<'_>) -> String {
    let name = h.name.as_ref().map_or(h.pseudo.as_deref().unwrap_or_default(), |n| n.as_str());
    let got = h.name.as_ref().and_then(|n| facts.headers.get(n));
    let got = got.map_or("missing".to_owned(), |v| format!("{:?}", String::from_utf8_lossy(v.as_bytes())));
    let wanted = if h.invert { "not " } else { "" };
    format!("header {name} is {got}, wanted is {wanted}{}", matcher(&h.value))
}

fn claim(c: &ClaimMatch, facts: &RequestFacts<'_>) -> String {
    let got = if facts.claims.is_some() { "does not hold" } else { "is not there: no token was given" };
    let wanted = if c.invert { "not " } else { "" };
    format!("claim {} {got}, wanted is {wanted}{}", c.path.join("."), matcher(&c.value))
}

pub(super) fn matcher(m: &StringMatcher) -> String {
    match m {
        StringMatcher::Exact(v) => format!("exact {v:?}"),
        StringMatcher::Prefix(v) => format!("prefix {v:?}"),
        StringMatcher::Regex(r) => format!("regex {:?}", r.as_str()),
        StringMatcher::Present => "any value".to_owned(),
    }
}

/// The conditions of a rule.
pub(super) fn words_of(m: &RequestMatch) -> String {
    let mut out = Vec::new();
    if let Some(uri) = &m.uri {
        let case = if m.ignore_uri_case { ", case ignored" } else { "" };
        let segments = if m.segment_prefix { ", by segments" } else { "" };
        out.push(format!("path {}{case}{segments}", matcher(uri)));
    }
    let named = [("scheme", &m.scheme), ("method", &m.method), ("authority", &m.authority)];
    out.extend(named.into_iter().filter_map(|(n, v)| Some(format!("{n} {}", matcher(v.as_ref()?)))));
    out.extend(m.headers.iter().map(|h| {
        let name = h.name.as_ref().map_or(h.pseudo.as_deref().unwrap_or_default(), |n| n.as_str());
        format!("header {name} {}{}", if h.invert { "not " } else { "" }, matcher(&h.value))
    }));
    out.extend(m.query.iter().map(|q| format!("query {} {}", q.name, matcher(&q.value))));
    if out.is_empty() { "every request".into() } else { out.join(", ") }
}
