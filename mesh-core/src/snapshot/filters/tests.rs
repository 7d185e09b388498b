use super::*;

#[test]
fn a_share_takes_its_part_of_evenly_spaced_randomness() {
    for (percent, wanted) in [(0.0, 0), (0.01, 1), (30.0, 3_000), (33.33, 3_333), (99.99, 9_999), (100.0, 10_000)] {
        let share = Share::percent(percent);
        let taken =
            (0..10_000_u128).filter(|i| share.takes(u64::try_from((i << 64).div_ceil(10_000)).unwrap())).count();
        assert_eq!(taken, wanted, "{percent}");
        assert_eq!(share.to_string(), format!("{percent}%"));
    }
    assert_eq!((Share::percent(-1.0), Share::percent(101.0)), (Share::NONE, Share::ALL));
    assert!(Share::ALL.takes(u64::MAX) && Share::ALL.takes(0));
    assert!(!Share::NONE.takes(u64::MAX) && !Share::NONE.takes(0));
}
