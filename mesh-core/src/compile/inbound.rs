//! Listeners for traffic to the own application.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::Run;
use super::account::Ledger;
use super::cluster::pool::{self, Block, Kind};
use super::cluster::{BLACK_HOLE, INBOUND_PASSTHROUGH, RuleIndex, special, special_with, upstream_protocol, with_hash};
use super::gateway::{Terminating, downstream};
use super::l4::plan_tcp;
use super::mtls;
use super::table::HttpDefaults;
use super::virtual_host::{Fallback, plain};
use super::visible;
use crate::api::{
    CaptureMode, ConnectionPoolSettings, ContentHash, InboundTrafficPolicyMode, IstioIngressListener, Object,
    ServerTlsSettings, Sidecar, TrafficPolicy,
};
use crate::matching::HostPattern;
use crate::model::{AppProtocol, Service, ServicePort, Workload};
use crate::snapshot::{
    Address, Bind, BindDoor, ClusterPlan, Direction, EndpointSource, HttpPlan, ListenerKey, ListenerPlan, MeshTls,
    MtlsMode, Provenance, TlsServer, TlsThen, UpstreamProtocol,
};

/// One port of the application.
struct Port<'a> {
    protocol: AppProtocol,
    /// Where the application listens.
    app: EndpointSource,
    service: Option<&'a Arc<Service>>,
    /// Port number of the service.
    service_port: u16,
    /// Index in the Sidecar's `ingress`.
    ingress: Option<usize>,
    /// TLS of the Sidecar's own that is ended here; `protocol` is what is inside.
    tls: Option<&'a ServerTlsSettings>,
    origin: Provenance,
}

impl Port<'_> {
    fn kind(&self) -> Kind {
        Kind { protocol: upstream_protocol(self.protocol), upgradable: false }
    }
}

pub(super) fn compile(run: &mut Run<'_>) {
    let sidecar = visible::sidecar_for(run.world, &run.id.namespace, run.workload.map(|w| &**w));
    let sidecar = sidecar.map(|s| &**s);
    let mesh = mtls::Ports::of(run);
    let ports = match sidecar.filter(|s| !s.spec.ingress.is_empty()) {
        Some(sidecar) => sidecar_ports(run, sidecar, &mesh),
        None => service_ports(run),
    };
    for (number, port) in &ports {
        listener(run, (*number, mesh.at(*number)), port, sidecar);
    }
    if let Some(sidecar) = sidecar {
        account_pools(run, sidecar, &ports);
        account_tls(run, sidecar, &ports);
    }
    for ingress in sidecar.iter().flat_map(|s| &s.spec.ingress).filter(|i| i.capture_mode == CaptureMode::None) {
        let Some(number) = ingress.port.as_ref().and_then(|p| u16::try_from(p.number).ok()) else { continue };
        let own = run.id.addresses.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let at = SocketAddr::new(ingress.bind.parse().unwrap_or(own), number);
        run.binds.push(Bind { at: at.into(), door: BindDoor::Inbound });
    }
    others(run, &mesh, |port| ports.contains_key(&port));
}

/// Target ports of the services that select this workload; of two services the older decides.
fn service_ports<'a>(run: &mut Run<'a>) -> BTreeMap<u16, Port<'a>> {
    let mut out: BTreeMap<u16, Port<'a>> = BTreeMap::new();
    let Some(workload) = run.workload else { return out };
    for service in run.world.services().iter().filter(|s| s.selects(workload)) {
        for port in service.ports.iter().filter(|p| p.protocol != AppProtocol::Udp) {
            let Some(target) = target_port(port, workload) else { continue };
            let origin = Provenance::field(&service.key, &service.origin, "spec.ports");
            if let Some(other) = out.get(&target) {
                if other.protocol != port.protocol {
                    conflict(run, service, target, &other.origin);
                }
                continue;
            }
            let (protocol, service_port) = (port.protocol, port.number);
            let app = EndpointSource::LocalApp { port: target, ip: localhost(run) };
            let service = Some(service);
            out.insert(target, Port { protocol, app, service, service_port, ingress: None, tls: None, origin });
        }
    }
    out
}

fn conflict(run: &mut Run<'_>, service: &Service, target: u16, by: &Provenance) {
    let by = by.object.as_ref().map_or(String::new(), ToString::to_string);
    let message = format!("target port {target} has another protocol in {by}, which is older and decides");
    let about = (&service.key, &service.origin);
    let report = super::codes::CONFLICTING_PORT.report(about, "spec.ports", message);
    run.parts.push(Arc::new(super::Notes { fates: Vec::new(), reports: vec![report] }));
}

/// Where `inboundTrafficPolicy` of the mesh has applications listen; `None`: on the address of the workload.
fn localhost(run: &Run<'_>) -> Option<IpAddr> {
    let policy = run.world.mesh().spec.inbound_traffic_policy.as_ref()?;
    (policy.mode == InboundTrafficPolicyMode::Localhost).then_some(Ipv4Addr::LOCALHOST.into())
}

/// Address and port of a `defaultEndpoint`; an unspecified address is the workload's.
fn endpoint(text: &str) -> (Option<IpAddr>, Option<u16>) {
    match text.parse::<SocketAddr>() {
        Ok(at) => (Some(at.ip()).filter(|ip| !ip.is_unspecified()), Some(at.port())),
        Err(_) => (None, text.strip_prefix(':').and_then(|port| port.parse().ok())),
    }
}

/// The port number on a workload; `None` if it is a name that the workload does not have.
pub(super) fn target_port(port: &ServicePort, workload: &Workload) -> Option<u16> {
    match (&port.target_name, port.target_port) {
        (Some(name), _) => workload.ports.get(&**name).copied(),
        (None, 0) => Some(port.number),
        (None, target) => Some(target),
    }
}

fn sidecar_ports<'a>(run: &Run<'a>, sidecar: &'a Object<Sidecar>, mesh: &mtls::Ports) -> BTreeMap<u16, Port<'a>> {
    let mut out = BTreeMap::new();
    let own = |s: &&Arc<Service>| run.workload.is_some_and(|w| s.selects(w));
    for (i, listener) in sidecar.spec.ingress.iter().enumerate() {
        let IstioIngressListener { port, default_endpoint, tls, .. } = listener;
        let Some(port) = port else { continue };
        let Ok(number) = u16::try_from(port.number) else { continue };
        let (ip, local) = endpoint(default_endpoint);
        let app = match Address::unix(default_endpoint) {
            Some(Address::Unix(path)) => EndpointSource::LocalSocket(path),
            _ => EndpointSource::LocalApp { port: local.unwrap_or(number), ip },
        };
        let origin = Provenance::field(&sidecar.key, &sidecar.origin, &format!("spec.ingress[{i}]"));
        let port_of = |s: &'a Arc<Service>| {
            let workload = run.workload?;
            Some((s, s.ports.iter().find(|p| target_port(p, workload) == Some(number))?.number))
        };
        let found = run.world.services().iter().filter(own).find_map(port_of);
        let (service, service_port) = found.map_or((None, number), |(s, p)| (Some(s), p));
        // By default the mesh's own TLS is let in, and what is not the mesh's goes on to the application.
        let tls = tls.as_ref().filter(|_| mesh.at(number).mode == MtlsMode::Disable);
        let protocol = match (AppProtocol::of_port(Some(&port.protocol), "", number), tls) {
            (AppProtocol::Https, Some(_)) => AppProtocol::Http,
            (AppProtocol::Tls, Some(_)) => AppProtocol::Tcp,
            (declared, _) => declared,
        };
        let ingress = Some(i);
        out.entry(number).or_insert(Port { protocol, app, service, service_port, ingress, tls, origin });
    }
    out
}

/// The limits towards the application: of the Sidecar's ingress, of the Sidecar, of the service's DestinationRule; a
/// block is taken whole. Without any the mesh's.
fn pool_of<'r>(run: &'r Run<'_>, port: &Port<'r>, sidecar: Option<&'r Object<Sidecar>>) -> Block<'r> {
    if let Some(sidecar) = sidecar {
        let at = |field: &str| Provenance::field(&sidecar.key, &sidecar.origin, field);
        let ingress = port.ingress.and_then(|i| Some((i, sidecar.spec.ingress.get(i)?.connection_pool.as_ref()?)));
        if let Some((i, pool)) = ingress {
            return Some((pool, at(&format!("spec.ingress[{i}].connectionPool"))));
        }
        if let Some(pool) = &sidecar.spec.inbound_connection_pool {
            return Some((pool, at("spec.inboundConnectionPool")));
        }
    }
    let index = RuleIndex::new(run.world, &run.id.namespace, &run.client.labels).of_server();
    let rules = index.rules(port.service?);
    let (rule, policy) = rules.iter().copied().find_map(|r| Some((r, r.spec.traffic_policy.as_ref()?)))?;
    let (pool, field) = rule_pool(policy, port.service_port)?;
    Some((pool, Provenance::field(&rule.key, &rule.origin, &field)))
}

fn rule_pool(policy: &TrafficPolicy, port: u16) -> Option<(&ConnectionPoolSettings, String)> {
    let number = |p: &crate::api::PortTrafficPolicy| p.port.as_ref().map(|s| s.number);
    let entry = policy.port_level_settings.iter().position(|p| number(p) == Some(port.into()));
    match entry {
        Some(i) => {
            let pool = policy.port_level_settings[i].connection_pool.as_ref()?;
            Some((pool, format!("spec.trafficPolicy.portLevelSettings[{i}].connectionPool")))
        }
        None => Some((policy.connection_pool.as_ref()?, "spec.trafficPolicy.connectionPool".into())),
    }
}

/// What becomes of the limits in a Sidecar.
fn account_pools(run: &mut Run<'_>, sidecar: &Object<Sidecar>, ports: &BTreeMap<u16, Port<'_>>) {
    let mut ledger = Ledger::new(sidecar);
    for (i, listener) in sidecar.spec.ingress.iter().enumerate() {
        let Some(pool) = &listener.connection_pool else { continue };
        let at = format!("spec.ingress[{i}].connectionPool");
        match ports.values().find(|p| p.ingress == Some(i)) {
            Some(port) => pool::account(&mut ledger, &at, pool, port.kind(), false),
            None => ledger.inert(&at, "an earlier ingress has the same port"),
        }
    }
    if let Some(pool) = &sidecar.spec.inbound_connection_pool {
        let own = |p: &&Port<'_>| {
            p.ingress.is_some_and(|i| sidecar.spec.ingress.get(i).is_some_and(|l| l.connection_pool.is_some()))
        };
        let at = "spec.inboundConnectionPool";
        for port in ports.values().filter(|p| !own(p)) {
            pool::account(&mut ledger, at, pool, port.kind(), false);
        }
        if ports.is_empty() {
            ledger.inert(at, "no service selects the workload: there is no port to limit");
        } else if ports.values().all(|p| own(&p)) {
            ledger.overridden(at, "connectionPool of each ingress");
        }
    }
    run.parts.push(Arc::new(ledger.notes));
}

fn listener(run: &mut Run<'_>, (number, mesh): (u16, MeshTls), port: &Port<'_>, sidecar: Option<&Object<Sidecar>>) {
    let name: Arc<str> = format!("inbound|{number}||").into();
    let http = port.protocol.is_http() || port.protocol == AppProtocol::Auto;
    let (service, service_name, namespace) = match port.service {
        Some(s) => (s.hostname.clone(), s.key.name.clone(), s.namespace.clone()),
        None => ("".into(), "".into(), "".into()),
    };
    let limits = pool::plan(port.kind(), pool_of(run, port, sidecar), None, &run.cluster_defaults);
    let source = port.app.clone();
    let cluster = with_hash(ClusterPlan {
        service,
        service_name,
        service_namespace: namespace,
        ..special_with(&name, source, port.origin.clone(), limits, &run.cluster_defaults)
    });
    run.clusters.insert(name.clone(), Arc::new(cluster));
    let http = http.then(|| {
        // A reset before the application saw anything can be tried again; gRPC clients do that themselves.
        let grpc = matches!(port.protocol, AppProtocol::Grpc | AppProtocol::GrpcWeb);
        let retry = run.route_defaults.inbound.clone().filter(|_| !grpc);
        http_plan(run, &format!("inbound|http|{number}"), number, Fallback::Plain(name.clone(), retry), &port.origin)
    });
    let tcp = plan_tcp("", vec![plain(name.clone(), port.origin.clone())], port.origin.clone());
    let key = ListenerKey::new(Direction::Inbound, None, number);
    let at = format!("0.0.0.0_{number}");
    if let (Some((i, tls)), Some(sidecar)) = (port.ingress.zip(port.tls), sidecar) {
        let then = http.map_or(TlsThen::Tcp(tcp), TlsThen::Http);
        return tls_listener(run, (&at, key), (sidecar, i, tls), (name, then));
    }
    let fallback = (!port.protocol.is_http()).then_some(tcp);
    let detect = port.protocol == AppProtocol::Auto;
    run.inbound_listener(&at, key, (http, detect), (mesh, fallback), port.origin.clone());
}

/// A port on which the Sidecar's own TLS ends; clients without it are refused.
fn tls_listener(
    run: &mut Run<'_>,
    (at, key): (&str, ListenerKey),
    (sidecar, ingress, tls): (&Object<Sidecar>, usize, &ServerTlsSettings),
    (name, then): (Arc<str>, TlsThen),
) {
    let mut ledger = Ledger::new(sidecar);
    let field = format!("spec.ingress[{ingress}]");
    ledger.consumed(&format!("{field}.tls"));
    let terminating = Terminating {
        path: &format!("{field}.tls"),
        tls,
        http: matches!(then, TlsThen::Http(_)),
        namespace: &run.id.namespace,
        workloads: &run.workloads,
        mesh: &run.world.mesh().spec,
    };
    let tls = Arc::new(downstream(&mut ledger, &terminating));
    let origin = ledger.origin(&field);
    let server = TlsServer { name, sni: vec![HostPattern::Any], tls, then, origin: origin.clone() };
    run.parts.push(Arc::new(ledger.notes));
    run.add_listener(super::l4::with_hash(ListenerPlan {
        name: at.into(),
        key,
        detect: true,
        http: None,
        mesh: None,
        tls: vec![server],
        l4: Vec::new(),
        fallback: None,
        origin,
        hash: ContentHash::default(),
    }));
}

/// What becomes of TLS that is not ended.
fn account_tls(run: &mut Run<'_>, sidecar: &Object<Sidecar>, ports: &BTreeMap<u16, Port<'_>>) {
    let mut ledger = Ledger::new(sidecar);
    for (i, listener) in sidecar.spec.ingress.iter().enumerate().filter(|(_, l)| l.tls.is_some()) {
        let why = match ports.values().find(|p| p.ingress == Some(i)) {
            None => "an earlier ingress has the same port",
            Some(port) if port.tls.is_some() => continue,
            Some(_) => {
                "it needs a PeerAuthentication with mode DISABLE for this port; by default the mesh's own TLS is let in"
            }
        };
        ledger.without_effect(&format!("spec.ingress[{i}]"), "tls", &listener.tls, why);
    }
    run.parts.push(Arc::new(ledger.notes));
}

fn http_plan(run: &mut Run<'_>, name: &str, port: u16, fallback: Fallback, origin: &Provenance) -> Arc<HttpPlan> {
    let limits = run.rate_limits.inbound();
    let host = run.limited_host((name, port), &["*"], fallback, limits, origin.clone());
    let table = run.table(name, vec![host.into()]);
    let mesh = run.world.mesh();
    let defaults = HttpDefaults {
        server: super::mesh::server_header(&run.config, "istio-envoy"),
        use_remote_address: false,
        trusted_hops: 0,
        path_normalization: super::mesh::path_normalization(mesh, &run.config),
        settings: super::mesh::http_settings(&run.config, Direction::Inbound),
    };
    defaults.with(table)
}

/// Ports that no service declares, and the one that stops loops.
fn others(run: &mut Run<'_>, mesh: &mtls::Ports, declared: impl Fn(u16) -> bool) {
    let origin = Provenance::default("ports that no service declares lead to the application as dialled");
    let loops = Provenance::default("a connection to the capture port itself would loop");
    let defaults = run.cluster_defaults.without_policy();
    let name = INBOUND_PASSTHROUGH;
    let cluster = special(name, EndpointSource::LocalOriginalDst, UpstreamProtocol::Client, origin.clone(), &defaults);
    run.clusters.insert(name.into(), cluster);
    let http = http_plan(run, "virtualInbound-catchall-http", 0, Fallback::Plain(name.into(), None), &origin);
    let tcp = plan_tcp("", vec![plain(name.into(), origin.clone())], origin.clone());
    let key = |port| ListenerKey::new(Direction::Inbound, None, port);
    let (http, tcp) = ((Some(http), true), Some(tcp));
    run.inbound_listener("virtualInbound", key(0), http.clone(), (mesh.others(), tcp.clone()), origin.clone());
    for port in mesh.named().filter(|p| !declared(*p) && *p != run.proxy.ports.inbound).collect::<Vec<_>>() {
        let name = format!("virtualInbound-{port}");
        run.inbound_listener(&name, key(port), http.clone(), (mesh.at(port), tcp.clone()), origin.clone());
    }
    let stop = plan_tcp("", vec![plain(BLACK_HOLE.into(), loops.clone())], loops.clone());
    run.plain_listener("virtualInbound-blackhole", key(run.proxy.ports.inbound), (None, false), Some(stop), loops);
}

/// What became of the fields of a Sidecar's `ingress`.
pub(super) fn account(ledger: &mut Ledger<'_>, at: &str, listener: &IstioIngressListener) {
    let IstioIngressListener { port, bind, capture_mode, default_endpoint, tls, connection_pool } = listener;
    super::mesh::account_port(ledger, at, port.as_ref());
    let captured = "connections are captured by port, whatever address they are for";
    match capture_mode {
        CaptureMode::None => {
            ledger.take(at, "captureMode", capture_mode);
            ledger.take(at, "bind", bind);
        }
        CaptureMode::Default | CaptureMode::Iptables => {
            ledger.without_effect(at, "captureMode", capture_mode, "connections to the pod are captured anyway");
            ledger.without_effect(at, "bind", bind, captured);
        }
    }
    // With the ports, in `account_pools` and `account_tls`.
    let _ = (connection_pool, tls);
    ledger.take(at, "defaultEndpoint", default_endpoint);
}
