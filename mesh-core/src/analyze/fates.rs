//! The account of all proxies together: fields that are not in force, or can't have an effect.

mod about;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::messages::{INERT, NOT_IN_FORCE, OVERRIDDEN};
use crate::api::{Key, Origin, Resource, Source};
use crate::compile::compile;
use crate::model::Workload;
use crate::report::{Outcome, Report};
use crate::snapshot::{ProxyId, ProxyKind};
use crate::world::{Change, World, covers};

/// Most proxies that are compiled for an account. Proxies for which no selector makes a difference count once, so this
/// is reached only by meshes with very many namespaces or selectors; what the rest would say is then not said.
const PROXIES: usize = 64;

type Fates = BTreeMap<Key, BTreeMap<Arc<str>, Outcome>>;

/// What the compilers of all kinds of proxies say about fields that have no effect, or not yet.
pub fn account(world: &World) -> Vec<Report> {
    let origins = origins(world);
    let (fates, mut found) = compiled(world);
    for (key, fields) in fates {
        let Some(origin) = origins.get(&key) else { continue };
        // What the mesh made itself is nobody's to mend.
        if matches!(origin.source, Source::Generated(_)) {
            continue;
        }
        let consumed = |leaf: &str| fields.get(leaf) == Some(&Outcome::Consumed);
        let subject = (&key, *origin);
        let settings = key == world.mesh().key;
        for (field, outcome) in &fields {
            match outcome {
                Outcome::Consumed => {}
                Outcome::NotInForceYet { belongs_to } => {
                    for leaf in leaves(origin, settings, field).into_iter().filter(|l| !consumed(l)) {
                        let text = later(&leaf, belongs_to);
                        found.push(NOT_IN_FORCE.report(subject, &leaf, text));
                    }
                }
                _ if below_another(&fields, field) => {}
                // A default of the mesh's settings, which nobody wrote.
                _ if leaves(origin, settings, field).is_empty() => {}
                Outcome::Inert { because } => {
                    let text = format!("{field} has no effect: {because}");
                    found.push(INERT.report(subject, field, text));
                }
                Outcome::Overridden { by } => {
                    let text = format!("{field} has no effect: {by} decides instead");
                    found.push(OVERRIDDEN.report(subject, field, text));
                }
            }
        }
    }
    found
}

/// The part of [`account`] about some objects, made from what has to do with them only.
pub fn account_of(world: &World, about: impl Fn(&Key) -> bool) -> Vec<Report> {
    let keys: BTreeSet<Key> = origins(world).into_keys().filter(about).collect();
    if keys.is_empty() {
        return Vec::new();
    }
    let narrow = about::narrowed(world, &keys);
    let mut found = account(narrow.as_ref().unwrap_or(world));
    found.retain(|r| keys.contains(&r.object));
    found
}

/// What conversion says about fields of an object that have no effect.
pub(super) fn of_object(resource: &Resource) -> Vec<Report> {
    let subject = (resource.key(), resource.origin());
    let mut found = Vec::new();
    for fate in crate::convert::fates(resource) {
        let field = &fate.field;
        match &fate.outcome {
            Outcome::Consumed => {}
            Outcome::NotInForceYet { belongs_to } => {
                let text = later(field, belongs_to);
                found.push(NOT_IN_FORCE.report(subject, field, text));
            }
            Outcome::Inert { because } => {
                found.push(INERT.report(subject, field, format!("{field} has no effect: {because}")));
            }
            Outcome::Overridden { by } => {
                found.push(OVERRIDDEN.report(subject, field, format!("{field} has no effect: {by} decides instead")));
            }
        }
    }
    found
}

fn later(field: &str, belongs_to: &str) -> String {
    format!("{field} is read, but this version does not act on it yet: it belongs to {belongs_to}")
}

/// Fields of one object that are not in force yet, leaf by leaf.
pub fn not_in_force(world: &World, key: &Key) -> Vec<String> {
    let origins = origins(world);
    let Some(origin) = origins.get(key) else { return Vec::new() };
    let fields = fates(world).remove(key).unwrap_or_default();
    let later = fields.iter().filter(|(_, o)| matches!(o, Outcome::NotInForceYet { .. }));
    later.flat_map(|(f, _)| leaves(origin, *key == world.mesh().key, f)).collect()
}

fn fates(world: &World) -> Fates {
    compiled(world).0
}

/// Fates of all proxies together, and what their compilers reported.
fn compiled(world: &World) -> (Fates, Vec<Report>) {
    let (world, proxies) = proxies(world);
    let mut all = Fates::new();
    let mut reports = Vec::new();
    let mut previous = None;
    for id in &proxies {
        let compiled = compile(&world, id, previous.as_ref());
        for fate in compiled.account.fates() {
            let fields = match all.get_mut(&fate.object) {
                Some(fields) => fields,
                None => all.entry(fate.object.clone()).or_default(),
            };
            match fields.get_mut(&fate.field) {
                Some(old) if rank(old) <= rank(&fate.outcome) => {}
                Some(old) => *old = fate.outcome.clone(),
                None => {
                    fields.insert(fate.field.clone(), fate.outcome.clone());
                }
            }
        }
        reports.extend(compiled.reports().cloned());
        previous = Some(compiled);
    }
    drop_unused(&mut all);
    (all, reports)
}

/// A proxy that does not use an object says so for its whole spec; if another one uses it, that is not worth saying.
fn drop_unused(all: &mut Fates) {
    for fields in all.values_mut() {
        let used =
            fields.iter().any(|(f, o)| &**f != "spec" && *o == Outcome::Consumed && !f.starts_with("spec.hosts"));
        if used {
            fields.remove("spec");
        }
    }
}

/// The outcome that one proxy has is worth more than none in another.
fn rank(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Consumed => 0,
        Outcome::NotInForceYet { .. } => 1,
        Outcome::Overridden { .. } => 2,
        Outcome::Inert { .. } => 3,
    }
}

fn below_another(fields: &BTreeMap<Arc<str>, Outcome>, field: &str) -> bool {
    let ends = field.match_indices(['.', '[']).map(|(i, _)| i);
    let silent = |o: &Outcome| matches!(o, Outcome::Inert { .. } | Outcome::Overridden { .. });
    ends.into_iter().any(|end| fields.get(&field[..end]).is_some_and(silent))
}

/// The fields that the user wrote at or below a field; the field itself where no places are known.
/// `settings`: of the mesh, into which defaults were merged that nobody wrote.
fn leaves(origin: &Origin, settings: bool, field: &str) -> Vec<String> {
    let below = |p: &str| p.strip_prefix(field).is_some_and(|r| r.is_empty() || r.starts_with(['.', '[']));
    let all = origin.spans.since(field).map(|(p, _)| p).take_while(|p| p.starts_with(field));
    let inside: Vec<&str> = all.filter(|p| below(p)).collect();
    let is_leaf =
        |p: &str| !inside.iter().any(|q| q.len() > p.len() && q.starts_with(p) && q[p.len()..].starts_with(['.', '[']));
    let leaves: Vec<String> = inside.iter().filter(|p| is_leaf(p)).map(|p| (*p).to_owned()).collect();
    match leaves.is_empty() {
        true if origin.wrote(field) || !settings => vec![field.to_owned()],
        _ => leaves,
    }
}

fn origins(world: &World) -> BTreeMap<Key, &Origin> {
    let mut all = BTreeMap::from([(world.mesh().key.clone(), &world.mesh().origin)]);
    all.extend(world.virtual_services().iter().map(|o| (o.key.clone(), &o.origin)));
    all.extend(world.destination_rules().iter().map(|o| (o.key.clone(), &o.origin)));
    all.extend(world.gateways().iter().map(|o| (o.key.clone(), &o.origin)));
    all.extend(world.sidecars().iter().map(|o| (o.key.clone(), &o.origin)));
    all.extend(world.rate_limits().iter().map(|o| (o.key.clone(), &o.origin)));
    all.extend(world.peer_authentications().iter().map(|o| (o.key.clone(), &o.origin)));
    all.extend(world.request_authentications().iter().map(|o| (o.key.clone(), &o.origin)));
    all.extend(world.authorization_policies().iter().map(|o| (o.key.clone(), &o.origin)));
    all.extend(world.egress_policies().iter().map(|o| (o.key.clone(), &o.origin)));
    all.extend(world.services().iter().map(|s| (s.key.clone(), &s.origin)));
    all
}

/// Proxies of which each can see something else: for every namespace with objects one sidecar of each class of labels
/// that a selector tells apart, and for every Gateway one of its proxies. Where no workload runs, one is thought up.
fn proxies(world: &World) -> (World, Vec<ProxyId>) {
    let mut made = Vec::new();
    let mut ids: Vec<ProxyId> = Vec::new();
    let selectors = selectors(world);
    let mut classes: BTreeSet<(Arc<str>, Vec<usize>)> = BTreeSet::new();
    let mut gateway_pods: BTreeSet<Arc<str>> = BTreeSet::new();
    for g in world.gateways().iter() {
        let own = world.workloads().iter().find(|w| covers(&g.spec.selector, &w.labels));
        let workload = match own {
            Some(w) => w.clone(),
            None => {
                let w = Arc::new(imagined(&g.key, g.spec.selector.clone()));
                made.push(Change::Workload(w.clone()));
                w
            }
        };
        if gateway_pods.insert(workload.uid.clone()) {
            ids.push(ProxyId::of(ProxyKind::Gateway, &workload));
        }
    }
    let mut namespaces: BTreeSet<&str> = world.services().iter().map(|s| &*s.namespace).collect();
    namespaces.extend(world.virtual_services().iter().map(|o| &*o.key.namespace));
    namespaces.extend(world.destination_rules().iter().map(|o| &*o.key.namespace));
    namespaces.extend(world.sidecars().iter().map(|o| &*o.key.namespace));
    namespaces.extend(world.rate_limits().iter().map(|o| &*o.key.namespace));
    namespaces.extend(world.request_authentications().iter().map(|o| &*o.key.namespace));
    namespaces.extend(world.authorization_policies().iter().map(|o| &*o.key.namespace));
    namespaces.extend(world.egress_policies().iter().map(|o| &*o.key.namespace));
    for namespace in namespaces {
        let pods = world.workloads_in(namespace).iter().filter(|w| !gateway_pods.contains(&w.uid));
        let mut any = false;
        for w in pods {
            any = true;
            let class = selectors.iter().enumerate().filter(|(_, s)| covers(s, &w.labels)).map(|(i, _)| i).collect();
            if classes.insert((w.namespace.clone(), class)) {
                ids.push(ProxyId::of(ProxyKind::Sidecar, w));
            }
        }
        if !any {
            let kind = crate::api::Kind::new("", "Pod");
            let w = Arc::new(imagined(&Key::new(kind, namespace, "any"), BTreeMap::new()));
            ids.push(ProxyId::of(ProxyKind::Sidecar, &w));
            made.push(Change::Workload(w));
        }
    }
    ids.truncate(PROXIES);
    (if made.is_empty() { world.clone() } else { world.with(made) }, ids)
}

/// Label sets that configuration asks about workloads, but not those by which Services find their pods.
fn selectors(world: &World) -> Vec<&BTreeMap<String, String>> {
    let sidecars = world.sidecars().iter().filter_map(|s| Some(&s.spec.workload_selector.as_ref()?.labels));
    let rules = world.destination_rules().iter().filter_map(|r| Some(&r.spec.workload_selector.as_ref()?.match_labels));
    let http = world.virtual_services().iter().flat_map(|v| v.spec.http.iter().flat_map(|r| &r.r#match));
    let sources = http.map(|m| &m.source_labels);
    let limits = world.rate_limits().iter().filter_map(|l| Some(&l.spec.selector.as_ref()?.match_labels));
    let tokens = world.request_authentications().iter().filter_map(|o| Some(&o.spec.selector.as_ref()?.match_labels));
    let policies = world.authorization_policies().iter().filter_map(|o| Some(&o.spec.selector.as_ref()?.match_labels));
    let egress = world.egress_policies().iter().filter_map(|o| Some(&o.spec.selector.as_ref()?.match_labels));
    let all = sidecars.chain(rules).chain(sources).chain(limits).chain(tokens).chain(policies).chain(egress);
    let all: BTreeSet<_> = all.filter(|l| !l.is_empty()).collect();
    all.into_iter().collect()
}

fn imagined(key: &Key, labels: BTreeMap<String, String>) -> Workload {
    let entry = crate::api::WorkloadEntry { labels, ..crate::api::WorkloadEntry::default() };
    crate::convert::entry(&entry, &key.name, key, &crate::convert::Settings::default())
}
