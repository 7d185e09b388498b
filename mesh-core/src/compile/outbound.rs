//! Listeners for traffic from the own application.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use foldhash::fast::RandomState;

mod hosts;

use super::Run;
use super::account::Ledger;
use super::cluster::{BLACK_HOLE, DYNAMIC_DNS, PASSTHROUGH, special, with_hash};
use super::imported::{Entry, Imported, Port, Visible};
use super::l4::{L4Input, Target, plan_listener, plan_tcp};
use super::routes::Routes;
use super::table::{HttpDefaults, Row};
use super::virtual_host::{Fallback, Written, plain};
use super::visible::{self, Egress, exported_to, is_private};
use crate::api::{Object, Sidecar};
use crate::matching::HostPattern;
use crate::model::{AppProtocol, Route};
use crate::snapshot::{
    Bind, BindDoor, ClusterPlan, Direction, EndpointSource, HttpPlan, L4Rule, ListenerKey, ListenerPlan, MeshTls,
    Provenance, RouteTable, Snapshot, TcpPlan, UpstreamProtocol, VirtualHostPlan,
};
use hosts::Hosts;
pub(super) use hosts::PortHosts;

pub(super) fn compile(run: &mut Run<'_>, previous: Option<&Snapshot>) {
    let sidecar = visible::sidecar_for(run.world, &run.id.namespace, run.workload.map(|w| &**w));
    let egress = visible::egress(sidecar.map(|s| &s.spec), &run.id.namespace);
    let unknown = unknown_traffic(run);
    let claimed: HashSet<u16> = egress.iter().filter_map(Egress::captured_port).collect();
    let (mut served, mut doors) = (HashSet::new(), Vec::new());
    let mut all: Vec<Arc<Imported>> = Vec::new();
    for (index, listener) in egress.iter().enumerate() {
        let view = View::new(run, index, listener);
        run.used_services.import(&view.imported);
        all.push(view.imported.clone());
        let wanted = |p: u16| listener.port.as_ref().map_or(!claimed.contains(&p), |(own, _)| *own == p);
        if listener.is_door() {
            doors.push((view, listener));
            continue;
        }
        for (port, services) in view.imported.ports.iter().filter(|(p, _)| wanted(**p)) {
            let declared = listener.port.as_ref().map(|(_, name)| AppProtocol::of_port(Some(name), "", *port));
            port_listeners(run, &view, (*port, services, declared), &unknown);
            run.binds.extend(listener.socket(BindDoor::Outbound).filter(|_| listener.captured_port() == Some(*port)));
            served.insert(*port);
        }
    }
    for (view, listener) in doors {
        // Whatever clients of a door name needs listeners, too.
        for (port, services) in &view.imported.ports {
            if served.insert(*port) {
                port_listeners(run, &view, (*port, services, None), &unknown);
            }
        }
        door(run, &view, listener, sidecar);
    }
    catch_all(run, &unknown);
    super::names::compile(run, &all, previous.map(|p| &*p.names));
}

/// The socket of an egress listener that is a door. Over HTTP clients name where they want to go; bytes go to the first
/// service that has a port for them, as if they had dialled it.
fn door(run: &mut Run<'_>, view: &View, listener: &Egress, sidecar: Option<&Arc<Object<Sidecar>>>) {
    let Some(at) = listener.unix().cloned() else {
        run.binds.extend(listener.socket(BindDoor::HttpProxy));
        return;
    };
    let Some((number, name)) = &listener.port else { return };
    let protocol = AppProtocol::of_port(Some(name), "", *number);
    if protocol.is_http() || listener.is_http_proxy() {
        run.binds.push(Bind { at, door: BindDoor::HttpProxy });
        return;
    }
    let ports = view.imported.ports.iter().filter(|(port, _)| [0, **port].contains(number));
    let entries = ports.flat_map(|(port, all)| all.entries.iter().map(move |e| (*port, e)));
    let stands_for = entries.filter(|(_, e)| !e.protocol.is_http()).map(|(port, e)| {
        let service = &view.imported.services[e.service].service;
        SocketAddr::new(service.addresses.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED.into()), port)
    });
    match (stands_for.into_iter().next(), sidecar) {
        (Some(service), _) => run.binds.push(Bind { at, door: BindDoor::Service(service) }),
        (None, Some(sidecar)) => {
            let mut ledger = Ledger::new(sidecar);
            let why = "no service that it imports has a port for bytes";
            ledger.inert(&format!("spec.egress[{}].bind", view.index), why);
            run.parts.push(Arc::new(ledger.notes));
        }
        (None, None) => {}
    }
}

/// What happens to traffic that no service takes.
struct Unknown {
    /// For HTTP.
    http: Arc<str>,
    tcp: Arc<TcpPlan>,
    allow: bool,
    /// By the name that the client asks for, not by address.
    by_name: bool,
    origin: Provenance,
}

fn unknown_traffic(run: &mut Run<'_>) -> Unknown {
    let policy = super::mesh::outbound_policy(run.world, run.id, run.workload);
    let (allow, origin, proxy) = (policy.allow, policy.origin, policy.proxy);
    let defaults = run.cluster_defaults.clone();
    let default = || Provenance::default("traffic to unknown destinations");
    let outside = match policy.by_name {
        true => EndpointSource::DynamicDns { port: None },
        false => EndpointSource::OriginalDst { port: None },
    };
    for (name, source) in [(PASSTHROUGH, outside), (BLACK_HOLE, EndpointSource::BlackHole)] {
        let cluster = special(name, source, UpstreamProtocol::Client, default(), &defaults);
        run.clusters.insert(cluster.name.clone(), cluster);
    }
    let cluster: Arc<str> = match proxy.filter(|_| allow) {
        Some(d) => {
            let host: Arc<str> = d.host.to_ascii_lowercase().into();
            let destination = run.destination(&host);
            let port = d.port.and_then(|p| u16::try_from(p.number).ok()).or(destination.only_port).unwrap_or(0);
            super::cluster::name(port, &d.subset, &destination.host)
        }
        None if allow => PASSTHROUGH.into(),
        None => BLACK_HOLE.into(),
    };
    let mut http = cluster.clone();
    if policy.by_name && *cluster == *PASSTHROUGH {
        // Bytes are passed on as they are; only HTTP can be put into TLS here.
        let source = EndpointSource::DynamicDns { port: None };
        let bare = special(DYNAMIC_DNS, source, UpstreamProtocol::Client, default(), &defaults);
        let named = with_hash(ClusterPlan { tls: policy.tls, ..ClusterPlan::clone(&bare) });
        http = named.name.clone();
        run.clusters.insert(http.clone(), Arc::new(named));
    }
    let tcp = plan_tcp("", vec![plain(cluster, origin.clone())], origin.clone());
    Unknown { http, tcp, allow, by_name: policy.by_name, origin }
}

/// Services and routes that one egress listener imports, and which route takes which service.
struct View {
    /// Which of the listeners it is.
    index: usize,
    /// Address of its listeners, instead of the services' own.
    bind: Option<IpAddr>,
    imported: Arc<Imported>,
    routes: Arc<Routes>,
    /// Service and route by place, in the order of services: the routes for exactly its host, or the one with the most
    /// specific wildcard.
    assigned: Vec<(usize, usize)>,
    /// Where in `assigned` a service begins.
    starts: Vec<usize>,
    /// Hosts of routes that are not services.
    unknown: Vec<(HostPattern, usize)>,
    /// Routes with TLS or TCP rules.
    l4: Vec<Arc<Route>>,
}

impl View {
    fn new(run: &mut Run<'_>, index: usize, egress: &Egress) -> Self {
        let imported = run.imported(egress);
        let routes = run.routes.clone();
        let (assigned, starts, unknown) = Default::default();
        let bind = egress.bind.filter(|_| !egress.is_door());
        let mut view = Self { index, bind, imported, routes, assigned, starts, unknown, l4: Vec::new() };
        let candidates = candidates(run, egress);
        view.assign(&candidates);
        let l4 = candidates.iter().map(|place| &view.routes.at(*place).route);
        view.l4 = l4.filter(|r| !r.tls.is_empty() || !r.tcp.is_empty()).cloned().collect();
        view
    }

    fn assign(&mut self, candidates: &[usize]) {
        let routes = self.routes.clone();
        let services = &self.imported.services;
        let mut wild: BTreeMap<usize, (&HostPattern, usize)> = BTreeMap::new();
        let http = candidates.iter().map(|place| (*place, &routes.at(*place).route));
        for (place, route) in http.filter(|(_, r)| !r.http.is_empty()) {
            for host in &route.hosts {
                if let HostPattern::Exact(name) = host {
                    match self.imported.by_host.get(name) {
                        Some(service) => self.assigned.push((*service, place)),
                        None => self.unknown.push((host.clone(), place)),
                    }
                    continue;
                }
                let mut any = false;
                let below = |s: &Visible| HostPattern::parse(&s.service.hostname).subset_of(host);
                for service in (0..services.len()).filter(|i| below(&services[*i])) {
                    any = true;
                    let best = wild.entry(service).or_insert((host, place));
                    if host.more_specific(best.0).is_lt() {
                        *best = (host, place);
                    }
                }
                if !any {
                    self.unknown.push((host.clone(), place));
                }
            }
        }
        // Stable: the routes of a service stay in their order.
        self.assigned.sort_by_key(|(service, _)| *service);
        let exact = self.assigned.clone();
        let has = |service: usize| exact.binary_search_by_key(&service, |(s, _)| *s).is_ok();
        let further = wild.into_iter().filter(|(service, _)| !has(*service));
        self.assigned.extend(further.map(|(service, (_, place))| (service, place)));
        self.assigned.sort_by_key(|(service, _)| *service);
        self.starts = Vec::with_capacity(services.len() + 1);
        let mut at = 0;
        for service in 0..=services.len() {
            while self.assigned.get(at).is_some_and(|(s, _)| *s < service) {
                at += 1;
            }
            self.starts.push(at);
        }
    }

    /// The routes of a service: its place, and theirs.
    fn routes_of(&self, service: usize) -> &[(usize, usize)] {
        &self.assigned[self.starts[service]..self.starts[service + 1]]
    }
}

/// Routes for sidecars that an egress listener imports: those private to the own namespace, then those exported to it
/// by name, then public ones; each oldest first.
fn candidates(run: &Run<'_>, egress: &Egress) -> Vec<usize> {
    let default = &run.world.mesh().spec.default_virtual_service_export_to;
    let own = &*run.id.namespace;
    let reach = |r: &Route| {
        let public = match (&r.export_to[..], &default[..]) {
            ([], []) => true,
            ([], default) => default.iter().any(|e| e == "*"),
            (list, _) => list.iter().any(|e| &**e == "*"),
        };
        match (*r.key.namespace == *own && is_private(&r.export_to, default, own), public) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => 2,
        }
    };
    let usable = |r: &Route| {
        r.gateways.iter().any(|g| &**g == "mesh")
            && exported_to(&r.export_to, default, &r.key.namespace, own)
            && egress.imports_route(r)
    };
    let all = run.routes.iter().filter(|(_, one)| usable(&one.route));
    let mut routes: Vec<(u8, usize)> = all.map(|(place, one)| (reach(&one.route), place)).collect();
    // Stable by place.
    routes.sort_unstable();
    routes.into_iter().map(|(_, place)| place).collect()
}

/// What shares one address and port.
#[derive(Default)]
struct Group<'v> {
    /// Serves the port's route table.
    shared: bool,
    /// A single service whose protocol is detected: its place.
    detected: Option<usize>,
    targets: Vec<Target<'v>>,
}

fn port_listeners(
    run: &mut Run<'_>,
    view: &View,
    (port, services, declared): (u16, &Port, Option<AppProtocol>),
    unknown: &Unknown,
) {
    let mut groups: BTreeMap<Option<IpAddr>, Group<'_>> = BTreeMap::new();
    let mut shared = false;
    for entry in &services.entries {
        let protocol = declared.unwrap_or(entry.protocol);
        if protocol.is_http() {
            shared = true;
            continue;
        }
        let service = &view.imported.services[entry.service].service;
        let target = Target { service, port: &service.ports[entry.port], protocol };
        let mut group = |ip| {
            let group = groups.entry(ip).or_default();
            group.targets.push(target);
            if protocol == AppProtocol::Auto {
                match ip {
                    Some(_) if view.bind.is_none() => group.detected = group.detected.or(Some(entry.service)),
                    _ => group.shared = true,
                }
            }
        };
        if view.bind.is_some() {
            group(view.bind);
        } else if service.headless {
            let own: HashSet<&IpAddr> = run.id.addresses.iter().collect();
            let pods = run.world.selected_workloads(service).chain(&service.endpoints);
            for ip in pods.flat_map(|w| &w.addresses).filter(|ip| !own.contains(ip)) {
                group(Some(*ip));
            }
        } else {
            if service.addresses.is_empty() || !service.networks.is_empty() {
                group(None);
            }
            for ip in &service.addresses {
                group(Some(*ip));
            }
        }
    }
    if shared {
        groups.entry(view.bind).or_default().shared = true;
    }
    let mut table: Option<Arc<RouteTable>> = None;
    for (address, group) in groups {
        let http = match (group.shared, group.detected) {
            (true, _) => {
                let make = || shared_table(run, view, (port, services, declared), unknown);
                Some(table.get_or_insert_with(make).clone())
            }
            (false, Some(service)) => Some(own_table(run, view, service, port)),
            (false, None) => None,
        };
        listener(run, view, ListenerKey::new(Direction::Outbound, address, port), http, &group, unknown);
    }
}

fn listener(
    run: &mut Run<'_>,
    view: &View,
    key: ListenerKey,
    routes: Option<Arc<RouteTable>>,
    group: &Group<'_>,
    unknown: &Unknown,
) {
    let http = routes.map(|r| http_defaults(run).with(r));
    let relevant = |r: &&Arc<Route>| {
        group.targets.iter().any(|t| r.hosts.iter().any(|h| h.overlaps(&HostPattern::parse(&t.service.hostname))))
    };
    let routes: Vec<&Arc<Route>> = view.l4.iter().filter(relevant).collect();
    let destinations = run.destinations(&routes);
    let client = run.client.clone();
    let input = L4Input {
        key,
        http,
        targets: &group.targets,
        routes,
        client: &client,
        client_hash: run.client_hash,
        destinations,
        fallback: key.address.is_none().then_some(&unknown.tcp),
    };
    let planned = run.listener_memo.get(input.hash(), || plan_listener(&input));
    run.parts.extend(planned.notes);
    let used: Vec<Arc<Route>> = input.routes.iter().copied().filter(|r| input.uses(r)).cloned().collect();
    for route in used {
        run.use_route(&route);
    }
    run.listeners.insert(key, planned.plan);
}

pub(super) fn http_defaults(run: &Run<'_>) -> HttpDefaults {
    HttpDefaults {
        server: super::mesh::server_header(&run.config, "envoy"),
        use_remote_address: false,
        trusted_hops: 0,
        path_normalization: super::mesh::path_normalization(run.world.mesh(), &run.config),
        settings: super::mesh::http_settings(&run.config, Direction::Outbound),
    }
}

/// Domains that virtual hosts of a table have already.
type Taken = HashSet<Arc<str>, RandomState>;

/// The routes of every HTTP service of a port, by host; other hosts go where unknown traffic goes.
fn shared_table(
    run: &mut Run<'_>,
    view: &View,
    (port, services, declared): (u16, &Port, Option<AppProtocol>),
    unknown: &Unknown,
) -> Arc<RouteTable> {
    // A host that is no service has no port of its own; Istio routes it on port 80.
    let foreign = view.unknown.iter().filter(|_| port == 80);
    // Where no two can have the same domain, each has all of its own.
    let mut taken = (services.overlap || foreign.clone().next().is_some()).then(Taken::default);
    let mut hosts = Hosts::new(run, view, port);
    let mut rows: Vec<Row> = Vec::with_capacity(services.entries.len() + 1);
    let all = || {
        let protocol = |e: &Entry| declared.unwrap_or(e.protocol);
        let http = move |e: &Entry| protocol(e).is_http() || protocol(e) == AppProtocol::Auto;
        services.entries.iter().enumerate().filter(move |(_, e)| http(e))
    };
    let mut known = |run: &mut Run<'_>, taken: &mut Option<Taken>, (i, entry): (usize, &Entry)| {
        let Some(taken) = taken else { return Some(hosts.host(run, i, None)) };
        let domains = view.imported.services[entry.service].domains.iter();
        let free: Vec<Arc<str>> = domains.filter(|d| taken.insert((*d).clone())).cloned().collect();
        (!free.is_empty()).then(|| hosts.host(run, i, Some(free)))
    };
    for entry in all().filter(|(_, e)| !view.routes_of(e.service).is_empty()) {
        rows.extend(known(run, &mut taken, entry));
    }
    if let Some(taken) = &mut taken {
        for (host, place) in foreign {
            rows.extend(foreign_host(run, view, (host, *place), port, taken).map(Row::from));
        }
    }
    for entry in all().filter(|(_, e)| view.routes_of(e.service).is_empty()) {
        rows.extend(known(run, &mut taken, entry));
    }
    if taken.is_none_or(|taken| !taken.contains("*")) {
        rows.push(unknown_host(run, unknown).into());
    }
    hosts.finish(run);
    run.table(&port.to_string(), rows)
}

/// The virtual host of a host that is no service.
fn foreign_host(
    run: &mut Run<'_>,
    view: &View,
    (host, place): (&HostPattern, usize),
    port: u16,
    taken: &mut Taken,
) -> Option<Arc<VirtualHostPlan>> {
    let route = &view.routes.at(place).route;
    let domain: Arc<str> = host.to_string().into();
    if taken.contains(&domain) {
        return None;
    }
    let mut domains = vec![domain.clone()];
    domains.extend(super::table::alternates(&domain, &run.id.namespace, &run.id.domain).into_iter().map(Into::into));
    domains.retain(|d| !taken.contains(d));
    let name: Arc<str> = format!("{host}:{port}").into();
    let origin = Written::Field(&route.key, &route.origin, "spec.hosts");
    let plan = run.routed_host((name, port), domains.clone().into(), route, Fallback::Nothing, origin);
    if plan.routes.is_empty() {
        return None;
    }
    run.use_place(place);
    taken.extend(domains);
    Some(plan)
}

/// Any other host.
fn unknown_host(run: &mut Run<'_>, unknown: &Unknown) -> Arc<VirtualHostPlan> {
    let (name, fallback) = match unknown.allow {
        true => ("allow_any", Fallback::Plain(unknown.http.clone(), None)),
        false => ("block_all", Fallback::Status(http::StatusCode::BAD_GATEWAY)),
    };
    run.simple_host((name, 0), &["*"], fallback, unknown.origin.clone())
}

/// The routes of one service whose protocol is detected; its address is its own, so every host means it.
fn own_table(run: &mut Run<'_>, view: &View, place: usize, port: u16) -> Arc<RouteTable> {
    let service = &view.imported.services[place].service;
    let name: Arc<str> = format!("{}:{port}", service.hostname).into();
    let routes: Vec<_> = view.routes_of(place).iter().map(|(_, place)| view.routes.at(*place).route.clone()).collect();
    let host = run.service_host((name.clone(), port), ["*".into()].into(), service, &routes);
    run.table(&name, vec![host.into()])
}

/// Listeners for destinations that no service has, and the one that stops loops.
fn catch_all(run: &mut Run<'_>, unknown: &Unknown) {
    let loops = Provenance::default("a connection to the capture port itself would loop");
    let stop = plan_tcp("", vec![plain(BLACK_HOLE.into(), loops.clone())], loops.clone());
    let rest = unknown.origin.clone();
    for (name, port, tcp, origin) in [
        ("virtualOutbound", 0, unknown.tcp.clone(), rest),
        ("virtualOutbound-trap", run.proxy.ports.outbound, stop, loops),
    ] {
        let key = ListenerKey::new(Direction::Outbound, None, port);
        // To know the name that a TLS client asks for, its first bytes are looked at.
        let named = L4Rule {
            sni: vec![HostPattern::Any],
            alpn: Vec::new(),
            destination_subnets: Vec::new(),
            plan: tcp.clone(),
        };
        let l4 = if port == 0 && unknown.by_name { vec![named] } else { Vec::new() };
        run.listener_with(name, key, (None, !l4.is_empty()), (l4, Some(tcp)), origin);
    }
}

impl Run<'_> {
    /// A listener without rules of its own.
    pub(super) fn plain_listener(
        &mut self,
        name: &str,
        key: ListenerKey,
        http: (Option<Arc<HttpPlan>>, bool),
        fallback: Option<Arc<TcpPlan>>,
        origin: Provenance,
    ) {
        self.listener_with(name, key, http, (Vec::new(), fallback), origin);
    }

    /// A listener of the application's, which takes the mesh's own TLS.
    pub(super) fn inbound_listener(
        &mut self,
        name: &str,
        key: ListenerKey,
        (http, detect): (Option<Arc<HttpPlan>>, bool),
        (mesh, fallback): (MeshTls, Option<Arc<TcpPlan>>),
        origin: Provenance,
    ) {
        self.add_listener(super::l4::with_hash(ListenerPlan {
            name: name.into(),
            key,
            detect,
            http,
            mesh: Some(mesh),
            tls: Vec::new(),
            l4: Vec::new(),
            fallback,
            origin,
            hash: crate::api::ContentHash::default(),
        }));
    }

    /// A listener of these parts.
    fn listener_with(
        &mut self,
        name: &str,
        key: ListenerKey,
        (http, detect): (Option<Arc<HttpPlan>>, bool),
        (l4, fallback): (Vec<L4Rule>, Option<Arc<TcpPlan>>),
        origin: Provenance,
    ) {
        let plan = super::l4::with_hash(ListenerPlan {
            name: name.into(),
            key,
            detect,
            http,
            mesh: None,
            tls: Vec::new(),
            l4,
            fallback,
            origin,
            hash: crate::api::ContentHash::default(),
        });
        self.add_listener(plan);
    }

    /// Puts a listener in, or the one of the compilation before if it is the same.
    pub(super) fn add_listener(&mut self, plan: ListenerPlan) {
        let key = plan.key;
        // A remembered plan holds its route tables, which are reused by pointer: the same ones, or it is another plan.
        let tables = plan.http.iter().chain(plan.tls.iter().filter_map(|t| match &t.then {
            crate::snapshot::TlsThen::Http(http) => Some(http),
            crate::snapshot::TlsThen::Tcp(_) => None,
        }));
        let pointer = |http: &Arc<HttpPlan>| crate::api::ContentHash(Arc::as_ptr(&http.routes) as usize as u64);
        let input = tables.map(pointer).fold(plan.hash, crate::api::ContentHash::with);
        let plan = self.listener_memo.get(input, || super::memo::Planned::new(Arc::new(plan), super::Notes::default()));
        self.listeners.insert(key, plan.plan);
    }
}

#[cfg(test)]
mod tests;
