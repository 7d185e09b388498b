use super::*;
use crate::error::{ErrorKind, Sent};
use crate::layers::testing::{answer, call, context, fixed, get, pieces, scripted, service, status, with};
use crate::layers::{PerTryLayer, TimeoutConfig, TimeoutLayer};
use crate::snapshot::RetryOn;

fn policy(attempts: u32, on: RetryOn) -> RetryPlan {
    RetryPlan::of(attempts, on)
}

/// Istio's default conditions.
fn istio() -> RetryOn {
    RetryPlan::istio().on
}

fn server_error() -> RetryOn {
    RetryOn { server_error: true, ..RetryOn::default() }
}

fn layer(plan: RetryPlan, buffer: usize) -> RetryLayer {
    RetryLayer::new(RetryConfig { policy: Some(plan), attempt_count: true, buffer, env: fixed(u64::MAX), limit: None })
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

fn stale() -> Result<Response, Error> {
    Err(Error::new(ErrorKind::ConnectionTermination).on_reused(true))
}

#[tokio::test(start_paused = true)]
async fn the_close_of_an_idle_connection_is_met_once_more() {
    let none = RetryOn::default();
    for (method, ends, made, status) in [
        ("GET", vec![stale(), Ok(status(200))], 2, Some(200)),
        ("PUT", vec![stale(), Ok(status(200))], 2, Some(200)),
        // Not idempotent: it may have been done.
        ("POST", vec![stale(), Ok(status(200))], 1, None),
        // Once.
        ("GET", vec![stale(), stale(), Ok(status(200))], 2, None),
        // On a new connection it is no race.
        ("GET", vec![Err(Error::new(ErrorKind::ConnectionTermination)), Ok(status(200))], 1, None),
    ] {
        let cx = context();
        let (seen, inner) = scripted(ends);
        let mut request = with(get("/", &[]), &cx);
        *request.method_mut() = method.parse().unwrap();
        let result = call(&layer(policy(2, none), DEFAULT_CAP), inner, request).await;
        assert_eq!((seen.count(), result.ok().map(|r| r.status().as_u16())), (made, status), "{method}");
        let replayed = u32::from(made == 2);
        assert_eq!(cx.replays.load(Ordering::Relaxed), replayed);
        assert_eq!(cx.proofs.load(Ordering::Relaxed), replayed * Proof::Unknown as u32);
        let details = if replayed == 1 { "via_upstream{replayed:idle_connection_closed}" } else { "via_upstream" };
        assert_eq!(cx.response_details(), details);
        assert!(!seen.tried(), "the endpoint was not at fault");
    }
    // Without any policy nothing is kept, and nothing is repeated.
    let off = RetryConfig { policy: None, attempt_count: true, buffer: DEFAULT_CAP, env: fixed(0), limit: None };
    let (seen, inner) = scripted(vec![stale(), Ok(status(200))]);
    assert!(call(&RetryLayer::new(off), inner, get("/", &[])).await.is_err());
    assert_eq!(seen.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_destination_takes_no_retries() {
    // B5
    use crate::layers::limits::Resource;
    let usage = Arc::new(Usage::default());
    let pool = PoolPlan { max_retries: 1, ..PoolPlan::default() };
    let limit = Some(RetryLimit { pool, usage: Arc::clone(&usage) });
    let policy = Some(policy(2, server_error()));
    let config = RetryConfig { policy, attempt_count: true, buffer: DEFAULT_CAP, env: fixed(u64::MAX), limit };
    let layer = RetryLayer::new(config);
    for (taken, made, flags) in [(0, 3, "URX"), (1, 1, "UO")] {
        let _others: Vec<_> = (0..taken).map(|_| usage.take_always(Resource::Retries)).collect();
        let (seen, inner) = scripted(vec![Ok(status(503))]);
        let cx = context();
        let response = call(&layer, inner, with(get("/", &[]), &cx)).await.unwrap();
        assert_eq!((response.status().as_u16(), seen.count()), (503, made));
        assert_eq!(Flag::names(cx.flags.load(Ordering::Relaxed)), flags);
    }
    assert_eq!(usage.now(Resource::Retries), 0);
    // A request that is given up while it waits gives its place back.
    let (_, inner) = scripted(vec![Ok(status(503))]);
    let mut waiting = Box::pin(layer.layer(inner).call(get("/", &[])));
    let mut nobody = Context::from_waker(std::task::Waker::noop());
    assert!(waiting.as_mut().poll(&mut nobody).is_pending());
    assert_eq!(usage.now(Resource::Retries), 1);
    drop(waiting);
    assert_eq!(usage.now(Resource::Retries), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_each_try_is_recorded() {
    let on = RetryOn { server_error: true, ..RetryPlan::istio().on };
    for (end, proof) in [
        (Err(Error::new(ErrorKind::ConnectFailure)), Proof::NotSent),
        (Err(Error::new(ErrorKind::RefusedStream)), Proof::Refused),
        (Err(Error::new(ErrorKind::RemoteReset)), Proof::Unknown),
        (Ok(status(500)), Proof::Answered),
    ] {
        let cx = context();
        let (_, inner) = scripted(vec![end, Ok(status(200))]);
        call(&layer(policy(2, on), DEFAULT_CAP), inner, with(get("/", &[]), &cx)).await.unwrap();
        assert_eq!(cx.proofs.load(Ordering::Relaxed), proof as u32);
        assert_eq!(cx.response_details(), "via_upstream");
    }
}

#[tokio::test(start_paused = true)]
async fn a_further_try_knows_the_endpoints_before_it() {
    // D9
    let cx = context();
    let addresses = ["10.0.0.1:80", "10.0.0.2:80"];
    let inner = service({
        let cx = Arc::clone(&cx);
        move |request: Request| {
            let tried = request.extensions().get::<Arc<Tried>>().cloned();
            let before = tried.as_ref().map_or(0, |t| t.endpoints.len());
            let of = |i: usize| crate::snapshot::Endpoint { address: addresses[i].parse().unwrap(), ..endpoint() };
            if let Some(tried) = &tried {
                let endpoints = (0..before).map(|i| of(i).address).collect();
                let ignore_previous_hosts = Some(false);
                assert_eq!(**tried, Tried { endpoints, ignore_previous_hosts, remote_localities: true });
            }
            cx.endpoint.set(Arc::new(of(before.min(1))));
            async move { Err(Error::new(if before < 2 { ErrorKind::ConnectFailure } else { ErrorKind::NoRoute })) }
        }
    });
    let plan = RetryPlan { remote_localities: true, ignore_previous_hosts: Some(false), ..RetryPlan::istio() };
    let end = call(&layer(plan, DEFAULT_CAP), inner, with(get("/", &[]), &cx)).await.unwrap_err();
    assert_eq!(end.kind(), ErrorKind::NoRoute, "the third try knows of two");
}

fn endpoint() -> crate::snapshot::Endpoint {
    crate::snapshot::Endpoint {
        address: "10.0.0.9:80".parse().unwrap(),
        weight: 1,
        health: crate::model::Health::Healthy,
        workload: Arc::default(),
        mesh: Default::default(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_at_hand_is_sent_again_as_it_was() {
    for (cap, bodies) in [(3, vec!["abc", "abc"]), (2, vec!["abc"])] {
        let mut request = get("/", &[]);
        *request.body_mut() = Body::from("abc");
        let (seen, inner) = scripted(vec![Ok(status(503)), Ok(status(200))]);
        call(&layer(policy(2, server_error()), cap), inner, request).await.unwrap();
        assert_eq!(seen.bodies(), bodies);
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
async fn d7_the_back_off_is_random_from_zero_and_grows_to_its_bound() {
    for (random, wanted) in [(u64::MAX, [25, 75, 175, 250, 250]), (0, [0; 5])] {
        let plan = policy(9, server_error());
        let config = RetryConfig { policy: None, attempt_count: false, buffer: 0, env: fixed(random), limit: None };
        let copy = Copy::of(&mut get("/", &[]), DEFAULT_CAP);
        let mut again = Again::new(Arc::new(config), Arc::new(plan), copy, (None, None));
        for millis in wanted {
            again.retries += 1;
            assert_eq!(again.backoff(), Duration::from_millis(millis), "retry {}", again.retries);
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

#[tokio::test(start_paused = true)]
async fn a_later_try_says_what_is_left_of_the_time() {
    let (seen, inner) = scripted(vec![Err(Error::new(ErrorKind::ConnectFailure))]);
    let slow = crate::layers::testing::service(move |request: Request| {
        let mut inner = inner.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            inner.call(request).await
        }
    });
    let plan = RetryPlan { backoff: Duration::ZERO, ..policy(1, istio()) };
    let told =
        [("content-type", "application/grpc"), ("grpc-timeout", "900m"), ("x-envoy-expected-rq-timeout-ms", "900")];
    let _ = call(&layer(plan, DEFAULT_CAP), slow, with(get("/", &told), &context())).await;
    for (name, first, second) in [("grpc-timeout", "900m", "600m"), ("x-envoy-expected-rq-timeout-ms", "900", "600")] {
        assert_eq!((seen.header(0, name).as_deref(), seen.header(1, name).as_deref()), (Some(first), Some(second)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_try_says_its_own_limit_unless_less_is_left_of_the_whole() {
    let failure = || Err(Error::new(ErrorKind::ConnectFailure));
    let (seen, inner) = scripted(vec![failure(), failure(), failure()]);
    let slow = crate::layers::testing::service(move |request: Request| {
        let mut inner = inner.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            inner.call(request).await
        }
    });
    let each = Some(Duration::from_millis(400));
    let plan = RetryPlan { backoff: Duration::ZERO, per_try_timeout: each, ..policy(3, istio()) };
    let whole = TimeoutConfig { timeout: Some(Duration::from_millis(900)), per_try: each, announce: true };
    let headers = [("content-type", "application/grpc")];
    let tries = layer(plan, DEFAULT_CAP).layer(slow);
    let _ = call(&TimeoutLayer::new(whole), tries, with(get("/", &headers), &context())).await;
    for (try_, told) in [(0, "400"), (1, "400"), (2, "300")] {
        assert_eq!(seen.header(try_, "x-envoy-expected-rq-timeout-ms").as_deref(), Some(told), "try {try_}");
        assert_eq!(seen.header(try_, "grpc-timeout"), Some(format!("{told}m")), "try {try_}");
    }
}
