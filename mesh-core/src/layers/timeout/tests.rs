use std::time::Duration;

use super::*;
use crate::layers::testing::{call, context, get, pieces, read, scripted, service, status, with};

fn whole(timeout: Option<Duration>) -> TimeoutLayer {
    TimeoutLayer::new(TimeoutConfig { timeout, per_try: None, announce: true })
}

const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn no_answer_in_time_is_an_error() {
    // C1
    let hangs = || service(|_| std::future::pending());
    let error = call(&whole(Some(100 * MS)), hangs(), get("/", &[])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let error = call(&PerTryLayer::new(100 * MS), hangs(), get("/", &[])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PerTryTimeout);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_has_begun_is_cut() {
    // C2
    let cx = context();
    let slow = service(|_| async { Ok(status(200).map(|_| pieces(&["a"], true))) });
    let mut response = call(&whole(Some(100 * MS)), slow, with(get("/", &[]), &cx)).await.unwrap();
    let (text, end) = read(response.body_mut()).await;
    assert_eq!((&*text, end.unwrap().kind()), ("a", ErrorKind::Timeout));
    assert_eq!(Flag::names(cx.flags.load(std::sync::atomic::Ordering::Relaxed)), "UT");
    assert_eq!(cx.details.get().unwrap(), "response_timeout");
}

#[tokio::test(start_paused = true)]
async fn the_clock_starts_when_the_request_is_complete() {
    let reads = service(|request: Request| async move {
        tokio::time::sleep(500 * MS).await;
        read(&mut request.into_body()).await;
        Ok(status(200))
    });
    let mut upload = get("/", &[]);
    *upload.body_mut() = pieces(&["a", "b"], false);
    assert!(call(&whole(Some(100 * MS)), reads.clone(), upload).await.is_ok(), "a slow upload is not cut");
    assert!(call(&whole(Some(100 * MS)), reads, get("/", &[])).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_upstream_is_told() {
    // C7
    for (timeout, per_try, wanted) in [
        (None, None, None),
        (Some(300), None, Some("300")),
        (Some(300), Some(50), Some("50")),
        (None, Some(50), Some("50")),
    ] {
        let config =
            TimeoutConfig { timeout: timeout.map(|n| n * MS), per_try: per_try.map(|n| n * MS), announce: true };
        let (seen, inner) = scripted(vec![Ok(status(200))]);
        call(&TimeoutLayer::new(config), inner, get("/", &[])).await.unwrap();
        assert_eq!(seen.header(0, "x-envoy-expected-rq-timeout-ms").as_deref(), wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn grpc_timeout_counts_and_goes_on_in_milliseconds() {
    // Q14, Q15
    for (asked, route, sent) in [
        ("2S", None, "2000m"),
        ("1H", None, "3600000m"),
        ("100u", None, "1m"),
        ("5S", Some(300), "300m"),
        ("123456789m", None, "123456789m"),
        ("0m", Some(300), "300m"),
        ("0m", None, "0m"),
    ] {
        let (seen, inner) = scripted(vec![Ok(status(200))]);
        let request = get("/", &[("content-type", "application/grpc"), ("grpc-timeout", asked)]);
        call(&whole(route.map(|n| n * MS)), inner, request).await.unwrap();
        assert_eq!(seen.header(0, "grpc-timeout").unwrap(), sent, "{asked}");
    }
    // Said by the route alone.
    let (seen, inner) = scripted(vec![Ok(status(200))]);
    call(&whole(Some(300 * MS)), inner, get("/", &[("content-type", "application/grpc")])).await.unwrap();
    assert_eq!(seen.header(0, "grpc-timeout").as_deref(), Some("300m"));
    let request = get("/", &[("content-type", "application/grpc"), ("grpc-timeout", "100m")]);
    let error = call(&whole(None), service(|_| std::future::pending()), request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}
