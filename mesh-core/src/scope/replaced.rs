//! Changes that every scope follows without being made anew: of objects that are there before and after, and that put the
//! same names into it in both forms.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::http_destinations;
use crate::api::{AuthorizationPolicy, DestinationRule, Key, Object, RequestAuthentication, VirtualService};
use crate::model::{Service, Workload};
use crate::wire::{Encoded, ResourceName, ResourceSet, kind, object_name, service_name, workload_name};
use crate::world::{Change, List, Listed, World};

/// The resources that changes gave another content, if that is all they did: what is in scope of whom stays as it is.
/// `None`: scopes may differ, so that they are to be made anew.
pub fn replaced(before: &World, after: &World, changes: &[Change]) -> Option<Vec<ResourceName>> {
    let mut names = BTreeSet::new();
    for change in changes {
        let name = match change {
            Change::VirtualService(o) => virtual_service(before, after, &o.key)?,
            Change::DestinationRule(o) => rule(before, after, &o.key)?,
            Change::PeerAuthentication(o) => peer(before, after, &o.key)?,
            Change::RequestAuthentication(o) => tokens(before, after, &o.key)?,
            Change::AuthorizationPolicy(o) => policy(before, after, &o.key)?,
            Change::EgressPolicy(o) => egress(before, after, &o.key)?,
            Change::Remove(key) => match &*key.kind.kind {
                "VirtualService" => virtual_service(before, after, key)?,
                "DestinationRule" => rule(before, after, key)?,
                "PeerAuthentication" => peer(before, after, key)?,
                "RequestAuthentication" => tokens(before, after, key)?,
                "AuthorizationPolicy" => policy(before, after, key)?,
                "EgressPolicy" => egress(before, after, key)?,
                _ => return None,
            },
            Change::Service(s) => service(before, after, &(s.namespace.clone(), s.hostname.clone()))?,
            Change::RemoveService(namespace, host) => service(before, after, &(namespace.clone(), host.clone()))?,
            Change::Workload(w) => workload(before, after, &w.uid)?,
            Change::RemoveWorkload(uid) => workload(before, after, uid)?,
            Change::Gateway(_)
            | Change::Sidecar(_)
            | Change::LocalRateLimit(_)
            | Change::ProxyConfig(_)
            | Change::Mesh(_)
            | Change::Namespace(..) => return None,
        };
        names.insert(name);
    }
    Some(names.into_iter().collect())
}

/// Brings resources in a set to what they are now. Says whether any was another one.
pub fn replace(set: &mut Arc<ResourceSet>, encoded: &Encoded, names: &[ResourceName]) -> bool {
    let mut any = false;
    for name in names {
        let (Some(old), Some(new)) = (set.get(name), encoded.get(name)) else { continue };
        if old != new {
            Arc::make_mut(set).insert(name.clone(), new.clone());
            any = true;
        }
    }
    any
}

/// Both forms of an object, if it is there before and after and `same` finds no difference that scopes see.
fn both<T: Listed>(before: &List<T>, after: &List<T>, id: &T::Id, same: impl Fn(&T, &T) -> bool) -> Option<Arc<T>> {
    let (old, new) = (before.get(id)?, after.get(id)?);
    same(old, new).then(|| new.clone())
}

fn virtual_service(before: &World, after: &World, key: &Key) -> Option<ResourceName> {
    let lists = (before.virtual_services(), after.virtual_services());
    let o = both(lists.0, lists.1, key, |a, b| Reach::of(&a.spec) == Reach::of(&b.spec))?;
    Some(object_name(kind::VIRTUAL_SERVICE, &o.key))
}

fn rule(before: &World, after: &World, key: &Key) -> Option<ResourceName> {
    let same = |a: &DestinationRule, b: &DestinationRule| a.host == b.host && a.export_to == b.export_to;
    let lists = (before.destination_rules(), after.destination_rules());
    let o = both(lists.0, lists.1, key, |a, b| same(&a.spec, &b.spec))?;
    Some(object_name(kind::DESTINATION_RULE, &o.key))
}

/// It is in the scope of a namespace whatever it says.
fn peer(before: &World, after: &World, key: &Key) -> Option<ResourceName> {
    let o = both(before.peer_authentications(), after.peer_authentications(), key, |_, _| true)?;
    Some(object_name(kind::PEER_AUTHENTICATION, &o.key))
}

fn tokens(before: &World, after: &World, key: &Key) -> Option<ResourceName> {
    let lists = (before.request_authentications(), after.request_authentications());
    // Whoever follows it calls the services that have the keys.
    let uris = |o: &Object<RequestAuthentication>| -> Vec<String> {
        o.spec.jwt_rules.iter().map(|r| r.jwks_uri.clone()).collect()
    };
    let same = |a: &Object<RequestAuthentication>, b: &Object<RequestAuthentication>| {
        a.spec.selector == b.spec.selector && uris(a) == uris(b)
    };
    let o = both(lists.0, lists.1, key, same)?;
    Some(object_name(kind::REQUEST_AUTHENTICATION, &o.key))
}

fn policy(before: &World, after: &World, key: &Key) -> Option<ResourceName> {
    let lists = (before.authorization_policies(), after.authorization_policies());
    // Whoever follows it calls the authorizer that it names.
    let same = |a: &Object<AuthorizationPolicy>, b: &Object<AuthorizationPolicy>| {
        (&a.spec.selector, &a.spec.provider, a.spec.action) == (&b.spec.selector, &b.spec.provider, b.spec.action)
    };
    let o = both(lists.0, lists.1, key, same)?;
    Some(object_name(kind::AUTHORIZATION_POLICY, &o.key))
}

fn egress(before: &World, after: &World, key: &Key) -> Option<ResourceName> {
    let lists = (before.egress_policies(), after.egress_policies());
    let o = both(lists.0, lists.1, key, |a, b| a.spec.selector == b.spec.selector)?;
    Some(object_name(kind::EGRESS_POLICY, &o.key))
}

fn service(before: &World, after: &World, id: &<Service as Listed>::Id) -> Option<ResourceName> {
    let same = |a: &Service, b: &Service| a.export_to == b.export_to && a.selector == b.selector;
    Some(service_name(&*both(before.services(), after.services(), id, same)?))
}

fn workload(before: &World, after: &World, uid: &Arc<str>) -> Option<ResourceName> {
    let same = |a: &Workload, b: &Workload| a.namespace == b.namespace && a.labels == b.labels;
    Some(workload_name(&*both(before.workloads(), after.workloads(), uid, same)?))
}

/// What of a VirtualService decides who sees it, and what they see by it.
#[derive(PartialEq)]
struct Reach<'a> {
    hosts: &'a [String],
    gateways: &'a [String],
    export_to: &'a [String],
    rules_gateways: BTreeSet<(bool, &'a str)>,
    delegates: BTreeSet<(&'a str, &'a str)>,
    destinations: BTreeSet<&'a str>,
}

impl<'a> Reach<'a> {
    fn of(v: &'a VirtualService) -> Self {
        let VirtualService { hosts, gateways, http, tls, tcp, export_to } = v;
        let by_http = http.iter().flat_map(|r| &r.r#match).flat_map(|m| &m.gateways).map(|g| (true, g.as_str()));
        let by_tls = tls.iter().flat_map(|r| &r.r#match).flat_map(|m| &m.gateways);
        let by_tcp = tcp.iter().flat_map(|r| &r.r#match).flat_map(|m| &m.gateways);
        let l4 = tls.iter().flat_map(|r| &r.route).chain(tcp.iter().flat_map(|r| &r.route));
        let named = http.iter().flat_map(http_destinations).chain(l4.filter_map(|d| d.destination.as_ref()));
        let delegates = http.iter().filter_map(|r| r.delegate.as_ref());
        Self {
            hosts,
            gateways,
            export_to,
            rules_gateways: by_http.chain(by_tls.chain(by_tcp).map(|g| (false, g.as_str()))).collect(),
            delegates: delegates.map(|d| (d.namespace.as_str(), d.name.as_str())).collect(),
            destinations: named.map(|d| d.host.as_str()).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
