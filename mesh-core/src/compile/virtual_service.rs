//! VirtualService -> [`Route`]: every field is read here once, for all proxies and listeners.

mod action;
mod delegate;
mod filters;
mod l4;
mod matches;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode};

pub(super) use action::retry_plan;
pub(super) use delegate::with_delegates;

use super::account::Ledger;
use super::memo::Planned;
use crate::api::{
    Delegate, Destination, HeaderOperations, Headers, HttpRoute, HttpRouteDestination, Object, PortSelector,
    VirtualService,
};
use crate::matching::{HeaderValueTemplate, HostPattern};
use crate::model::{Backend, Route, Rule, RuleAction, Sourced};
use crate::snapshot::{HeaderOps, SomeOps};
use crate::world::full_host;
use crate::yaml::child;

/// Why an object can't be in force: field and reason.
pub(super) struct Wrong(pub(super) String, pub(super) String);

impl Wrong {
    fn at(field: &str) -> impl FnOnce(String) -> Self {
        move |why| Self(field.into(), why)
    }
}

/// Names that complete a short one.
#[derive(Clone, Copy)]
struct Names<'a> {
    namespace: &'a str,
    domain: &'a str,
}

/// Converts a VirtualService. One that is wrong anywhere is quarantined as a whole: it has no hosts and no rules.
pub(super) fn convert(object: &Object<VirtualService>, domain: &str) -> Planned<Arc<Route>> {
    let mut ledger = Ledger::new(object);
    ledger.is_delegate = object.spec.hosts.is_empty();
    let route = read(object, domain, &mut ledger).unwrap_or_else(|Wrong(field, why)| {
        ledger.notes = super::memo::Notes::default();
        ledger.inert("spec", &format!("the object is quarantined: {field}: {why}"));
        ledger.report(crate::api::codes::SCHEMA, &field, why);
        Route {
            key: object.key.clone(),
            origin: object.origin.clone(),
            hash: object.hash,
            includes: Vec::new(),
            hosts: Vec::new(),
            gateways: Vec::new(),
            export_to: Vec::new(),
            http: Vec::new(),
            tls: Vec::new(),
            tcp: Vec::new(),
        }
    });
    Planned::new(Arc::new(route), ledger.notes)
}

fn read(object: &Object<VirtualService>, domain: &str, ledger: &mut Ledger<'_>) -> Result<Route, Wrong> {
    let VirtualService { hosts, gateways, http, tls, tcp, export_to } = &object.spec;
    let names = Names { namespace: &object.key.namespace, domain };
    let mut rules = Vec::with_capacity(http.len());
    for (i, rule) in http.iter().enumerate() {
        rules.push(Arc::new(http_rule(ledger, &format!("spec.http[{i}]"), rule, names)?));
    }
    let mut tls_rules = Vec::with_capacity(tls.len());
    for (i, rule) in tls.iter().enumerate() {
        tls_rules.push(l4::tls_rule(ledger, &format!("spec.tls[{i}]"), rule, names)?);
    }
    let mut tcp_rules = Vec::with_capacity(tcp.len());
    for (i, rule) in tcp.iter().enumerate() {
        tcp_rules.push(l4::tcp_rule(ledger, &format!("spec.tcp[{i}]"), rule, names)?);
    }
    let hosts = ledger.take_list("spec", "hosts", hosts).iter();
    Ok(Route {
        key: object.key.clone(),
        origin: object.origin.clone(),
        hash: object.hash,
        includes: Vec::new(),
        hosts: hosts.map(|h| HostPattern::parse(&full_host(h, names.namespace, domain))).collect(),
        gateways: match ledger.take_list("spec", "gateways", gateways) {
            [] => vec!["mesh".into()],
            list => list.iter().map(|g| gateway_name(g, names.namespace)).collect(),
        },
        export_to: ledger.take_list("spec", "exportTo", export_to).iter().map(|e| e.as_str().into()).collect(),
        http: rules,
        tls: tls_rules,
        tcp: tcp_rules,
    })
}

/// `mesh`, or `namespace/name`; `gw` and `./gw` are in the own namespace, `gw.ns…` is an old form of `ns/gw`.
fn gateway_name(name: &str, namespace: &str) -> Arc<str> {
    match (name, name.split_once('/'), name.split_once('.')) {
        ("mesh", ..) => "mesh".into(),
        (_, Some((".", gateway)), _) => format!("{namespace}/{gateway}").into(),
        (_, Some(_), _) => name.into(),
        (_, None, Some((gateway, rest))) => format!("{}/{gateway}", rest.split('.').next().unwrap_or_default()).into(),
        (_, None, None) => format!("{namespace}/{name}").into(),
    }
}

/// What a rule does. Of several that are given, the first in the order of this function decides, and the others are said
/// to be without effect.
fn rule_action(ledger: &mut Ledger<'_>, at: &str, rule: &HttpRoute, names: Names<'_>) -> Result<RuleAction, Wrong> {
    let HttpRoute { route, redirect, direct_response, delegate, .. } = rule;
    Ok(if let Some(r) = redirect {
        ledger.without_effect(at, "route", route, "a redirect answers the request");
        ledger.without_effect(at, "directResponse", direct_response, "a redirect answers the request");
        ledger.without_effect(at, "delegate", delegate, "a redirect answers the request");
        RuleAction::Redirect(action::redirect(ledger, &format!("{at}.redirect"), r)?)
    } else if let Some(d) = direct_response {
        ledger.without_effect(at, "route", route, "a direct response answers the request");
        ledger.without_effect(at, "delegate", delegate, "a direct response answers the request");
        RuleAction::Direct(action::direct(ledger, &format!("{at}.directResponse"), d)?)
    } else if let Some(Delegate { name, namespace }) = delegate {
        ledger.without_effect(at, "route", route, "the rules of the delegate decide");
        let at = format!("{at}.delegate");
        ledger.consumed(&at);
        let name = ledger.take(&at, "name", name).as_str().into();
        let namespace = match ledger.take(&at, "namespace", namespace).as_str() {
            "" => names.namespace,
            ns => ns,
        };
        RuleAction::Delegate(namespace.into(), name)
    } else {
        RuleAction::Forward(backends(ledger, at, route, names)?)
    })
}

fn http_rule(ledger: &mut Ledger<'_>, at: &str, rule: &HttpRoute, names: Names<'_>) -> Result<Rule, Wrong> {
    let HttpRoute {
        name,
        r#match,
        route: _,
        redirect,
        direct_response,
        delegate: _,
        rewrite,
        timeout,
        retries,
        fault: _,
        mirror: _,
        mirrors: _,
        mirror_percent: _,
        mirror_percentage: _,
        cors_policy: _,
        headers,
    } = rule;
    let mut matches = Vec::with_capacity(r#match.len());
    for (i, m) in r#match.iter().enumerate() {
        matches.push(matches::request(ledger, &format!("{at}.match[{i}]"), m, names)?);
    }
    let forwards = redirect.is_none() && direct_response.is_none();
    let action = rule_action(ledger, at, rule, names)?;
    let filters = filters::filters(ledger, at, rule, names, forwards)?;
    let mut only_forward = |field, present: bool| {
        if present && !forwards {
            ledger.inert(&format!("{at}.{field}"), "nothing is forwarded by this rule");
        }
        present && forwards
    };
    let (retries_apply, timeout_applies) =
        (only_forward("retries", retries.is_some()), only_forward("timeout", timeout.is_some()));
    let rewrite_applies = only_forward("rewrite", rewrite.is_some());
    let (path, mut authority) = match rewrite {
        Some(r) if rewrite_applies => action::rewrite(ledger, &format!("{at}.rewrite"), r)?,
        _ => (None, None),
    };
    let (request_headers, response_headers, host) = header_ops(ledger, at, headers.as_ref())?;
    if let Some(host) = host {
        authority.get_or_insert(host);
    }
    let origin = |field: &str| ledger.origin(&format!("{at}.{field}"));
    let timeout = timeout
        .filter(|_| timeout_applies)
        .map(|t| Sourced { value: Some(Duration::from(t)).filter(|t| !t.is_zero()), origin: origin("timeout") });
    let retries = match retries {
        Some(r) if retries_apply => {
            let origin = origin("retries");
            Some(Sourced { value: action::retry_plan(ledger, &format!("{at}.retries"), r)?, origin })
        }
        _ => None,
    };
    if timeout.is_some() {
        ledger.consumed(&format!("{at}.timeout"));
    }
    Ok(Rule {
        origin: ledger.origin(at),
        name: ledger.take(at, "name", name).as_str().into(),
        precedence: 0,
        matches,
        action,
        rewrite: path,
        authority,
        filters,
        timeout,
        retries,
        request_headers,
        response_headers,
    })
}

fn backends(
    ledger: &mut Ledger<'_>,
    at: &str,
    route: &[HttpRouteDestination],
    names: Names<'_>,
) -> Result<Vec<Backend>, Wrong> {
    let mut backends = Vec::with_capacity(route.len());
    for (i, destination) in route.iter().enumerate() {
        let HttpRouteDestination { destination, weight, headers } = destination;
        let at = format!("{at}.route[{i}]");
        let mut backend = backend(ledger, &at, destination.as_ref(), (*weight, route.len()), names)?;
        let (request, response, authority) = header_ops(ledger, &at, headers.as_ref())?;
        (backend.request_headers, backend.response_headers, backend.authority) = (request, response, authority);
        backends.push(backend);
    }
    Ok(backends)
}

/// Reads `destination` and `weight`; `of` is how many destinations the rule has.
fn backend(
    ledger: &mut Ledger<'_>,
    at: &str,
    destination: Option<&Destination>,
    (weight, of): (i32, usize),
    names: Names<'_>,
) -> Result<Backend, Wrong> {
    let Some(destination) = destination else {
        return Err(Wrong(at.into(), "destination is required".into()));
    };
    if of == 1 {
        ledger.without_effect(at, "weight", &weight, "the only destination takes everything");
    } else {
        ledger.take(at, "weight", &weight);
    }
    let mut backend = to(ledger, at, &format!("{at}.destination"), destination, names)?;
    backend.weight = if of == 1 { 1 } else { u32::try_from(weight).unwrap_or(0) };
    Ok(backend)
}

/// Reads a destination at `inner`; `at` is what names it.
fn to(
    ledger: &mut Ledger<'_>,
    at: &str,
    inner: &str,
    destination: &Destination,
    names: Names<'_>,
) -> Result<Backend, Wrong> {
    let Destination { host, subset, port } = destination;
    let port = match port {
        Some(PortSelector { number }) => {
            let field = format!("{inner}.port");
            ledger.take(&field, "number", number);
            let wrong = |_| Wrong(field, format!("port {number} is not in 1..65535"));
            Some(u16::try_from(*number).map_err(wrong)?).filter(|p| *p != 0)
        }
        None => None,
    };
    Ok(Backend {
        origin: ledger.origin(at),
        host: full_host(ledger.take::<String>(inner, "host", host), names.namespace, names.domain),
        subset: ledger.take(inner, "subset", subset).as_str().into(),
        port,
        weight: 1,
        missing_status: StatusCode::SERVICE_UNAVAILABLE,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        authority: None,
    })
}

type Operations = (HeaderOps, HeaderOps, Option<HeaderValueTemplate>);

/// Reads `headers` of a rule or destination; `set` or `add` of `host` is an authority rewrite (`set` wins).
fn header_ops(ledger: &mut Ledger<'_>, at: &str, headers: Option<&Headers>) -> Result<Operations, Wrong> {
    let Some(Headers { request, response }) = headers else { return Ok(Operations::default()) };
    let mut authority = None;
    let mut side = |ledger: &mut Ledger<'_>, name: &str, ops: Option<&HeaderOperations>| {
        let Some(HeaderOperations { set, add, remove }) = ops else { return Ok(HeaderOps::default()) };
        let at = format!("{at}.headers.{name}");
        let mut out = SomeOps::default();
        for (field, from, to) in [("set", set, &mut out.set), ("add", add, &mut out.add)] {
            templates(ledger, &format!("{at}.{field}"), from, to, &mut authority)?;
        }
        for (i, name) in remove.iter().enumerate() {
            let field = format!("{at}.remove[{i}]");
            ledger.consumed(&field);
            out.remove.push(header_name(name).map_err(Wrong::at(&field))?);
        }
        Ok(out.into())
    };
    let request = side(ledger, "request", request.as_ref())?;
    let response = side(ledger, "response", response.as_ref())?;
    Ok((request, response, authority))
}

fn templates(
    ledger: &mut Ledger<'_>,
    at: &str,
    from: &BTreeMap<String, String>,
    to: &mut Vec<(HeaderName, HeaderValueTemplate)>,
    authority: &mut Option<HeaderValueTemplate>,
) -> Result<(), Wrong> {
    for (name, value) in from {
        let field = child(at, name);
        ledger.consumed(&field);
        let value = HeaderValueTemplate::parse(value).map_err(Wrong::at(&field))?;
        if matches!(name.to_ascii_lowercase().as_str(), "host" | ":authority") {
            authority.get_or_insert(value);
        } else {
            to.push((header_name(name).map_err(Wrong::at(&field))?, value));
        }
    }
    to.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
    Ok(())
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    HeaderName::try_from(name).map_err(|_| format!("\"{name}\" is not a valid header name"))
}

#[cfg(test)]
mod tests;
