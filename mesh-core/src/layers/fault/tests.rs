use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::*;
use crate::layers::testing::{call, context, fixed, get, scripted, status, with};
use crate::layers::{TimeoutConfig, TimeoutLayer};

const ABORT: AbortStatus = AbortStatus::Http(StatusCode::IM_A_TEAPOT);

fn config() -> FaultConfig {
    FaultConfig::new(fixed(0))
}

/// Status, requests that reached the destination, flags, seconds it took.
async fn outcome(config: FaultConfig) -> (u16, usize, String, u64) {
    let cx = super::super::testing::context();
    let (seen, inner) = scripted(vec![Ok(status(200))]);
    let began = Instant::now();
    let response = call(&FaultLayer::new(config), inner, with(get("/", &[]), &cx)).await.unwrap();
    let flags = Flag::names(cx.flags.load(Ordering::Relaxed));
    (response.status().as_u16(), seen.count(), flags, began.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn delay_then_abort() {
    let seven = Duration::from_secs(7);
    let rows = [
        ("none", config(), (200, 1, "-", 0)),
        ("F1", config().abort(ABORT, Share::ALL), (418, 0, "FI", 0)),
        ("F2", config().delay(seven, Share::ALL), (200, 1, "DI", 7)),
        ("F3", config().delay(seven, Share::ALL).abort(ABORT, Share::ALL), (418, 0, "DI,FI", 7)),
        ("F4", config().abort(AbortStatus::Grpc(14), Share::ALL), (200, 0, "FI", 0)),
        ("F8", config().delay(seven, Share::NONE).abort(ABORT, Share::NONE), (200, 1, "-", 0)),
    ];
    for (row, config, (status, reached, flags, seconds)) in rows {
        assert_eq!(outcome(config).await, (status, reached, flags.to_owned(), seconds), "{row}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_delay_is_not_part_of_the_timeout() {
    // F7
    let cx = context();
    let (seen, inner) = scripted(vec![Ok(status(200))]);
    let timeout = TimeoutConfig { timeout: Some(Duration::from_secs(1)), ..TimeoutConfig::default() };
    let inner = TimeoutLayer::new(timeout).layer(inner);
    let layer = FaultLayer::new(config().delay(Duration::from_secs(7), Share::ALL));
    assert_eq!(call(&layer, inner, with(get("/", &[]), &cx)).await.unwrap().status(), 200);
    assert_eq!(seen.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_during_the_delay_reaches_nobody() {
    let cx = context();
    let (seen, inner) = scripted(vec![Ok(status(200))]);
    let layer = FaultLayer::new(config().delay(Duration::from_secs(7), Share::ALL));
    let gone = tokio::time::timeout(Duration::from_secs(1), call(&layer, inner, with(get("/", &[]), &cx))).await;
    assert!(gone.is_err());
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((seen.count(), Flag::names(cx.flags.load(Ordering::Relaxed)).as_str()), (0, "DI"));
}

#[tokio::test]
async fn an_abort_has_the_routes_response_headers() {
    let mut plan = crate::layers::testing::route();
    let value = crate::matching::HeaderValueTemplate::parse("%RESPONSE_CODE%").unwrap();
    plan.response_headers.set.push(("x-code".parse().unwrap(), value));
    let node = Arc::default();
    let modify =
        crate::layers::ModifyLayer::new(crate::layers::ModifyConfig { route: Arc::new(plan), destination: 0, node });
    let config = config().abort(ABORT, Share::ALL).headers(modify.reply_headers());
    let (_, inner) = scripted(vec![Ok(status(200))]);
    let response = call(&FaultLayer::new(config), inner, get("/", &[])).await.unwrap();
    assert_eq!(response.headers()["x-code"], "418");
}
