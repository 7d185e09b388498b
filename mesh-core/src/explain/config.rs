//! The effective configuration of a workload's proxy: every value, defaults included, with who decided it.

use std::fmt;

use serde::Serialize;

use super::settings::{self, Sources};
use super::{Decided, From, Policy, policies, start, words};
use crate::api::Identity;
use crate::compile::compile;
use crate::snapshot::{
    Action, ListenerKey, ListenerPlan, Provenance, ProxyId, RoutePlan, SecurityPlan, TcpPlan, TlsThen, VirtualHostPlan,
    WeightedCluster,
};
use crate::world::{World, covers};

/// What is in force at one proxy.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveConfig {
    /// `sidecar` or `gateway`.
    pub kind: &'static str,
    /// Pod, `name.namespace`.
    pub proxy: String,
    /// Hash of the configuration.
    pub explain_config_hash: String,
    /// Something to know about the question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Settings, then listeners with their virtual hosts and routes, then clusters.
    pub items: Vec<Item>,
}

/// One part of it.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// `settings`, `policies`, `listener`, `virtualHost`, `route` or `cluster`.
    pub section: &'static str,
    /// Name; of a route with its virtual host's.
    pub name: String,
    /// Values.
    pub values: Vec<Policy>,
}

/// The effective configuration of a workload (or of a gateway, as [`From::Gateway`]).
///
/// # Errors
/// There is no such workload; the text names those that there are.
pub fn effective(world: &World, of: &From) -> Result<EffectiveConfig, String> {
    let (id, place) = start(world, of)?;
    let snapshot = compile(world, &id, None).snapshot;
    let sources = Sources::of(world, snapshot.proxy.workload.as_deref());
    let values = policies::of_proxy(world, &sources, &snapshot.proxy);
    let mut items = vec![Item { section: "settings", name: String::new(), values }];
    security(world, &snapshot.security, &mut items);
    let mut listeners: Vec<_> = snapshot.listeners.values().collect();
    listeners.sort_by_key(|l| l.key);
    for l in listeners {
        listener(&sources, l, &mut items);
    }
    let mut clusters: Vec<_> = snapshot.clusters.values().collect();
    clusters.sort_by(|a, b| a.name.cmp(&b.name));
    for c in clusters {
        let mut values = vec![
            policies::line("origin", words::source(&c.source), &c.origin),
            policies::line("balancer", format!("{:?}", c.balancer), &c.policy_origin),
        ];
        values.extend(policies::of_cluster(c).into_iter().filter(|p| p.what != "limits"));
        values.extend(settings::pool(&c.pool, &c.pool_origin));
        if c.balancing.outlier.is_none() {
            let nobody = Provenance::default("no rule asks for outlierDetection");
            values.push(policies::line("outlierDetection", "off", &nobody));
        }
        items.push(Item { section: "cluster", name: c.name.to_string(), values });
    }
    let kind = if place == "gateway" { "gateway" } else { "sidecar" };
    let proxy = format!("{}.{}", id.name, id.namespace);
    let note = (place != "gateway").then(|| selected(world, &id)).flatten();
    Ok(EffectiveConfig { kind, proxy, explain_config_hash: snapshot.hash.to_string(), note, items })
}

/// Whether a workload that is taken for one with a sidecar may be a gateway.
fn selected(world: &World, id: &ProxyId) -> Option<String> {
    let labels = &world.workload(&id.workload)?.labels;
    let by = world.gateways().iter().find(|g| !g.spec.selector.is_empty() && covers(&g.spec.selector, labels))?;
    let Identity { namespace, name, .. } = &*by.key;
    Some(format!("Gateway {namespace}/{name} selects this workload: if it is a gateway, add --gateway"))
}

fn security(world: &World, plan: &SecurityPlan, items: &mut Vec<Item>) {
    let SecurityPlan {
        authorization,
        authentication,
        egress,
        identity: _,
        trust_domains,
        places: _,
        providers,
        hash: _,
    } = plan;
    if plan.is_empty() && plan.egress.is_empty() {
        return;
    }
    let domains: Vec<&str> = trust_domains.domains().collect();
    let domains_from = Provenance::setting(world.mesh(), "spec.trustDomain", "cluster.local, by default");
    let mut values = vec![policies::line("trustDomains", domains.join(", "), &domains_from)];
    for o in authentication {
        let issuers: Vec<&str> = o.spec.jwt_rules.iter().map(|r| r.issuer.as_str()).collect();
        let value = format!("tokens of {}", issuers.join(", "));
        values.push(policies::line("authn", value, &Provenance::field(&o.key, &o.origin, "spec.jwtRules")));
    }
    for o in authorization {
        let value = format!("{:?}, {} rules", o.spec.action, o.spec.rules.len());
        values.push(policies::line("authz", value, &Provenance::field(&o.key, &o.origin, "spec.rules")));
    }
    for o in egress {
        let value = format!("{:?}, {} rules", o.spec.action, o.spec.rules.len());
        values.push(policies::line("egress", value, &Provenance::field(&o.key, &o.origin, "spec.rules")));
    }
    for p in providers {
        let value = format!("{} at {}", p.name, p.cluster);
        values.push(policies::line("extAuthz", value, &p.origin));
    }
    items.push(Item { section: "policies", name: String::new(), values });
}

fn listener(sources: &Sources<'_>, l: &ListenerPlan, items: &mut Vec<Item>) {
    let ListenerKey { direction, address, port, socket } = l.key;
    let address = address.map_or("any address".to_owned(), |a| a.to_string());
    let port = if port == 0 { "any port".to_owned() } else { format!("port {port}") };
    let place = if socket.is_some() { "unix socket".to_owned() } else { format!("{address}, {port}") };
    let direction = format!("{direction:?}").to_lowercase();
    let mut values = vec![policies::line("origin", format!("{direction}, {place}"), &l.origin)];
    values.extend(policies::of_listener(sources, l));
    for (i, rule) in l.l4.iter().enumerate() {
        values.extend(tcp(if i == 0 { "bytes" } else { "or bytes" }, &rule.plan));
    }
    values.extend(l.fallback.iter().flat_map(|plan| tcp("otherwise", plan)));
    items.push(Item { section: "listener", name: l.name.to_string(), values });
    let ended = l.tls.iter().filter_map(|server| match &server.then {
        TlsThen::Http(http) => Some((&server.name, http)),
        TlsThen::Tcp(_) => None,
    });
    for (name, http) in l.http.iter().map(|http| (&l.name, http)).chain(ended) {
        let mut hosts: Vec<_> = http.routes.virtual_hosts().collect();
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        hosts.dedup_by(|a, b| std::sync::Arc::ptr_eq(a, b));
        for host in hosts {
            virtual_host(sources, name, host, items);
        }
    }
}

fn tcp(what: &'static str, plan: &TcpPlan) -> Vec<Policy> {
    let mut values: Vec<Policy> =
        shares(&plan.clusters).map(|(text, c)| policies::line(what, text, &c.origin)).collect();
    values.extend(policies::of_tcp(plan));
    values
}

/// `80.0% outbound|…`.
fn shares(clusters: &[WeightedCluster]) -> impl Iterator<Item = (String, &WeightedCluster)> {
    let total: f64 = clusters.iter().map(|c| f64::from(c.weight)).sum();
    clusters.iter().map(move |c| (format!("{:.1}% {}", f64::from(c.weight) * 100.0 / total.max(1.0), c.cluster), c))
}

fn virtual_host(sources: &Sources<'_>, listener: &str, host: &VirtualHostPlan, items: &mut Vec<Item>) {
    let values = vec![policies::line("domains", host.domains.join(", "), &host.origin)];
    items.push(Item { section: "virtualHost", name: format!("{} on {listener}", host.name), values });
    for r in &host.routes {
        items.push(Item { section: "route", name: format!("{} of {}", r.name, host.name), values: route(sources, r) });
    }
}

fn route(sources: &Sources<'_>, r: &RoutePlan) -> Vec<Policy> {
    let mut values = vec![policies::line("match", super::miss::words_of(&r.matches), &r.origin)];
    match &r.action {
        Action::Forward(clusters) => {
            values.extend(shares(clusters).map(|(text, c)| policies::line("to", text, &c.origin)));
            values.push(Policy { what: "timeout", decided: words::timeout(r) });
            values.push(Policy { what: "retries", decided: words::retries(r) });
        }
        Action::Redirect(plan) => {
            values.push(policies::line("redirect", format!("{} {}", plan.code.as_u16(), redirect(plan)), &r.origin));
        }
        Action::Direct(plan) => {
            let body = String::from_utf8_lossy(&plan.body);
            values.push(policies::line("answer", format!("{} {body:?}", plan.status.as_u16()), &r.origin));
        }
    }
    values.extend(words::static_changes(r).into_iter().map(|c| policies::line("change", c, &r.origin)));
    values.extend(policies::of_route(r));
    values.extend(sources.route(r.headers));
    values
}

fn redirect(plan: &crate::snapshot::RedirectPlan) -> String {
    use crate::snapshot::RedirectPath;
    let scheme = plan.scheme.as_ref().map(|s| format!("scheme {s}"));
    let host = plan.authority.as_ref().map(|a| format!("host {a}"));
    let port = plan.port.map(|p| format!("port {p}"));
    let path = plan.path.as_ref().map(|p| match p {
        RedirectPath::Full(p) => format!("path {p}"),
        RedirectPath::Prefix(_, p) => format!("prefix {p}"),
    });
    [scheme, host, port, path].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

impl fmt::Display for EffectiveConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}, configuration {}", self.kind, self.proxy, self.explain_config_hash)?;
        if let Some(note) = &self.note {
            writeln!(f, "({note})")?;
        }
        for item in &self.items {
            let gap = if item.name.is_empty() { "" } else { " " };
            writeln!(f, "{}{gap}{}", item.section, item.name)?;
            let width = item.values.iter().map(|v| v.what.len()).max().unwrap_or(0);
            for Policy { what, decided } in &item.values {
                writeln!(f, "  {what:<width$}  {decided}")?;
            }
        }
        Ok(())
    }
}

/// A setting of the mesh, or its default.
pub(super) fn setting(world: &World, what: &'static str, field: &str, value: impl Into<String>) -> Policy {
    let from = Provenance::setting(world.mesh(), field, "default");
    Policy { what, decided: Decided::new(value, &from) }
}

#[cfg(test)]
mod tests;
