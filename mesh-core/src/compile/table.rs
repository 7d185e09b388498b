//! Route tables: virtual hosts by domain.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::memo::{Notes, Planned, hash_debug};
use super::{Run, VirtualHostInput};
use crate::api::ContentHash;
use crate::matching::HostPattern;
use crate::model::{Route, Service};
use crate::snapshot::{
    Domains, HttpPlan, HttpSettings, PathNormalization, Provenance, RouteTable, ServerHeader, VirtualHostPlan,
};

use super::rate_limit::RouteLimit;
use super::virtual_host::{Fallback, Written};

/// A virtual host of a table.
pub(super) struct Row {
    pub(super) plan: Arc<VirtualHostPlan>,
    /// Hash of its domains.
    pub(super) domains: ContentHash,
}

impl From<Arc<VirtualHostPlan>> for Row {
    fn from(plan: Arc<VirtualHostPlan>) -> Self {
        let domains = plan.domains.iter().fold(ContentHash::default(), |h, d| h.with_str(d));
        Self { plan, domains }
    }
}

/// Domains that a service answers to, for a client of a namespace: full name, with a dot at the end, the shorter forms
/// that are valid there, addresses; for headless services also any name below each.
pub(super) fn service_domains(
    service: &Service,
    aliases: &[&Arc<Service>],
    namespace: &str,
    domain: &str,
) -> Vec<Arc<str>> {
    let mut out: Vec<Arc<str>> = Vec::new();
    for host in std::iter::once(&service.hostname).chain(aliases.iter().map(|a| &a.hostname)) {
        out.push(host.clone());
        if !host.starts_with('*') {
            out.push(format!("{host}.").into());
        }
        out.extend(alternates(host, namespace, domain).into_iter().map(Into::into));
    }
    for ip in &service.addresses {
        out.push(match ip {
            IpAddr::V4(ip) => ip.to_string().into(),
            IpAddr::V6(ip) => format!("[{ip}]").into(),
        });
    }
    if service.headless {
        let below: Vec<Arc<str>> =
            out.iter().filter(|d| !d.starts_with('*')).map(|d| format!("*.{d}").into()).collect();
        out.extend(below);
    }
    out
}

/// Shorter names of `name.ns.svc.domain` for a client: `name.ns` and `name.ns.svc`; in the same namespace `name`, too.
pub(super) fn alternates(host: &str, namespace: &str, domain: &str) -> Vec<String> {
    let full = || host.strip_suffix(domain)?.strip_suffix(".svc.");
    let Some((name, ns)) = full().and_then(|short| short.rsplit_once('.')) else { return Vec::new() };
    let mut out = Vec::with_capacity(3);
    if ns == namespace {
        out.push(name.to_owned());
    }
    out.push(format!("{name}.{ns}"));
    out.push(format!("{name}.{ns}.svc"));
    out
}

/// How HTTP is served on a listener of a proxy, beside its routes.
#[derive(Clone, Debug)]
pub(super) struct HttpDefaults {
    pub(super) server: ServerHeader,
    pub(super) use_remote_address: bool,
    pub(super) trusted_hops: u32,
    pub(super) path_normalization: PathNormalization,
    pub(super) settings: HttpSettings,
}

impl HttpDefaults {
    pub(super) fn with(&self, routes: Arc<RouteTable>) -> Arc<HttpPlan> {
        self.misdirecting(routes, &[])
    }

    /// The same for a server that shares its port with servers for these other hosts.
    pub(super) fn misdirecting(&self, routes: Arc<RouteTable>, elsewhere: &[HostPattern]) -> Arc<HttpPlan> {
        let Self { server, use_remote_address, trusted_hops, path_normalization, settings } = self.clone();
        let rest = hash_debug(&(&server, use_remote_address, trusted_hops, path_normalization, elsewhere, settings));
        let hash = routes.hash.with(rest);
        let elsewhere = elsewhere.into();
        Arc::new(HttpPlan {
            routes,
            server,
            use_remote_address,
            trusted_hops,
            path_normalization,
            settings,
            elsewhere,
            hash,
        })
    }
}

impl Run<'_> {
    /// A route table, remembered.
    pub(super) fn table(&mut self, name: &str, rows: Vec<Row>) -> Arc<RouteTable> {
        let hash = rows.iter().fold(ContentHash::of(name.as_bytes()), |h, r| h.with(r.plan.hash));
        // The hash of a virtual host says nothing about where it was written, and pointers matter: a table is reused
        // only with the very same virtual hosts.
        let input = rows.iter().fold(hash, |h, r| h.with(ContentHash(Arc::as_ptr(&r.plan) as usize as u64)));
        let domains = &mut self.table_domain_memo;
        let make = || {
            let input = rows.iter().fold(ContentHash::default(), |h, r| h.with(r.domains));
            let find = || Arc::new(Domains::of(rows.iter().map(|r| &r.plan.domains[..])));
            let domains = domains.get(input, || Planned::new(find(), Notes::default())).plan;
            let hosts = rows.iter().map(|r| r.plan.clone()).collect();
            Planned::new(Arc::new(RouteTable { name: name.into(), hosts, domains, hash }), Notes::default())
        };
        self.table_memo.get(input, make).plan
    }

    /// Domains of a service, remembered, with a hash of both.
    pub(super) fn domains(&mut self, service: &Service, aliases: &[&Arc<Service>]) -> (Arc<[Arc<str>]>, ContentHash) {
        let own = service.hash.with_str(&service.hostname).with(self.place);
        let input = aliases.iter().fold(own, |h, a| h.with_str(&a.hostname));
        let make = || service_domains(service, aliases, &self.id.namespace, &self.id.domain);
        (self.domain_memo.get(input, || Planned::new(make().into(), Notes::default())).plan, input)
    }

    /// The virtual host of one service port: by the first of its routes that has a rule for this client and port, else
    /// everything to the service.
    pub(super) fn service_host(
        &mut self,
        (name, port): (Arc<str>, u16),
        domains: Arc<[Arc<str>]>,
        service: &Arc<Service>,
        routes: &[Arc<Route>],
    ) -> Arc<VirtualHostPlan> {
        for (i, route) in routes.iter().enumerate() {
            let origin = Written::Field(&route.key, &route.origin, "spec.hosts");
            let fallback = Fallback::Nothing;
            let plan = self.routed_host((name.clone(), port), domains.clone(), route, fallback, origin);
            if !plan.routes.is_empty() {
                self.use_route(route);
                self.parts.extend(overridden(routes[i + 1..].iter().map(|r| &**r), route, &service.hostname));
                return plan;
            }
        }
        let (client, defaults) = (self.client.clone(), self.route_defaults.clone());
        self.virtual_host(&VirtualHostInput {
            name,
            domains,
            port,
            client: &client,
            client_hash: self.client_hash,
            routes: Vec::new(),
            catch_all_last: false,
            destinations: BTreeMap::new(),
            fallback: Fallback::Cluster(super::cluster::name(port, "", &service.hostname)),
            limits: Vec::new(),
            defaults: &defaults,
            origin: Written::Field(&service.key, &service.origin, "spec"),
        })
    }

    /// A virtual host with the rules of one route.
    pub(super) fn routed_host(
        &mut self,
        (name, port): (Arc<str>, u16),
        domains: Arc<[Arc<str>]>,
        route: &Arc<Route>,
        fallback: Fallback,
        origin: Written<'_>,
    ) -> Arc<VirtualHostPlan> {
        let destinations = self.destinations(&[route]);
        let limits = self.rate_limits.of_routes(&[route], false);
        let (client, defaults) = (self.client.clone(), self.route_defaults.clone());
        self.virtual_host(&VirtualHostInput {
            name,
            domains,
            port,
            client: &client,
            client_hash: self.client_hash,
            routes: vec![route],
            catch_all_last: false,
            destinations,
            fallback,
            limits,
            defaults: &defaults,
            origin,
        })
    }

    /// A virtual host that has no rules of a user.
    pub(super) fn simple_host(
        &mut self,
        (name, port): (&str, u16),
        domains: &[&str],
        fallback: Fallback,
        origin: Provenance,
    ) -> Arc<VirtualHostPlan> {
        self.limited_host((name, port), domains, fallback, Vec::new(), origin)
    }

    /// The same with limits.
    pub(super) fn limited_host(
        &mut self,
        (name, port): (&str, u16),
        domains: &[&str],
        fallback: Fallback,
        limits: Vec<RouteLimit>,
        origin: Provenance,
    ) -> Arc<VirtualHostPlan> {
        let (client, defaults) = (self.client.clone(), self.route_defaults.clone());
        self.virtual_host(&VirtualHostInput {
            name: name.into(),
            domains: domains.iter().map(|d| (*d).into()).collect(),
            port,
            client: &client,
            client_hash: self.client_hash,
            routes: Vec::new(),
            catch_all_last: false,
            destinations: BTreeMap::new(),
            fallback,
            limits,
            defaults: &defaults,
            origin: Written::At(origin),
        })
    }
}

/// Says of routes for a host that an older one decides.
pub(super) fn overridden<'r>(
    routes: impl Iterator<Item = &'r Route>,
    by: &Route,
    host: &str,
) -> impl Iterator<Item = Arc<Notes>> {
    routes.map(move |route| {
        let by = format!("{} (the first for host {host})", by.key);
        let fate = crate::report::Fate {
            object: route.key.clone(),
            field: "spec".into(),
            outcome: crate::report::Outcome::Overridden { by: by.into() },
        };
        Arc::new(Notes { fates: vec![fate], reports: Vec::new() })
    })
}
