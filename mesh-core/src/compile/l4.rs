//! One outbound listener: HTTP routes, and rules for TLS and TCP.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::account::fate;
use super::memo::{Notes, Planned, hash_debug};
use super::virtual_host::{Client, Destination, hash_weighted, plain, weighted};
use crate::api::ContentHash;
use crate::matching::{Cidr, HostPattern};
use crate::model::{AppProtocol, L4Match, L4Route, Route, Service, ServicePort};
use crate::report::{Fate, Outcome};
use crate::snapshot::{
    HttpPlan, L4Rule, ListenerKey, ListenerPlan, MeshTls, Provenance, TcpPlan, TlsServer, TlsThen, WeightedCluster,
};

/// A service port that a listener leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) service: &'a Arc<Service>,
    pub(super) port: &'a ServicePort,
    /// Protocol of the listener: the port's, unless a Sidecar says another.
    pub(super) protocol: AppProtocol,
}

impl Target<'_> {
    fn tls(&self) -> bool {
        matches!(self.protocol, AppProtocol::Tls | AppProtocol::Https)
    }
}

/// Everything that an outbound listener depends on.
pub(super) struct L4Input<'a> {
    pub(super) key: ListenerKey,
    pub(super) http: Option<Arc<HttpPlan>>,
    pub(super) targets: &'a [Target<'a>],
    /// Routes with TLS or TCP rules for a host of a target.
    pub(super) routes: Vec<&'a Arc<Route>>,
    pub(super) client: &'a Client,
    pub(super) client_hash: ContentHash,
    pub(super) destinations: BTreeMap<Arc<str>, Destination>,
    pub(super) fallback: Option<&'a Arc<TcpPlan>>,
}

impl L4Input<'_> {
    pub(super) fn hash(&self) -> ContentHash {
        let mut h = hash_debug(&self.key).with(self.client_hash);
        if let Some(http) = &self.http {
            // The table is part of the plan by pointer.
            h = h.with(http.hash).with(ContentHash(Arc::as_ptr(&http.routes) as usize as u64));
        }
        for t in self.targets {
            h = h.with(t.service.hash).with_str(&t.service.hostname).with(ContentHash(t.port.number.into()));
            h = h.with(hash_debug(&t.protocol));
        }
        for r in &self.routes {
            h = h.with(r.hash).with_str(&r.key.namespace).with_str(&r.key.name);
        }
        h = h.with(hash_debug(&self.destinations));
        h.with(self.fallback.map_or(ContentHash(0), |f| f.hash))
    }

    /// Whether a rule of a route applies to a target.
    pub(super) fn uses(&self, route: &Route) -> bool {
        self.targets.iter().any(|t| {
            let rules = if t.tls() { &route.tls } else { &route.tcp };
            covers(route, t) && rules.iter().any(|r| self.applies(r))
        })
    }

    fn applies(&self, rule: &L4Route) -> bool {
        rule.matches.is_empty() || rule.matches.iter().any(|m| self.client.misses(&m.only, self.key.port).is_none())
    }
}

fn covers(route: &Route, target: &Target<'_>) -> bool {
    let host = HostPattern::parse(&target.service.hostname);
    route.hosts.iter().any(|h| h.overlaps(&host))
}

pub(super) fn plan_listener(input: &L4Input<'_>) -> Planned<Arc<ListenerPlan>> {
    let mut notes = Notes::default();
    let mut l4: Vec<L4Rule> = Vec::new();
    for target in input.targets {
        let rules = match target.tls() {
            true => tls_rules(input, target, &mut notes.fates),
            false => tcp_rules(input, target, &mut notes.fates),
        };
        // Several targets of one address: of the same condition the first (oldest) service's wins.
        for rule in rules {
            if !l4.iter().any(|r| r.sni == rule.sni && r.destination_subnets == rule.destination_subnets) {
                l4.push(rule);
            }
        }
    }
    l4.sort_by_key(specificity);
    let ListenerKey { address, port, .. } = input.key;
    let name = match address {
        Some(ip) => format!("{ip}_{port}"),
        None => format!("0.0.0.0_{port}"),
    };
    let origin = input.targets.first().map(|t| Provenance::field(&t.service.key, &t.service.origin, "spec.ports"));
    let detect = input.http.is_some() || l4.iter().any(|r| !r.sni.is_empty());
    let plan = with_hash(ListenerPlan {
        mesh: None,
        name: name.into(),
        key: input.key,
        detect,
        http: input.http.clone(),
        tls: Vec::new(),
        l4,
        fallback: input.fallback.cloned(),
        origin: origin.unwrap_or_else(|| Provenance::default("HTTP services of one port share a listener")),
        hash: ContentHash::default(),
    });
    Planned::new(Arc::new(plan), notes)
}

/// Narrow networks before wide ones, names before wildcards before none.
pub(super) fn specificity(rule: &L4Rule) -> (u8, usize) {
    let network = rule.destination_subnets.iter().map(|c| c.length).min().map_or(u8::MAX, |l| 128 - l.min(128));
    let name = |p: &HostPattern| match p {
        HostPattern::Exact(_) => 0,
        HostPattern::Suffix(s) => 1000 - s.len().min(900),
        HostPattern::Any => 1000,
    };
    (network, rule.sni.iter().map(name).max().unwrap_or(usize::MAX))
}

fn own_cluster(target: &Target<'_>) -> WeightedCluster {
    let origin = Provenance::field(&target.service.key, &target.service.origin, "spec.ports");
    plain(super::cluster::name(target.port.number, "", &target.service.hostname), origin)
}

/// TLS rules of the routes; without any that applies, the service itself, by its name where the address does not say
/// which service is meant.
fn tls_rules(input: &L4Input<'_>, target: &Target<'_>, fates: &mut Vec<Fate>) -> Vec<L4Rule> {
    let mut out: Vec<L4Rule> = Vec::new();
    for route in input.routes.iter().filter(|r| covers(r, target)) {
        for rule in &route.tls {
            for m in &rule.matches {
                if let Some(plan) = matched(input, rule, Some(m), fates) {
                    let destination_subnets = or_networks(input, target, m.destination_subnets.clone());
                    out.push(L4Rule { sni: m.sni.clone(), alpn: Vec::new(), destination_subnets, plan });
                }
            }
        }
        note_unused(&route.tcp, "its service's port carries TLS, which tcp rules don't apply to", fates);
    }
    if out.is_empty() {
        let own = own_cluster(target);
        let origin = own.origin.clone();
        let plan = plan_tcp("", vec![own], origin);
        let destination_subnets = or_networks(input, target, Vec::new());
        if input.key.address.is_none() || input.targets.len() > 1 {
            let sni = vec![HostPattern::parse(&target.service.hostname)];
            out.push(L4Rule { sni, alpn: Vec::new(), destination_subnets, plan: plan.clone() });
        }
        if input.key.address.is_some() {
            out.push(L4Rule { sni: Vec::new(), alpn: Vec::new(), destination_subnets: Vec::new(), plan });
        }
    }
    out
}

/// TCP rules of the routes up to the first that takes every connection; else the service itself at the end.
fn tcp_rules(input: &L4Input<'_>, target: &Target<'_>, fates: &mut Vec<Fate>) -> Vec<L4Rule> {
    let mut out: Vec<L4Rule> = Vec::new();
    let mut done: Option<Provenance> = None;
    for route in input.routes.iter().filter(|r| covers(r, target)) {
        for rule in &route.tcp {
            let alternatives = rule.matches.iter().map(Some).chain(rule.matches.is_empty().then_some(None));
            for m in alternatives {
                let at = m.map_or(&rule.origin, |m| &m.origin);
                if let Some(by) = &done {
                    let by = by.object.as_ref().map_or(String::new(), |k| format!("{k} {}", by.field)).into();
                    fates.extend(fate(at, Outcome::Overridden { by }));
                    continue;
                }
                let Some(plan) = matched(input, rule, m, fates) else { continue };
                let destination_subnets: Vec<Cidr> = m.map(|m| m.destination_subnets.clone()).unwrap_or_default();
                if destination_subnets.is_empty() {
                    done = Some(at.clone());
                }
                let destination_subnets = or_networks(input, target, destination_subnets);
                out.push(L4Rule { sni: Vec::new(), alpn: Vec::new(), destination_subnets, plan });
            }
        }
        note_unused(&route.tls, "its service's port does not carry TLS, which tls rules are for", fates);
    }
    if done.is_none() {
        let own = own_cluster(target);
        let origin = own.origin.clone();
        let plan = plan_tcp("", vec![own], origin);
        out.push(L4Rule {
            sni: Vec::new(),
            alpn: Vec::new(),
            destination_subnets: or_networks(input, target, Vec::new()),
            plan,
        });
    }
    out
}

/// A rule that says nothing about networks is for those of the service, where the listener's address does not say which
/// service is meant.
fn or_networks(input: &L4Input<'_>, target: &Target<'_>, own: Vec<Cidr>) -> Vec<Cidr> {
    if own.is_empty() && input.key.address.is_none() { target.service.networks.to_vec() } else { own }
}

fn note_unused(rules: &[L4Route], because: &str, fates: &mut Vec<Fate>) {
    for rule in rules {
        fates.extend(fate(&rule.origin, Outcome::Inert { because: because.into() }));
    }
}

/// The plan of a rule for one of its matches, if that holds for this client and port.
fn matched(input: &L4Input<'_>, rule: &L4Route, m: Option<&L4Match>, fates: &mut Vec<Fate>) -> Option<Arc<TcpPlan>> {
    if let Some((m, why)) = m.and_then(|m| Some((m, input.client.misses(&m.only, input.key.port)?))) {
        fates.extend(fate(&m.origin, Outcome::Inert { because: why.into() }));
        return None;
    }
    fates.extend(fate(&rule.origin, Outcome::Consumed));
    fates.extend(m.and_then(|m| fate(&m.origin, Outcome::Consumed)));
    Some(plan_route(rule, &input.destinations, input.key.port, m.map_or(&rule.origin, |m| &m.origin)))
}

/// Where an L4 rule leads.
pub(super) fn plan_route(
    rule: &L4Route,
    destinations: &BTreeMap<Arc<str>, Destination>,
    port: u16,
    origin: &Provenance,
) -> Arc<TcpPlan> {
    let backends = rule.backends.iter().filter(|b| b.weight > 0);
    let clusters = backends.map(|b| weighted(b, destinations.get(&b.host), port)).collect();
    plan_tcp("", clusters, origin.clone())
}

pub(super) fn plan_tcp(route_name: &str, clusters: Vec<WeightedCluster>, origin: Provenance) -> Arc<TcpPlan> {
    let hash = hash_debug(&route_name).with(origin.hash());
    let hash = clusters.iter().fold(hash, |h, c| h.with(hash_weighted(c)));
    Arc::new(TcpPlan { route_name: route_name.into(), clusters, origin, hash })
}

/// Hash over all of a listener, and of which object and field each part is. It names the configuration to everybody, so no pointer takes
/// part: two proxies of one configuration say the same.
pub(super) fn with_hash(mut plan: ListenerPlan) -> ListenerPlan {
    let ListenerPlan { name, key, detect, http, mesh, tls, l4, fallback, origin, hash: _ } = &plan;
    let mut hash = hash_debug(&(name, key, detect)).with(origin.hash());
    hash = hash.with(http.as_ref().map_or(ContentHash(0), |h| h.hash));
    if let Some(MeshTls { mode, tls, origin }) = mesh {
        hash = hash.with(hash_debug(mode)).with(tls.hash).with(origin.hash());
    }
    for TlsServer { name, sni, tls, then, origin } in tls {
        hash = hash.with(hash_debug(&(name, sni))).with(tls.hash).with(origin.hash());
        hash = hash.with(match then {
            TlsThen::Http(http) => http.hash,
            TlsThen::Tcp(tcp) => tcp.hash,
        });
    }
    for L4Rule { sni, alpn, destination_subnets, plan } in l4 {
        hash = hash.with(hash_debug(&(sni, alpn, destination_subnets))).with(plan.hash);
    }
    plan.hash = hash.with(fallback.as_ref().map_or(ContentHash(0), |f| f.hash));
    plan
}

#[cfg(test)]
mod tests;
