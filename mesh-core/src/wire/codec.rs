//! Encoding of resources: JSON with the place of every field, so that a proxy's `explain` names the user's file and line.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Body, Delta, Rejection, ResourceName, ResourceSet, WireResource};
use crate::api::{ContentHash, Key, Kind, MeshConfig, Meta, Object, Origin};
use crate::model::{Service, Workload};
use crate::world::{Change, List, Listed, Texts, World};

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

/// What a change sets.
struct Sets<'a> {
    name: ResourceName,
    hash: ContentHash,
    origin: Option<&'a Origin>,
}

fn sets<'a, S>(kind: &str, o: &'a Object<S>) -> Sets<'a> {
    Sets { name: object_name(kind, &o.key), hash: o.hash, origin: Some(&o.origin) }
}

fn json<S: Serialize>(o: &Object<S>) -> Vec<u8> {
    let Object { key, meta, origin, hash, spec } = o;
    json_of(&Borrowed { key, meta, origin, hash: *hash, spec })
}

fn json_of<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("invariant: resources have string keys only")
}

impl Change {
    /// What proxies are sent for it; `None`: nothing, or that something is gone.
    fn sets(&self) -> Option<Sets<'_>> {
        Some(match self {
            Self::VirtualService(o) => sets(kind::VIRTUAL_SERVICE, o),
            Self::DestinationRule(o) => sets(kind::DESTINATION_RULE, o),
            Self::Gateway(o) => sets(kind::GATEWAY, o),
            Self::Sidecar(o) => sets(kind::SIDECAR, o),
            Self::LocalRateLimit(o) => sets(kind::LOCAL_RATE_LIMIT, o),
            Self::ProxyConfig(o) => sets(kind::PROXY_CONFIG, o),
            Self::PeerAuthentication(o) => sets(kind::PEER_AUTHENTICATION, o),
            Self::RequestAuthentication(o) => sets(kind::REQUEST_AUTHENTICATION, o),
            Self::AuthorizationPolicy(o) => sets(kind::AUTHORIZATION_POLICY, o),
            Self::EgressPolicy(o) => sets(kind::EGRESS_POLICY, o),
            Self::Mesh(o) => sets(kind::MESH_CONFIG, o.as_ref()?),
            Self::Service(s) => Sets { name: service_name(s), hash: s.hash, origin: Some(&s.origin) },
            Self::Workload(w) => Sets { name: workload_name(w), hash: w.hash, origin: None },
            Self::Namespace(..) | Self::Remove(_) | Self::RemoveService(..) | Self::RemoveWorkload(_) => return None,
        })
    }

    /// The content of the resource that it sets, encoded.
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::VirtualService(o) => json(o),
            Self::DestinationRule(o) => json(o),
            Self::Gateway(o) => json(o),
            Self::Sidecar(o) => json(o),
            Self::LocalRateLimit(o) => json(o),
            Self::ProxyConfig(o) => json(o),
            Self::PeerAuthentication(o) => json(o),
            Self::RequestAuthentication(o) => json(o),
            Self::AuthorizationPolicy(o) | Self::EgressPolicy(o) => json(o),
            Self::Mesh(Some(o)) => json(o),
            Self::Service(s) => json_of(s),
            Self::Workload(w) => json_of(w),
            Self::Mesh(None)
            | Self::Namespace(..)
            | Self::Remove(_)
            | Self::RemoveService(..)
            | Self::RemoveWorkload(_) => Vec::new(),
        }
    }
}

/// Everything of a World that proxies may be sent.
fn all_of(world: &World) -> impl Iterator<Item = Change> {
    fn list<'w, T: Listed>(all: &'w List<T>, change: fn(Arc<T>) -> Change) -> impl Iterator<Item = Change> + 'w {
        all.iter().map(move |one| change(Arc::clone(one)))
    }
    std::iter::once(Change::Mesh(Some(Arc::clone(world.mesh()))))
        .chain(list(world.virtual_services(), Change::VirtualService))
        .chain(list(world.destination_rules(), Change::DestinationRule))
        .chain(list(world.gateways(), Change::Gateway))
        .chain(list(world.sidecars(), Change::Sidecar))
        .chain(list(world.rate_limits(), Change::LocalRateLimit))
        .chain(list(world.proxy_configs(), Change::ProxyConfig))
        .chain(list(world.peer_authentications(), Change::PeerAuthentication))
        .chain(list(world.request_authentications(), Change::RequestAuthentication))
        .chain(list(world.authorization_policies(), Change::AuthorizationPolicy))
        .chain(list(world.egress_policies(), Change::EgressPolicy))
        .chain(list(world.services(), Change::Service))
        .chain(list(world.workloads(), Change::Workload))
}

/// Decodes a resource. The error names the resource, and the field if there is one that this version does not know:
/// what a proxy does not understand it must not half apply.
pub fn decode(resource: &WireResource) -> Result<Change, Rejection> {
    decode_beside(resource, &mut Texts::default())
}

/// The same for one of many, which share texts.
fn decode_beside(resource: &WireResource, texts: &mut Texts) -> Result<Change, Rejection> {
    let body = match &resource.body {
        Body::Encoded(body) => body,
        Body::Here(change) => return Ok(change.clone()),
    };
    let change = match &*resource.name.kind {
        kind::VIRTUAL_SERVICE => object(body, texts).map(Change::VirtualService),
        kind::DESTINATION_RULE => object(body, texts).map(Change::DestinationRule),
        kind::GATEWAY => object(body, texts).map(Change::Gateway),
        kind::SIDECAR => object(body, texts).map(Change::Sidecar),
        kind::LOCAL_RATE_LIMIT => object(body, texts).map(Change::LocalRateLimit),
        kind::PROXY_CONFIG => object(body, texts).map(Change::ProxyConfig),
        kind::PEER_AUTHENTICATION => object(body, texts).map(Change::PeerAuthentication),
        kind::REQUEST_AUTHENTICATION => object(body, texts).map(Change::RequestAuthentication),
        kind::AUTHORIZATION_POLICY => object(body, texts).map(Change::AuthorizationPolicy),
        kind::EGRESS_POLICY => object(body, texts).map(Change::EgressPolicy),
        kind::MESH_CONFIG => object::<MeshConfig>(body, texts).map(|o| Change::Mesh(Some(o))),
        kind::SERVICE => read(body).map(|s| Change::Service(Arc::new(texts.of_service(s)))),
        kind::WORKLOAD => read(body).map(|w| Change::Workload(Arc::new(w))),
        other => Err(format!("kind {other} is not known to this proxy")),
    };
    change.map_err(|message| Rejection { name: resource.name.clone(), message })
}

fn object<S: DeserializeOwned>(body: &[u8], texts: &mut Texts) -> Result<Arc<Object<S>>, String> {
    let Owned { mut key, meta, mut origin, hash, spec } = read(body)?;
    texts.of_head(&mut key, &mut origin);
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
        let (mut rejected, mut texts) = (Vec::new(), Texts::default());
        let mut changes: Vec<Change> = delta.removed.iter().filter_map(removal).collect();
        for r in &delta.changed {
            match decode_beside(r, &mut texts) {
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
        all_of(world).for_each(|change| next.put(&change, Some(previous)));
        next
    }

    /// The same for proxies in this process: nothing is encoded.
    pub(crate) fn here(world: &World) -> Self {
        let entry = |change: Change| {
            let Sets { name, hash, origin } = change.sets()?;
            let version = origin.map_or(hash, |origin| hash.with(origin.hash()));
            let (key, origin) = (name.clone(), origin.cloned());
            let resource = Arc::new(WireResource { name, version, body: Body::Here(change) });
            Some((key, Entry { hash, origin, resource }))
        };
        Self { objects: all_of(world).filter_map(entry).collect() }
    }

    /// Follows the World through the changes that made it; what they don't name is not looked at.
    pub fn apply(&mut self, world: &World, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Mesh(_) => self.put(&Change::Mesh(Some(Arc::clone(world.mesh()))), None),
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
                other => self.put(other, None),
            }
        }
    }

    fn put(&mut self, change: &Change, previous: Option<&Self>) {
        let Some(Sets { name, hash, origin }) = change.sets() else { return };
        let known = previous.unwrap_or(self).objects.get(&name);
        let same = known.filter(|e| e.hash == hash && e.origin.as_ref() == origin);
        let entry = same.cloned().unwrap_or_else(|| {
            let body = change.encode();
            let version = ContentHash::of(&body);
            let resource = Arc::new(WireResource { name: name.clone(), version, body: body.into() });
            Entry { hash, origin: origin.cloned(), resource }
        });
        self.objects.insert(name, entry);
    }

    /// The resource of a name.
    pub fn get(&self, name: &ResourceName) -> Option<&Arc<WireResource>> {
        self.objects.get(name).map(|e| &e.resource)
    }
}

#[cfg(test)]
mod tests;
