//! Routes bound to a server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Serving;
use crate::api::ContentHash;
use crate::compile::Run;
use crate::compile::table::HttpDefaults;
use crate::compile::virtual_host::{Client, Fallback, VirtualHostInput, Written};
use crate::compile::visible::exported_to;
use crate::matching::HostPattern;
use crate::model::Route;
use crate::snapshot::{HttpPlan, Provenance, TcpPlan, VirtualHostPlan};

/// Routes of a server: for each of its hosts, those bound to its Gateway. The narrower of two names that overlap is
/// the domain.
pub(super) fn bound<'r>(run: &'r Run<'_>, serving: &Serving<'_>) -> Vec<(HostPattern, &'r Arc<Route>)> {
    let default = &run.world.mesh().spec.default_virtual_service_export_to;
    let usable = |r: &&Arc<Route>| {
        r.gateways.contains(&serving.name) && exported_to(&r.export_to, default, &r.key.namespace, &run.id.namespace)
    };
    let hosts: Vec<_> = server_hosts(serving).collect();
    let mut out: Vec<(HostPattern, &Arc<Route>)> = Vec::new();
    for route in run.routes.iter().map(|(_, one)| &one.route).filter(usable) {
        let own = out.len();
        for (namespace, host) in &hosts {
            if namespace.is_some_and(|ns| *ns != *route.key.namespace) {
                continue;
            }
            for name in &route.hosts {
                let domain = match (name.subset_of(host), host.subset_of(name)) {
                    (true, _) => name.clone(),
                    (false, true) => host.clone(),
                    (false, false) => continue,
                };
                if !out[own..].iter().any(|(d, _)| *d == domain) {
                    out.push((domain, route));
                }
            }
        }
    }
    out
}

/// `[namespace/]host` of a server; `.` is the Gateway's own namespace.
pub(super) fn server_hosts<'s>(serving: &'s Serving<'_>) -> impl Iterator<Item = (Option<&'s str>, HostPattern)> {
    serving.server().hosts.iter().map(|h| match h.split_once('/') {
        None | Some(("*", _)) => (None, HostPattern::parse(h.rsplit('/').next().unwrap_or(h))),
        Some((".", host)) => (Some(&*serving.gateway.key.namespace), HostPattern::parse(host)),
        Some((ns, host)) => (Some(ns), HostPattern::parse(host)),
    })
}

/// Hosts of the other servers of a port.
#[derive(Default)]
pub(super) struct Others {
    /// All of them: a client that reuses a connection may ask this server for one.
    pub(super) elsewhere: Vec<HostPattern>,
    /// Those whose clients have to show certificates that this server does not ask for. Whoever has connected here is not
    /// let in there, also if this server's hosts cover them.
    pub(super) guarded: Vec<HostPattern>,
}

/// The routes of servers that share one table.
pub(super) fn http_plan(run: &mut Run<'_>, servers: &[Serving<'_>], name: &str, others: &Others) -> Arc<HttpPlan> {
    let number = servers[0].number;
    let names: BTreeSet<Arc<str>> = servers.iter().map(|s| s.name.clone()).collect();
    let client = Client { gateways: names.into_iter().collect(), ..Client::clone(&run.client) };
    let mut by_host: BTreeMap<HostPattern, (Vec<Arc<Route>>, bool, Provenance)> = BTreeMap::new();
    for serving in servers {
        for (host, route) in bound(run, serving) {
            let (routes, redirect, _) = by_host.entry(host).or_insert_with(|| (Vec::new(), false, serving.origin()));
            *redirect |= serving.redirect;
            if !routes.iter().any(|r| Arc::ptr_eq(r, route)) {
                routes.push(route.clone());
            }
        }
        // Redirects to https need no route.
        for (_, host) in server_hosts(serving).filter(|_| serving.redirect) {
            by_host.entry(host).or_insert_with(|| (Vec::new(), true, serving.origin())).1 = true;
        }
    }
    let Others { elsewhere, guarded } = others;
    by_host.retain(|host, _| !guarded.iter().any(|g| host.subset_of(g)));
    let mut hosts: Vec<_> = guarded.iter().map(|host| nothing(host, number, servers[0].origin())).collect();
    let client_hash = client.hash();
    for (host, (routes, redirect, origin)) in by_host {
        hosts.extend(virtual_host(run, (&host, number), &routes, redirect, (&client, client_hash), origin));
    }
    let table = run.table(name, hosts.into_iter().map(Into::into).collect());
    let mesh = run.world.mesh();
    HttpDefaults {
        server: crate::compile::mesh::server_header(&run.config, "istio-envoy"),
        use_remote_address: true,
        trusted_hops: crate::compile::mesh::trusted_hops(&run.config),
        path_normalization: crate::compile::mesh::path_normalization(mesh, &run.config),
        settings: crate::compile::mesh::http_settings(&run.config, crate::snapshot::Direction::Gateway),
    }
    .misdirecting(table, elsewhere)
}

/// A host without routes: it hides those of wider names.
fn nothing(host: &HostPattern, port: u16, origin: Provenance) -> Arc<VirtualHostPlan> {
    let name: Arc<str> = format!("{host}:{port}").into();
    let hash = ContentHash::of(name.as_bytes()).with_str("nothing");
    Arc::new(VirtualHostPlan {
        name,
        domains: [host.to_string().into()].into(),
        routes: Vec::new(),
        paths: None,
        origin,
        hash,
    })
}

/// Routes of several objects for one host are put together, oldest object first, those that take everything last.
fn virtual_host(
    run: &mut Run<'_>,
    (host, port): (&HostPattern, u16),
    routes: &[Arc<Route>],
    redirect: bool,
    (client, client_hash): (&Client, ContentHash),
    origin: Provenance,
) -> Option<Arc<VirtualHostPlan>> {
    let routes: Vec<&Arc<Route>> = routes.iter().collect();
    let destinations = run.destinations(&routes);
    let defaults = run.route_defaults.clone();
    let limits = run.rate_limits.of_routes(&routes, true);
    let input = VirtualHostInput {
        name: format!("{host}:{port}").into(),
        domains: [host.to_string().into()].into(),
        port,
        client,
        client_hash,
        routes,
        catch_all_last: true,
        destinations,
        fallback: if redirect { Fallback::Https } else { Fallback::Nothing },
        limits,
        defaults: &defaults,
        origin: Written::At(origin),
    };
    let plan = run.virtual_host(&input);
    for route in &input.routes {
        run.use_route(route);
    }
    (!plan.routes.is_empty()).then_some(plan)
}

/// A TCP server leads where the first TCP rule for its port says; without one it is not opened.
pub(super) fn tcp_plan(run: &mut Run<'_>, serving: &Serving<'_>) -> Option<Arc<TcpPlan>> {
    let client = Client { gateways: vec![serving.name.clone()], ..Client::clone(&run.client) };
    let applies = |r: &crate::model::L4Route| {
        r.matches.is_empty() || r.matches.iter().any(|m| client.misses(&m.only, serving.number).is_none())
    };
    let found = bound(run, serving).into_iter().find_map(|(_, r)| Some((r.clone(), r.tcp.iter().position(applies)?)));
    let (route, index) = found?;
    let destinations = run.destinations(&[&route]);
    run.use_route(&route);
    let rule = &route.tcp[index];
    let mut notes = crate::compile::Notes::default();
    let consumed = std::iter::once(&rule.origin).chain(rule.matches.iter().map(|m| &m.origin));
    notes.fates.extend(consumed.filter_map(|o| crate::compile::account::fate(o, crate::report::Outcome::Consumed)));
    for other in route.tcp.iter().enumerate().filter(|(i, _)| *i != index).map(|(_, r)| r) {
        let because = "a TCP server uses the first rule that fits".into();
        notes.fates.extend(crate::compile::account::fate(&other.origin, crate::report::Outcome::Inert { because }));
    }
    run.parts.push(Arc::new(notes));
    Some(crate::compile::l4::plan_route(rule, &destinations, serving.number, &rule.origin))
}
