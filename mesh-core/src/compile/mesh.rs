//! Settings of the whole proxy, from MeshConfig and Sidecar.

mod fates;
mod later;
mod settings;

use std::sync::Arc;
use std::time::Duration;

pub(super) use settings::{buffer_limit, http_settings, route_headers};

use super::account::Ledger;
use super::cluster::{BalancingClient, account_mesh_locality, account_outlier, account_tls, pool, to_unknown};
use super::memo::{Notes, hash_debug};
use super::visible::sidecar_for;
use crate::api::{
    AccessLogEncoding, CaptureMode, Destination, HttpRetry, IstioEgressListener, Key, Kind, MeshConfig, Object, Origin,
    OutboundTrafficPolicy, OutboundTrafficPolicyMode, ProxyConfig, ProxyHeaders, Sidecar, SidecarPort, Topology,
};
use crate::model::{AppProtocol, Workload};
use crate::report::Report;
use crate::snapshot::{
    Direction, MeshAuthority, PathNormalization, Provenance, ProxyId, ProxyKind, ProxyPlan, ServerHeader,
    UpstreamProtocol, UpstreamTls,
};
use crate::world::World;

/// The proxy's settings, and what became of the fields of MeshConfig, Sidecars, and Gateways of other workloads.
pub(super) fn plan_proxy(
    world: &World,
    id: &ProxyId,
    workload: Option<&Arc<Workload>>,
    config: &ProxyConfig,
    balancing: &BalancingClient,
) -> (ProxyPlan, Notes) {
    let mesh = &world.mesh().spec;
    let text = |t: &String| Some(t.as_str().into()).filter(|_| !t.is_empty());
    let mut plan = ProxyPlan {
        id: id.clone(),
        access_log: !mesh.access_log_file.is_empty(),
        access_log_json: mesh.access_log_encoding == AccessLogEncoding::Json,
        access_log_format: text(&mesh.access_log_format),
        accepts_proxy_header: id.kind == ProxyKind::Gateway && accepts_proxy_header(config),
        listener_log: !mesh.disable_envoy_listener_log,
        ports: settings::ports(mesh, config),
        preserve_case: http_settings(config, Direction::Outbound).preserve_case,
        allow_any: outbound_policy(world, id, workload).allow,
        detection_timeout: mesh.protocol_detection_timeout.map(Duration::from).filter(|d| !d.is_zero()),
        drain_duration: config.drain_duration.map_or(Duration::from_secs(45), Into::into),
        termination_drain_duration: config.termination_drain_duration.map_or(Duration::from_secs(5), Into::into),
        authorities: authorities(mesh, config),
        workload: workload.cloned(),
        hash: crate::api::ContentHash::default(),
    };
    plan.hash = hash_debug(&plan);
    let mut notes = Notes::default();
    account_mesh(world.mesh(), id, balancing, &mut notes);
    let own = sidecar_for(world, &id.namespace, workload.map(|w| &**w)).filter(|_| id.kind == ProxyKind::Sidecar);
    for sidecar in world.sidecars().iter() {
        let mut ledger = Ledger::new(sidecar);
        match own.is_some_and(|o| o.key == sidecar.key) {
            true => account_sidecar(&mut ledger, &sidecar.spec),
            false => ledger.inert("spec", "it is not the Sidecar in force for this workload"),
        }
        notes.fates.append(&mut ledger.notes.fates);
    }
    if id.kind == ProxyKind::Sidecar {
        for gateway in world.gateways().iter() {
            let mut ledger = Ledger::new(gateway);
            ledger.inert("spec", "Gateways are for gateway workloads, and this is a sidecar");
            notes.fates.append(&mut ledger.notes.fates);
        }
    }
    (plan, notes)
}

/// Who vouches for workloads beside the mesh's own CA.
fn authorities(mesh: &MeshConfig, config: &ProxyConfig) -> Arc<[MeshAuthority]> {
    // Of a bundle that nobody fetches nothing is known, and nobody else vouches for its domains.
    let of_mesh = mesh.ca_certificates.iter().map(|c| (c.pem.as_deref().unwrap_or_default(), &c.trust_domains[..]));
    let of_proxy = config.ca_certificates_pem.iter().map(|pem| (&**pem, &[][..]));
    let authority = |(pem, domains): (&str, &[String])| MeshAuthority {
        pem: pem.into(),
        trust_domains: domains.iter().map(|d| d.as_str().into()).collect(),
    };
    let says = |(pem, domains): &(&str, &[String])| !pem.is_empty() || !domains.is_empty();
    of_mesh.chain(of_proxy).filter(says).map(authority).collect()
}

const ALLOW_ANY: &str = "outboundTrafficPolicy is ALLOW_ANY by default";

/// What happens to traffic to unknown destinations.
pub(crate) struct OutboundPolicy {
    /// It is let through.
    pub(crate) allow: bool,
    /// Where the client names a host, that is looked up (ALLOW_ANY_DYNAMIC_DNS).
    pub(crate) by_name: bool,
    /// What is put around HTTP to such hosts.
    pub(crate) tls: Option<Arc<UpstreamTls>>,
    /// Who says so.
    pub(crate) origin: Provenance,
    /// The service that takes it, if any.
    pub(crate) proxy: Option<Destination>,
}

/// Whether traffic to unknown destinations is let through, who says so, and the service that takes it, if any.
pub(crate) fn outbound_policy(world: &World, id: &ProxyId, workload: Option<&Arc<Workload>>) -> OutboundPolicy {
    let field = "spec.outboundTrafficPolicy";
    // A Sidecar says nothing about gateways, which are not sent any.
    let sidecar = sidecar_for(world, &id.namespace, workload.map(|w| &**w)).filter(|_| id.kind == ProxyKind::Sidecar);
    let of_sidecar = sidecar.and_then(|s| {
        let policy = s.spec.outbound_traffic_policy.as_ref()?;
        Some((policy, Provenance::field(&s.key, &s.origin, field)))
    });
    let mesh = world.mesh();
    let of_mesh = || {
        let policy = mesh.spec.outbound_traffic_policy.as_ref()?;
        Some((policy, Provenance::setting(mesh, field, ALLOW_ANY)))
    };
    match of_sidecar.or_else(of_mesh) {
        Some((OutboundTrafficPolicy { mode, egress_proxy, tls }, origin)) => {
            let by_name = *mode == OutboundTrafficPolicyMode::AllowAnyDynamicDns;
            let around = |tls| {
                let origin = Provenance::setting(mesh, "spec.outboundTrafficPolicy.tls", "no TLS by default");
                to_unknown(tls, &id.namespace, mesh, origin)
            };
            OutboundPolicy {
                allow: *mode != OutboundTrafficPolicyMode::RegistryOnly,
                by_name,
                tls: tls.as_ref().filter(|_| by_name).and_then(around).map(Arc::new),
                origin,
                proxy: egress_proxy.clone(),
            }
        }
        None => OutboundPolicy {
            allow: true,
            by_name: false,
            tls: None,
            origin: Provenance::default(ALLOW_ANY),
            proxy: None,
        },
    }
}

/// An annotation that can't be read has no effect, which somebody must say.
pub(super) fn wrong_annotation(id: &ProxyId, why: String) -> Report {
    let key = Key::new(Kind::new("", "Pod"), &id.namespace, &id.name);
    let origin = Origin::generated("the pod of this proxy");
    let field = "metadata.annotations";
    super::codes::ANNOTATION.report((&key, &origin), field, why)
}

/// The `server` header; `proxyHeaders.server` changes it.
pub(super) fn server_header(config: &ProxyConfig, default: &str) -> ServerHeader {
    match config.proxy_headers.as_ref().and_then(|h| h.server.as_ref()) {
        Some(s) if s.disabled == Some(true) => ServerHeader::PassThrough,
        Some(s) if !s.value.is_empty() => ServerHeader::Overwrite(s.value.as_str().into()),
        _ => ServerHeader::Overwrite(default.into()),
    }
}

/// `gatewayTopology.numTrustedProxies`.
pub(super) fn trusted_hops(config: &ProxyConfig) -> u32 {
    config.gateway_topology.as_ref().map_or(0, |t| t.num_trusted_proxies)
}

/// `gatewayTopology.proxyProtocol`.
fn accepts_proxy_header(config: &ProxyConfig) -> bool {
    config.gateway_topology.as_ref().is_some_and(|t| t.proxy_protocol.is_some())
}

/// `pathNormalization`, and `httpMergeSlashes` of the proxy.
pub(super) fn path_normalization(mesh: &Object<MeshConfig>, config: &ProxyConfig) -> PathNormalization {
    use crate::api::PathNormalization as Api;
    let of_mesh = match mesh.spec.path_normalization.as_ref().map_or(Api::Default, |p| p.normalization) {
        Api::Default | Api::Base => PathNormalization::Base,
        Api::None => PathNormalization::None,
        Api::MergeSlashes => PathNormalization::MergeSlashes,
        Api::DecodeAndMergeSlashes => PathNormalization::DecodeAndMergeSlashes,
    };
    settings::merged_slashes(config, of_mesh)
}

fn account_sidecar(ledger: &mut Ledger<'_>, sidecar: &Sidecar) {
    let Sidecar { workload_selector, ingress, egress, inbound_connection_pool, outbound_traffic_policy } = sidecar;
    // `inbound` says what becomes of it, and of the pools of ingress: it knows the ports.
    let _ = inbound_connection_pool;
    if let Some(selector) = workload_selector {
        ledger.consumed("spec.workloadSelector");
        ledger.take_map("spec.workloadSelector", "labels", &selector.labels);
    }
    for (i, listener) in ingress.iter().enumerate() {
        super::inbound::account(ledger, &format!("spec.ingress[{i}]"), listener);
    }
    for (i, listener) in egress.iter().enumerate() {
        let at = format!("spec.egress[{i}]");
        let IstioEgressListener { port, bind, capture_mode, hosts } = listener;
        ledger.take(&at, "bind", bind);
        let unix = bind.starts_with("unix:");
        match port {
            Some(port) if unix && names_hosts(&port.protocol) => {
                let number = "a unix socket has no port: clients name it in each request";
                ledger.without_effect(&format!("{at}.port"), "number", &port.number, number);
                account_port(ledger, &at, Some(&SidecarPort { number: 0, ..port.clone() }));
            }
            _ => account_port(ledger, &at, port.as_ref()),
        }
        match (capture_mode, port) {
            (mode, Some(_)) if unix => {
                ledger.without_effect(&at, "captureMode", mode, "a unix socket is dialled, whatever this says");
            }
            (CaptureMode::None, Some(_)) => {
                ledger.take(&at, "captureMode", capture_mode);
            }
            (CaptureMode::None, None) => {
                ledger.inert(&format!("{at}.captureMode"), "without a port there is nothing that could be dialled");
            }
            _ => ledger.without_effect(&at, "captureMode", capture_mode, "connections of pods are captured anyway"),
        }
        ledger.take_list(&at, "hosts", hosts);
    }
    if let Some(policy) = outbound_traffic_policy {
        account_policy(ledger, "spec.outboundTrafficPolicy", policy, false);
    }
}

/// Clients of such a listener say in each request where they want to go.
fn names_hosts(protocol: &str) -> bool {
    AppProtocol::of_port(Some(protocol), "", 0).is_http() || protocol.eq_ignore_ascii_case("HTTP_PROXY")
}

/// What became of the fields of a Sidecar's port.
pub(super) fn account_port(ledger: &mut Ledger<'_>, at: &str, port: Option<&SidecarPort>) {
    let Some(SidecarPort { number, protocol, name, target_port }) = port else { return };
    let at = format!("{at}.port");
    ledger.take(&at, "number", number);
    ledger.take(&at, "protocol", protocol);
    ledger.without_effect(&at, "name", name, "it only names the port");
    ledger.without_effect(&at, "targetPort", target_port, "it has no effect in Istio");
}

fn account_policy(ledger: &mut Ledger<'_>, at: &str, policy: &OutboundTrafficPolicy, of_mesh: bool) {
    let OutboundTrafficPolicy { mode, egress_proxy, tls } = policy;
    ledger.consumed(at);
    ledger.take(at, "mode", mode);
    if let Some(tls) = tls {
        let path = format!("{at}.tls");
        match mode {
            OutboundTrafficPolicyMode::AllowAnyDynamicDns if of_mesh => account_tls(ledger, &path, tls),
            _ => ledger.inert(&path, "it is for mode ALLOW_ANY_DYNAMIC_DNS, which only the mesh's settings can have"),
        }
    }
    if let Some(Destination { host, subset, port }) = egress_proxy {
        let at = format!("{at}.egressProxy");
        if *mode == OutboundTrafficPolicyMode::RegistryOnly {
            return ledger.inert(&at, "mode REGISTRY_ONLY sends nothing to unknown destinations");
        }
        ledger.take(&at, "host", host);
        ledger.take(&at, "subset", subset);
        if let Some(port) = port {
            ledger.take(&format!("{at}.port"), "number", &port.number);
        }
    }
}

/// What became of the mesh's fields. Everything that is not read here is not in force yet.
fn account_mesh(mesh: &Object<MeshConfig>, id: &ProxyId, balancing: &BalancingClient, notes: &mut Notes) {
    let mut ledger = Ledger::new(mesh);
    let read = &mesh.spec;
    let at = "spec";
    ledger.take(at, "accessLogFile", &read.access_log_file);
    ledger.take(at, "accessLogFormat", &read.access_log_format);
    ledger.take(at, "accessLogEncoding", &read.access_log_encoding);
    ledger.take(at, "protocolDetectionTimeout", &read.protocol_detection_timeout);
    ledger.take(at, "connectTimeout", &read.connect_timeout);
    ledger.take(at, "rootNamespace", &read.root_namespace);
    ledger.take_list(at, "defaultServiceExportTo", &read.default_service_export_to);
    ledger.take_list(at, "defaultVirtualServiceExportTo", &read.default_virtual_service_export_to);
    ledger.take_list(at, "defaultDestinationRuleExportTo", &read.default_destination_rule_export_to);
    if let Some(policy) = &read.outbound_traffic_policy {
        account_policy(&mut ledger, "spec.outboundTrafficPolicy", policy, true);
    }
    if let Some(path) = &read.path_normalization {
        ledger.consumed("spec.pathNormalization");
        ledger.take("spec.pathNormalization", "normalization", &path.normalization);
    }
    if let Some(retry) = &read.default_http_retry_policy {
        // A wrong policy is reported by validation; the built-in one is in force instead.
        let _ = super::virtual_service::retry_plan(&mut ledger, "spec.defaultHttpRetryPolicy", retry);
    }
    if let Some(retry) = &read.default_inbound_http_retry_policy {
        account_inbound_retry(&mut ledger, "spec.defaultInboundHttpRetryPolicy", retry);
    }
    account_mesh_locality(&mut ledger, read, balancing);
    if let Some(outlier) = read.default_traffic_policy.as_ref().and_then(|p| p.outlier_detection.as_ref()) {
        account_outlier(&mut ledger, "spec.defaultTrafficPolicy.outlierDetection", outlier);
    }
    if let Some(pool) = read.default_traffic_policy.as_ref().and_then(|p| p.connection_pool.as_ref()) {
        // PassthroughCluster follows the client, and has the limits, in every proxy that has one.
        let kind = pool::Kind { protocol: UpstreamProtocol::Client, upgradable: true };
        pool::account(&mut ledger, "spec.defaultTrafficPolicy.connectionPool", pool, kind, false);
    }
    if let Some(keepalive) = &read.tcp_keepalive {
        pool::account_keepalive(&mut ledger, "spec.tcpKeepalive", keepalive);
    }
    ledger.take(at, "h2UpgradePolicy", &read.h2_upgrade_policy);
    if let Some(config) = &read.default_config {
        account_proxy(&mut ledger, config, id);
    }
    fates::mesh(&mut ledger, read, id);
    rest_later(&mut ledger, mesh);
    notes.fates.append(&mut ledger.notes.fates);
}

/// Of the inbound policy only the number, the conditions and the back-off count.
fn account_inbound_retry(ledger: &mut Ledger<'_>, at: &str, policy: &HttpRetry) {
    let HttpRetry {
        attempts,
        per_try_timeout,
        retry_on,
        retry_remote_localities,
        retry_ignore_previous_hosts,
        backoff,
    } = policy;
    ledger.take(at, "attempts", attempts);
    let ignored = "the policy to the own application does not use it";
    ledger.without_effect(at, "perTryTimeout", per_try_timeout, ignored);
    ledger.without_effect(at, "retryRemoteLocalities", retry_remote_localities, ignored);
    ledger.without_effect(at, "retryIgnorePreviousHosts", retry_ignore_previous_hosts, ignored);
    if *attempts > 0 {
        ledger.take(at, "retryOn", retry_on);
        ledger.take(at, "backoff", backoff);
    } else {
        let why = "attempts is 0 or not set: retries are off";
        ledger.without_effect(at, "retryOn", retry_on, why);
        ledger.without_effect(at, "backoff", backoff, why);
    }
}

fn account_proxy(ledger: &mut Ledger<'_>, config: &ProxyConfig, id: &ProxyId) {
    let at = "spec.defaultConfig";
    fates::proxy(ledger, config, id);
    ledger.take(at, "drainDuration", &config.drain_duration);
    ledger.take(at, "terminationDrainDuration", &config.termination_drain_duration);
    if let Some(Topology { num_trusted_proxies, forward_client_cert_details: _, proxy_protocol }) =
        &config.gateway_topology
    {
        let at = format!("{at}.gatewayTopology");
        match id.kind {
            ProxyKind::Gateway => {
                ledger.take(&at, "numTrustedProxies", num_trusted_proxies);
                ledger.take(&at, "proxyProtocol", proxy_protocol);
            }
            ProxyKind::Sidecar => {
                ledger.inert(&format!("{at}.numTrustedProxies"), "it is for gateways");
                ledger.without_effect(&at, "proxyProtocol", proxy_protocol, "it is for gateways");
            }
        }
    }
    if let Some(ProxyHeaders { server: Some(server), .. }) = &config.proxy_headers {
        let at = format!("{at}.proxyHeaders.server");
        ledger.take(&at, "disabled", &server.disabled);
        match server.disabled {
            Some(true) => ledger.without_effect(&at, "value", &server.value, "the header is left alone"),
            _ => {
                ledger.take(&at, "value", &server.value);
            }
        }
    }
}

/// Leaves of MeshConfig that nothing above has read.
fn rest_later(ledger: &mut Ledger<'_>, mesh: &Object<MeshConfig>) {
    let account =
        super::Account { parts: vec![Arc::new(std::mem::take(&mut ledger.notes))], ..super::Account::default() };
    let mut rest = Vec::new();
    for leaf in account.leaves(mesh).into_iter().filter(|l| l.outcome.is_none()) {
        let belongs_to = later::belongs_to(&leaf.field).into();
        rest.push(crate::report::Fate {
            object: mesh.key.clone(),
            field: leaf.field.into(),
            outcome: crate::report::Outcome::NotInForceYet { belongs_to },
        });
    }
    let [part] = &account.parts[..] else { return };
    ledger.notes = Notes::clone(part);
    ledger.notes.fates.extend(rest);
}
