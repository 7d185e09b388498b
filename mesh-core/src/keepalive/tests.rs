use super::*;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// What is known after closes at (age, time of day), in milliseconds.
fn learned(closes: &[(u64, u64)]) -> Option<Duration> {
    let idle = IdleTimeout::default();
    for (age, at) in closes {
        idle.closed(ms(*age), ms(*at));
    }
    idle.limit(ms(closes.last().map_or(0, |c| c.1)))
}

#[test]
fn two_closes_at_one_age_are_a_timeout() {
    for (closes, want) in [
        (&[][..], None),
        (&[(5000, 10_000)], None),
        (&[(5000, 10_000), (5020, 20_000)], Some(ms(4500))),
        // Of both ages the shorter one.
        (&[(5020, 10_000), (5000, 20_000)], Some(ms(4500))),
        (&[(5000, 10_000), (3000, 20_000)], None),
        (&[(5000, 10_000), (3000, 20_000), (3001, 30_000)], Some(ms(2700))),
        // A restart closes everything at once.
        (&[(70, 10_000), (71, 10_000), (72, 10_001)], None),
        // Short ones keep a margin, too.
        (&[(300, 10_000), (310, 20_000)], Some(ms(200))),
        (&[(50, 10_000), (60, 20_000)], Some(ms(0))),
        // Another timeout later replaces it.
        (&[(5000, 10_000), (5000, 20_000), (60_000, 90_000), (60_000, 160_000)], Some(ms(54_000))),
    ] {
        assert_eq!(learned(closes), want, "{closes:?}");
    }
}

#[test]
fn it_is_forgotten_after_a_while() {
    let idle = IdleTimeout::default();
    idle.closed(ms(5000), ms(10_000));
    idle.closed(ms(5000), ms(20_000));
    assert!(idle.limit(ms(20_000) + REMEMBERED - ms(1)).is_some());
    assert_eq!(idle.limit(ms(20_000) + REMEMBERED), None);
}

#[test]
fn a_header_says_it() {
    for (header, want) in [
        ("timeout=5", Some(ms(4500))),
        ("timeout=5, max=1000", Some(ms(4500))),
        ("max=1000, Timeout = 60", Some(ms(54_000))),
        ("max=1000", None),
        ("timeout=0", None),
        ("timeout=-1", None),
        ("", None),
    ] {
        let idle = IdleTimeout::default();
        idle.announced(header, ms(1));
        assert_eq!(idle.limit(ms(1)), want, "{header:?}");
    }
}
