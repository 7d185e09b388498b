//! Scope: what one proxy may see of the World, as resources to send.
//!
//! The rule for what belongs in it: compiling the scoped World gives the same snapshot for the proxy as compiling the
//! whole one. A test holds the two against each other.

mod replaced;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use replaced::{replace, replaced};

use crate::api::{
    Destination, Gateway, HttpRoute, LabelSelector, LocalRateLimit, Object, ServerTlsMode, VirtualService,
};
use crate::compile::outbound_policy;
use crate::compile::visible::{Egress, egress, exported_to, service_exported, sidecar_for};
use crate::compile::{asked, authorizers, key_host};
use crate::matching::HostPattern;
use crate::model::{Service, Workload};
use crate::snapshot::{ProxyId, ProxyKind};
use crate::wire::{Encoded, ResourceName, ResourceSet, kind, object_name, service_name, workload_name};
use crate::world::{World, covers, full_host};

/// What a proxy is sent, encoded for it alone. To serve many proxies, encode once and use [`scope_of`].
pub fn scope(world: &World, id: &ProxyId) -> ResourceSet {
    scope_of(world, &Encoded::of(world, &Encoded::default()), id)
}

/// The same for a proxy in this process, for which nothing has to be encoded.
pub fn scope_here(world: &World, id: &ProxyId) -> ResourceSet {
    scope_of(world, &Encoded::here(world), id)
}

/// What a proxy is sent, out of the encoded World.
pub fn scope_of(world: &World, encoded: &Encoded, id: &ProxyId) -> ResourceSet {
    let seen = match id.kind {
        ProxyKind::Sidecar => sidecar(world, id),
        ProxyKind::Gateway => gateway(world, id),
    };
    let find = |n: ResourceName| encoded.get(&n).map(|r| (n, r.clone()));
    seen.names(world, id).into_iter().filter_map(find).collect()
}

#[derive(Default)]
struct Seen<'a> {
    virtual_services: Vec<&'a Object<VirtualService>>,
    services: Vec<&'a Service>,
    gateways: Vec<&'a Object<Gateway>>,
}

/// By the same rules as compile, listener by listener: what one of them imports is sent.
fn sidecar<'a>(world: &'a World, id: &'a ProxyId) -> Seen<'a> {
    let own = own_workload(world, id);
    let sidecar = sidecar_for(world, &id.namespace, own.map(|w| &**w));
    let listeners: Vec<Egress> = egress(sidecar.map(|s| &s.spec), &id.namespace);
    let mut seen = Seen::default();
    for v in visible_virtual_services(world, id) {
        let spec = &v.spec;
        let mesh = spec.gateways.is_empty() || names_gateway(spec, "mesh");
        let host = |h: &String| HostPattern::parse(&full_host(h, &v.key.namespace, &id.domain));
        let hosts: Vec<HostPattern> = spec.hosts.iter().map(host).collect();
        if mesh && listeners.iter().any(|l| l.imports_some(&v.key.namespace, &hosts)) {
            seen.virtual_services.push(v);
        }
    }
    seen.add_delegates(world);
    let mut referenced = seen.destinations(id);
    let unknown = outbound_policy(world, id, own);
    referenced.extend(unknown.proxy.filter(|_| unknown.allow).map(|proxy| proxy.host.to_ascii_lowercase().into()));
    referenced.extend(policy_hosts(world, id));
    add_targets(world, id, &mut referenced);
    seen.services = world
        .services()
        .iter()
        .filter(|s| {
            let host = HostPattern::parse(&s.hostname);
            let reached = is_referenced(&referenced, s) || listeners.iter().any(|l| l.imports(&s.namespace, &host));
            // Inbound does not ask who may see the service.
            own.is_some_and(|w| s.selects(w)) || (reached && service_exported(s, &id.namespace))
        })
        .map(|s| &**s)
        .collect();
    seen
}

fn gateway<'a>(world: &'a World, id: &'a ProxyId) -> Seen<'a> {
    let own = own_workload(world, id);
    // As in compile: a gateway whose pod is not known (yet) has no labels.
    let labels = own.map(|w| w.labels.clone()).unwrap_or_default();
    let selects = |g: &Object<Gateway>| covers(&g.spec.selector, &labels);
    let mut seen =
        Seen { gateways: world.gateways().iter().map(|g| &**g).filter(|g| selects(g)).collect(), ..Seen::default() };
    let names: BTreeSet<(&str, &str)> = seen.gateways.iter().map(|g| (&*g.key.namespace, &*g.key.name)).collect();
    let bound = |v: &&Object<VirtualService>| {
        let matches = v.spec.http.iter().flat_map(|r| r.r#match.iter().flat_map(|m| &m.gateways));
        let l4 = v.spec.tls.iter().flat_map(|r| r.r#match.iter().flat_map(|m| &m.gateways));
        let tcp = v.spec.tcp.iter().flat_map(|r| r.r#match.iter().flat_map(|m| &m.gateways));
        let mut all = v.spec.gateways.iter().chain(matches).chain(l4).chain(tcp);
        all.any(|g| names.contains(&gateway_name(g, &v.key.namespace)))
    };
    seen.virtual_services = visible_virtual_services(world, id).filter(bound).collect();
    seen.add_delegates(world);
    let mut referenced = seen.destinations(id);
    referenced.extend(policy_hosts(world, id));
    add_targets(world, id, &mut referenced);
    let by_sni = |g: &&Object<Gateway>| {
        g.spec.servers.iter().filter_map(|s| s.tls.as_ref()).any(|t| t.mode == ServerTlsMode::AutoPassthrough)
    };
    let everything = seen.gateways.iter().any(by_sni);
    seen.services = world
        .services()
        .iter()
        .filter(|s| {
            let reached = everything || is_referenced(&referenced, s);
            own.is_some_and(|w| s.selects(w)) || (reached && service_exported(s, &id.namespace))
        })
        .map(|s| &**s)
        .collect();
    seen
}

/// Services that the own workload's policies make its proxy call: those with the keys of tokens, and authorizers.
fn policy_hosts(world: &World, id: &ProxyId) -> Vec<Arc<str>> {
    let own = own_workload(world, id);
    let labels = own.map(|w| w.labels.clone()).unwrap_or_default();
    let workload = crate::attach::Workload::new(world.root_namespace(), &id.namespace, &labels);
    let tokens = world.request_authentications().iter().filter(|o| workload.applies(o));
    let uris = tokens.flat_map(|o| o.spec.jwt_rules.iter().map(|r| &r.jwks_uri));
    let keys = uris.filter_map(|uri| key_host(uri)).map(|(host, _)| host);
    let policies = world.authorization_policies().iter().map(|o| &**o).filter(|o| workload.applies(o));
    let asked = asked(policies);
    let providers = authorizers(&world.mesh().spec).filter(|(_, p)| asked.contains(p.name.as_str()));
    let providers = providers.map(|(_, p)| crate::compile::service(&p.settings.service).1.into());
    keys.chain(providers).collect()
}

/// A destination that is an ExternalName service leads to what that stands for.
fn add_targets(world: &World, id: &ProxyId, referenced: &mut BTreeSet<Arc<str>>) {
    let aliases = world.services().iter().filter(|s| s.external_name.is_some());
    let named = aliases.filter(|s| is_referenced(referenced, s) && service_exported(s, &id.namespace));
    let targets: Vec<Arc<str>> = named.filter_map(|s| s.external_name.clone()).collect();
    referenced.extend(targets);
}

/// A destination names a service, or falls under a wildcard service.
fn is_referenced(referenced: &BTreeSet<Arc<str>>, s: &Service) -> bool {
    referenced.contains(&s.hostname)
        || (s.hostname.starts_with('*') && {
            let pattern = HostPattern::parse(&s.hostname);
            referenced.iter().any(|r| pattern.matches(r))
        })
}

fn own_workload<'a>(world: &'a World, id: &ProxyId) -> Option<&'a Arc<Workload>> {
    world.workload(&id.workload)
}

fn visible_virtual_services<'a>(world: &'a World, id: &'a ProxyId) -> impl Iterator<Item = &'a Object<VirtualService>> {
    let default = &world.mesh().spec.default_virtual_service_export_to;
    let all = world.virtual_services().iter().map(|v| &**v);
    all.filter(move |v| exported_to(&v.spec.export_to, default, &v.key.namespace, &id.namespace))
}

fn names_gateway(v: &VirtualService, name: &str) -> bool {
    v.gateways.iter().any(|g| g == name)
        || v.http.iter().any(|r| r.r#match.iter().any(|m| m.gateways.iter().any(|g| g == name)))
}

/// A gateway reference as (namespace, name): `ns/name`, `name`, `./name`, or the old `name.ns.svc.…`.
pub fn gateway_name<'a>(reference: &'a str, namespace: &'a str) -> (&'a str, &'a str) {
    match reference.split_once('/') {
        Some((".", name)) => (namespace, name),
        Some((ns, name)) => (ns, name),
        None => match reference.split_once('.') {
            Some((name, rest)) => (rest.split('.').next().unwrap_or(rest), name),
            None => (namespace, reference),
        },
    }
}

impl<'a> Seen<'a> {
    /// Delegates of the VirtualServices in scope.
    fn add_delegates(&mut self, world: &'a World) {
        let mut wanted: BTreeSet<(&str, &str)> = BTreeSet::new();
        for v in &self.virtual_services {
            for d in v.spec.http.iter().filter_map(|r| r.delegate.as_ref()) {
                let namespace = if d.namespace.is_empty() { &v.key.namespace } else { d.namespace.as_str() };
                wanted.insert((namespace, d.name.as_str()));
            }
        }
        if !wanted.is_empty() {
            let all = world.virtual_services().iter().map(|v| &**v);
            self.virtual_services
                .extend(all.filter(|v| v.spec.hosts.is_empty() && wanted.contains(&(&*v.key.namespace, &*v.key.name))));
        }
    }

    /// Completed hosts of all destinations.
    fn destinations(&self, id: &ProxyId) -> BTreeSet<Arc<str>> {
        let mut hosts = BTreeSet::new();
        for v in &self.virtual_services {
            let mut add = |d: &Destination| {
                hosts.insert(full_host(&d.host, &v.key.namespace, &id.domain));
            };
            v.spec.http.iter().for_each(|r| http_destinations(r).for_each(&mut add));
            let tls = v.spec.tls.iter().flat_map(|r| &r.route);
            let l4 = tls.chain(v.spec.tcp.iter().flat_map(|r| &r.route));
            l4.filter_map(|d| d.destination.as_ref()).for_each(&mut add);
        }
        hosts
    }

    /// Limits of the own workload, and of the VirtualServices in scope.
    fn rate_limits<'w>(
        &'w self,
        world: &'w World,
        id: &'w ProxyId,
    ) -> impl Iterator<Item = &'w Object<LocalRateLimit>> {
        let own = own_workload(world, id);
        world.rate_limits().iter().map(|l| &**l).filter(move |l| {
            let namespace = &l.key.namespace;
            let labels = l.spec.selector.as_ref().map(|s| &s.match_labels).filter(|s| !s.is_empty());
            let near = **namespace == *id.namespace || **namespace == *world.root_namespace();
            let selects = near && labels.is_none_or(|s| own.is_some_and(|w| covers(s, &w.labels)));
            let used = |name: &str| {
                self.virtual_services.iter().any(|v| v.key.namespace == *namespace && *v.key.name == *name)
            };
            if l.spec.target_refs.is_empty() { selects } else { l.spec.target_refs.iter().any(|t| used(&t.name)) }
        })
    }

    /// Policies of the own workload. Which connections others take is for their clients to know, too.
    fn policies(&self, world: &World, id: &ProxyId) -> Vec<ResourceName> {
        let own = own_workload(world, id);
        let near = |n: &str| *n == *id.namespace || *n == *world.root_namespace();
        let selects = |s: Option<&LabelSelector>| {
            s.is_none_or(|s| s.match_labels.is_empty() || own.is_some_and(|w| covers(&s.match_labels, &w.labels)))
        };
        let services: BTreeSet<&str> = self.services.iter().map(|s| &*s.namespace).collect();
        let peer = world.peer_authentications().iter().filter(|o| {
            let n = &*o.key.namespace;
            near(n) || services.contains(n)
        });
        let request = world.request_authentications().iter();
        let request = request.filter(|o| near(&o.key.namespace) && selects(o.spec.selector.as_ref()));
        let egress = world.egress_policies().iter();
        let egress = egress.filter(|o| near(&o.key.namespace) && selects(o.spec.selector.as_ref()));
        let egress = egress.map(|o| object_name(kind::EGRESS_POLICY, &o.key));
        let authz = world.authorization_policies().iter();
        let authz = authz.filter(|o| near(&o.key.namespace) && selects(o.spec.selector.as_ref()));
        let peer = peer.map(|o| object_name(kind::PEER_AUTHENTICATION, &o.key));
        let request = request.map(|o| object_name(kind::REQUEST_AUTHENTICATION, &o.key));
        peer.chain(request)
            .chain(egress)
            .chain(authz.map(|o| object_name(kind::AUTHORIZATION_POLICY, &o.key)))
            .collect()
    }

    /// Names of everything that goes with these: rules for the services, and their workloads.
    fn names(&self, world: &World, id: &ProxyId) -> BTreeSet<ResourceName> {
        let mut names = BTreeSet::from([object_name(kind::MESH_CONFIG, &world.mesh().key)]);
        names.extend(self.virtual_services.iter().map(|v| object_name(kind::VIRTUAL_SERVICE, &v.key)));
        names.extend(self.gateways.iter().map(|g| object_name(kind::GATEWAY, &g.key)));
        names.extend(self.services.iter().map(|s| service_name(s)));
        let workloads = self.services.iter().flat_map(|s| world.selected_workloads(s));
        names.extend(workloads.chain(own_workload(world, id)).map(|w| workload_name(w)));
        let near = |n: &str| *n == *id.namespace || *n == *world.root_namespace();
        let settings = world.proxy_configs().iter().filter(|o| near(&o.key.namespace));
        names.extend(settings.map(|o| object_name(kind::PROXY_CONFIG, &o.key)));
        names.extend(self.policies(world, id));
        if id.kind == ProxyKind::Sidecar {
            let all = world.sidecars().iter().filter(|s| near(&s.key.namespace));
            names.extend(all.map(|s| object_name(kind::SIDECAR, &s.key)));
        }
        names.extend(self.rate_limits(world, id).map(|l| object_name(kind::LOCAL_RATE_LIMIT, &l.key)));
        let default = &world.mesh().spec.default_destination_rule_export_to;
        let hosts: BTreeSet<&str> = self.services.iter().map(|s| &*s.hostname).collect();
        for r in world.destination_rules().iter() {
            let host = HostPattern::parse(&full_host(&r.spec.host, &r.key.namespace, &id.domain));
            let applies = match &host {
                HostPattern::Exact(h) => hosts.contains(&**h),
                wild => hosts.iter().any(|h| HostPattern::parse(h).subset_of(wild)),
            };
            // In its own namespace a rule counts whoever it is exported to.
            let own = *r.key.namespace == *id.namespace;
            if applies && (own || exported_to(&r.spec.export_to, default, &r.key.namespace, &id.namespace)) {
                names.insert(object_name(kind::DESTINATION_RULE, &r.key));
            }
        }
        names
    }
}

/// Every destination of a rule, mirrors included.
pub fn http_destinations(r: &HttpRoute) -> impl Iterator<Item = &Destination> {
    let mirrors = r.mirrors.iter().filter_map(|m| m.destination.as_ref());
    r.route.iter().filter_map(|d| d.destination.as_ref()).chain(&r.mirror).chain(mirrors)
}

#[cfg(test)]
mod tests;
