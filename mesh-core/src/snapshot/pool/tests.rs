use super::*;

#[test]
fn the_first_connection_of_a_worker_is_always_allowed() {
    let plan = PoolPlan { max_connections: 2, ..PoolPlan::default() };
    for ((open, here), may) in [((0, 0), true), ((1, 1), true), ((2, 1), false), ((2, 0), true), ((9, 0), true)] {
        assert_eq!(plan.may_connect(open, here), may, "{open} open, {here} here");
    }
    assert!(PoolPlan::default().may_connect(1_000_000, 1_000_000));
}

#[test]
fn a_budget_replaces_the_count() {
    let plan = PoolPlan { max_retries: 7, ..PoolPlan::default() };
    assert_eq!((plan.retries_allowed(0), plan.retries_allowed(1000)), (7, 7));
    let budget = RetryBudgetPlan { percent: 20.0, min_concurrency: 3, interval: Duration::ZERO };
    let plan = PoolPlan { retry_budget: Some(budget), ..plan };
    for (requests, allowed) in [(0, 3), (15, 3), (19, 3), (20, 4), (24, 4), (25, 5), (1000, 200)] {
        assert_eq!(plan.retries_allowed(requests), allowed, "{requests}");
    }
}

#[test]
fn in_words() {
    assert_eq!(PoolPlan::default().to_string(), "no limits");
    let plan = PoolPlan {
        max_connections: 1,
        max_requests_per_connection: Some(1),
        idle_timeout: None,
        tcp_idle_timeout: Some(Duration::from_secs(5)),
        ..PoolPlan::default()
    };
    let want = "maxConnections 1, maxRequestsPerConnection 1, http idleTimeout off, tcp idleTimeout 5s";
    assert_eq!(plan.to_string(), want);
}
