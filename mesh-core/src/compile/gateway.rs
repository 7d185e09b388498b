//! Listeners of a gateway: Gateway servers, merged by port, and the routes bound to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Run;
use super::account::Ledger;
use super::cluster::{BLACK_HOLE, special};
use super::table::HttpDefaults;
use super::virtual_host::{Client, Fallback, VirtualHostInput};
use super::visible::exported_to;
use crate::api::{Gateway, Object, Port, Server, ServerTlsSettings};
use crate::matching::HostPattern;
use crate::model::{AppProtocol, Route};
use crate::report::Level;
use crate::snapshot::{
    Direction, EndpointSource, HttpPlan, ListenerKey, Provenance, TcpPlan, UpstreamProtocol, VirtualHostPlan,
};
use crate::world::covers;

/// A server that this proxy serves.
#[derive(Clone)]
struct Serving<'a> {
    gateway: &'a Arc<Object<Gateway>>,
    index: usize,
    /// Port as written; routes are for it.
    number: u16,
    /// `namespace/name` of the Gateway.
    name: Arc<str>,
    http: bool,
    redirect: bool,
}

impl Serving<'_> {
    fn server(&self) -> &Server {
        &self.gateway.spec.servers[self.index]
    }

    fn field(&self) -> String {
        format!("spec.servers[{}]", self.index)
    }

    fn origin(&self) -> Provenance {
        Provenance::field(&self.gateway.key, &self.gateway.origin, &self.field())
    }
}

pub(super) fn compile(run: &mut Run<'_>) {
    let defaults = run.cluster_defaults.clone();
    let none = Provenance::default("a destination without instances");
    let black_hole = special(BLACK_HOLE, EndpointSource::BlackHole, UpstreamProtocol::Client, none, &defaults);
    run.clusters.insert(BLACK_HOLE.into(), black_hole);
    for (port, servers) in servers(run) {
        let http = servers.iter().any(|s| s.http);
        let key = ListenerKey { direction: Direction::Gateway, address: None, port };
        let origin = servers[0].origin();
        let name = format!("0.0.0.0_{port}");
        if http {
            let plan = http_plan(run, &servers);
            run.plain_listener(&name, key, (Some(plan), false), None, origin);
        } else if let Some(tcp) = tcp_plan(run, &servers[0]) {
            run.plain_listener(&name, key, (None, false), Some(tcp), origin);
        }
    }
}

/// Servers of the Gateways that select this workload, by the port to listen on; oldest first.
fn servers<'a>(run: &mut Run<'a>) -> BTreeMap<u16, Vec<Serving<'a>>> {
    let mut out: BTreeMap<u16, Vec<Serving<'a>>> = BTreeMap::new();
    for gateway in run.world.gateways().iter() {
        let mut ledger = Ledger::new(gateway);
        let Gateway { servers, selector } = &gateway.spec;
        if !covers(selector, &run.client.labels) {
            ledger.inert("spec", "its selector does not pick this gateway workload");
            run.parts.push(Arc::new(ledger.notes));
            continue;
        }
        ledger.take_map("spec", "selector", selector);
        for (index, server) in servers.iter().enumerate() {
            let Some(serving) = read(&mut ledger, gateway, index, server) else { continue };
            let listen = listen_port(run, serving.number);
            let others = out.entry(listen).or_default();
            match others.first().filter(|o| !(o.http && serving.http)) {
                Some(other) => {
                    let by = format!("{} {} on the same port", other.gateway.key, other.field());
                    ledger.overridden(&serving.field(), &by);
                    let why = format!("port {listen} is taken by {by}; this server is not opened");
                    ledger.report("IST0132", "ConflictingGateways", Level::Warning, &serving.field(), why);
                }
                None => others.push(serving),
            }
        }
        run.parts.push(Arc::new(ledger.notes));
    }
    out.retain(|_, servers| !servers.is_empty());
    out
}

/// Reads a server's fields; `None` if it has no listener (yet).
fn read<'a>(
    ledger: &mut Ledger<'_>,
    gateway: &'a Arc<Object<Gateway>>,
    index: usize,
    server: &Server,
) -> Option<Serving<'a>> {
    let at = format!("spec.servers[{index}]");
    let Server { port, bind, hosts, tls, default_endpoint, name } = server;
    let Port { number, protocol, name: port_name, target_port } = port.as_ref()?;
    ledger.later(&at, "bind", bind);
    ledger.later(&at, "name", name);
    ledger.without_effect(&at, "defaultEndpoint", default_endpoint, "Istio does not implement it");
    let inner = format!("{at}.port");
    ledger.without_effect(&inner, "name", port_name, "it only names the port");
    ledger.without_effect(&inner, "targetPort", target_port, "the port of the gateway's Service decides");
    let http = match protocol.to_ascii_uppercase().as_str() {
        "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" => true,
        "TCP" | "MONGO" | "REDIS" | "MYSQL" => false,
        _ => {
            ledger.notes.fates.push(crate::report::Fate {
                object: gateway.key.clone(),
                field: at.as_str().into(),
                outcome: crate::report::Outcome::NotInForceYet,
            });
            let why = format!("servers of protocol {protocol} are not in force yet: port {number} is not opened");
            ledger.report("MESH0002", "NotInForceYet", Level::Warning, &at, why);
            return None;
        }
    };
    ledger.consumed(&at);
    ledger.take(&inner, "number", number);
    ledger.take(&inner, "protocol", protocol);
    ledger.take_list(&at, "hosts", hosts);
    let redirect = tls.as_ref().is_some_and(|t| t.https_redirect) && http;
    if let Some(tls) = tls {
        account_plain_tls(ledger, &format!("{at}.tls"), tls, http);
    }
    let name = format!("{}/{}", gateway.key.namespace, gateway.key.name).into();
    Some(Serving { gateway, index, number: u16::try_from(*number).ok()?, name, http, redirect })
}

/// `tls` of a server that is not TLS: only `httpsRedirect` means something.
fn account_plain_tls(ledger: &mut Ledger<'_>, at: &str, tls: &ServerTlsSettings, http: bool) {
    let why = "the server's protocol is not TLS";
    match http {
        true => ledger.take(at, "httpsRedirect", &tls.https_redirect),
        false => {
            ledger.without_effect(at, "httpsRedirect", &tls.https_redirect, why);
            &tls.https_redirect
        }
    };
    let rest = ServerTlsSettings { https_redirect: false, ..tls.clone() };
    if rest == ServerTlsSettings::default() {
        return;
    }
    let value = serde_json::to_value(&rest).unwrap_or_default();
    for field in value.as_object().into_iter().flat_map(serde_json::Map::keys) {
        ledger.inert(&format!("{at}.{field}"), why);
    }
}

/// The port to listen on: `targetPort` of the gateway's Service for that port, else the port itself.
fn listen_port(run: &Run<'_>, number: u16) -> u16 {
    let Some(workload) = run.workload else { return number };
    let services = run.world.services().iter().filter(|s| s.selects(workload));
    let mut ports = services.flat_map(|s| &s.ports).filter(|p| p.number == number && p.protocol != AppProtocol::Udp);
    ports.find_map(|p| super::inbound::target_port(p, workload)).unwrap_or(number)
}

/// Routes of a server: for each of its hosts, those bound to its Gateway. The narrower of two names that overlap is
/// the domain.
fn bound<'r>(run: &'r Run<'_>, serving: &Serving<'_>) -> Vec<(HostPattern, &'r Arc<Route>)> {
    let default = &run.world.mesh().spec.default_virtual_service_export_to;
    let usable = |r: &&Arc<Route>| {
        r.gateways.contains(&serving.name) && exported_to(&r.export_to, default, &r.key.namespace, &run.id.namespace)
    };
    let mut out = Vec::new();
    for route in run.routes.iter().filter(usable) {
        for (namespace, host) in server_hosts(serving) {
            if namespace.is_some_and(|ns| *ns != *route.key.namespace) {
                continue;
            }
            for own in &route.hosts {
                let domain = match (own.subset_of(&host), host.subset_of(own)) {
                    (true, _) => own.clone(),
                    (false, true) => host.clone(),
                    (false, false) => continue,
                };
                if !out.iter().any(|(d, r): &(HostPattern, &Arc<Route>)| *d == domain && Arc::ptr_eq(r, route)) {
                    out.push((domain, route));
                }
            }
        }
    }
    out
}

/// `[namespace/]host` of a server; `.` is the Gateway's own namespace.
fn server_hosts<'s>(serving: &'s Serving<'_>) -> impl Iterator<Item = (Option<&'s str>, HostPattern)> {
    serving.server().hosts.iter().map(|h| match h.split_once('/') {
        None | Some(("*", _)) => (None, HostPattern::parse(h.rsplit('/').next().unwrap_or(h))),
        Some((".", host)) => (Some(&*serving.gateway.key.namespace), HostPattern::parse(host)),
        Some((ns, host)) => (Some(ns), HostPattern::parse(host)),
    })
}

fn http_plan(run: &mut Run<'_>, servers: &[Serving<'_>]) -> Arc<HttpPlan> {
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
    let mut hosts = Vec::new();
    for (host, (routes, redirect, origin)) in by_host {
        hosts.extend(virtual_host(run, (&host, number), &routes, redirect, &client, origin));
    }
    let table = run.table(&format!("http.{number}"), &hosts);
    let mesh = run.world.mesh();
    HttpDefaults {
        server: super::mesh::server_header(mesh, "istio-envoy"),
        use_remote_address: true,
        trusted_hops: super::mesh::trusted_hops(mesh),
        path_normalization: super::mesh::path_normalization(mesh),
    }
    .with(table)
}

/// Routes of several objects for one host are put together, oldest object first, those that take everything last.
fn virtual_host(
    run: &mut Run<'_>,
    (host, port): (&HostPattern, u16),
    routes: &[Arc<Route>],
    redirect: bool,
    client: &Client,
    origin: Provenance,
) -> Option<Arc<VirtualHostPlan>> {
    let routes: Vec<&Arc<Route>> = routes.iter().collect();
    let destinations = run.destinations(&routes);
    let defaults = run.route_defaults.clone();
    let limits = run.rate_limits.of_routes(&routes, true);
    let input = VirtualHostInput {
        name: format!("{host}:{port}").into(),
        domains: vec![host.to_string().into()],
        port,
        client,
        client_hash: client.hash(),
        routes,
        catch_all_last: true,
        destinations,
        fallback: if redirect { Fallback::Https } else { Fallback::Nothing },
        limits,
        defaults: &defaults,
        origin,
    };
    let plan = run.virtual_host(&input);
    for route in &input.routes {
        run.use_route(route);
    }
    (!plan.routes.is_empty()).then_some(plan)
}

/// A TCP server leads where the first TCP rule for its port says; without one it is not opened.
fn tcp_plan(run: &mut Run<'_>, serving: &Serving<'_>) -> Option<Arc<TcpPlan>> {
    let client = Client { gateways: vec![serving.name.clone()], ..Client::clone(&run.client) };
    let applies = |r: &crate::model::L4Route| {
        r.matches.is_empty() || r.matches.iter().any(|m| client.misses(&m.only, serving.number).is_none())
    };
    let found = bound(run, serving).into_iter().find_map(|(_, r)| Some((r.clone(), r.tcp.iter().position(applies)?)));
    let (route, index) = found?;
    let destinations = run.destinations(&[&route]);
    run.use_route(&route);
    let rule = &route.tcp[index];
    let mut notes = super::Notes::default();
    let consumed = std::iter::once(&rule.origin).chain(rule.matches.iter().map(|m| &m.origin));
    notes.fates.extend(consumed.filter_map(|o| super::account::fate(o, crate::report::Outcome::Consumed)));
    for other in route.tcp.iter().enumerate().filter(|(i, _)| *i != index).map(|(_, r)| r) {
        let because = "a TCP server uses the first rule that fits".into();
        notes.fates.extend(super::account::fate(&other.origin, crate::report::Outcome::Inert { because }));
    }
    run.parts.push(Arc::new(notes));
    Some(super::l4::plan_route(rule, &destinations, serving.number, &rule.origin))
}

#[cfg(test)]
mod tests;
