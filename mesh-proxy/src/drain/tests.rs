use futures_util::FutureExt;

use super::*;

#[tokio::test]
async fn idle_waits_for_the_last_one() {
    let drain = Drain::new();
    let first = drain.enter();
    let second = drain.enter();
    drain.start();
    let mut idle = Box::pin(drain.idle());
    assert!(idle.as_mut().now_or_never().is_none());
    drop(first);
    assert!(idle.as_mut().now_or_never().is_none());
    drop(second);
    idle.await;
    assert_eq!(drain.in_flight(), 0);
}

#[tokio::test]
async fn everybody_hears_of_the_start() {
    let drain = Drain::new();
    let before = tokio::spawn({
        let drain = drain.clone();
        async move { drain.started().await }
    });
    assert!(!drain.is_draining());
    drain.start();
    before.await.unwrap();
    drain.started().await;
    assert!(drain.is_draining());
}

#[tokio::test]
async fn u4_a_failing_health_check_sends_clients_away_until_it_is_mended() {
    let drain = Drain::new();
    drain.fail(true);
    assert!(drain.is_draining());
    drain.started().await;
    drain.fail(false);
    assert!(!drain.is_draining());
    assert!(futures_util::FutureExt::now_or_never(drain.started()).is_none());
    drain.start();
    drain.fail(false);
    assert!(drain.is_draining(), "what has started goes on");
}

#[tokio::test]
async fn a_part_drains_with_the_whole_or_alone() {
    let whole = Drain::new();
    let (one, other) = (whole.child(), whole.child());
    let request = one.enter();
    let tunnel = other.enter_alone();
    assert_eq!((whole.in_flight(), one.in_flight(), other.in_flight()), (1, 1, 1));
    one.revoke();
    one.started().await;
    one.revoked().await;
    assert_eq!((one.is_draining(), other.is_draining(), whole.is_draining()), (true, false, false));
    assert!(other.revoked().now_or_never().is_none() && other.started().now_or_never().is_none());
    drop((request, tunnel));
    one.idle().await;
    whole.idle().await;
    whole.start();
    other.started().await;
    assert!(other.is_draining() && other.revoked().now_or_never().is_none(), "what drains may end by itself");
}
