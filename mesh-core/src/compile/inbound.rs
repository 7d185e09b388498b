//! Listeners for traffic to the own application.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::Run;
use super::account::Ledger;
use super::cluster::{BLACK_HOLE, INBOUND_PASSTHROUGH, special, upstream_protocol, with_hash};
use super::l4::plan_tcp;
use super::table::HttpDefaults;
use super::virtual_host::{Fallback, plain};
use super::visible;
use crate::api::{CaptureMode, InboundTrafficPolicyMode, IstioIngressListener, Object, Sidecar};
use crate::model::{AppProtocol, Service, ServicePort, Workload};
use crate::report::Level;
use crate::snapshot::{
    Bind, BindDoor, ClusterPlan, Direction, EndpointSource, HttpPlan, ListenerKey, Provenance, RetryOn, RetryPlan,
    UpstreamProtocol,
};

/// One port of the application.
struct Port<'a> {
    protocol: AppProtocol,
    /// Where the application listens.
    local: u16,
    /// Address on which it does, if that is not the one that clients dial.
    ip: Option<IpAddr>,
    service: Option<&'a Arc<Service>>,
    origin: Provenance,
}

pub(super) fn compile(run: &mut Run<'_>) {
    let sidecar = visible::sidecar_for(run.world, &run.id.namespace, run.workload.map(|w| &**w));
    let ports = match sidecar.filter(|s| !s.spec.ingress.is_empty()) {
        Some(sidecar) => sidecar_ports(run, sidecar),
        None => service_ports(run),
    };
    for (number, port) in &ports {
        listener(run, *number, port);
    }
    for ingress in sidecar.iter().flat_map(|s| &s.spec.ingress).filter(|i| i.capture_mode == CaptureMode::None) {
        let Some(number) = ingress.port.as_ref().and_then(|p| u16::try_from(p.number).ok()) else { continue };
        let own = run.id.addresses.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let at = SocketAddr::new(ingress.bind.parse().unwrap_or(own), number);
        run.binds.push(Bind { at, door: BindDoor::Inbound });
    }
    others(run);
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
            let protocol = port.protocol;
            out.insert(target, Port { protocol, local: target, ip: localhost(run), service: Some(service), origin });
        }
    }
    out
}

fn conflict(run: &mut Run<'_>, service: &Service, target: u16, by: &Provenance) {
    let by = by.object.as_ref().map_or(String::new(), ToString::to_string);
    let message = format!("target port {target} has another protocol in {by}, which is older and decides");
    let about = (&service.key, &service.origin);
    let report =
        crate::report::Report::new("MESH0109", "ConflictingInboundPort", Level::Warning, about, "spec.ports", message);
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

fn sidecar_ports<'a>(run: &Run<'a>, sidecar: &'a Object<Sidecar>) -> BTreeMap<u16, Port<'a>> {
    let mut out = BTreeMap::new();
    let own = |s: &&Arc<Service>| run.workload.is_some_and(|w| s.selects(w));
    for (i, listener) in sidecar.spec.ingress.iter().enumerate() {
        let IstioIngressListener { port, default_endpoint, .. } = listener;
        let Some(port) = port else { continue };
        let Ok(number) = u16::try_from(port.number) else { continue };
        let (ip, local) = endpoint(default_endpoint);
        let local = local.unwrap_or(number);
        let origin = Provenance::field(&sidecar.key, &sidecar.origin, &format!("spec.ingress[{i}]"));
        let has = |s: &&Arc<Service>| {
            s.ports.iter().any(|p| target_port(p, run.workload.expect("invariant: selected")) == Some(number))
        };
        let service = run.world.services().iter().filter(own).find(has);
        let protocol = AppProtocol::of_port(Some(&port.protocol), "", number);
        out.entry(number).or_insert(Port { protocol, local, ip, service, origin });
    }
    out
}

fn listener(run: &mut Run<'_>, number: u16, port: &Port<'_>) {
    let name: Arc<str> = format!("inbound|{number}||").into();
    let http = port.protocol.is_http() || port.protocol == AppProtocol::Auto;
    let (service, service_name, namespace) = match port.service {
        Some(s) => (s.hostname.clone(), s.key.name.clone(), s.namespace.clone()),
        None => ("".into(), "".into(), "".into()),
    };
    let cluster = with_hash(ClusterPlan {
        service,
        service_name,
        service_namespace: namespace,
        ..ClusterPlan::clone(&special(
            &name,
            EndpointSource::LocalApp { port: port.local, ip: port.ip },
            upstream_protocol(port.protocol),
            port.origin.clone(),
            &run.cluster_defaults,
        ))
    });
    run.clusters.insert(name.clone(), Arc::new(cluster));
    let http = http.then(|| {
        // A reset before the application saw anything can be tried again; gRPC clients do that themselves.
        let grpc = matches!(port.protocol, AppProtocol::Grpc | AppProtocol::GrpcWeb);
        let retry = (!grpc).then(inbound_retry);
        http_plan(run, &format!("inbound|http|{number}"), number, Fallback::Plain(name.clone(), retry), &port.origin)
    });
    let tcp = plan_tcp("", vec![plain(name, port.origin.clone())], port.origin.clone());
    let fallback = (!port.protocol.is_http()).then_some(tcp);
    let key = ListenerKey { direction: Direction::Inbound, address: None, port: number };
    let detect = port.protocol == AppProtocol::Auto;
    run.plain_listener(&format!("0.0.0.0_{number}"), key, (http, detect), fallback, port.origin.clone());
}

/// Two retries of `reset-before-request`.
fn inbound_retry() -> RetryPlan {
    RetryPlan {
        attempts: 2,
        per_try_timeout: None,
        on: RetryOn { reset_before_request: true, ..RetryOn::default() },
        status_codes: std::collections::BTreeSet::new(),
        backoff: Duration::from_millis(25),
    }
}

fn http_plan(run: &mut Run<'_>, name: &str, port: u16, fallback: Fallback, origin: &Provenance) -> Arc<HttpPlan> {
    let limits = run.rate_limits.inbound();
    let host = run.limited_host((name, port), &["*"], fallback, limits, origin.clone());
    let table = run.table(name, &[host]);
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
fn others(run: &mut Run<'_>) {
    let origin = Provenance::default("ports that no service declares lead to the application as dialled");
    let loops = Provenance::default("a connection to the capture port itself would loop");
    let defaults = run.cluster_defaults.clone();
    let name = INBOUND_PASSTHROUGH;
    let cluster = special(name, EndpointSource::LocalOriginalDst, UpstreamProtocol::Client, origin.clone(), &defaults);
    run.clusters.insert(name.into(), cluster);
    let http = http_plan(run, "virtualInbound-catchall-http", 0, Fallback::Plain(name.into(), None), &origin);
    let tcp = plan_tcp("", vec![plain(name.into(), origin.clone())], origin.clone());
    let key = |port| ListenerKey { direction: Direction::Inbound, address: None, port };
    run.plain_listener("virtualInbound", key(0), (Some(http), true), Some(tcp), origin);
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
    ledger.later(at, "tls", tls);
    ledger.later(at, "connectionPool", connection_pool);
    if default_endpoint.starts_with("unix:") {
        let why = "applications are reached by TCP; the port itself is dialled instead of the unix socket";
        ledger.inert(&format!("{at}.defaultEndpoint"), why);
    } else {
        ledger.take(at, "defaultEndpoint", default_endpoint);
    }
}
