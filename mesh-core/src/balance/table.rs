//! Tables of consistent hashes, laid out as Envoy lays them out: the same key goes to the same endpoint from an Envoy
//! with the same endpoints.

use twox_hash::XxHash64;

/// Points that a ring has at most, unless more are asked for: skewed weights would make it arbitrarily large.
const MAX_RING: u64 = 1 << 20;
/// And Envoy's limit, for who does ask.
const HARD_MAX_RING: u64 = 8 << 20;

/// The hash of a key: Envoy's (XXH64, seed 0).
pub fn hash(key: &[u8]) -> u64 {
    XxHash64::oneshot(0, key)
}

/// From a hash to a host's index.
#[derive(Debug)]
pub struct Table(Kind);

#[derive(Debug)]
enum Kind {
    Ring(Vec<(u64, u32)>),
    Maglev(Vec<u32>),
}

impl Table {
    /// A ring with at least `minimum` points, of hosts by address with their shares (sum 1): a host's points are the
    /// hashes of `ADDRESS_0`, `ADDRESS_1`…
    pub fn ring(hosts: &[(String, f64)], minimum: u64) -> Self {
        let Some(least) = hosts.iter().map(|(_, w)| *w).min_by(f64::total_cmp).filter(|w| *w > 0.0) else {
            return Self(Kind::Ring(Vec::new()));
        };
        let minimum = minimum.clamp(1, HARD_MAX_RING);
        let scale = ((least * minimum as f64).ceil() / least).min(minimum.max(MAX_RING) as f64);
        let mut ring = Vec::with_capacity(scale as usize + hosts.len());
        let (mut current, mut target) = (0.0, 0.0);
        for (index, (address, weight)) in hosts.iter().enumerate() {
            target += scale * weight;
            let mut i = 0_u32;
            while current < target {
                ring.push((hash(format!("{address}_{i}").as_bytes()), index_of(index)));
                i += 1;
                current += 1.0;
            }
        }
        ring.sort_unstable();
        Self(Kind::Ring(ring))
    }

    /// A Maglev table of a prime size.
    pub fn maglev(hosts: &[(String, f64)], size: u64) -> Self {
        let most = hosts.iter().map(|(_, w)| *w).fold(0.0, f64::max);
        if most <= 0.0 || size < 2 {
            return Self(Kind::Maglev(Vec::new()));
        }
        const FREE: u32 = u32::MAX;
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        let mut table = vec![FREE; length];
        // Each host goes through the table by an order of its own.
        let mut orders: Vec<(u64, u64, f64)> = hosts
            .iter()
            .map(|(a, _)| (hash(a.as_bytes()) % size, XxHash64::oneshot(1, a.as_bytes()) % (size - 1) + 1, 0.0))
            .collect();
        let mut filled = 0;
        let mut round = 0.0;
        'all: loop {
            round += 1.0;
            for (index, (at, skip, target)) in orders.iter_mut().enumerate() {
                // A host of half the weight takes a place in every second round.
                if round * hosts[index].1 < *target {
                    continue;
                }
                *target += most;
                while table[usize::try_from(*at).unwrap_or(0)] != FREE {
                    *at = (*at + *skip) % size;
                }
                table[usize::try_from(*at).unwrap_or(0)] = index_of(index);
                filled += 1;
                if filled == length {
                    break 'all;
                }
            }
        }
        Self(Kind::Maglev(table))
    }

    /// Places in it.
    pub fn len(&self) -> usize {
        match &self.0 {
            Kind::Ring(ring) => ring.len(),
            Kind::Maglev(table) => table.len(),
        }
    }

    /// No host.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hosts from the one of a hash on, round and round.
    pub fn walk(&self, hash: u64) -> impl Iterator<Item = usize> {
        let length = self.len();
        let first = match &self.0 {
            Kind::Ring(ring) => ring.partition_point(|(point, _)| *point < hash),
            Kind::Maglev(table) => usize::try_from(hash % (table.len() as u64).max(1)).unwrap_or(0),
        };
        let at = move |i: usize| match &self.0 {
            Kind::Ring(ring) => ring[i].1,
            Kind::Maglev(table) => table[i],
        };
        (0..).take_while(move |_| length > 0).map(move |i| at((first + i) % length) as usize)
    }
}

fn index_of(index: usize) -> u32 {
    u32::try_from(index).expect("invariant: a cluster has less than 2^32 endpoints")
}
