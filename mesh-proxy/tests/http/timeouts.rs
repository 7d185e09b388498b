//! Section C: timeouts of routes and tries. Nothing is measured: an upstream that never answers makes every limit pass.

use crate::row::{GET, row};
use crate::upstream::Up;

const LATE: &str = "upstream request timeout";

#[tokio::test]
async fn of_the_route() {
    let limited = "[{timeout: 50ms, retries: {attempts: 0}, route: [$up]}]";
    let c1 = row("C1", Up::Silent).routes(limited).local("504 Gateway Timeout", LATE);
    c1.has(&["content-length: 24"]).log("UT", "response_timeout").run().await;
    let c2 = row("C2", Up::Reply("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")).routes(limited).body("abc");
    let seen = c2.log("UT", "response_timeout").run().await;
    assert!(seen.answer.cut, "C2: {:?}", seen.answer);
}

#[tokio::test]
async fn of_one_try() {
    let retried = "[{retries: {attempts: 2, retryOn: 5xx, perTryTimeout: 20ms, backoff: 1ms}, route: [$up]}]";
    let c3 = row("C3", Up::Silent).routes(retried).local("504 Gateway Timeout", LATE);
    c3.log("URX,UT", "upstream_per_try_timeout").tries(3).run().await;
    let default = "[{retries: {attempts: 2, perTryTimeout: 20ms, \
                   retryOn: 'connect-failure,refused-stream,unavailable,cancelled'}, route: [$up]}]";
    let c5 = row("C5", Up::Silent).routes(default).local("504 Gateway Timeout", LATE);
    c5.log("UT", "upstream_per_try_timeout").tries(1).run().await;
    let both =
        "[{timeout: 70ms, retries: {attempts: 99, retryOn: 5xx, perTryTimeout: 20ms, backoff: 1ms}, route: [$up]}]";
    let c6 = row("C6", Up::Silent).routes(both).local("504 Gateway Timeout", LATE);
    c6.log("UT", "response_timeout").run().await;
}

#[tokio::test]
async fn told_to_the_upstream() {
    let c7 = row("C7", Up::Echo).routes("[{timeout: 5s, retries: {attempts: 2, perTryTimeout: 2s}, route: [$up]}]");
    c7.upstream_has(&["x-envoy-expected-rq-timeout-ms: 2000"]).run().await;
    let c7 = row("C7 route", Up::Echo).routes("[{timeout: 5s, route: [$up]}]");
    c7.upstream_has(&["x-envoy-expected-rq-timeout-ms: 5000"]).run().await;
    row("C7 none", Up::Echo).upstream_lacks(&["x-envoy-expected-rq-timeout-ms"]).run().await;
}

#[tokio::test]
async fn of_grpc() {
    let grpc = |timeout: &str| {
        GET.replace("GET", "POST")
            .replace("\r\n\r\n", &format!("\r\ncontent-type: application/grpc\r\ngrpc-timeout: {timeout}\r\n\r\n"))
    };
    let q14 = row("Q14", Up::Silent).raw(grpc("50m")).body("").log("UT", "response_timeout");
    q14.has(&["grpc-status: 14", "grpc-message: upstream request timeout", "content-length: 0"]).run().await;
    row("Q15", Up::Echo)
        .raw(grpc("2S"))
        .upstream_has(&["grpc-timeout: 2000m", "x-envoy-expected-rq-timeout-ms: 2000"])
        .run()
        .await;
    row("Q15", Up::Echo).raw(grpc("1H")).upstream_has(&["grpc-timeout: 3600000m"]).run().await;
    row("Q15", Up::Echo).raw(grpc("100000u")).upstream_has(&["grpc-timeout: 100m"]).run().await;
    row("Q15", Up::Echo).raw(grpc("123456789S")).upstream_has(&["grpc-timeout: 123456789S"]).run().await;
    let capped = row("Q15 cap", Up::Echo).routes("[{timeout: 300ms, route: [$up]}]").raw(grpc("5S"));
    capped.upstream_has(&["grpc-timeout: 300m"]).run().await;
}
