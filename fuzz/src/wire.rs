//! The configuration channel: messages of a peer that is broken or not ours.

use std::sync::Arc;

use mesh_core::wire::{Delta, ResourceName, ResourceSet, WireResource, kind, removal};
use mesh_core::world::World;
use mesh_proxy::discovery::proto::{DeltaRequest, DeltaResponse};
use prost::Message;

/// Takes the input as a message of either side, and as the body of a resource of every kind.
pub fn wire(data: &[u8]) {
    if let Ok(request) = DeltaRequest::decode(data) {
        let _ = request.to_ack();
    }
    if let Ok(response) = DeltaResponse::decode(data) {
        let (delta, _foreign) = response.into_delta();
        apply(&delta);
    }
    for kind in kind::ALL {
        let name = ResourceName { kind: kind.into(), name: "default/fuzz".into() };
        let resource = WireResource { name, version: mesh_core::api::ContentHash::of(data), body: data.into() };
        apply(&Delta { changed: vec![Arc::new(resource)], ..Delta::default() });
    }
}

fn apply(delta: &Delta) {
    let (world, rejected) = World::new().with_delta(delta);
    assert!(rejected.len() <= delta.changed.len());
    let mut set = ResourceSet::new();
    delta.apply(&mut set);
    let taken_back = delta.changed.iter().filter_map(|r| removal(&r.name));
    let _ = world.with(taken_back);
}
