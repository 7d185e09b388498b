//! Clock and randomness of the host.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher};
use std::time::SystemTime;

use mesh_core::env::Env;

/// The host's wall clock, and a small generator per thread, seeded by the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostEnv;

thread_local! {
    static STATE: Cell<u64> = Cell::new(seed());
}

fn seed() -> u64 {
    // The standard library draws the keys of its hasher from the system's random source.
    std::collections::hash_map::RandomState::new().build_hasher().finish() | 1
}

impl Env for HostEnv {
    #[expect(clippy::disallowed_methods, reason = "this is where the wall clock comes from")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn random(&self) -> u64 {
        // SplitMix64: one add and three multiplications, and every bit of it is usable.
        STATE.with(|state| {
            let next = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
            state.set(next);
            let mut z = next;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        })
    }
}
