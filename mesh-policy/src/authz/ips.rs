//! Addresses and networks, in time that depends only on how many prefix lengths there are.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::RandomState;
use mesh_core::matching::Cidr;

/// Something for each of many networks.
#[derive(Clone, Debug)]
pub(super) struct IpIndex<T> {
    v4: Networks<T>,
    v6: Networks<T>,
}

#[derive(Clone, Debug)]
struct Networks<T> {
    lengths: Vec<u8>,
    map: HashMap<(u8, u128), T, RandomState>,
}

impl<T> Default for Networks<T> {
    fn default() -> Self {
        Self { lengths: Vec::new(), map: HashMap::default() }
    }
}

impl<T> Default for IpIndex<T> {
    fn default() -> Self {
        Self { v4: Networks::default(), v6: Networks::default() }
    }
}

/// The first bits of an address, which are the upper ones of the number.
fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
        IpAddr::V6(v6) => v6.into(),
    }
}

fn first(bits: u128, length: u8) -> u128 {
    if length == 0 { 0 } else { bits & (u128::MAX << (128 - u32::from(length.min(128)))) }
}

impl<T: Default> IpIndex<T> {
    pub(super) fn entry(&mut self, network: Cidr) -> &mut T {
        // A network of IPv4 addresses in IPv6 clothing is one of IPv4 addresses.
        let plain = network.address.to_canonical();
        let (address, length) = match (network.address, plain) {
            (IpAddr::V6(_), IpAddr::V4(_)) if network.length >= 96 => (plain, network.length - 96),
            _ => (network.address, network.length),
        };
        let networks = if address.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        if let Err(at) = networks.lengths.binary_search(&length) {
            networks.lengths.insert(at, length);
        }
        networks.map.entry((length, first(bits(address), length))).or_default()
    }
}

impl<T> IpIndex<T> {
    /// Calls for every network that an address is in, until the answer is yes.
    pub(super) fn find(&self, ip: IpAddr, f: &mut impl FnMut(&T) -> bool) -> bool {
        let ip = ip.to_canonical();
        let networks = if ip.is_ipv4() { &self.v4 } else { &self.v6 };
        let bits = bits(ip);
        networks.lengths.iter().filter_map(|n| networks.map.get(&(*n, first(bits, *n)))).any(f)
    }
}

/// A set of networks.
pub(super) type IpSet = IpIndex<()>;

impl IpSet {
    pub(super) fn of(networks: &[Cidr]) -> Self {
        let mut set = Self::default();
        for network in networks {
            set.entry(*network);
        }
        set
    }

    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        self.find(ip, &mut |()| true)
    }
}
