//! Listeners for traffic from the own application.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::Run;
use super::cluster::{BLACK_HOLE, PASSTHROUGH, special};
use super::l4::{L4Input, Target, plan_listener, plan_tcp};
use super::table::HttpDefaults;
use super::virtual_host::{Fallback, Written, plain};
use super::visible::{self, Egress, exported_to, is_private};
use crate::matching::HostPattern;
use crate::model::{AppProtocol, Route, Service};
use crate::snapshot::{
    BindDoor, Direction, EndpointSource, HttpPlan, L4Rule, ListenerKey, ListenerPlan, Map, Provenance, RouteTable,
    TcpPlan, UpstreamProtocol,
};

pub(super) fn compile(run: &mut Run<'_>) {
    let sidecar = visible::sidecar_for(run.world, &run.id.namespace, run.workload.map(|w| &**w));
    let sidecar_egress = sidecar.map_or(&[][..], |s| &s.spec.egress);
    let egress: Vec<Egress> = match sidecar_egress {
        [] => vec![Egress::everything()],
        list => list.iter().map(|e| Egress::of(e, &run.id.namespace)).collect(),
    };
    let unknown = unknown_traffic(run);
    let claimed: HashSet<u16> = egress.iter().filter_map(|e| e.port.as_ref().map(|(p, _)| *p)).collect();
    let (mut all, mut aliases): (Vec<&Arc<Service>>, Vec<&Arc<Service>>) = Default::default();
    for listener in &egress {
        let view = View::new(run, listener);
        for service in &view.services {
            run.used_services.entry(service.hostname.clone()).or_insert(service);
        }
        all.extend(&view.services);
        aliases.extend(view.aliases.values().flatten());
        let wanted = |p: u16| listener.port.as_ref().map_or(!claimed.contains(&p), |(own, _)| *own == p);
        if listener.is_http_proxy() {
            run.binds.extend(listener.socket(BindDoor::HttpProxy));
            continue;
        }
        for (port, mut entries) in view.ports().into_iter().filter(|(p, _)| wanted(*p)) {
            if let Some((_, protocol)) = &listener.port {
                entries.iter_mut().for_each(|e| e.protocol = AppProtocol::of_port(Some(protocol), "", port));
            }
            port_listeners(run, (&view, listener.bind), port, &entries, &unknown);
            run.binds.extend(listener.socket(BindDoor::Outbound).filter(|b| b.at.port() == port));
        }
    }
    catch_all(run, &unknown);
    super::names::compile(run, &all, &aliases);
}

/// What happens to traffic that no service takes.
struct Unknown {
    cluster: Arc<str>,
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
    let tcp = plan_tcp("", vec![plain(cluster.clone(), origin.clone())], origin.clone());
    Unknown { cluster, tcp, allow, by_name: policy.by_name, origin }
}

/// Services and routes that one egress listener imports, and which route takes which service.
struct View<'a> {
    services: Vec<&'a Arc<Service>>,
    /// Routes by host of a service: those for exactly it, or the one with the most specific wildcard.
    by_host: Map<Arc<str>, Vec<Arc<Route>>>,
    /// Hosts of routes that are not services.
    unknown: Vec<(HostPattern, Arc<Route>)>,
    /// Routes with TLS or TCP rules.
    l4: Vec<Arc<Route>>,
    /// ExternalName services by the host that they stand for.
    aliases: Map<Arc<str>, Vec<&'a Arc<Service>>>,
}

impl<'a> View<'a> {
    fn new(run: &Run<'a>, egress: &Egress) -> Self {
        let mut services = visible::services(run.world, &run.id.namespace, egress);
        let mut aliases: Map<Arc<str>, Vec<_>> = Map::default();
        for service in &services {
            if let Some(target) = &service.external_name {
                aliases.entry(target.clone()).or_default().push(*service);
            }
        }
        services.retain(|s| s.external_name.is_none());
        let routes = candidates(run, egress);
        let mut view = Self { services, by_host: Map::default(), unknown: Vec::new(), l4: Vec::new(), aliases };
        view.l4 = routes.iter().filter(|r| !r.tls.is_empty() || !r.tcp.is_empty()).cloned().collect();
        view.assign(&routes);
        view
    }

    fn assign(&mut self, routes: &[Arc<Route>]) {
        let known: HashSet<&str, RandomState> = self.services.iter().map(|s| &*s.hostname).collect();
        let mut wild: Map<Arc<str>, (HostPattern, Arc<Route>)> = Map::default();
        for route in routes.iter().filter(|r| !r.http.is_empty()) {
            for host in &route.hosts {
                if let HostPattern::Exact(name) = host {
                    match known.contains(&**name) {
                        true => self.by_host.entry(name.clone()).or_default().push(route.clone()),
                        false => self.unknown.push((host.clone(), route.clone())),
                    }
                    continue;
                }
                let mut any = false;
                for service in self.services.iter().filter(|s| HostPattern::parse(&s.hostname).subset_of(host)) {
                    any = true;
                    let best = wild.entry(service.hostname.clone()).or_insert_with(|| (host.clone(), route.clone()));
                    if host.more_specific(&best.0).is_lt() {
                        *best = (host.clone(), route.clone());
                    }
                }
                if !any {
                    self.unknown.push((host.clone(), route.clone()));
                }
            }
        }
        for (host, (_, route)) in wild {
            self.by_host.entry(host).or_insert_with(|| vec![route]);
        }
    }

    /// Service ports by number, services in order.
    fn ports(&self) -> BTreeMap<u16, Vec<Target<'a>>> {
        let mut out: BTreeMap<u16, Vec<_>> = BTreeMap::new();
        for service in &self.services {
            for port in service.ports.iter().filter(|p| p.protocol != AppProtocol::Udp) {
                out.entry(port.number).or_default().push(Target { service, port, protocol: port.protocol });
            }
        }
        out
    }

    fn routes_of(&self, service: &Service) -> &[Arc<Route>] {
        self.by_host.get(&service.hostname).map_or(&[], Vec::as_slice)
    }
}

/// Routes for sidecars that an egress listener imports: those private to the own namespace, then those exported to it
/// by name, then public ones; each oldest first.
fn candidates(run: &Run<'_>, egress: &Egress) -> Vec<Arc<Route>> {
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
    let usable = |r: &&Arc<Route>| {
        r.gateways.iter().any(|g| &**g == "mesh")
            && exported_to(&r.export_to, default, &r.key.namespace, own)
            && egress.imports_route(r)
    };
    let mut routes: Vec<Arc<Route>> = run.routes.iter().filter(usable).cloned().collect();
    routes.sort_by_key(|r| reach(r));
    routes
}

/// What shares one address and port.
#[derive(Default)]
struct Group<'a> {
    /// Serves the port's route table.
    shared: bool,
    /// A single service whose protocol is detected.
    detected: Option<(&'a Arc<Service>, u16)>,
    targets: Vec<Target<'a>>,
}

fn port_listeners<'a>(
    run: &mut Run<'a>,
    (view, bind): (&View<'a>, Option<IpAddr>),
    port: u16,
    entries: &[Target<'a>],
    unknown: &Unknown,
) {
    let mut groups: BTreeMap<Option<IpAddr>, Group<'a>> = BTreeMap::new();
    for target in entries {
        let Target { service, port: _, protocol } = *target;
        let group = |groups: &mut BTreeMap<_, Group<'a>>, ip| {
            let group: &mut Group<'a> = groups.entry(ip).or_default();
            group.targets.push(*target);
            if protocol == AppProtocol::Auto {
                match ip {
                    Some(_) if bind.is_none() => group.detected = group.detected.or(Some((service, port))),
                    _ => group.shared = true,
                }
            }
        };
        if protocol.is_http() {
            groups.entry(bind).or_default().shared = true;
        } else if bind.is_some() {
            group(&mut groups, bind);
        } else if service.headless {
            let own: HashSet<&IpAddr> = run.id.addresses.iter().collect();
            let pods = run.world.selected_workloads(service).chain(&service.endpoints);
            for ip in pods.flat_map(|w| &w.addresses).filter(|ip| !own.contains(ip)) {
                group(&mut groups, Some(*ip));
            }
        } else {
            if service.addresses.is_empty() || !service.networks.is_empty() {
                group(&mut groups, None);
            }
            for ip in &service.addresses {
                group(&mut groups, Some(*ip));
            }
        }
    }
    for (address, group) in groups {
        let http = match (group.shared, group.detected) {
            (true, _) => Some(shared_table(run, view, port, entries, unknown)),
            (false, Some((service, port))) => Some(own_table(run, view, service, port)),
            (false, None) => None,
        };
        listener(run, view, ListenerKey { direction: Direction::Outbound, address, port }, http, &group, unknown);
    }
}

fn listener(
    run: &mut Run<'_>,
    view: &View<'_>,
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
    run.parts.push(planned.notes);
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

/// Domains that a virtual host of a table has.
type Taken = HashSet<Arc<str>, RandomState>;

/// The routes of every HTTP service of a port, by host; other hosts go where unknown traffic goes.
fn shared_table<'a>(
    run: &mut Run<'a>,
    view: &View<'a>,
    port: u16,
    entries: &[Target<'a>],
    unknown: &Unknown,
) -> Arc<RouteTable> {
    let mut taken: Taken = HashSet::default();
    let mut hosts = Vec::new();
    let http = |t: &&Target<'_>| t.protocol.is_http() || t.protocol == AppProtocol::Auto;
    let (routed, rest): (Vec<_>, Vec<_>) =
        entries.iter().filter(http).map(|t| t.service).partition(|s| view.by_host.contains_key(&s.hostname));
    let known = |run: &mut Run<'a>, service: &'a Arc<Service>, taken: &mut Taken| {
        let aliases = view.aliases.get(&service.hostname).map_or(&[][..], Vec::as_slice);
        let domains = run.domains(service, aliases);
        let domains: Vec<Arc<str>> = domains.iter().filter(|d| taken.insert((*d).clone())).cloned().collect();
        let name: Arc<str> = format!("{}:{port}", service.hostname).into();
        (!domains.is_empty()).then(|| run.service_host((name, port), domains, service, view.routes_of(service)))
    };
    for service in routed {
        hosts.extend(known(run, service, &mut taken));
    }
    // A host that is no service has no port of its own; Istio routes it on port 80.
    for (host, route) in view.unknown.iter().filter(|_| port == 80) {
        let domain: Arc<str> = host.to_string().into();
        let origin = Written::Field(&route.key, &route.origin, "spec.hosts");
        if taken.contains(&domain) {
            continue;
        }
        let mut domains = vec![domain.clone()];
        domains
            .extend(super::table::alternates(&domain, &run.id.namespace, &run.id.domain).into_iter().map(Into::into));
        domains.retain(|d| !taken.contains(d));
        let name: Arc<str> = format!("{host}:{port}").into();
        let plan = run.routed_host((name, port), domains.clone(), route, Fallback::Nothing, origin);
        if !plan.routes.is_empty() {
            run.use_route(route);
            taken.extend(domains);
            hosts.push(plan);
        }
    }
    for service in rest {
        hosts.extend(known(run, service, &mut taken));
    }
    if !taken.contains("*") {
        hosts.push(unknown_host(run, unknown));
    }
    run.table(&port.to_string(), &hosts)
}

/// Any other host.
fn unknown_host(run: &mut Run<'_>, unknown: &Unknown) -> Arc<crate::snapshot::VirtualHostPlan> {
    let (name, fallback) = match unknown.allow {
        true => ("allow_any", Fallback::Plain(unknown.cluster.clone(), None)),
        false => ("block_all", Fallback::Status(http::StatusCode::BAD_GATEWAY)),
    };
    run.simple_host((name, 0), &["*"], fallback, unknown.origin.clone())
}

/// The routes of one service whose protocol is detected; its address is its own, so every host means it.
fn own_table<'a>(run: &mut Run<'a>, view: &View<'a>, service: &'a Arc<Service>, port: u16) -> Arc<RouteTable> {
    let name: Arc<str> = format!("{}:{port}", service.hostname).into();
    let host = run.service_host((name.clone(), port), vec!["*".into()], service, view.routes_of(service));
    run.table(&name, &[host])
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
        let key = ListenerKey { direction: Direction::Outbound, address: None, port };
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
        let (input, key) = (plan.hash, plan.key);
        let plan = self.listener_memo.get(input, || super::memo::Planned::new(Arc::new(plan), super::Notes::default()));
        self.listeners.insert(key, plan.plan);
    }
}

#[cfg(test)]
mod tests;
