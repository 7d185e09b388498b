//! The World: every object and index at one version. Immutable; a changed World shares what did not change.
//!
//! A node makes one from the objects it reads; a proxy makes one from the resources it is sent. Both are compiled by
//! the same code ([`crate::compile`]).

mod list;
mod texts;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::api::{
    AuthorizationPolicy, ContentHash, DestinationRule, Gateway, Key, Kind, LocalRateLimit, MeshConfig, Meta, Object,
    Origin, PeerAuthentication, ProxySettings, RequestAuthentication, Sidecar, VirtualService,
};
use crate::matching::HostPattern;
use crate::model::{Service, Workload};
use crate::snapshot::Map;

pub use list::{List, Listed};
pub(crate) use texts::Texts;

type ByNamespace<T> = Map<Arc<str>, Vec<Arc<T>>>;

/// All configuration at one version.
#[derive(Clone, Debug)]
pub struct World {
    virtual_services: Arc<List<Object<VirtualService>>>,
    destination_rules: Arc<List<Object<DestinationRule>>>,
    gateways: Arc<List<Object<Gateway>>>,
    sidecars: Arc<List<Object<Sidecar>>>,
    rate_limits: Arc<List<Object<LocalRateLimit>>>,
    proxy_configs: Arc<List<Object<ProxySettings>>>,
    peer_authentications: Arc<List<Object<PeerAuthentication>>>,
    request_authentications: Arc<List<Object<RequestAuthentication>>>,
    authorization_policies: Arc<List<Object<AuthorizationPolicy>>>,
    egress_policies: Arc<List<Object<AuthorizationPolicy>>>,
    services: Arc<List<Service>>,
    workloads: Arc<List<Workload>>,
    mesh: Arc<Object<MeshConfig>>,
    namespaces: Arc<BTreeMap<Arc<str>, BTreeMap<String, String>>>,
    peer_authentications_by_namespace: Arc<ByNamespace<Object<PeerAuthentication>>>,
    services_by_host: Arc<Map<Arc<str>, Vec<Arc<Service>>>>,
    rules_by_host: Arc<Map<HostPattern, Vec<Arc<Object<DestinationRule>>>>>,
    workloads_by_ip: Arc<Map<IpAddr, Arc<Workload>>>,
    workloads_by_namespace: Arc<Map<Arc<str>, Vec<Arc<Workload>>>>,
}

/// One change of a World. Setting an object replaces the one of the same identity.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// Sets a VirtualService.
    VirtualService(Arc<Object<VirtualService>>),
    /// Sets a DestinationRule.
    DestinationRule(Arc<Object<DestinationRule>>),
    /// Sets a Gateway.
    Gateway(Arc<Object<Gateway>>),
    /// Sets a Sidecar.
    Sidecar(Arc<Object<Sidecar>>),
    /// Sets a LocalRateLimit.
    LocalRateLimit(Arc<Object<LocalRateLimit>>),
    /// Sets a ProxyConfig.
    ProxyConfig(Arc<Object<ProxySettings>>),
    /// Sets a PeerAuthentication.
    PeerAuthentication(Arc<Object<PeerAuthentication>>),
    /// Sets a RequestAuthentication.
    RequestAuthentication(Arc<Object<RequestAuthentication>>),
    /// Sets an AuthorizationPolicy.
    AuthorizationPolicy(Arc<Object<AuthorizationPolicy>>),
    /// Sets an EgressPolicy.
    EgressPolicy(Arc<Object<AuthorizationPolicy>>),
    /// Sets a service, by namespace and host name.
    Service(Arc<Service>),
    /// Sets a workload, by uid.
    Workload(Arc<Workload>),
    /// Sets the mesh's settings; `None`: Istio's defaults.
    Mesh(Option<Arc<Object<MeshConfig>>>),
    /// Sets a namespace's labels.
    Namespace(Arc<str>, BTreeMap<String, String>),
    /// Removes an object of the kinds above, or a (core) Namespace.
    Remove(Key),
    /// Removes a service: namespace, host name.
    RemoveService(Arc<str>, Arc<str>),
    /// Removes a workload: uid.
    RemoveWorkload(Arc<str>),
}

impl Default for World {
    fn default() -> Self {
        Self {
            virtual_services: Arc::default(),
            destination_rules: Arc::default(),
            gateways: Arc::default(),
            sidecars: Arc::default(),
            rate_limits: Arc::default(),
            proxy_configs: Arc::default(),
            peer_authentications: Arc::default(),
            request_authentications: Arc::default(),
            authorization_policies: Arc::default(),
            egress_policies: Arc::default(),
            services: Arc::default(),
            workloads: Arc::default(),
            mesh: Arc::new(default_mesh()),
            namespaces: Arc::default(),
            peer_authentications_by_namespace: Arc::default(),
            services_by_host: Arc::default(),
            rules_by_host: Arc::default(),
            workloads_by_ip: Arc::default(),
            workloads_by_namespace: Arc::default(),
        }
    }
}

fn default_mesh() -> Object<MeshConfig> {
    Object {
        key: Key::new(Kind::new("mesh", "MeshConfig"), "istio-system", "istio"),
        meta: Meta { name: "istio".into(), namespace: "istio-system".into(), ..Meta::default() },
        origin: Origin::generated("Istio's default mesh configuration"),
        hash: ContentHash::of(b"default mesh"),
        spec: MeshConfig::default(),
    }
}

impl World {
    /// An empty World with the mesh's defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// A World of these objects; same as applying them to an empty one.
    pub fn of(changes: impl IntoIterator<Item = Change>) -> Self {
        Self::default().with(changes)
    }

    /// The World after some changes, in order. Lists and indexes of kinds that did not change are shared.
    #[must_use]
    pub fn with(&self, changes: impl IntoIterator<Item = Change>) -> Self {
        self.clone().changed(changes)
    }

    /// The same for a World that nobody needs as it was: lists that only it has are changed in place.
    #[must_use]
    pub fn changed(self, changes: impl IntoIterator<Item = Change>) -> Self {
        let mut next = self;
        let mut edits = Edits::default();
        for change in changes {
            match change {
                Change::VirtualService(o) => edits.virtual_services.set(o),
                Change::DestinationRule(o) => edits.destination_rules.set(o),
                Change::Gateway(o) => edits.gateways.set(o),
                Change::Sidecar(o) => edits.sidecars.set(o),
                Change::LocalRateLimit(o) => edits.rate_limits.set(o),
                Change::ProxyConfig(o) => edits.proxy_configs.set(o),
                Change::PeerAuthentication(o) => edits.peer_authentications.set(o),
                Change::RequestAuthentication(o) => edits.request_authentications.set(o),
                Change::AuthorizationPolicy(o) => edits.authorization_policies.set(o),
                Change::EgressPolicy(o) => edits.egress_policies.set(o),
                Change::Service(s) => edits.services.set(s),
                Change::Workload(w) => edits.workloads.set(w),
                Change::Mesh(m) => next.mesh = m.unwrap_or_else(|| Arc::new(default_mesh())),
                Change::Namespace(name, labels) => {
                    Arc::make_mut(&mut next.namespaces).insert(name, labels);
                }
                Change::Remove(key) => match &*key.kind.kind {
                    "VirtualService" => edits.virtual_services.remove(key),
                    "DestinationRule" => edits.destination_rules.remove(key),
                    "Gateway" => edits.gateways.remove(key),
                    "Sidecar" => edits.sidecars.remove(key),
                    "LocalRateLimit" => edits.rate_limits.remove(key),
                    "ProxyConfig" => edits.proxy_configs.remove(key),
                    "PeerAuthentication" => edits.peer_authentications.remove(key),
                    "RequestAuthentication" => edits.request_authentications.remove(key),
                    "AuthorizationPolicy" => edits.authorization_policies.remove(key),
                    "EgressPolicy" => edits.egress_policies.remove(key),
                    "Namespace" => {
                        Arc::make_mut(&mut next.namespaces).remove(&key.name);
                    }
                    _ => {}
                },
                Change::RemoveService(namespace, host) => edits.services.remove((namespace, host)),
                Change::RemoveWorkload(uid) => edits.workloads.remove(uid),
            }
        }
        next.apply(edits);
        next
    }

    fn apply(&mut self, edits: Edits) {
        edits.virtual_services.apply(&mut self.virtual_services);
        edits.gateways.apply(&mut self.gateways);
        edits.sidecars.apply(&mut self.sidecars);
        edits.rate_limits.apply(&mut self.rate_limits);
        edits.proxy_configs.apply(&mut self.proxy_configs);
        if edits.peer_authentications.apply(&mut self.peer_authentications) {
            let mut index: Map<Arc<str>, Vec<_>> = Map::default();
            for policy in self.peer_authentications.iter() {
                index.entry(policy.key.namespace.clone()).or_default().push(policy.clone());
            }
            self.peer_authentications_by_namespace = Arc::new(index);
        }
        edits.request_authentications.apply(&mut self.request_authentications);
        edits.authorization_policies.apply(&mut self.authorization_policies);
        edits.egress_policies.apply(&mut self.egress_policies);
        if edits.destination_rules.apply(&mut self.destination_rules) {
            let mut index: Map<HostPattern, Vec<_>> = Map::default();
            for rule in self.destination_rules.iter() {
                let host = full_host(&rule.spec.host, &rule.key.namespace, "cluster.local");
                index.entry(HostPattern::parse(&host)).or_default().push(rule.clone());
            }
            self.rules_by_host = Arc::new(index);
        }
        if edits.services.apply(&mut self.services) {
            let mut index: Map<Arc<str>, Vec<_>> = Map::default();
            for service in self.services.iter() {
                index.entry(service.hostname.clone()).or_default().push(service.clone());
            }
            self.services_by_host = Arc::new(index);
        }
        if edits.workloads.apply(&mut self.workloads) {
            let mut by_ip = Map::default();
            let mut by_namespace: Map<Arc<str>, Vec<_>> = Map::default();
            for workload in self.workloads.iter() {
                for ip in &workload.addresses {
                    by_ip.entry(*ip).or_insert_with(|| workload.clone());
                }
                by_namespace.entry(workload.namespace.clone()).or_default().push(workload.clone());
            }
            self.workloads_by_ip = Arc::new(by_ip);
            self.workloads_by_namespace = Arc::new(by_namespace);
        }
    }

    /// VirtualServices, oldest first.
    pub fn virtual_services(&self) -> &List<Object<VirtualService>> {
        &self.virtual_services
    }

    /// DestinationRules, oldest first.
    pub fn destination_rules(&self) -> &List<Object<DestinationRule>> {
        &self.destination_rules
    }

    /// DestinationRules whose completed host is exactly this pattern, oldest first.
    pub fn destination_rules_of(&self, host: &HostPattern) -> &[Arc<Object<DestinationRule>>] {
        self.rules_by_host.get(host).map_or(&[], Vec::as_slice)
    }

    /// Gateways, oldest first.
    pub fn gateways(&self) -> &List<Object<Gateway>> {
        &self.gateways
    }

    /// Sidecars, oldest first.
    pub fn sidecars(&self) -> &List<Object<Sidecar>> {
        &self.sidecars
    }

    /// LocalRateLimits, oldest first.
    pub fn rate_limits(&self) -> &List<Object<LocalRateLimit>> {
        &self.rate_limits
    }

    /// ProxyConfigs, oldest first.
    pub fn proxy_configs(&self) -> &List<Object<ProxySettings>> {
        &self.proxy_configs
    }

    /// PeerAuthentications, oldest first.
    pub fn peer_authentications(&self) -> &List<Object<PeerAuthentication>> {
        &self.peer_authentications
    }

    /// PeerAuthentications of a namespace, oldest first.
    pub fn peer_authentications_in(&self, namespace: &str) -> &[Arc<Object<PeerAuthentication>>] {
        self.peer_authentications_by_namespace.get(namespace).map_or(&[], Vec::as_slice)
    }

    /// RequestAuthentications, oldest first.
    pub fn request_authentications(&self) -> &List<Object<RequestAuthentication>> {
        &self.request_authentications
    }

    /// AuthorizationPolicies, oldest first.
    pub fn authorization_policies(&self) -> &List<Object<AuthorizationPolicy>> {
        &self.authorization_policies
    }

    /// EgressPolicies, oldest first.
    pub fn egress_policies(&self) -> &List<Object<AuthorizationPolicy>> {
        &self.egress_policies
    }

    /// Services, oldest first.
    pub fn services(&self) -> &List<Service> {
        &self.services
    }

    /// Services of a host name (several namespaces may have a ServiceEntry for it), oldest first.
    pub fn services_of_host(&self, hostname: &str) -> &[Arc<Service>] {
        self.services_by_host.get(hostname).map_or(&[], Vec::as_slice)
    }

    /// A service by namespace and host name.
    pub fn service(&self, namespace: &str, hostname: &str) -> Option<&Arc<Service>> {
        self.services_of_host(hostname).iter().find(|s| *s.namespace == *namespace)
    }

    /// What endpoints are made of, to tell later whether they may have changed.
    pub fn instances(&self) -> Instances {
        let (services, workloads) = (self.services.clone(), self.workloads.clone());
        Instances { services, workloads, modes: self.peer_authentications.clone() }
    }

    /// Workloads.
    pub fn workloads(&self) -> &List<Workload> {
        &self.workloads
    }

    /// A workload by uid.
    pub fn workload(&self, uid: &str) -> Option<&Arc<Workload>> {
        self.workloads.get(&Arc::from(uid))
    }

    /// The workload that has an address.
    pub fn workload_of_ip(&self, ip: IpAddr) -> Option<&Arc<Workload>> {
        self.workloads_by_ip.get(&ip)
    }

    /// Workloads of a namespace, by uid.
    pub fn workloads_in(&self, namespace: &str) -> &[Arc<Workload>] {
        self.workloads_by_namespace.get(namespace).map_or(&[], Vec::as_slice)
    }

    /// The workloads that a service's selector picks; none for a service without selector.
    pub fn selected_workloads<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a Arc<Workload>> {
        let all = service.selector.as_ref().map_or(&[][..], |_| self.workloads_in(&service.namespace));
        all.iter().filter(|w| service.selects(w))
    }

    /// The mesh's settings.
    pub fn mesh(&self) -> &Arc<Object<MeshConfig>> {
        &self.mesh
    }

    /// The root namespace: `rootNamespace`, by default `istio-system`.
    pub fn root_namespace(&self) -> &str {
        match self.mesh.spec.root_namespace.as_str() {
            "" => "istio-system",
            name => name,
        }
    }

    /// Namespaces with their labels.
    pub fn namespaces(&self) -> &BTreeMap<Arc<str>, BTreeMap<String, String>> {
        &self.namespaces
    }
}

/// The services and workloads of a World at some time, and the policies that say which connections they take.
#[derive(Clone, Debug)]
pub struct Instances {
    services: Arc<List<Service>>,
    workloads: Arc<List<Workload>>,
    modes: Arc<List<Object<PeerAuthentication>>>,
}

impl Instances {
    /// Whether a World has the very same ones.
    pub fn are_those_of(&self, world: &World) -> bool {
        Arc::ptr_eq(&self.services, &world.services)
            && Arc::ptr_eq(&self.workloads, &world.workloads)
            && Arc::ptr_eq(&self.modes, &world.peer_authentications)
    }
}

#[derive(Default)]
struct Edits {
    virtual_services: list::Edit<Object<VirtualService>>,
    destination_rules: list::Edit<Object<DestinationRule>>,
    gateways: list::Edit<Object<Gateway>>,
    sidecars: list::Edit<Object<Sidecar>>,
    rate_limits: list::Edit<Object<LocalRateLimit>>,
    proxy_configs: list::Edit<Object<ProxySettings>>,
    peer_authentications: list::Edit<Object<PeerAuthentication>>,
    request_authentications: list::Edit<Object<RequestAuthentication>>,
    authorization_policies: list::Edit<Object<AuthorizationPolicy>>,
    egress_policies: list::Edit<Object<AuthorizationPolicy>>,
    services: list::Edit<Service>,
    workloads: list::Edit<Workload>,
}

/// Completes a short name with the namespace of the object that names it. Names with a dot, `*`, and addresses stay.
pub fn full_host(host: &str, namespace: &str, domain: &str) -> Arc<str> {
    let short = !host.is_empty() && host != "*" && !host.contains(['.', ':']);
    if short {
        format!("{}.{namespace}.svc.{domain}", host.to_ascii_lowercase()).into()
    } else {
        host.to_ascii_lowercase().into()
    }
}

impl Service {
    /// Whether the selector picks a workload: same namespace, and all of the selector's labels. An empty selector picks
    /// nothing.
    pub fn selects(&self, workload: &Workload) -> bool {
        *self.namespace == *workload.namespace
            && self.selector.as_ref().is_some_and(|s| !s.is_empty() && s.is_in(&workload.labels))
    }
}

/// Whether `labels` has every label of `selector`.
pub fn covers(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(k, v)| labels.get(k) == Some(v))
}

#[cfg(test)]
mod tests;
