use super::*;

#[test]
fn samples_stand_for_what_was_not_seen() {
    for size in [64, 4096, 300_000, 5_000_000] {
        let distance = Distance::new();
        let (mut seen, mut bytes) = (0, 0.);
        let all = 2_000_000_000 / size;
        for _ in 0..all {
            if distance.passes(size) {
                seen += 1;
                bytes += stands_for(size).1;
            }
        }
        let exact = (all * size) as f64;
        assert!((bytes / exact - 1.).abs() < 0.06, "{size}: {bytes} of {exact} by {seen} samples");
        assert!(seen <= all, "{size}");
    }
}

#[test]
fn blocks_are_known_until_they_are_given_back() {
    let mut samples = Samples::default();
    let (a, b) = (&[1, 2, 3][..], &[1, 2, 4][..]);
    samples.add(0x1000, 10_000_000, a);
    samples.add(0x2000, 10_000_000, a);
    samples.add(0x3000, 1, b);
    assert!(samples.remove(0x1000) && !samples.remove(0x1000) && !samples.remove(0x9000));
    let values = |samples: &Samples, frames: &[usize]| {
        let stacks = samples.stacks();
        stacks.into_iter().find(|s| s.addresses == frames).unwrap().values
    };
    // What is larger than the distance stands for itself; a byte for as many as lie between two samples.
    assert_eq!(values(&samples, a), [2, 20_000_000, 1, 10_000_000]);
    let small = values(&samples, b);
    assert!(small[0] > 500_000 && small[0] == small[2] && small[1] == small[0], "{small:?}");
    assert!(samples.remove(0x3000));
    assert_eq!(values(&samples, b)[2..], [0, 0]);
}

#[test]
fn stacks_beyond_the_limit_are_summed_up() {
    let mut samples = Samples::default();
    for n in 0..STACKS + 10 {
        samples.add(n, 10_000_000, &[n]);
    }
    samples.add(99_999, 10_000_000, &[0]);
    assert_eq!(samples.sums.len(), STACKS + 1);
    let value = |frames: &[usize]| samples.stacks().into_iter().find(|s| s.addresses == frames).unwrap().values[0];
    assert_eq!((value(&[]), value(&[0]), value(&[1])), (10, 2, 1));
}

/// The allocator itself, beside the one of this program.
#[test]
fn blocks_of_an_allocator() {
    let allocator = Sampled::new(std::alloc::System);
    let layout = Layout::from_size_align(64 << 20, 16).unwrap();
    start();
    // SAFETY: the layouts have a size, and blocks are given back once with the layout that they have.
    let (block, moved) = unsafe {
        let block = allocator.alloc(layout);
        let zeroed = allocator.alloc_zeroed(layout);
        assert_eq!(*zeroed, 0);
        allocator.dealloc(zeroed, layout);
        let moved = allocator.realloc(block, layout, layout.size() * 2);
        (block.addr(), moved)
    };
    let here = |at: usize| samples().as_ref().unwrap().live.contains_key(&at);
    assert!(here(moved.addr()) && (block == moved.addr() || !here(block)));
    let held = profile(SystemTime::UNIX_EPOCH);
    let [taken, live] = [1, 3].map(|i| held.stacks.iter().map(|s| s.values[i]).sum::<i64>());
    assert!(taken >= 256 << 20 && live >= 128 << 20 && taken > live, "{taken} {live}");
    assert!(held.stacks.iter().all(|s| !s.addresses.is_empty()));
    // SAFETY: as above.
    unsafe { allocator.dealloc(moved, Layout::from_size_align(layout.size() * 2, 16).unwrap()) };
    assert!(!here(moved.addr()));
    ON.store(false, Ordering::Relaxed);
}
