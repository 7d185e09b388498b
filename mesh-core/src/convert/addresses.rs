//! Addresses that the mesh gives out itself where no cluster does: pods, virtual addresses, ServiceEntry hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::api::ContentHash;

/// Range of addresses: the network's first two bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Range {
    /// `10.244.0.0/16`: pods.
    Pods,
    /// `10.96.0.0/16`: Services.
    Services,
    /// `240.240.0.0/16`: hosts of ServiceEntries, as Istio gives them.
    Hosts,
}

/// Gives out addresses. The address of a name follows from the name, so that it is the same in every run and after a
/// deletion; only where two names want the same address, who came first keeps it.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    given: BTreeMap<(Range, Arc<str>), Ipv4Addr>,
    used: BTreeSet<Ipv4Addr>,
}

impl Addresses {
    /// The address of a name, given out now if it has none; `None` when the range is used up.
    pub fn of(&mut self, range: Range, name: &str) -> Option<Ipv4Addr> {
        let key = (range, Arc::<str>::from(name));
        if let Some(a) = self.given.get(&key) {
            return Some(*a);
        }
        let wanted = ContentHash::of(name.as_bytes()).0;
        let address =
            (0..HOSTS).map(|i| place(range, (wanted % HOSTS + i) % HOSTS)).find(|a| !self.used.contains(a))?;
        self.used.insert(address);
        self.given.insert(key, address);
        Some(address)
    }

    /// Sets an address aside that an object names itself (`clusterIP`), so that it is not given to another. An object that
    /// comes later with the address of an earlier one shares it, as both said so.
    pub fn take(&mut self, address: Ipv4Addr) {
        self.used.insert(address);
    }

    /// Gives back the address of a name.
    pub fn release(&mut self, range: Range, name: &str) {
        if let Some(a) = self.given.remove(&(range, name.into())) {
            self.used.remove(&a);
        }
    }
}

/// Usable addresses of a range: not the network's, not those of its last block, and not the first 256, which are for
/// the mesh's own (bridge, DNS).
const HOSTS: u64 = 65_536 - 512;

fn place(range: Range, index: u64) -> Ipv4Addr {
    let [a, b] = match range {
        Range::Pods => [10, 244],
        Range::Services => [10, 96],
        Range::Hosts => [240, 240],
    };
    let [hi, lo] = u16::try_from(index + 256).expect("invariant: index < HOSTS").to_be_bytes();
    Ipv4Addr::new(a, b, hi, lo)
}
