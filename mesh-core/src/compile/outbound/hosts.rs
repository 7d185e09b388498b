//! Virtual hosts of a port: one for each service. Each is a step of its own; it is remembered by its place among the
//! services of the port, first by the hash of all that it may depend on, then by that of what it does depend on.

use std::sync::Arc;

use super::View;
use crate::api::ContentHash;
use crate::compile::Run;
use crate::compile::imported::{Imported, Visible};
use crate::compile::memo::Notes;
use crate::compile::routes::One;
use crate::compile::table::{Row, overridden};
use crate::compile::used::Named;
use crate::compile::virtual_host::{Fallback, VirtualHostInput, Written, plan_virtual_host};
use crate::model::Service;
use crate::snapshot::VirtualHostPlan;

/// The virtual hosts of a port's services.
#[derive(Debug)]
pub(in crate::compile) struct PortHosts {
    imported: Arc<Imported>,
    /// In the order of the port's entries; those that have none are left out.
    slots: Vec<Option<Slot>>,
}

/// A virtual host with the hashes of what it was made from.
#[derive(Clone, Debug)]
struct Slot {
    broad: ContentHash,
    domains: ContentHash,
    hosted: Arc<Hosted>,
}

/// A virtual host, and what its making did besides.
#[derive(Debug)]
struct Hosted {
    narrow: ContentHash,
    plan: Arc<VirtualHostPlan>,
    notes: Vec<Arc<Notes>>,
    /// Which of the service's routes it has.
    route: Option<usize>,
    /// Services that its routes name.
    services: Named,
}

/// What a virtual host may be made from, and the services that this names.
type Input<'a> = (VirtualHostInput<'a>, Named);

/// What the virtual hosts of a port have in common.
struct Common {
    port: u16,
    /// What one without a route depends on.
    plain: ContentHash,
    /// What one with routes may depend on.
    routed: ContentHash,
}

/// Makes the virtual hosts of a port.
pub(super) struct Hosts<'v> {
    view: &'v View,
    common: Common,
    before: Option<Arc<PortHosts>>,
    slots: Vec<Option<Slot>>,
}

impl<'v> Hosts<'v> {
    pub(super) fn new(run: &Run<'_>, view: &'v View, port: u16) -> Self {
        let plain = run.client_hash.with(run.route_defaults.hash).with(ContentHash(port.into()));
        let world = run.world;
        // Destinations are found among all services, and what the first listener imports is in use already.
        let seen = world.services().hash().with(world.mesh().hash).with(run.place).with(run.used_services.first());
        let common = Common { port, plain, routed: plain.with(run.rate_limits.hash()).with(seen) };
        let before = run.old.and_then(|old| old.hosts.get(&(view.index, port))).cloned();
        let entries = view.imported.ports.get(&port).map_or(0, |p| p.entries.len());
        Self { view, common, before, slots: vec![None; entries] }
    }

    /// The virtual host of an entry, with these of its service's domains; `None`: with all.
    pub(super) fn host(&mut self, run: &mut Run<'_>, entry: usize, some: Option<Vec<Arc<str>>>) -> Row {
        let service = self.view.imported.ports[&self.common.port].entries[entry].service;
        let visible = &self.view.imported.services[service];
        let routes = self.view.routes_of(service);
        let mut broad = visible.hash.with(match routes {
            [] => self.common.plain,
            _ => self.common.routed,
        });
        for (_, place) in routes {
            broad = broad.with(self.view.routes.at(*place).input);
        }
        if let Some(some) = &some {
            broad = some.iter().fold(broad.with(ContentHash(1)), |h, d| h.with_str(d));
        }
        let slot = match self.before(entry, visible) {
            Some(known) if known.broad == broad => known.clone(),
            known => self.make(run, (visible, routes), broad, some, known),
        };
        let hosted = &slot.hosted;
        if let Some(i) = hosted.route {
            run.use_place(routes[i].1);
        }
        run.parts.extend(hosted.notes.iter().cloned());
        for (host, service) in &hosted.services {
            run.used_services.add(host, service);
        }
        let row = Row { plan: hosted.plan.clone(), domains: slot.domains };
        self.slots[entry] = Some(slot);
        row
    }

    /// What the entry's service had before.
    fn before(&self, entry: usize, visible: &Visible) -> Option<&Slot> {
        let before = self.before.as_deref()?;
        let at = match Arc::ptr_eq(&before.imported, &self.view.imported) {
            true => entry,
            false => before.imported.entry(self.common.port, &visible.service.hostname)?,
        };
        before.slots.get(at)?.as_ref()
    }

    fn make(
        &self,
        run: &mut Run<'_>,
        (visible, routes): (&Visible, &[(usize, usize)]),
        broad: ContentHash,
        some: Option<Vec<Arc<str>>>,
        known: Option<&Slot>,
    ) -> Slot {
        let service = &visible.service;
        let (client, defaults) = (run.client.clone(), run.route_defaults.clone());
        let name: Arc<str> = format!("{}:{}", service.hostname, self.common.port).into();
        let domains = some.map_or_else(|| visible.domains.clone(), Into::into);
        let routes: Vec<&Arc<One>> = routes.iter().map(|(_, place)| self.view.routes.at(*place)).collect();
        let base = VirtualHostInput {
            name,
            domains,
            port: self.common.port,
            client: &client,
            client_hash: run.client_hash,
            routes: Vec::new(),
            catch_all_last: false,
            destinations: std::collections::BTreeMap::new(),
            fallback: Fallback::Cluster(crate::compile::cluster::name(self.common.port, "", &service.hostname)),
            limits: Vec::new(),
            defaults: &defaults,
            origin: Written::Field(&service.key, &service.origin, "spec"),
        };
        // By the first of the routes that has a rule for this client and port, else everything to the service.
        let mut inputs: Vec<Input<'_>> = Vec::new();
        for route in routes.iter().map(|one| &one.route) {
            let (destinations, services) = run.find_destinations(&[route]);
            let input = VirtualHostInput {
                routes: vec![route],
                destinations,
                limits: run.rate_limits.of_routes(&[route], false),
                fallback: Fallback::Nothing,
                origin: Written::Field(&route.key, &route.origin, "spec.hosts"),
                ..base.clone()
            };
            inputs.push((input, services));
        }
        inputs.push((base, Vec::new()));
        let narrow = inputs.iter().fold(ContentHash::default(), |h, (input, _)| h.with(input.hash()));
        let mut hosted = match known.map(|k| &k.hosted).filter(|h| h.narrow == narrow) {
            Some(h) => {
                Hosted { narrow, plan: h.plan.clone(), notes: h.notes.clone(), route: h.route, services: Vec::new() }
            }
            None => plan(&inputs, narrow, &routes, service),
        };
        let tried = hosted.route.map_or(inputs.len(), |i| i + 1);
        let services = inputs.drain(..tried).flat_map(|(_, services)| services);
        hosted.services = services.filter(|(host, _)| !run.used_services.imports(host)).collect();
        let domains = hosted.plan.domains.iter().fold(ContentHash::default(), |h, d| h.with_str(d));
        Slot { broad, domains, hosted: Arc::new(hosted) }
    }

    /// Remembers them.
    pub(super) fn finish(self, run: &mut Run<'_>) {
        let hosts = PortHosts { imported: self.view.imported.clone(), slots: self.slots };
        run.hosts.insert((self.view.index, self.common.port), Arc::new(hosts));
    }
}

fn plan(inputs: &[Input<'_>], narrow: ContentHash, routes: &[&Arc<One>], service: &Service) -> Hosted {
    let mut notes = Vec::new();
    let mut planned = inputs.iter().map(|(input, _)| plan_virtual_host(input)).enumerate();
    let (i, plan) = loop {
        let (i, planned) = planned.next().expect("invariant: the last one leads to the service");
        notes.extend(planned.notes);
        if !planned.plan.routes.is_empty() {
            break (i, planned.plan);
        }
    };
    let route = (i < routes.len()).then_some(i);
    if let Some(used) = route {
        let rest = routes[used + 1..].iter().map(|one| &*one.route);
        notes.extend(overridden(rest, &routes[used].route, &service.hostname));
    }
    Hosted { narrow, plan, notes, route, services: Vec::new() }
}
