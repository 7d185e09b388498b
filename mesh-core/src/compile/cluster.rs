//! Service port + DestinationRules -> clusters: the one of the port, and one for each subset.

mod balancing;
mod hops;
mod policy;
pub(super) mod pool;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) use balancing::{Client as BalancingClient, account_mesh_locality, account_outlier};
pub(super) use hops::{account_settings as account_tls, to_unknown};
pub(super) use policy::{RuleIndex, Rules};
pub(super) use pool::ClusterDefaults;
use pool::{Kind, Pool};

use super::account::Ledger;
use super::memo::{Notes, Planned, hash_debug};
use crate::api::{
    ClientTlsSettings, ConnectionPoolSettings, ContentHash, DestinationRule, LabelSelector, LoadBalancerSettings,
    Object, OutlierDetection, ProxyProtocol, RetryBudget, SimpleLb, Subset, TrafficPolicy, TunnelSettings,
};
use crate::model::{AppProtocol, Location, Resolution, Service, ServicePort, Workload};
use crate::snapshot::{
    Balancer, Balancing, ClusterPlan, DnsName, EndpointSource, MeshPeer, Provenance, UpstreamProtocol,
};
use crate::world::World;

/// `outbound|9080|v1|reviews.default.svc.cluster.local`.
pub(super) fn name(port: u16, subset: &str, host: &str) -> Arc<str> {
    format!("outbound|{port}|{subset}|{host}").into()
}

/// HTTP to hosts that nobody knows, by the name that each request has; TLS is put around it if the mesh says so.
pub(super) const DYNAMIC_DNS: &str = "AllowAnyDynamicDNSCluster";
/// The same as a server name and for clusters that send on what comes: `outbound_.9080_.v1_.reviews.default.svc.cluster.local`.
pub(super) fn dotted(name: &str) -> Arc<str> {
    name.replace('|', "_.").into()
}

/// A cluster for bytes that are TLS already, which a client has begun with the endpoint.
pub(super) fn as_it_comes(plan: &ClusterPlan) -> ClusterPlan {
    with_hash(ClusterPlan {
        name: dotted(&plan.name),
        protocol: UpstreamProtocol::Tcp,
        tls: None,
        auto_tls: None,
        tls_origin: Provenance::default("the client's TLS goes on to the endpoint as it is"),
        ..plan.clone()
    })
}

/// Traffic to where the client dialled.
pub(super) const PASSTHROUGH: &str = "PassthroughCluster";
/// Nothing.
pub(super) const BLACK_HOLE: &str = "BlackHoleCluster";
/// Traffic to ports of the own application that no service declares.
pub(super) const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";

/// Everything that the clusters of a service port depend on.
pub(super) struct ClusterInput<'a> {
    pub(super) service: &'a Arc<Service>,
    pub(super) port: &'a ServicePort,
    pub(super) rules: Rules<'a>,
    pub(super) defaults: &'a ClusterDefaults,
    /// Workloads that the service's selector picks, where DNS finds them; otherwise endpoints are not configuration.
    pub(super) selected: &'a [Arc<Workload>],
    /// The World, and the policies that say which connections workloads take, where DNS finds them.
    pub(super) world: &'a World,
    pub(super) modes: ContentHash,
    /// Gateways have no original destination: headless services are balanced there.
    pub(super) gateway: bool,
    /// Namespace of the proxy: its Secrets are used.
    pub(super) namespace: &'a Arc<str>,
}

impl ClusterInput<'_> {
    pub(super) fn hash(&self) -> ContentHash {
        let h = self.service.hash.with_str(&self.service.namespace).with_str(&self.service.hostname);
        let h = h.with(ContentHash(self.port.number.into())).with(ContentHash(self.gateway.into()));
        let h = h.with(self.modes);
        let h = self.selected.iter().fold(h, |h, w| h.with(w.hash));
        self.rules.iter().fold(h.with(self.defaults.hash), |h, r| h.with(r.hash).with_str(&r.key.name))
    }
}

/// What a rule says for a port or subset: blocks with their paths. A block is taken whole.
#[derive(Clone, Copy, Default)]
struct Blocks<'a> {
    balancer: Option<(&'a LoadBalancerSettings, At<'a>)>,
    pool: Option<(&'a ConnectionPoolSettings, At<'a>)>,
    tls: Option<(&'a ClientTlsSettings, At<'a>)>,
    tunnel: Option<(&'a TunnelSettings, At<'a>)>,
    proxy_protocol: Option<(&'a ProxyProtocol, At<'a>)>,
    budget: Option<(&'a RetryBudget, At<'a>)>,
    outlier: Option<(&'a OutlierDetection, At<'a>)>,
    /// An entry of a subset for the port: what it leaves out has its built-in default, not the mesh's.
    of_subset_port: bool,
}

impl Blocks<'_> {
    /// Whether endpoints are ever taken out: by these blocks, or by the mesh's default.
    fn ejects(&self, input: &ClusterInput<'_>) -> bool {
        self.outlier.is_some() || (!self.of_subset_port && input.defaults.client.outlier.is_some())
    }
}

/// A rule and the path of a policy in it.
#[derive(Clone, Copy)]
struct At<'a> {
    rule: &'a Object<DestinationRule>,
    place: Place,
}

/// Where in a DestinationRule a policy is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Top,
    Port(usize),
    Subset(usize),
    SubsetPort(usize, usize),
}

impl Place {
    fn path(self) -> String {
        match self {
            Self::Top => "spec.trafficPolicy".into(),
            Self::Port(i) => format!("spec.trafficPolicy.portLevelSettings[{i}]"),
            Self::Subset(s) => format!("spec.subsets[{s}].trafficPolicy"),
            Self::SubsetPort(s, i) => format!("spec.subsets[{s}].trafficPolicy.portLevelSettings[{i}]"),
        }
    }
}

pub(super) fn plan_clusters(input: &ClusterInput<'_>) -> Planned<Arc<[Arc<ClusterPlan>]>> {
    let mut notes = Notes::default();
    let number = input.port.number;
    let policy = input.rules.iter().find_map(|r| r.spec.traffic_policy.as_ref().map(|p| (&**r, p)));
    let base = policy.map_or(Blocks::default(), |(rule, p)| port_blocks(rule, p, number));
    let mut used = vec![base];
    let mut plans = vec![Arc::new(cluster(input, None, base))];
    let mut seen: Vec<&str> = Vec::new();
    for rule in &*input.rules {
        for (i, subset) in rule.spec.subsets.iter().enumerate() {
            if seen.contains(&subset.name.as_str()) {
                continue;
            }
            seen.push(&subset.name);
            let blocks = subset_blocks(rule, i, subset, number, base);
            used.push(blocks);
            plans.push(Arc::new(cluster(input, Some((rule, i, subset)), blocks)));
        }
    }
    for (i, rule) in input.rules.iter().enumerate() {
        let mut ledger = Ledger::new(rule);
        account(&mut ledger, rule, input, policy.is_some_and(|(p, _)| p.key == rule.key), &used, i);
        notes.fates.extend(ledger.notes.fates);
        notes.reports.extend(ledger.notes.reports);
    }
    Planned::new(plans.into(), notes)
}

/// The policy of a port: its entry in `portLevelSettings` replaces the whole of the rest.
fn port_blocks<'a>(rule: &'a Object<DestinationRule>, policy: &'a TrafficPolicy, port: u16) -> Blocks<'a> {
    let entry = entry(policy, port);
    match entry {
        Some(i) => {
            let (p, at) = (&policy.port_level_settings[i], At { rule, place: Place::Port(i) });
            Blocks {
                balancer: p.load_balancer.as_ref().map(|b| (b, at)),
                pool: p.connection_pool.as_ref().map(|b| (b, at)),
                tls: p.tls.as_ref().map(|b| (b, at)),
                // A port's own policy leaves these two out, as Istio's.
                tunnel: None,
                proxy_protocol: None,
                outlier: p.outlier_detection.as_ref().map(|b| (b, at)),
                of_subset_port: false,
                budget: None,
            }
        }
        None => {
            let at = At { rule, place: Place::Top };
            Blocks {
                balancer: policy.load_balancer.as_ref().map(|b| (b, at)),
                pool: policy.connection_pool.as_ref().map(|b| (b, at)),
                tls: policy.tls.as_ref().map(|b| (b, at)),
                tunnel: policy.tunnel.as_ref().map(|b| (b, at)),
                proxy_protocol: policy.proxy_protocol.as_ref().map(|b| (b, at)),
                outlier: policy.outlier_detection.as_ref().map(|b| (b, at)),
                of_subset_port: false,
                budget: policy.retry_budget.as_ref().map(|b| (b, at)),
            }
        }
    }
}

fn entry(policy: &TrafficPolicy, port: u16) -> Option<usize> {
    let number = |p: &crate::api::PortTrafficPolicy| p.port.as_ref().map(|s| s.number);
    policy.port_level_settings.iter().position(|p| number(p) == Some(port.into()))
}

/// The policy of a subset: the port's, each block replaced by the subset's own; an entry for the port in the subset's
/// policy replaces all of it.
fn subset_blocks<'a>(
    rule: &'a Object<DestinationRule>,
    index: usize,
    subset: &'a Subset,
    port: u16,
    base: Blocks<'a>,
) -> Blocks<'a> {
    let Some(policy) = &subset.traffic_policy else { return base };
    let own = At { rule, place: Place::Subset(index) };
    // An entry for a port knows no budget, so it takes none away.
    let budget = policy.retry_budget.as_ref().map(|b| (b, own)).or(base.budget);
    if let Some(i) = entry(policy, port) {
        let (p, at) = (&policy.port_level_settings[i], At { rule, place: Place::SubsetPort(index, i) });
        return Blocks {
            balancer: p.load_balancer.as_ref().map(|b| (b, at)),
            pool: p.connection_pool.as_ref().map(|b| (b, at)),
            tls: p.tls.as_ref().map(|b| (b, at)),
            tunnel: base.tunnel,
            proxy_protocol: policy.proxy_protocol.as_ref().map(|b| (b, own)).or(base.proxy_protocol),
            budget,
            outlier: p.outlier_detection.as_ref().map(|b| (b, at)),
            of_subset_port: true,
        };
    }
    Blocks {
        balancer: policy.load_balancer.as_ref().map(|b| (b, own)).or(base.balancer),
        pool: policy.connection_pool.as_ref().map(|b| (b, own)).or(base.pool),
        tls: policy.tls.as_ref().map(|b| (b, own)).or(base.tls),
        tunnel: base.tunnel,
        proxy_protocol: policy.proxy_protocol.as_ref().map(|b| (b, own)).or(base.proxy_protocol),
        budget,
        outlier: policy.outlier_detection.as_ref().map(|b| (b, own)).or(base.outlier),
        of_subset_port: false,
    }
}

type SubsetOf<'a> = (&'a Object<DestinationRule>, usize, &'a Subset);

fn cluster(input: &ClusterInput<'_>, subset: Option<SubsetOf<'_>>, blocks: Blocks<'_>) -> ClusterPlan {
    let service = input.service;
    let simple = blocks.balancer.filter(|(b, _)| b.consistent_hash.is_none()).and_then(|(b, _)| b.simple);
    let labels = subset.map(|(_, _, s)| s.labels.clone()).unwrap_or_default();
    let subset_name = subset.map_or("", |(_, _, s)| &s.name);
    let at =
        |a: At<'_>, field: &str| Provenance::field(&a.rule.key, &a.rule.origin, &format!("{}{field}", a.place.path()));
    let balancer_at = blocks.balancer.map(|(_, a)| at(a, ".loadBalancer"));
    let pool_at = blocks.pool.map(|(_, a)| at(a, ".connectionPool"));
    let block = blocks.pool.map(|(p, _)| p).zip(pool_at.clone());
    let kind = Kind { protocol: upstream_protocol(input.port.protocol), upgradable: true };
    let pool = pool::plan(kind, block, blocks.budget.map(|(b, _)| b), input.defaults);
    let subset_at = subset.map(|(r, i, _)| Provenance::field(&r.key, &r.origin, &format!("spec.subsets[{i}]")));
    let hops = hops::plan(input, subset_name, &blocks);
    let policy_origin = balancer_at.or(pool_at).or(subset_at);
    let source = match simple {
        Some(SimpleLb::Passthrough) if !input.gateway => EndpointSource::OriginalDst { port: None },
        _ => source(input, labels),
    };
    let (balancer, balancing) = balancing::plan(input, &blocks, &source);
    let balancing = input.defaults.balancing(balancing);
    with_hash(ClusterPlan {
        name: name(input.port.number, subset_name, &service.hostname),
        source,
        protocol: pool.protocol,
        balancer,
        balancing,
        tls: hops.tls,
        auto_tls: hops.auto_tls,
        tls_origin: hops.tls_origin.unwrap_or_else(no_service),
        proxy_header: hops.proxy_header,
        tunnel: hops.tunnel,
        connect_timeout: pool.connect_timeout,
        pool: pool.plan,
        pool_origin: pool.origin,
        service: service.hostname.clone(),
        service_name: short_name(service),
        service_namespace: service.namespace.clone(),
        external: service.location == Location::External,
        subset: subset_name.into(),
        origin: Provenance::field(&service.key, &service.origin, "spec"),
        policy_origin: policy_origin.unwrap_or_else(|| input.defaults.origin.clone()),
        hash: ContentHash::default(),
    })
}

/// Name of the service for metrics: the object's for Kubernetes' own services, the host otherwise.
fn short_name(service: &Service) -> Arc<str> {
    match &*service.key.kind.kind {
        "Service" => service.key.name.clone(),
        _ => service.hostname.clone(),
    }
}

fn source(input: &ClusterInput<'_>, labels: BTreeMap<String, String>) -> EndpointSource {
    let (service, port) = (input.service, input.port);
    let endpoints = || EndpointSource::Service {
        namespace: service.namespace.clone(),
        hostname: service.hostname.clone(),
        port: port.number,
        labels: labels.clone(),
    };
    match service.resolution {
        // A headless service has no address to balance: the client has chosen an instance by its own look-up.
        Resolution::Static if service.headless && !input.gateway => EndpointSource::OriginalDst { port: None },
        Resolution::Static => endpoints(),
        Resolution::None if input.gateway => EndpointSource::BlackHole,
        Resolution::None => EndpointSource::OriginalDst { port: other_port(port) },
        Resolution::Dns | Resolution::DnsRoundRobin => EndpointSource::Dns {
            names: names(input, &labels),
            first_only: service.resolution == Resolution::DnsRoundRobin,
            retry: input.defaults.dns_refresh_rate(),
        },
        Resolution::DynamicDns => EndpointSource::DynamicDns { port: other_port(port) },
    }
}

/// `targetPort`, where it is not the port that clients dial.
fn other_port(port: &ServicePort) -> Option<u16> {
    Some(port.target_port).filter(|p| *p != 0 && *p != port.number)
}

/// What the instances of a service that DNS finds are called; without any, the service's host itself is looked up.
fn names(input: &ClusterInput<'_>, labels: &BTreeMap<String, String>) -> Vec<DnsName> {
    let (service, port) = (input.service, input.port);
    let target = other_port(port).unwrap_or(port.number);
    let listed = service.endpoints.iter().chain(input.selected).filter(|e| crate::world::covers(labels, &e.labels));
    let named = listed.filter_map(|e| {
        let host = e.hostname.clone().or_else(|| Some(e.addresses.first()?.to_string().into()))?;
        let port = e.ports.get(&*port.name).copied().unwrap_or(target);
        let (takes, _) = crate::peer::takes_mtls(input.world, e, port);
        let identities = crate::peer::identities(&input.defaults.mesh.trust, e);
        Some(DnsName { host, port, workload: e.clone(), mesh: MeshPeer { takes, identities } })
    });
    let mut names: Vec<DnsName> = named.collect();
    if service.endpoints.is_empty() && service.selector.is_none() && labels.is_empty() {
        let (host, workload) = (service.hostname.clone(), Arc::default());
        names.push(DnsName { host, port: target, workload, mesh: MeshPeer::default() });
    }
    names
}

/// HTTP version towards instances of a port.
pub(super) fn upstream_protocol(protocol: AppProtocol) -> UpstreamProtocol {
    match protocol {
        AppProtocol::Http2 | AppProtocol::Grpc => UpstreamProtocol::Http2,
        AppProtocol::Http | AppProtocol::GrpcWeb => UpstreamProtocol::Http1,
        AppProtocol::Auto => UpstreamProtocol::Client,
        AppProtocol::Tcp | AppProtocol::Tls | AppProtocol::Https | AppProtocol::Udp => UpstreamProtocol::Tcp,
    }
}

fn no_service() -> Provenance {
    Provenance::default("the destination is no service of the mesh")
}

/// A cluster that no service makes.
pub(super) fn special(
    name: &str,
    source: EndpointSource,
    protocol: UpstreamProtocol,
    origin: Provenance,
    defaults: &ClusterDefaults,
) -> Arc<ClusterPlan> {
    let pool = pool::plan(Kind { protocol, upgradable: false }, None, None, defaults);
    Arc::new(with_hash(special_with(name, source, origin, pool, defaults)))
}

/// The same with limits of its own, and without a hash yet.
pub(super) fn special_with(
    name: &str,
    source: EndpointSource,
    origin: Provenance,
    pool: Pool,
    defaults: &ClusterDefaults,
) -> ClusterPlan {
    ClusterPlan {
        name: name.into(),
        source,
        protocol: pool.protocol,
        balancer: Balancer::default(),
        balancing: defaults.balancing(Balancing::default()),
        tls: None,
        auto_tls: None,
        tls_origin: no_service(),
        proxy_header: None,
        tunnel: None,
        connect_timeout: pool.connect_timeout,
        pool: pool.plan,
        pool_origin: pool.origin,
        service: "".into(),
        service_name: "".into(),
        service_namespace: "".into(),
        external: false,
        subset: "".into(),
        origin,
        policy_origin: defaults.origin.clone(),
        hash: ContentHash::default(),
    }
}

/// Hash over all of a cluster but where it was written.
pub(super) fn with_hash(mut plan: ClusterPlan) -> ClusterPlan {
    let ClusterPlan {
        name,
        source,
        protocol,
        balancer,
        balancing,
        connect_timeout,
        tls,
        auto_tls,
        proxy_header,
        tunnel,
        pool,
        service,
        service_name,
        service_namespace,
        external,
        subset,
        origin: _,
        tls_origin: _,
        policy_origin: _,
        pool_origin: _,
        hash: _,
    } = &plan;
    let labels = (service, service_name, service_namespace, external, subset);
    let hops = (tls.as_ref().map(|t| t.hash), auto_tls.as_ref().map(|t| t.hash), proxy_header, tunnel);
    let balancing = balancing::without_origins(balancing);
    plan.hash = hash_debug(&(name, source, protocol, balancer, balancing, connect_timeout, pool, hops, labels));
    plan
}

/// The blocks of a policy that say how to dial.
type Dialled<'a> = (Option<&'a ClientTlsSettings>, Option<&'a TunnelSettings>, Option<&'a ProxyProtocol>);

fn dialled(policy: &TrafficPolicy) -> Dialled<'_> {
    (policy.tls.as_ref(), policy.tunnel.as_ref(), policy.proxy_protocol.as_ref())
}

/// What became of a rule's fields for this service port.
fn account(
    ledger: &mut Ledger<'_>,
    rule: &Object<DestinationRule>,
    input: &ClusterInput<'_>,
    decides: bool,
    used: &[Blocks<'_>],
    index: usize,
) {
    let DestinationRule { host, traffic_policy, subsets, export_to, workload_selector } = &rule.spec;
    ledger.take("spec", "host", host);
    ledger.take_list("spec", "exportTo", export_to);
    if let Some(LabelSelector { match_labels }) = workload_selector {
        ledger.consumed("spec.workloadSelector");
        ledger.take_map("spec.workloadSelector", "matchLabels", match_labels);
    }
    let is_used = |place| {
        let here = |a: &At<'_>| a.rule.key == rule.key && a.place == place;
        let pool: Vec<_> = used.iter().filter(|b| b.pool.as_ref().is_some_and(|(_, a)| here(a))).collect();
        policy::Used {
            balancer: used.iter().any(|b| b.balancer.as_ref().is_some_and(|(_, a)| here(a))),
            pool: !pool.is_empty(),
            // Where one cluster of several has no budget, maxRetries limits that one.
            budgeted: !pool.is_empty() && pool.iter().all(|b| b.budget.is_some()),
            budget: used.iter().any(|b| b.budget.as_ref().is_some_and(|(_, a)| here(a))),
            outlier: used.iter().any(|b| b.outlier.as_ref().is_some_and(|(_, a)| here(a))),
            ejects: used.iter().any(|b| b.balancer.as_ref().is_some_and(|(_, a)| here(a)) && b.ejects(input)),
            chooses: used.iter().any(|b| {
                b.outlier.as_ref().is_some_and(|(_, a)| here(a))
                    && balancing::chooses(input, b.balancer.map(|(s, _)| s))
            }),
        }
    };
    let hops = |ledger: &mut Ledger<'_>, place: Place, policy: Dialled<'_>| {
        let here = |a: &At<'_>| a.rule.key == rule.key && a.place == place;
        let used = hops::Used {
            tls: used.iter().any(|b| b.tls.as_ref().is_some_and(|(_, a)| here(a))),
            tunnel: used.iter().any(|b| b.tunnel.as_ref().is_some_and(|(_, a)| here(a))),
            proxy_protocol: used.iter().any(|b| b.proxy_protocol.as_ref().is_some_and(|(_, a)| here(a))),
        };
        hops::account(ledger, &place.path(), policy, input, (used, At { rule, place }));
    };
    match traffic_policy {
        Some(_) if !decides => ledger.overridden("spec.trafficPolicy", "an older DestinationRule for the same host"),
        Some(policy) => {
            policy::account(ledger, "spec.trafficPolicy", policy, input, is_used(Place::Top));
            hops(ledger, Place::Top, dialled(policy));
            for (i, p) in policy.port_level_settings.iter().enumerate() {
                policy::account_port(ledger, &Place::Port(i).path(), p, input, is_used(Place::Port(i)));
                hops(ledger, Place::Port(i), (p.tls.as_ref(), None, None));
            }
        }
        None => {}
    }
    let earlier = |name: &str, i: usize| {
        let before = input.rules.iter().take(index).any(|r| r.spec.subsets.iter().any(|s| s.name == name));
        before || subsets[..i].iter().any(|s| s.name == name)
    };
    for (i, subset) in subsets.iter().enumerate() {
        let Subset { name, labels, traffic_policy } = subset;
        let at = format!("spec.subsets[{i}]");
        if earlier(name, i) {
            ledger.overridden(&at, &format!("an earlier subset {name} of the same host"));
            continue;
        }
        ledger.consumed(&at);
        ledger.take(&at, "name", name);
        ledger.take_map(&at, "labels", labels);
        let Some(policy) = traffic_policy else { continue };
        policy::account(ledger, &format!("{at}.trafficPolicy"), policy, input, is_used(Place::Subset(i)));
        hops(ledger, Place::Subset(i), dialled(policy));
        for (j, p) in policy.port_level_settings.iter().enumerate() {
            let place = Place::SubsetPort(i, j);
            policy::account_port(ledger, &place.path(), p, input, is_used(place));
            hops(ledger, place, (p.tls.as_ref(), None, None));
        }
    }
}

#[cfg(test)]
mod tests;
