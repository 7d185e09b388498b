use std::collections::BTreeSet;

use super::*;
use crate::error::{ErrorKind, Sent};
use crate::layers::testing::{answer, call, context, fixed, get, pieces, scripted, service, status, with};
use crate::layers::{PerTryLayer, TimeoutConfig, TimeoutLayer};
use crate::snapshot::RetryOn;

fn policy(attempts: u32, on: RetryOn) -> RetryPlan {
    RetryPlan { attempts, per_try_timeout: None, on, status_codes: BTreeSet::new(), backoff: Duration::from_millis(25) }
}

/// Istio's default conditions.
fn istio() -> RetryOn {
    RetryOn { connect_failure: true, refused_stream: true, unavailable: true, cancelled: true, ..RetryOn::default() }
}

fn server_error() -> RetryOn {
    RetryOn { server_error: true, ..RetryOn::default() }
}

fn layer(plan: RetryPlan, buffer: usize) -> RetryLayer {
    RetryLayer::new(RetryConfig { policy: Some(plan), attempt_count: true, buffer, env: fixed(u64::MAX) })
}

/// Tries made and flags set when every try ends like this.
async fn tries(on: RetryOn, end: Result<Response, Error>) -> (usize, String) {
    let cx = context();
    let (seen, inner) = scripted(vec![end]);
    let _ = call(&layer(policy(2, on), DEFAULT_CAP), inner, with(get("/", &[]), &cx)).await;
    (seen.count(), Flag::names(cx.flags.load(Ordering::Relaxed)))
}

#[tokio::test(start_paused = true)]
async fn what_is_retried_and_what_is_not() {
    let error = |kind| Err(Error::new(kind));
    let terminated = || error(ErrorKind::ConnectionTermination);
    let gateway = RetryOn { gateway_error: true, ..RetryOn::default() };
    let unsent = RetryOn { reset_before_request: true, ..RetryOn::default() };
    let reset = RetryOn { reset: true, ..RetryOn::default() };
    let client_error = RetryOn { retriable_4xx: true, ..RetryOn::default() };
    let rows = [
        ("A7", istio(), error(ErrorKind::ConnectFailure), 3),
        ("A10", istio(), error(ErrorKind::ConnectTimeout), 3),
        ("A12 default", istio(), terminated(), 1),
        ("A12 reset-before-request", unsent, terminated(), 1),
        ("reset-before-request, not sent", unsent, terminated().map_err(|e: Error| e.sent(Sent::No)), 3),
        ("A13", reset, terminated(), 3),
        ("A20", istio(), error(ErrorKind::RefusedStream), 3),
        ("C5", istio(), error(ErrorKind::PerTryTimeout), 1),
        ("C3", gateway, error(ErrorKind::PerTryTimeout), 3),
        ("overflow", server_error(), error(ErrorKind::Overflow), 1),
        ("no endpoint", server_error(), error(ErrorKind::NoHealthyUpstream), 1),
        ("whole timeout", server_error(), error(ErrorKind::Timeout), 1),
        ("D10", istio(), Ok(status(503)), 1),
        ("5xx", server_error(), Ok(status(500)), 3),
        ("D3 502", gateway, Ok(status(502)), 3),
        ("D3 500", gateway, Ok(status(500)), 1),
        ("D3 409", client_error, Ok(status(409)), 3),
        ("D3 404", client_error, Ok(status(404)), 1),
        ("D4 overloaded", server_error(), Ok(answer(503, &[("x-envoy-overloaded", "true")])), 3),
        ("D4 ratelimited", server_error(), Ok(answer(503, &[("x-envoy-ratelimited", "true")])), 1),
        ("D5 1", istio(), Ok(answer(200, &[("grpc-status", "1")])), 3),
        ("D5 14", istio(), Ok(answer(200, &[("grpc-status", "14")])), 3),
        ("D5 4", istio(), Ok(answer(200, &[("grpc-status", "4")])), 1),
        ("D5 8", istio(), Ok(answer(200, &[("grpc-status", "8")])), 1),
        ("D5 13", istio(), Ok(answer(200, &[("grpc-status", "13")])), 1),
    ];
    for (row, on, end, wanted) in rows {
        let (made, flags) = tries(on, end).await;
        assert_eq!((made, &*flags), (wanted, if wanted > 1 { "URX" } else { "-" }), "{row}");
    }
}

#[tokio::test(start_paused = true)]
async fn success_after_a_retry_has_no_flag_and_tries_are_counted() {
    // D1, D2
    let cx = context();
    let (seen, inner) = scripted(vec![Ok(status(503)), Ok(status(503)), Ok(status(200))]);
    let request = with(get("/", &[("x-envoy-attempt-count", "7")]), &cx);
    let response = call(&layer(policy(2, server_error()), DEFAULT_CAP), inner, request).await.unwrap();
    assert_eq!(response.status(), 200);
    let counts: Vec<_> = (0..3).map(|i| seen.header(i, "x-envoy-attempt-count").unwrap()).collect();
    assert_eq!(counts, ["1", "2", "3"]);
    assert_eq!((cx.flags.load(Ordering::Relaxed), cx.attempts.load(Ordering::Relaxed)), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn a_streamed_body_is_sent_again_up_to_the_cap() {
    let upload = || {
        let mut request = get("/", &[]);
        *request.body_mut() = pieces(&["abc", "def"], false);
        request
    };
    let (seen, inner) = scripted(vec![Ok(status(503)), Ok(status(200))]);
    let layer_of = |cap| layer(policy(2, server_error()), cap);
    assert_eq!(call(&layer_of(6), inner, upload()).await.unwrap().status(), 200);
    assert_eq!(seen.bodies(), ["abcdef", "abcdef"]);
    // D6: the answer passes, without a flag.
    let cx = context();
    let (seen, inner) = scripted(vec![Ok(status(503)), Ok(status(200))]);
    assert_eq!(call(&layer_of(5), inner, with(upload(), &cx)).await.unwrap().status(), 503);
    assert_eq!((seen.bodies(), cx.flags.load(Ordering::Relaxed)), (vec!["abcdef".to_owned()], 0));
}

#[tokio::test(start_paused = true)]
async fn the_back_off_grows_to_its_bound() {
    let copy = Copy::of(&mut get("/", &[]), DEFAULT_CAP);
    for (random, wanted) in [(u64::MAX, [25, 75, 175, 250, 250]), (0, [0; 5])] {
        let plan = policy(9, server_error());
        let config = RetryConfig { policy: None, attempt_count: false, buffer: 0, env: fixed(random) };
        let headers = copy.headers.clone();
        let copy = Copy { method: Method::GET, uri: Uri::default(), version: Version::HTTP_11, headers, body: None };
        let mut again = Again { config: Arc::new(config), policy: plan, copy, cx: None, tries: 0 };
        for millis in wanted {
            again.tries += 1;
            assert_eq!(again.backoff(), Duration::from_millis(millis), "retry {}", again.tries);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn timeouts_of_a_try_and_of_the_whole() {
    let cx = context();
    let hangs = || PerTryLayer::new(Duration::from_millis(50)).layer(service(|_| std::future::pending()));
    // C4: a policy of no retries sets the flag, too.
    let error = call(&layer(policy(0, server_error()), DEFAULT_CAP), hangs(), with(get("/", &[]), &cx)).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::PerTryTimeout);
    assert_eq!(Flag::names(cx.flags.load(Ordering::Relaxed)), "URX");
    // C6: the whole request's timeout ends it in the middle of the tries, without URX.
    let cx = context();
    let whole = TimeoutConfig { timeout: Some(Duration::from_millis(70)), ..TimeoutConfig::default() };
    let tried = layer(policy(9, server_error()), DEFAULT_CAP).layer(hangs());
    let error = call(&TimeoutLayer::new(whole), tried, with(get("/", &[]), &cx)).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(cx.flags.load(Ordering::Relaxed), 0);
}
