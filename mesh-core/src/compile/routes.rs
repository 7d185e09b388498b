//! Routes of a proxy: VirtualServices, converted, with what they delegate to.

use std::collections::HashSet;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::memo::{Memo, Notes};
use super::{Run, virtual_service};
use crate::api::{ContentHash, Key, Object, VirtualService};
use crate::model::{Route, RuleAction};
use crate::snapshot::{Map, ProxyKind};
use crate::world::World;

/// A VirtualService as a route.
#[derive(Debug)]
pub(super) struct One {
    pub(super) route: Arc<Route>,
    /// Hash of what it was made from, identity included.
    pub(super) input: ContentHash,
    notes: Option<Arc<Notes>>,
    /// It includes rules of others.
    delegates: bool,
}

/// What a VirtualService became.
#[derive(Debug)]
struct Entry {
    object: Arc<Object<VirtualService>>,
    own: Arc<One>,
    /// With the rules that it includes.
    merged: Option<Arc<One>>,
}

/// Routes in the order of the World's VirtualServices.
#[derive(Debug, Default)]
pub(super) struct Routes {
    domain: Arc<str>,
    entries: Vec<Entry>,
}

impl Routes {
    /// Converts the VirtualServices of a World. Objects that are those of the routes before keep theirs: an object is never
    /// changed, so that the very same one is the same input.
    fn of(world: &World, domain: &Arc<str>, before: Option<&Self>) -> Self {
        let old = before.filter(|b| b.domain == *domain).map_or(&[][..], |b| &b.entries);
        let mut by_object: Option<Map<*const Object<VirtualService>, usize>> = None;
        let mut at = 0;
        let mut entries = Vec::with_capacity(world.virtual_services().len());
        for object in world.virtual_services().iter() {
            let same = |place: &usize| old.get(*place).is_some_and(|o| Arc::ptr_eq(&o.object, object));
            // Mostly the next one, or the one after something that was removed.
            let mut found = [at, at + 1].into_iter().find(same);
            if found.is_none() && old.get(at).is_some_and(|o| o.object.key != object.key) {
                let all = || old.iter().enumerate().map(|(i, o)| (Arc::as_ptr(&o.object), i)).collect();
                found = by_object.get_or_insert_with(all).get(&Arc::as_ptr(object)).copied();
            }
            let own = match found {
                Some(place) => old[place].own.clone(),
                None => Arc::new(One::of(object, domain)),
            };
            at = found.unwrap_or(at) + 1;
            entries.push(Entry { object: object.clone(), own, merged: None });
        }
        Self { domain: domain.clone(), entries }
    }

    /// Merges delegates into the routes that name them.
    fn merge(&mut self, world: &World, memo: &mut Memo<Arc<Route>>) {
        if !self.entries.iter().any(|e| e.own.delegates) {
            return;
        }
        let default = &world.mesh().spec.default_virtual_service_export_to;
        let by_name: Map<(Arc<str>, Arc<str>), Arc<Route>> = self
            .entries
            .iter()
            .map(|e| ((e.object.key.namespace.clone(), e.object.key.name.clone()), e.own.route.clone()))
            .collect();
        for entry in self.entries.iter_mut().filter(|e| e.own.delegates && !e.own.route.hosts.is_empty()) {
            let route = &entry.own.route;
            let namespace = &route.key.namespace;
            let mut delegates = Vec::new();
            let mut input = entry.own.input;
            for rule in &route.http {
                let RuleAction::Delegate(ns, name) = &rule.action else { continue };
                let found = by_name.get(&(ns.clone(), name.clone()));
                let exported = |d: &&Arc<Route>| super::exported_to(&d.export_to, default, &d.key.namespace, namespace);
                let found = found.filter(|d| d.hosts.is_empty()).filter(exported);
                input = input.with_str(ns).with_str(name).with(found.map_or(ContentHash(0), |d| d.hash));
                delegates.push(((ns.clone(), name.clone()), found.cloned()));
            }
            let planned = memo.get(input, || virtual_service::with_delegates(route, &delegates));
            let merged = One { route: planned.plan, input, notes: planned.notes, delegates: false };
            entry.merged = Some(Arc::new(merged));
        }
    }

    /// Routes with hosts, oldest first, and their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Arc<One>)> {
        self.entries.iter().map(Entry::all).enumerate().filter(|(_, one)| !one.route.hosts.is_empty())
    }

    /// The route at a place.
    pub(super) fn at(&self, place: usize) -> &Arc<One> {
        self.entries[place].all()
    }

    /// What was said when they were made.
    pub(super) fn notes(&self) -> impl Iterator<Item = &Arc<Notes>> {
        self.entries.iter().flat_map(|e| std::iter::once(&e.own).chain(&e.merged)).filter_map(|one| one.notes.as_ref())
    }
}

impl Entry {
    fn all(&self) -> &Arc<One> {
        self.merged.as_ref().unwrap_or(&self.own)
    }
}

impl One {
    fn of(object: &Object<VirtualService>, domain: &str) -> Self {
        let planned = virtual_service::convert(object, domain);
        let (route, notes) = (planned.plan, planned.notes);
        let key = &object.key;
        let input = object.hash.with_str(&key.namespace).with_str(&key.name).with(ContentHash::of(domain.as_bytes()));
        let delegates = route.http.iter().any(|r| matches!(r.action, RuleAction::Delegate(..)));
        Self { route, input, notes, delegates }
    }
}

/// Which routes are part of a plan.
#[derive(Default)]
pub(super) struct InUse {
    /// By place.
    places: Vec<bool>,
    /// By pointer, where the place is not at hand.
    routes: HashSet<*const Route, RandomState>,
}

impl Run<'_> {
    /// Converts the VirtualServices that are exported to this proxy and merges delegates into them.
    pub(super) fn routes(&mut self, before: Option<&Routes>) {
        let mut routes = Routes::of(self.world, &self.id.domain, before);
        routes.merge(self.world, &mut self.delegate_memo);
        self.used.places = vec![false; routes.entries.len()];
        self.routes = Arc::new(routes);
    }

    /// Notes that a route is part of a plan.
    pub(super) fn use_route(&mut self, route: &Route) {
        self.used.routes.insert(std::ptr::from_ref(route));
    }

    /// The same by place.
    pub(super) fn use_place(&mut self, place: usize) {
        self.used.places[place] = true;
    }

    /// Says of VirtualServices that no plan has that they are without effect.
    pub(super) fn note_unused(&mut self) {
        let mut included: HashSet<Key, RandomState> = HashSet::default();
        let mut unused = Vec::new();
        for (place, entry) in self.routes.entries.iter().enumerate() {
            let route = &entry.all().route;
            if self.used.places[place] || self.used.routes.contains(&Arc::as_ptr(route)) {
                included.extend(route.includes.iter().cloned());
            } else {
                unused.push(&entry.object);
            }
        }
        for object in unused.into_iter().filter(|o| !included.contains(&o.key)) {
            let mut ledger = super::Ledger::new(object);
            ledger.inert("spec", &because(object, self.id.kind));
            self.parts.push(Arc::new(ledger.notes));
        }
    }
}

fn because(object: &Object<VirtualService>, kind: ProxyKind) -> String {
    if object.spec.hosts.is_empty() {
        return "no VirtualService that this proxy uses delegates to it".into();
    }
    match kind {
        ProxyKind::Sidecar => "it is not bound to mesh, not exported to this namespace, or none of its hosts is one \
                               that a listener of this proxy routes"
            .into(),
        ProxyKind::Gateway => "it is not bound to a Gateway of this workload, not exported to its namespace, or none \
                               of its hosts is one of a server"
            .into(),
    }
}
