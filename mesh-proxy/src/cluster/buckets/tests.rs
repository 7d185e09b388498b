use mesh_core::snapshot::Provenance;

use super::*;

#[test]
fn a_bucket_lives_while_it_is_used_and_its_rates_stay() {
    let plan = |tokens_per_fill, status| RateLimitPlan {
        name: "ns/limit".into(),
        max_tokens: 1,
        tokens_per_fill,
        fill_interval: Duration::from_secs(3600),
        status: http::StatusCode::from_u16(status).unwrap(),
        headers: false,
        origin: Provenance::default("test"),
    };
    let buckets = Buckets::default();
    let first = buckets.of(&plan(1, 429));
    assert!(first.take().0);
    let again = buckets.of(&plan(1, 503));
    assert!(Arc::ptr_eq(&first, &again) && !again.take().0, "the same bucket, as empty as before");
    let other = buckets.of(&plan(2, 429));
    assert!(!Arc::ptr_eq(&first, &other) && other.take().0);
    drop((first, again));
    assert!(buckets.of(&plan(1, 429)).take().0, "nobody used it any more");
}
