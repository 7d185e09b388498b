//! Host patterns and networks.

use std::net::IpAddr;
use std::sync::Arc;

/// A host name as Istio writes it: exact, `*`, or a leading `*` followed by a suffix. Always lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum HostPattern {
    /// Every host.
    Any,
    /// Hosts that end in this (`.example.com` for `*.example.com`) and are longer than it.
    Suffix(Arc<str>),
    /// Exactly this host.
    Exact(Arc<str>),
}

/// A network: address and prefix length.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Cidr {
    /// Network address; host bits are zero.
    pub address: IpAddr,
    /// Prefix length in bits.
    pub length: u8,
}
