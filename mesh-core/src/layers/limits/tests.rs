use super::*;
use crate::layers::testing::{call, get, pieces, read, service, status};

#[tokio::test]
async fn a_request_counts_until_its_response_has_ended() {
    let usage = Arc::new(Usage::default());
    let layer = CircuitLayer::new(CircuitConfig::default().max_requests(1).usage(Arc::clone(&usage)));
    let streaming = || service(|_| async { Ok(status(200).map(|_| pieces(&["a"], true))) });
    let first = call(&layer, streaming(), get("/", &[])).await.unwrap();
    let refused = call(&layer, streaming(), get("/", &[])).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overflow);
    drop(first);
    assert!(call(&layer, streaming(), get("/", &[])).await.is_ok());
}

#[tokio::test]
async fn errors_and_dropped_futures_give_their_place_back() {
    let usage = Arc::new(Usage::default());
    let layer = CircuitLayer::new(CircuitConfig::default().max_requests(1).usage(Arc::clone(&usage)));
    let fails = service(|_| async { Err(Error::new(ErrorKind::NoHealthyUpstream)) });
    assert_eq!(call(&layer, fails, get("/", &[])).await.unwrap_err().kind(), ErrorKind::NoHealthyUpstream);
    let mut hangs = layer.layer(service(|_| std::future::pending()));
    drop(hangs.call(get("/", &[])));
    let mut ok = call(&layer, service(|_| async { Ok(status(200)) }), get("/", &[])).await.unwrap();
    read(ok.body_mut()).await;
    drop(ok);
    assert_eq!(usage.now(Resource::Requests), 0);
}

#[tokio::test]
async fn a_limit_of_zero_refuses_everything() {
    let layer = CircuitLayer::new(CircuitConfig::default().max_requests(0));
    let refused = call(&layer, service(|_| async { Ok(status(200)) }), get("/", &[])).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Overflow);
}

fn budget(percent: f64, interval: u64) -> crate::snapshot::PoolPlan {
    let interval = std::time::Duration::from_millis(interval);
    let budget = crate::snapshot::RetryBudgetPlan { percent, min_concurrency: 1, interval };
    crate::snapshot::PoolPlan { retry_budget: Some(budget), ..crate::snapshot::PoolPlan::default() }
}

#[tokio::test(start_paused = true)]
async fn a_budget_counts_active_and_waiting_requests() {
    let (usage, plan) = (Arc::new(Usage::default()), budget(50.0, 0));
    let first = usage.take_retry(&plan);
    assert!(first.is_some() && usage.take_retry(&plan).is_none(), "one is always allowed");
    let _active: Vec<_> = (0..3).map(|_| usage.take_always(Resource::Requests)).collect();
    let waiting = usage.take_always(Resource::Pending);
    let second = usage.take_retry(&plan);
    assert!(second.is_some() && usage.take_retry(&plan).is_none(), "half of four");
    drop((waiting, second));
    assert!(usage.take_retry(&plan).is_none(), "half of three");
}

#[tokio::test(start_paused = true)]
async fn a_budget_looks_back() {
    let (usage, plan) = (Arc::new(Usage::default()), budget(10.0, 1000));
    for _ in 0..30 {
        usage.began(&plan);
    }
    let held: Vec<_> = std::iter::from_fn(|| usage.take_retry(&plan)).collect();
    assert_eq!(held.len(), 3);
    drop(held);
    tokio::time::advance(std::time::Duration::from_millis(500)).await;
    let held: Vec<_> = std::iter::from_fn(|| usage.take_retry(&plan)).collect();
    assert_eq!(held.len(), 3);
    drop(held);
    tokio::time::advance(std::time::Duration::from_millis(600)).await;
    let held: Vec<_> = std::iter::from_fn(|| usage.take_retry(&plan)).collect();
    assert_eq!(held.len(), 1, "the requests are too long ago");
}
