use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::layers::testing::{call, context, get, scripted, status, with};

fn bucket(max: u32, per_fill: u32, millis: u64) -> Arc<TokenBucket> {
    Arc::new(TokenBucket::new(max, per_fill, Duration::from_millis(millis)))
}

#[tokio::test(start_paused = true)]
async fn a_burst_then_one_after_the_other() {
    let bucket = bucket(3, 2, 1000);
    let taken = |bucket: &TokenBucket| (0..10).filter(|_| bucket.take().0).count();
    assert_eq!(taken(&bucket), 3);
    assert_eq!(bucket.take(), (false, Left { tokens: 0, next: Duration::from_millis(500) }));
    tokio::time::advance(Duration::from_millis(499)).await;
    assert_eq!(taken(&bucket), 0);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(bucket.take(), (true, Left { tokens: 0, next: Duration::from_millis(500) }));
    // Never more than it holds.
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(bucket.take(), (true, Left { tokens: 2, next: Duration::ZERO }));
    assert_eq!(taken(&bucket), 2);
}

#[tokio::test(start_paused = true)]
async fn refusals_and_headers() {
    // F17
    let cx = context();
    let layer = RateLimitLayer::new(RateLimitConfig::new(bucket(2, 1, 1500)).headers());
    let ask = |cx: &Arc<Cx>| {
        let (seen, inner) = scripted(vec![Ok(status(200))]);
        let (layer, request) = (layer.clone(), with(get("/", &[]), cx));
        async move { (call(&layer, inner, request).await.unwrap(), seen.count()) }
    };
    let told = |r: &Response| {
        ["limit", "remaining", "reset"].map(|n| r.headers()[&format!("x-ratelimit-{n}")].to_str().unwrap().to_owned())
    };
    let (first, _) = ask(&cx).await;
    assert_eq!((first.status().as_u16(), told(&first)), (200, ["2", "1", "0"].map(str::to_owned)));
    let (second, _) = ask(&cx).await;
    assert_eq!((second.status().as_u16(), told(&second)), (200, ["2", "0", "2"].map(str::to_owned)));
    assert_eq!(cx.flags.load(Ordering::Relaxed), 0);
    let (third, reached) = ask(&cx).await;
    assert_eq!((third.status().as_u16(), told(&third), reached), (429, ["2", "0", "2"].map(str::to_owned), 0));
    assert_eq!(
        (Flag::names(cx.flags.load(Ordering::Relaxed)).as_str(), &**cx.details.get().unwrap()),
        ("RL", "local_rate_limited")
    );
}

#[tokio::test(start_paused = true)]
async fn every_limit_has_to_have_a_token() {
    let (wide, narrow) = (RateLimitConfig::new(bucket(9, 1, 1000)), RateLimitConfig::new(bucket(1, 1, 1000)));
    let narrow = narrow.status(StatusCode::SERVICE_UNAVAILABLE);
    let layer = RateLimitLayer::new(RateLimitConfig { limits: [wide.limits, narrow.limits].concat() });
    for wanted in [200, 503, 503] {
        let (_, inner) = scripted(vec![Ok(status(200))]);
        let response = call(&layer, inner, get("/", &[])).await.unwrap();
        assert_eq!(response.status(), wanted);
        assert!(!response.headers().contains_key(LIMIT));
    }
}

proptest! {
    #[test]
    fn never_more_than_the_burst_and_what_has_come(
        max in 1_u32..20, per_fill in 1_u32..20, millis in 50_u64..2000, waits in prop::collection::vec(0_u64..300, 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let bucket = bucket(max, per_fill, millis);
            let (mut passed, mut now) = (0_u64, 0);
            for wait in waits {
                tokio::time::advance(Duration::from_millis(wait)).await;
                now += wait;
                passed += u64::from(bucket.take().0);
                // Integer division of the interval lets a token come at most a nanosecond early each.
                let come = now * u64::from(per_fill) / millis + 1;
                prop_assert!(passed <= u64::from(max) + come, "{passed} of {max} + {come}");
            }
            Ok(())
        })?;
    }
}
