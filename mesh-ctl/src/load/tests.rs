use super::*;

/// Answers after a time; every third request fails.
struct Slow(Duration);

impl Caller for Slow {
    async fn call(&mut self) -> Result<Answer, Failure> {
        tokio::time::sleep(self.0).await;
        Ok(Answer { code: "200".into(), bytes: 10, overloaded: false })
    }
}

struct Broken;

impl Caller for Broken {
    async fn call(&mut self) -> Result<Answer, Failure> {
        Err(Failure::Refused)
    }
}

async fn report<C: Caller>(plan: Plan, callers: Vec<C>) -> Report {
    let connections = callers.len();
    run(&plan, callers, || Timer::Coarse, std::future::pending()).await.report("http://x/", "HTTP/1.1", connections, 0)
}

fn slow(count: usize, ms: u64) -> Vec<Slow> {
    (0..count).map(|_| Slow(Duration::from_millis(ms))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_count_is_shared_by_all_connections() {
    let plan = Plan { requests: Some(50), ..Plan::default() };
    let r = report(plan, slow(4, 10)).await;
    assert_eq!((r.requests, r.codes["200"].count, r.body_bytes), (50, 50, 500));
    // 4 at a time, 10 ms each: 13 rounds.
    assert!((r.duration_seconds - 0.13).abs() < 0.001, "{r:?}");
    let latency = r.latency_seconds.unwrap();
    assert!((latency.percentiles[0].value - 0.010).abs() < 0.0001, "{latency:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rate_spreads_requests_over_time() {
    let plan = Plan { requests: Some(21), qps: Some(10.0), ..Plan::default() };
    let r = report(plan, slow(2, 5)).await;
    // The 21st is due after 2 s.
    assert!((r.duration_seconds - 2.005).abs() < 0.001, "{r:?}");
    let plan = Plan { qps: Some(10.0), time: Some(Duration::from_secs(3)), ..Plan::default() };
    assert_eq!(report(plan, slow(2, 5)).await.requests, 30);
}

#[tokio::test(start_paused = true)]
async fn time_ends_it_and_what_is_under_way_is_finished() {
    let plan = Plan { requests: Some(1_000), time: Some(Duration::from_millis(95)), ..Plan::default() };
    let r = report(plan, slow(2, 10)).await;
    assert_eq!((r.requests, r.stopped), (20, false));
    assert!((r.duration_seconds - 0.1).abs() < 0.001, "{r:?}");
}

/// One connection, a request every 10 ms, and an answer that takes a second: those that were due meanwhile have waited.
#[tokio::test(start_paused = true)]
async fn corrected_times_hold_the_wait_before_a_request() {
    struct Stalls(u32);
    impl Caller for Stalls {
        async fn call(&mut self) -> Result<Answer, Failure> {
            self.0 += 1;
            let took = if self.0 == 1 { Duration::from_secs(1) } else { Duration::from_millis(1) };
            tokio::time::sleep(took).await;
            Ok(Answer { code: "200".into(), bytes: 0, overloaded: false })
        }
    }
    let plan = |corrected| Plan { qps: Some(100.0), corrected, time: Some(Duration::from_secs(2)), requests: None };
    let p50 = |r: &Report| r.latency_seconds.as_ref().unwrap().percentiles[0].value;
    let sent = report(plan(false), vec![Stalls(0)]).await;
    assert_eq!(sent.requests, 200);
    assert!(p50(&sent) < 0.0011, "{sent:?}");
    let due = report(plan(true), vec![Stalls(0)]).await;
    assert_eq!(due.requests, 200);
    // The k-th one is sent after 1 s and k times 1 ms, 9 ms of each 10 ms earlier than it was late: 111 of them were late.
    assert!(p50(&due) > 0.05 && due.latency_seconds.unwrap().max >= 1.0, "{sent:?}");
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_keeps_what_was_measured() {
    let stop = tokio::time::sleep(Duration::from_millis(35));
    let figures = run(&Plan::default(), slow(1, 10), || Timer::Coarse, stop).await;
    let r = figures.report("http://x/", "HTTP/1.1", 1, 1);
    assert_eq!((r.requests, r.stopped), (3, true));
    assert!(r.to_string().contains("(interrupted)"), "{r}");
}

#[tokio::test(start_paused = true)]
async fn failures_are_counted_by_class_and_have_no_latency() {
    let plan = Plan { requests: Some(3), ..Plan::default() };
    let r = report(plan, vec![Broken]).await;
    assert_eq!((r.errors["connectionRefused"].count, r.errors["connectionRefused"].percent), (3, 100.0));
    assert!(r.latency_seconds.is_none() && r.codes.is_empty());
    let json = serde_json::to_value(&r).unwrap();
    assert_eq!((&json["actualQps"].is_number(), &json["sockets"]), (&true, &serde_json::json!(0)));
}

#[test]
fn grpc_messages_and_codes() {
    let health = GrpcMethod::Health("a".into());
    assert_eq!(&health.message()[..], [0, 0, 0, 0, 3, 0x0a, 1, b'a']);
    assert_eq!(&GrpcMethod::Ping(String::new()).message()[..], [0, 0, 0, 0, 0]);
    let status =
        |n: &str| [("grpc-status".parse().unwrap(), n.parse().unwrap())].into_iter().collect::<::http::HeaderMap>();
    let none = ::http::HeaderMap::new();
    assert_eq!(health.code(&none, Some(&status("0")), &[0, 0, 0, 0, 2, 8, 1]).as_deref(), Some("SERVING"));
    assert_eq!(health.code(&none, Some(&status("0")), &[0, 0, 0, 0, 2, 8, 2]).as_deref(), Some("NOT_SERVING"));
    assert_eq!(health.code(&status("14"), None, &[]).as_deref(), Some("UNAVAILABLE"));
    assert_eq!(health.code(&none, None, &[]), None);
}
