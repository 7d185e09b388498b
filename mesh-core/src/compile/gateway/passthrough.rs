//! TLS that goes on as it is, by its server name.

use std::sync::Arc;

use super::Serving;
use super::routes::bound;
use crate::compile::account::fate;
use crate::compile::virtual_host::{Client, plain};
use crate::compile::{Notes, Run, cluster, l4};
use crate::matching::HostPattern;
use crate::model::{AppProtocol, Location, Route};
use crate::report::Outcome;
use crate::snapshot::{L4Rule, Provenance};

/// Protocols by which sidecars know each other; only such connections may name their cluster.
const ISTIO_ALPN: [&str; 5] = ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];

/// One rule for each match of a TLS rule that is bound to the server. A server name that an earlier rule of the port has
/// is that rule's.
pub(super) fn rules(run: &mut Run<'_>, serving: &Serving<'_>, out: &mut Vec<L4Rule>) {
    let client = Client { gateways: vec![serving.name.clone()], ..Client::clone(&run.client) };
    let mut routes: Vec<Arc<Route>> = Vec::new();
    for (_, route) in bound(run, serving) {
        if !routes.iter().any(|r| Arc::ptr_eq(r, route)) {
            routes.push(route.clone());
        }
    }
    let hosts = serving.sni();
    let mut notes = Notes::default();
    for route in &routes {
        let destinations = run.destinations(&[route]);
        for rule in &route.tls {
            for m in &rule.matches {
                if let Some(why) = client.misses(&m.only, serving.number) {
                    notes.fates.extend(fate(&m.origin, Outcome::Inert { because: why.into() }));
                    continue;
                }
                let taken = |p: &HostPattern| {
                    let same = |r: &L4Rule| r.sni.contains(p) && r.destination_subnets == m.destination_subnets;
                    out.iter().any(same)
                };
                let served = |p: &&HostPattern| hosts.iter().any(|h| h.overlaps(p));
                let sni: Vec<HostPattern> = m.sni.iter().filter(served).filter(|p| !taken(p)).cloned().collect();
                if sni.is_empty() {
                    let because = "its server names are not those of the server, or an earlier rule has them".into();
                    notes.fates.extend(fate(&m.origin, Outcome::Inert { because }));
                    continue;
                }
                run.use_route(route);
                notes.fates.extend(fate(&rule.origin, Outcome::Consumed));
                notes.fates.extend(fate(&m.origin, Outcome::Consumed));
                let plan = l4::plan_route(rule, &destinations, serving.number, &m.origin);
                let destination_subnets = m.destination_subnets.clone();
                out.push(L4Rule { sni, alpn: Vec::new(), destination_subnets, plan });
            }
        }
        let because: Arc<str> = "a server that passes TLS on uses tls rules".into();
        for other in &route.tcp {
            notes.fates.extend(fate(&other.origin, Outcome::Inert { because: because.clone() }));
        }
    }
    run.parts.push(Arc::new(notes));
}

/// `outbound_.PORT_.SUBSET_.HOST` leads to that cluster, for every service of the mesh that a host of the server covers.
pub(super) fn automatic(run: &mut Run<'_>, serving: &Serving<'_>, out: &mut Vec<L4Rule>) {
    let hosts = serving.sni();
    let world = run.world;
    for service in world.services().iter().filter(|s| s.location == Location::Internal) {
        let host = HostPattern::parse(&service.hostname);
        if service.external_name.is_some() || !hosts.iter().any(|h| host.subset_of(h)) {
            continue;
        }
        run.destination(&service.hostname);
        let mut subsets: Vec<&str> = vec![""];
        for rule in world.destination_rules_of(&host) {
            subsets.extend(rule.spec.subsets.iter().map(|s| s.name.as_str()));
        }
        subsets.sort_unstable();
        subsets.dedup();
        for port in service.ports.iter().filter(|p| p.protocol != AppProtocol::Udp) {
            for subset in &subsets {
                let origin = Provenance::field(&service.key, &service.origin, "spec.ports");
                // The client has begun TLS with the endpoint: another one around it would hide who it is.
                let name = run.as_it_comes(cluster::name(port.number, subset, &service.hostname));
                let target = plain(name.clone(), origin);
                let sni = vec![HostPattern::Exact(name.to_ascii_lowercase().into())];
                let alpn = ISTIO_ALPN.map(Into::into).to_vec();
                let plan = l4::plan_tcp("", vec![target], serving.origin());
                out.push(L4Rule { sni, alpn, destination_subnets: Vec::new(), plan });
            }
        }
    }
}
