//! Names of the places in the order that may be empty.

use mesh_core::layers::{Opt, OptionalLayer, Slot, SlotLayer, optional};

/// A service with a named slot before it.
pub(super) type In<Name, S> = Opt<Slot<Name, S>, S>;

/// Nothing in a slot: the request does not notice it.
pub(super) fn empty<Name>() -> OptionalLayer<SlotLayer<Name>> {
    optional(None)
}

/// Starts and ends the span.
pub struct Trace;
/// Extensions of phase AUTHN.
pub struct BeforeAuthn;
/// Who the peer is.
pub struct PeerAuthn;
/// Extensions of phase AUTHZ.
pub struct BeforeAuthz;
/// Extensions of phase STATS.
pub struct BeforeStats;
