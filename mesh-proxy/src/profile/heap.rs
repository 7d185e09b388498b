//! Who has allocated what: an allocator around another one that looks at one allocation in about half a mebibyte.
//!
//! Off, it costs one relaxed load for each allocation and each block that is given back. On, each thread counts bytes down
//! to its next sample; the distances are random with a mean of [`MEAN`] (a Poisson process over bytes, as Go, tcmalloc and
//! jemalloc sample), so that an allocation of `size` is seen with a chance of `1 - exp(-size / MEAN)` and stands for so
//! many more. Blocks that were sampled are known by address until they are given back; a small table of counters tells
//! nearly all others from them without a lock.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::encode::{Profile, Stack};

/// Bytes between two samples, in the mean.
const MEAN: f64 = 524_288.;
/// Frames of a stack that are kept.
const DEPTH: usize = 64;
/// Stacks that are told apart; more are summed up without frames.
const STACKS: usize = 16_384;

static ON: AtomicBool = AtomicBool::new(false);
/// The mutex of the standard library, because it does not allocate.
static SAMPLES: Mutex<Option<Samples>> = Mutex::new(None);
/// How many sampled blocks have an address that falls on each slot.
static SLOTS: [AtomicU32; 4096] = [const { AtomicU32::new(0) }; 4096];

/// An allocator whose allocations can be sampled.
#[derive(Debug)]
pub struct Sampled<A>(A);

impl<A> Sampled<A> {
    /// Around this one. Nothing is sampled until the program says so (`--profiling`).
    pub const fn new(inner: A) -> Self {
        Self(inner)
    }
}

// SAFETY: every call is handed on with what it was given, and what comes back is what the inner allocator gave; the rest
// only looks at addresses and sizes, and neither unwinds nor touches the memory.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Sampled<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that the inner one asks for.
        let block = unsafe { self.0.alloc(layout) };
        if ON.load(Ordering::Relaxed) {
            taken(block, layout.size());
        }
        block
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let block = unsafe { self.0.alloc_zeroed(layout) };
        if ON.load(Ordering::Relaxed) {
            taken(block, layout.size());
        }
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // Before others may get the same address.
        if ON.load(Ordering::Relaxed) {
            given_back(block);
        }
        // SAFETY: as above.
        unsafe { self.0.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if ON.load(Ordering::Relaxed) {
            given_back(block);
        }
        // SAFETY: as above.
        let moved = unsafe { self.0.realloc(block, layout, size) };
        if ON.load(Ordering::Relaxed) {
            taken(moved, size);
        }
        moved
    }
}

/// Begins to sample.
pub(super) fn start() {
    quietly(|| {
        samples().get_or_insert_default();
    });
    ON.store(true, Ordering::Relaxed);
}

/// What was allocated since then, and what of it has not been given back.
pub(super) fn profile(at: SystemTime) -> Profile<'static> {
    let stacks = quietly(|| samples().as_ref().map(Samples::stacks)).flatten().unwrap_or_default();
    Profile {
        kinds: &[
            ("alloc_objects", "count"),
            ("alloc_space", "bytes"),
            ("inuse_objects", "count"),
            ("inuse_space", "bytes"),
        ],
        default: "inuse_space",
        period: ("space", "bytes", 524_288),
        at,
        lasted: Duration::ZERO,
        stacks,
    }
}

fn samples() -> MutexGuard<'static, Option<Samples>> {
    SAMPLES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a thread knows. It has nothing to be dropped, so that it is there as long as the thread allocates.
struct Local {
    /// It is sampling: what it allocates for that is not looked at.
    busy: Cell<bool>,
    distance: Distance,
}

thread_local! {
    static LOCAL: Local = const { Local { busy: Cell::new(false), distance: Distance::new() } };
}

/// Runs something whose own allocations are not sampled; `None` if that is so already.
fn quietly<T>(work: impl FnOnce() -> T) -> Option<T> {
    LOCAL.with(|local| {
        if local.busy.replace(true) {
            return None;
        }
        let done = work();
        local.busy.set(false);
        Some(done)
    })
}

/// Bytes until a thread's next sample.
struct Distance {
    left: Cell<f64>,
    state: Cell<u64>,
}

impl Distance {
    const fn new() -> Self {
        Self { left: Cell::new(0.), state: Cell::new(0) }
    }

    /// Goes on by so many bytes; whether a sample lies on the way.
    fn passes(&self, size: usize) -> bool {
        if self.state.get() == 0 {
            // No clock and no system call here: threads only have to differ.
            static THREADS: AtomicU64 = AtomicU64::new(1);
            let number = THREADS.fetch_add(1, Ordering::Relaxed);
            self.state.set(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
            self.left.set(self.draw());
        }
        #[expect(clippy::cast_precision_loss, reason = "sizes above 2^53 are not allocated")]
        let left = self.left.get() - size as f64;
        if left > 0. {
            self.left.set(left);
            return false;
        }
        // Distances have no memory, so where in the allocation the sample was does not matter.
        self.left.set(self.draw());
        true
    }

    /// An exponentially distributed distance (by xorshift).
    fn draw(&self) -> f64 {
        let mut x = self.state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.state.set(x);
        #[expect(clippy::cast_precision_loss, reason = "53 bits are all that the fraction takes")]
        let fraction = ((x >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        -fraction.ln() * MEAN
    }
}

fn slot(address: usize) -> &'static AtomicU32 {
    // Small differences of addresses end in different slots.
    &SLOTS[((address >> 4) ^ (address >> 16)) % SLOTS.len()]
}

#[cold]
#[inline(never)]
fn taken(block: *mut u8, size: usize) {
    if block.is_null() || !LOCAL.with(|local| !local.busy.get() && local.distance.passes(size)) {
        return;
    }
    quietly(|| {
        let mut frames = [0; DEPTH];
        let depth = callers(&mut frames);
        if let Some(samples) = &mut *samples() {
            samples.add(block.addr(), size, &frames[..depth]);
            slot(block.addr()).fetch_add(1, Ordering::Relaxed);
        }
    });
}

#[cold]
#[inline(never)]
fn given_back(block: *mut u8) {
    // Who gives a block back has it from who took it, so its sample is seen here.
    let address = block.addr();
    if slot(address).load(Ordering::Relaxed) == 0 {
        return;
    }
    quietly(|| {
        if samples().as_mut().is_some_and(|samples| samples.remove(address)) {
            slot(address).fetch_sub(1, Ordering::Relaxed);
        }
    });
}

/// The stack of who wants memory, the innermost first; how many frames there are.
fn callers(frames: &mut [usize; DEPTH]) -> usize {
    let this = (taken as fn(*mut u8, usize) as *const ()).addr();
    let (mut depth, mut inside) = (0, true);
    let mut frame = |frame: &backtrace::Frame| {
        if inside {
            // This module's own frames end with this function.
            inside = frame.symbol_address().addr() != this;
            return true;
        }
        frames[depth] = frame.ip().addr();
        depth += 1;
        depth < DEPTH
    };
    // SAFETY: it asks for no other walk at the same time where walking needs memory that is shared; on Linux the
    // unwinder's walks are independent of each other.
    unsafe { backtrace::trace_unsynchronized(&mut frame) };
    depth
}

/// All samples.
#[derive(Default)]
struct Samples {
    stacks: HashMap<Box<[usize]>, usize>,
    sums: Vec<Sum>,
    /// Blocks that have not been given back.
    live: HashMap<usize, Live>,
}

/// Of a stack. Fractions, because each sample stands for more than itself.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    taken: (f64, f64),
    live: (f64, f64),
}

struct Live {
    stack: usize,
    size: usize,
}

/// For how many allocations of this size, and how many bytes, one that was sampled stands.
#[expect(clippy::cast_precision_loss, reason = "sizes above 2^53 are not allocated")]
fn stands_for(size: usize) -> (f64, f64) {
    let size = size.max(1) as f64;
    let count = 1. / (1. - (-size / MEAN).exp());
    (count, count * size)
}

impl Samples {
    fn add(&mut self, address: usize, size: usize, frames: &[usize]) {
        let frames = if self.stacks.len() < STACKS || self.stacks.contains_key(frames) { frames } else { &[] };
        let stack = match self.stacks.get(frames) {
            Some(stack) => *stack,
            None => {
                self.sums.push(Sum::default());
                self.stacks.insert(frames.into(), self.sums.len() - 1);
                self.sums.len() - 1
            }
        };
        let (count, bytes) = stands_for(size);
        let Sum { taken, live } = &mut self.sums[stack];
        for sum in [taken, live] {
            sum.0 += count;
            sum.1 += bytes;
        }
        self.live.insert(address, Live { stack, size });
    }

    /// Whether the block was sampled.
    fn remove(&mut self, address: usize) -> bool {
        let Some(Live { stack, size }) = self.live.remove(&address) else { return false };
        let (count, bytes) = stands_for(size);
        let live = &mut self.sums[stack].live;
        live.0 -= count;
        live.1 -= bytes;
        true
    }

    fn stacks(&self) -> Vec<Stack> {
        let stack = |frames: &[usize], at: usize| {
            let Sum { taken, live } = self.sums[at];
            #[expect(clippy::cast_possible_truncation, reason = "rounded; memory is smaller than that")]
            let values = [taken.0, taken.1, live.0, live.1].map(|n| n.round().max(0.) as i64).to_vec();
            Stack { addresses: frames.to_vec(), values, thread: None }
        };
        self.stacks.iter().map(|(frames, at)| stack(frames, *at)).collect()
    }
}

#[cfg(test)]
mod tests;
