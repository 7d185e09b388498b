//! Encoding of resources: JSON with the place of every field, so that a proxy's `explain` names the user's file and line.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Delta, Rejection, ResourceName, ResourceSet, WireResource};
use crate::api::{ContentHash, Key, Kind, MeshConfig, Meta, Object, Origin};
use crate::model::{Service, Workload};
use crate::world::{Change, World};

/// Resource types.
pub mod kind {
    /// VirtualService.
    pub const VIRTUAL_SERVICE: &str = "networking.istio.io/VirtualService";
    /// DestinationRule.
    pub const DESTINATION_RULE: &str = "networking.istio.io/DestinationRule";
    /// Gateway.
    pub const GATEWAY: &str = "networking.istio.io/Gateway";
    /// Sidecar.
    pub const SIDECAR: &str = "networking.istio.io/Sidecar";
    /// LocalRateLimit.
    pub const LOCAL_RATE_LIMIT: &str = "policy.mesh.local/LocalRateLimit";
    /// ProxyConfig.
    pub const PROXY_CONFIG: &str = "networking.istio.io/ProxyConfig";
    /// PeerAuthentication.
    pub const PEER_AUTHENTICATION: &str = "security.istio.io/PeerAuthentication";
    /// RequestAuthentication.
    pub const REQUEST_AUTHENTICATION: &str = "security.istio.io/RequestAuthentication";
    /// AuthorizationPolicy.
    pub const AUTHORIZATION_POLICY: &str = "security.istio.io/AuthorizationPolicy";
    /// EgressPolicy.
    pub const EGRESS_POLICY: &str = "policy.mesh.local/EgressPolicy";
    /// Services of any origin.
    pub const SERVICE: &str = "mesh/Service";
    /// Instances of any origin.
    pub const WORKLOAD: &str = "mesh/Workload";
    /// The mesh's settings.
    pub const MESH_CONFIG: &str = "mesh/MeshConfig";
    /// All of them.
    pub const ALL: [&str; 13] = [
        VIRTUAL_SERVICE,
        DESTINATION_RULE,
        GATEWAY,
        SIDECAR,
        LOCAL_RATE_LIMIT,
        PROXY_CONFIG,
        PEER_AUTHENTICATION,
        REQUEST_AUTHENTICATION,
        AUTHORIZATION_POLICY,
        EGRESS_POLICY,
        SERVICE,
        WORKLOAD,
        MESH_CONFIG,
    ];
}

#[derive(Serialize)]
struct Borrowed<'a, S> {
    key: &'a Key,
    meta: &'a Meta,
    origin: &'a Origin,
    hash: ContentHash,
    spec: &'a S,
}

#[derive(Deserialize)]
struct Owned<S> {
    key: Key,
    meta: Meta,
    origin: Origin,
    hash: ContentHash,
    spec: S,
}

/// Name of an object's resource.
pub fn object_name(kind: &str, key: &Key) -> ResourceName {
    ResourceName { kind: kind.into(), name: format!("{}/{}", key.namespace, key.name).into() }
}

/// Name of a service's resource.
pub fn service_name(s: &Service) -> ResourceName {
    ResourceName { kind: kind::SERVICE.into(), name: format!("{}/{}", s.namespace, s.hostname).into() }
}

/// Name of a workload's resource.
pub fn workload_name(w: &Workload) -> ResourceName {
    ResourceName { kind: kind::WORKLOAD.into(), name: w.uid.clone() }
}

/// Encodes an object of a kind in [`kind`].
pub fn encode_object<S: Serialize>(kind: &str, o: &Object<S>) -> WireResource {
    let Object { key, meta, origin, hash, spec } = o;
    encode(object_name(kind, key), &Borrowed { key, meta, origin, hash: *hash, spec })
}

/// Encodes a service.
pub fn encode_service(s: &Service) -> WireResource {
    encode(service_name(s), s)
}

/// Encodes a workload.
pub fn encode_workload(w: &Workload) -> WireResource {
    encode(workload_name(w), w)
}

fn encode<T: Serialize>(name: ResourceName, value: &T) -> WireResource {
    let body = serde_json::to_vec(value).expect("invariant: resources have string keys only");
    WireResource { name, version: ContentHash::of(&body), body: body.into() }
}

/// Decodes a resource. The error names the resource, and the field if there is one that this version does not know:
/// what a proxy does not understand it must not half apply.
pub fn decode(resource: &WireResource) -> Result<Change, Rejection> {
    let body = &resource.body;
    let change = match &*resource.name.kind {
        kind::VIRTUAL_SERVICE => object(body).map(Change::VirtualService),
        kind::DESTINATION_RULE => object(body).map(Change::DestinationRule),
        kind::GATEWAY => object(body).map(Change::Gateway),
        kind::SIDECAR => object(body).map(Change::Sidecar),
        kind::LOCAL_RATE_LIMIT => object(body).map(Change::LocalRateLimit),
        kind::PROXY_CONFIG => object(body).map(Change::ProxyConfig),
        kind::PEER_AUTHENTICATION => object(body).map(Change::PeerAuthentication),
        kind::REQUEST_AUTHENTICATION => object(body).map(Change::RequestAuthentication),
        kind::AUTHORIZATION_POLICY => object(body).map(Change::AuthorizationPolicy),
        kind::EGRESS_POLICY => object(body).map(Change::EgressPolicy),
        kind::MESH_CONFIG => object::<MeshConfig>(body).map(|o| Change::Mesh(Some(o))),
        kind::SERVICE => read(body).map(|s| Change::Service(Arc::new(s))),
        kind::WORKLOAD => read(body).map(|w| Change::Workload(Arc::new(w))),
        other => Err(format!("kind {other} is not known to this proxy")),
    };
    change.map_err(|message| Rejection { name: resource.name.clone(), message })
}

fn object<S: DeserializeOwned>(body: &[u8]) -> Result<Arc<Object<S>>, String> {
    let Owned { key, meta, origin, hash, spec } = read(body)?;
    Ok(Arc::new(Object { key, meta, origin, hash, spec }))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let mut unknown = Vec::new();
    let json = &mut serde_json::Deserializer::from_slice(body);
    let value = serde_ignored::deserialize(json, |path| unknown.push(path.to_string()))
        .map_err(|e| format!("can't be read: {e}"))?;
    match unknown.first() {
        None => Ok(value),
        // `?` stands for an Option in serde_ignored's paths.
        Some(field) => Err(format!("field {} is not known to this proxy", field.replace(".?", ""))),
    }
}

/// The change that removes a resource; `None` for an unknown kind.
pub fn removal(name: &ResourceName) -> Option<Change> {
    let split = || name.name.split_once('/').unwrap_or(("", &name.name));
    Some(match &*name.kind {
        kind::MESH_CONFIG => Change::Mesh(None),
        kind::SERVICE => {
            let (namespace, host) = split();
            Change::RemoveService(namespace.into(), host.into())
        }
        kind::WORKLOAD => Change::RemoveWorkload(name.name.clone()),
        object if kind::ALL.contains(&object) => {
            let (group, kind) = object.split_once('/')?;
            let (namespace, object) = split();
            Change::Remove(Key::new(Kind::new(group, kind), namespace, object))
        }
        _ => return None,
    })
}

impl World {
    /// The World of what a proxy was sent. Resources that can't be used are left out and named.
    pub fn from_wire(set: &ResourceSet) -> (Self, Vec<Rejection>) {
        let delta = Delta { changed: set.values().cloned().collect(), ..Delta::default() };
        Self::new().with_delta(&delta)
    }

    /// This World after a delta. A resource that can't be used is named, and its last good version stays in force.
    #[must_use]
    pub fn with_delta(&self, delta: &Delta) -> (Self, Vec<Rejection>) {
        self.clone().after(delta)
    }

    /// The same for a World that nobody needs as it was.
    #[must_use]
    pub fn after(self, delta: &Delta) -> (Self, Vec<Rejection>) {
        let mut rejected = Vec::new();
        let mut changes: Vec<Change> = delta.removed.iter().filter_map(removal).collect();
        for r in &delta.changed {
            match decode(r) {
                Ok(c) => changes.push(c),
                Err(e) => rejected.push(e),
            }
        }
        (self.changed(changes), rejected)
    }
}

/// Every resource of a World, encoded: each object once, whoever asks for it.
#[derive(Clone, Debug, Default)]
pub struct Encoded {
    objects: BTreeMap<ResourceName, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    hash: ContentHash,
    origin: Option<Origin>,
    resource: Arc<WireResource>,
}

impl Encoded {
    /// Encodes a World; what is unchanged since `previous` is taken from there.
    pub fn of(world: &World, previous: &Self) -> Self {
        let mut next = Self::default();
        let previous = Some(previous);
        for o in world.virtual_services().iter() {
            next.object(kind::VIRTUAL_SERVICE, o, previous);
        }
        for o in world.destination_rules().iter() {
            next.object(kind::DESTINATION_RULE, o, previous);
        }
        for o in world.gateways().iter() {
            next.object(kind::GATEWAY, o, previous);
        }
        for o in world.sidecars().iter() {
            next.object(kind::SIDECAR, o, previous);
        }
        for o in world.rate_limits().iter() {
            next.object(kind::LOCAL_RATE_LIMIT, o, previous);
        }
        for o in world.proxy_configs().iter() {
            next.object(kind::PROXY_CONFIG, o, previous);
        }
        for o in world.peer_authentications().iter() {
            next.object(kind::PEER_AUTHENTICATION, o, previous);
        }
        for o in world.request_authentications().iter() {
            next.object(kind::REQUEST_AUTHENTICATION, o, previous);
        }
        for o in world.egress_policies().iter() {
            next.object(kind::EGRESS_POLICY, o, previous);
        }
        for o in world.authorization_policies().iter() {
            next.object(kind::AUTHORIZATION_POLICY, o, previous);
        }
        next.object(kind::MESH_CONFIG, world.mesh(), previous);
        for s in world.services().iter() {
            next.put(service_name(s), s.hash, Some(&s.origin), previous, || encode_service(s));
        }
        for w in world.workloads().iter() {
            next.put(workload_name(w), w.hash, None, previous, || encode_workload(w));
        }
        next
    }

    /// Follows the World through the changes that made it; what they don't name is not looked at.
    pub fn apply(&mut self, world: &World, changes: &[Change]) {
        for change in changes {
            match change {
                Change::VirtualService(o) => self.object(kind::VIRTUAL_SERVICE, o, None),
                Change::DestinationRule(o) => self.object(kind::DESTINATION_RULE, o, None),
                Change::Gateway(o) => self.object(kind::GATEWAY, o, None),
                Change::Sidecar(o) => self.object(kind::SIDECAR, o, None),
                Change::LocalRateLimit(o) => self.object(kind::LOCAL_RATE_LIMIT, o, None),
                Change::ProxyConfig(o) => self.object(kind::PROXY_CONFIG, o, None),
                Change::PeerAuthentication(o) => self.object(kind::PEER_AUTHENTICATION, o, None),
                Change::RequestAuthentication(o) => self.object(kind::REQUEST_AUTHENTICATION, o, None),
                Change::AuthorizationPolicy(o) => self.object(kind::AUTHORIZATION_POLICY, o, None),
                Change::EgressPolicy(o) => self.object(kind::EGRESS_POLICY, o, None),
                Change::Service(s) => self.put(service_name(s), s.hash, Some(&s.origin), None, || encode_service(s)),
                Change::Workload(w) => self.put(workload_name(w), w.hash, None, None, || encode_workload(w)),
                Change::Mesh(_) => self.object(kind::MESH_CONFIG, world.mesh(), None),
                Change::Namespace(..) => {}
                Change::Remove(key) => {
                    if let Some(kind) = kind::ALL.iter().find(|k| k.rsplit('/').next() == Some(&*key.kind.kind)) {
                        self.objects.remove(&object_name(kind, key));
                    }
                }
                Change::RemoveService(namespace, host) => {
                    let name = format!("{namespace}/{host}").into();
                    self.objects.remove(&ResourceName { kind: kind::SERVICE.into(), name });
                }
                Change::RemoveWorkload(uid) => {
                    self.objects.remove(&ResourceName { kind: kind::WORKLOAD.into(), name: uid.clone() });
                }
            }
        }
    }

    fn object<S: Serialize>(&mut self, kind: &str, o: &Object<S>, previous: Option<&Self>) {
        self.put(object_name(kind, &o.key), o.hash, Some(&o.origin), previous, || encode_object(kind, o));
    }

    fn put(
        &mut self,
        name: ResourceName,
        hash: ContentHash,
        origin: Option<&Origin>,
        previous: Option<&Self>,
        encode: impl FnOnce() -> WireResource,
    ) {
        let known = previous.unwrap_or(self).objects.get(&name);
        let same = known.filter(|e| e.hash == hash && e.origin.as_ref() == origin);
        let entry =
            same.cloned().unwrap_or_else(|| Entry { hash, origin: origin.cloned(), resource: Arc::new(encode()) });
        self.objects.insert(name, entry);
    }

    /// The resource of a name.
    pub fn get(&self, name: &ResourceName) -> Option<&Arc<WireResource>> {
        self.objects.get(name).map(|e| &e.resource)
    }
}

#[cfg(test)]
mod tests;
