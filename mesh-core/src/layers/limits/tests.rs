use super::*;
use crate::layers::testing::{call, get, pieces, read, service, status};

#[tokio::test]
async fn a_request_counts_until_its_response_has_ended() {
    let in_flight = Arc::new(InFlight::default());
    let layer = LimitsLayer::new(1, Arc::clone(&in_flight));
    let streaming = || service(|_| async { Ok(status(200).map(|_| pieces(&["a"], true))) });
    let first = call(&layer, streaming(), get("/", &[])).await.unwrap();
    let refused = call(&layer, streaming(), get("/", &[])).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overflow);
    drop(first);
    assert!(call(&layer, streaming(), get("/", &[])).await.is_ok());
}

#[tokio::test]
async fn errors_and_dropped_futures_give_their_place_back() {
    let in_flight = Arc::new(InFlight::default());
    let layer = LimitsLayer::new(1, Arc::clone(&in_flight));
    let fails = service(|_| async { Err(Error::new(ErrorKind::NoHealthyUpstream)) });
    assert_eq!(call(&layer, fails, get("/", &[])).await.unwrap_err().kind(), ErrorKind::NoHealthyUpstream);
    let mut hangs = layer.layer(service(|_| std::future::pending()));
    drop(hangs.call(get("/", &[])));
    let mut ok = call(&layer, service(|_| async { Ok(status(200)) }), get("/", &[])).await.unwrap();
    read(ok.body_mut()).await;
    drop(ok);
    assert_eq!(in_flight.0.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_limit_of_zero_refuses_everything() {
    let layer = LimitsLayer::new(0, Arc::default());
    let refused = call(&layer, service(|_| async { Ok(status(200)) }), get("/", &[])).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Overflow);
}
