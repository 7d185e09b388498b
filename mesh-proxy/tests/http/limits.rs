//! Sections B and D, and what a `connectionPool` says about connections: upstreams that are told when to answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mesh_core::layers::limits::Resource;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};

use crate::mesh::{Config, DEFAULT, Mesh, details, flags};
use crate::row::{Answer, GET, row};
use crate::upstream::Up;

const CLUSTER: &str = "outbound|80||up.example";
const OVERFLOW: &str = "upstream connect error or disconnect/reset before headers. reset reason: overflow";

/// An upstream that answers a request when it may.
#[derive(Clone)]
struct Gate(Arc<State>);

struct State {
    at: SocketAddr,
    may: Semaphore,
    asked: Notify,
    requests: AtomicUsize,
    connections: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
}

impl Gate {
    /// `answer` gives the response to the n-th request (from 1), and whether the gate holds for it.
    async fn start(answer: fn(usize) -> (&'static str, bool)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = State {
            at: listener.local_addr().unwrap(),
            may: Semaphore::new(0),
            asked: Notify::new(),
            requests: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
        };
        let gate = Self(Arc::new(state));
        let serving = gate.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let gate = serving.clone();
                gate.0.connections.fetch_add(1, Ordering::SeqCst);
                let open = gate.0.open.fetch_add(1, Ordering::SeqCst) + 1;
                gate.0.most_open.fetch_max(open, Ordering::SeqCst);
                tokio::spawn(async move {
                    gate.connection(stream, answer).await;
                    gate.0.open.fetch_sub(1, Ordering::SeqCst);
                    gate.0.asked.notify_one();
                });
            }
        });
        gate
    }

    async fn connection(&self, mut stream: TcpStream, answer: fn(usize) -> (&'static str, bool)) {
        let mut got = Vec::new();
        loop {
            while !got.windows(4).any(|w| w == b"\r\n\r\n") {
                if stream.read_buf(&mut got).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            got.clear();
            let (text, holds) = answer(self.0.requests.fetch_add(1, Ordering::SeqCst) + 1);
            self.0.asked.notify_one();
            if holds {
                self.0.may.acquire().await.unwrap().forget();
            }
            if text.is_empty() {
                return;
            }
            if stream.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn requests(&self) -> usize {
        self.0.requests.load(Ordering::SeqCst)
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno";

fn policy(policy: &str) -> Config {
    let extra = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: up, namespace: default}}\n\
         spec: {{host: up.example, trafficPolicy: {{{policy}}}}}\n"
    );
    Config { extra: extra.leak(), ..DEFAULT }
}

async fn send(mesh: &Mesh, request: &str) -> TcpStream {
    let mut client = mesh.connect().await;
    client.write_all(request.as_bytes()).await.unwrap();
    client
}

/// Lets the others run until this holds; a test that waits in vain is stopped.
async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), waiting).await.expect("it happens");
}

#[track_caller]
fn assert_overflow(answer: &Answer) {
    assert_eq!((&*answer.status, &*answer.body), ("503 Service Unavailable", OVERFLOW));
    assert_eq!(answer.headers[0], "x-envoy-overloaded: true", "{:?}", answer.headers);
    assert_eq!(answer.header("content-length"), Some("81"));
}

#[tokio::test]
async fn b1_and_b4_a_full_queue_refuses_at_once_and_the_queued_one_is_served() {
    let gate = Gate::start(|_| (OK, true)).await;
    let config = policy("connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}");
    let mut mesh = Mesh::start(&config, Some(gate.0.at)).await;
    let mut first = send(&mesh, GET).await;
    until(|| gate.requests() == 1).await;
    let mut second = send(&mesh, GET).await;
    let usage = mesh.usage(CLUSTER);
    until(|| usage.now(Resource::Pending) == 1).await;
    assert_overflow(&Answer::read(&mut send(&mesh, GET).await, false).await);
    let record = mesh.record().await;
    let overflow = "upstream_reset_before_response_started{overflow}";
    assert_eq!((&*flags(&record), &*details(&record)), ("UO", overflow));
    gate.0.may.add_permits(2);
    for client in [&mut first, &mut second] {
        assert_eq!(Answer::read(client, false).await.body, "ok");
    }
    assert_eq!((gate.0.most_open.load(Ordering::SeqCst), usage.now(Resource::Pending)), (1, 0));
}

#[tokio::test]
async fn b2_and_b3_active_requests() {
    let gate = Gate::start(|_| (OK, true)).await;
    let mut mesh = Mesh::start(&policy("connectionPool: {http: {http2MaxRequests: 1}}"), Some(gate.0.at)).await;
    let mut first = send(&mesh, GET).await;
    until(|| gate.requests() == 1).await;
    assert_overflow(&Answer::read(&mut send(&mesh, GET).await, false).await);
    assert_eq!(flags(&mesh.record().await), "UO");
    let grpc = GET.replace("\r\n\r\n", "\r\ncontent-type: application/grpc\r\n\r\n");
    let answer = Answer::read(&mut send(&mesh, &grpc).await, false).await;
    assert_eq!(answer.status, "200 OK");
    for (name, value) in [("x-envoy-overloaded", "true"), ("grpc-status", "14"), ("grpc-message", OVERFLOW)] {
        assert_eq!(answer.header(name), Some(value), "{answer:?}");
    }
    gate.0.may.add_permits(1);
    assert_eq!(Answer::read(&mut first, false).await.body, "ok");
    until(|| mesh.usage(CLUSTER).now(Resource::Requests) == 0).await;
    gate.0.may.add_permits(1);
    assert_eq!(Answer::read(&mut send(&mesh, GET).await, false).await.body, "ok");
}

#[tokio::test]
async fn b5_a_retry_too_many_passes_the_answer_on() {
    // The first try of each request fails; the retry of the first one is held.
    let gate = Gate::start(|n| if n == 2 { (OK, true) } else { (UNAVAILABLE, false) }).await;
    let config = Config {
        routes: "[{retries: {attempts: 3, retryOn: 5xx, backoff: 1ms}, route: [$up]}]",
        ..policy("connectionPool: {http: {maxRetries: 1}}")
    };
    let mut mesh = Mesh::start(&config, Some(gate.0.at)).await;
    let mut first = send(&mesh, GET).await;
    until(|| gate.requests() == 2).await;
    let answer = Answer::read(&mut send(&mesh, GET).await, false).await;
    assert_eq!((&*answer.status, &*answer.body), ("503 Service Unavailable", "no"));
    let record = mesh.record().await;
    assert_eq!((&*flags(&record), &*details(&record), gate.requests()), ("UO", "via_upstream", 3));
    gate.0.may.add_permits(1);
    assert_eq!(Answer::read(&mut first, false).await.body, "ok");
    assert_eq!(mesh.usage(CLUSTER).now(Resource::Retries), 0);
}

/// The tour's circuit breaker: one connection, a new one for each request, and nothing else is limited.
#[tokio::test]
async fn one_connection_at_a_time_and_one_request_on_each() {
    let gate = Gate::start(|_| (OK, false)).await;
    let config =
        policy("connectionPool: {tcp: {maxConnections: 1}, http: {http2MaxRequests: 3, maxRequestsPerConnection: 1}}");
    let mesh = Mesh::start(&config, Some(gate.0.at)).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(send(&mesh, GET).await);
    }
    for client in &mut clients {
        assert_eq!(Answer::read(client, false).await.body, "ok", "one that waits is not active: none is refused");
    }
    let state = &gate.0;
    assert_eq!((state.connections.load(Ordering::SeqCst), state.most_open.load(Ordering::SeqCst)), (8, 1));
    until(|| mesh.usage(CLUSTER).now(Resource::Connections) == 0).await;
}

#[tokio::test]
async fn a_queued_request_that_is_given_up_leaves_the_queue() {
    let gate = Gate::start(|_| (OK, true)).await;
    let config = Config {
        routes: "[{match: [{uri: {exact: /short}}], timeout: 30ms, route: [$up]}, {route: [$up]}]",
        ..policy("connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 2}}")
    };
    let mesh = Mesh::start(&config, Some(gate.0.at)).await;
    let (usage, mut first) = (mesh.usage(CLUSTER), send(&mesh, GET).await);
    until(|| gate.requests() == 1).await;
    let late = send(&mesh, &GET.replace("/x", "/short")).await;
    until(|| usage.now(Resource::Pending) == 1).await;
    let mut last = send(&mesh, GET).await;
    until(|| usage.now(Resource::Pending) == 2).await;
    let mut late = late;
    assert_eq!(Answer::read(&mut late, false).await.status, "504 Gateway Timeout");
    assert_eq!(usage.now(Resource::Pending), 1);
    gate.0.may.add_permits(2);
    for client in [&mut first, &mut last] {
        assert_eq!(Answer::read(client, false).await.body, "ok");
    }
}

/// R14, and the idle timeout and the age of a connection: each time it is the proxy that closes.
#[tokio::test]
async fn connections_are_closed_when_their_time_is_over() {
    for (id, settings) in [
        ("R14", "connectionPool: {http: {maxRequestsPerConnection: 1}}"),
        ("idle", "connectionPool: {http: {idleTimeout: 20ms}}"),
        ("tcp idle", "connectionPool: {tcp: {idleTimeout: 20ms}}"),
        ("age", "connectionPool: {tcp: {maxConnectionDuration: 20ms}}"),
    ] {
        let gate = Gate::start(|_| (OK, false)).await;
        let mesh = Mesh::start(&policy(settings), Some(gate.0.at)).await;
        assert_eq!(Answer::read(&mut send(&mesh, GET).await, false).await.body, "ok", "{id}");
        until(|| gate.0.open.load(Ordering::SeqCst) == 0).await;
        assert_eq!(Answer::read(&mut send(&mesh, GET).await, false).await.body, "ok", "{id}");
        assert_eq!(gate.0.connections.load(Ordering::SeqCst), 2, "{id}");
    }
    let r14 = row("R14 head", Up::Echo).upstream_lacks(&["connection:"]);
    r14.extra(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: up, namespace: default}\n\
         spec: {host: up.example, trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 1}}}}\n",
    )
    .run()
    .await;
}

/// The upstream closes an idle connection while the next request is on its way.
#[tokio::test]
async fn a_close_of_an_idle_connection_is_not_the_clients_problem() {
    let routes = "[{route: [$up]}]";
    for (method, status, log) in [
        ("GET", "200 OK", ("-", "via_upstream{replayed:idle_connection_closed}")),
        ("POST", "503 Service Unavailable", ("UC", "upstream_reset_before_response_started{connection_termination}")),
    ] {
        // The second request is read and not answered.
        let gate = Gate::start(|n| if n == 2 { ("", false) } else { (OK, false) }).await;
        let mut mesh = Mesh::start(&Config { routes, ..DEFAULT }, Some(gate.0.at)).await;
        assert_eq!(Answer::read(&mut send(&mesh, GET).await, false).await.body, "ok");
        mesh.record().await;
        let answer = Answer::read(&mut send(&mesh, &GET.replace("GET", method)).await, false).await;
        assert_eq!(answer.status, status, "{method}");
        let record = mesh.record().await;
        assert_eq!((&*flags(&record), record.cx.response_details()), log, "{method}");
    }
}

#[tokio::test]
async fn d2_to_d6_and_d10_what_is_retried() {
    const ON_5XX: &str = "[{retries: {attempts: 2, retryOn: 5xx, backoff: 1ms}, route: [$up]}]";
    const GATEWAY: &str = "[{retries: {attempts: 2, retryOn: gateway-error, backoff: 1ms}, route: [$up]}]";
    const IR: &str = "[{route: [$up]}]";
    let d2 = row("D2", Up::Reply(UNAVAILABLE)).routes(ON_5XX).status("503 Service Unavailable").body("no");
    d2.log("URX", "via_upstream").tries(3).run().await;
    let d10 = row("D10", Up::Reply(UNAVAILABLE)).routes(IR).status("503 Service Unavailable").tries(1);
    d10.run().await;
    let bad_gateway = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n";
    let internal = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";
    let conflict = "HTTP/1.1 409 Conflict\r\ncontent-length: 0\r\n\r\n";
    let d3 = row("D3 502", Up::Reply(bad_gateway)).routes(GATEWAY).status("502 Bad Gateway");
    d3.log("URX", "via_upstream").tries(3).run().await;
    row("D3 500", Up::Reply(internal)).routes(GATEWAY).status("500 Internal Server Error").tries(1).run().await;
    let codes = "[{retries: {attempts: 2, retryOn: '409,retriable-status-codes', backoff: 1ms}, route: [$up]}]";
    let d3 = row("D3 codes", Up::Reply(conflict)).routes(codes).status("409 Conflict");
    d3.log("URX", "via_upstream").tries(3).run().await;
    let no_codes = "[{retries: {attempts: 2, retryOn: retriable-status-codes, backoff: 1ms}, route: [$up]}]";
    row("D3 no codes", Up::Reply(conflict)).routes(no_codes).status("409 Conflict").tries(1).run().await;
    let retriable = "[{retries: {attempts: 2, retryOn: retriable-4xx, backoff: 1ms}, route: [$up]}]";
    let d3 = row("D3 4xx", Up::Reply(conflict)).routes(retriable).status("409 Conflict");
    d3.log("URX", "via_upstream").tries(3).run().await;
    let overloaded = "HTTP/1.1 503 Service Unavailable\r\nx-envoy-overloaded: true\r\ncontent-length: 0\r\n\r\n";
    let d4 = row("D4", Up::Reply(overloaded)).routes(ON_5XX).status("503 Service Unavailable");
    d4.log("URX", "via_upstream").tries(3).run().await;
    let limited = "HTTP/1.1 503 Service Unavailable\r\nx-envoy-ratelimited: true\r\ncontent-length: 0\r\n\r\n";
    row("D4 ratelimited", Up::Reply(limited)).routes(ON_5XX).status("503 Service Unavailable").tries(1).run().await;
    let grpc = "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 14\r\ncontent-length: 0\r\n\r\n";
    let quick = "[{retries: {attempts: 2, backoff: 1ms}, route: [$up]}]";
    row("D5 14", Up::Reply(grpc)).routes(quick).log("URX", "via_upstream").tries(3).run().await;
    let grpc = "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 8\r\ncontent-length: 0\r\n\r\n";
    row("D5 8", Up::Reply(grpc)).routes(quick).tries(1).run().await;
    let body = vec![b'x'; (1 << 20) + 1];
    let head = format!("POST /x HTTP/1.1\r\nhost: up.example\r\ncontent-length: {}\r\n\r\n", body.len());
    let d6 = row("D6", Up::Reply(UNAVAILABLE)).routes(ON_5XX).raw([head.as_bytes(), &body].concat());
    d6.status("503 Service Unavailable").tries(1).run().await;
    let fits = "POST /x HTTP/1.1\r\nhost: up.example\r\ncontent-length: 4\r\n\r\nbody";
    let d6 = row("D6 fits", Up::Reply(UNAVAILABLE)).routes(ON_5XX).raw(fits).status("503 Service Unavailable");
    d6.log("URX", "via_upstream").tries(3).run().await;
}

#[tokio::test]
async fn d9_a_refused_endpoint_is_not_tried_again_while_another_exists() {
    let gate = Gate::start(|_| (OK, false)).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let extra = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: two, namespace: default}}\n\
         spec: {{hosts: [two.example], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: STATIC, \
         endpoints: [{{address: 127.0.0.1, ports: {{http: {}}}}}, {{address: 127.0.0.1, ports: {{http: {}}}}}]}}\n\
         ---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: two, namespace: default}}\n\
         spec: {{host: two.example, trafficPolicy: {{loadBalancer: {{simple: ROUND_ROBIN}}}}}}\n",
        closed.port(),
        gate.0.at.port()
    );
    let routes = "[{retries: {attempts: 1, backoff: 1ms}, route: [{destination: {host: two.example}}]}]";
    let config = Config { routes, extra: extra.leak(), ..DEFAULT };
    let mut mesh = Mesh::start(&config, None).await;
    for _ in 0..12 {
        assert_eq!(Answer::read(&mut send(&mesh, GET).await, false).await.body, "ok");
        assert_eq!(flags(&mesh.record().await), "-", "success after a retry has no flag");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_nobody_reads_waits_at_its_upstream() {
    const ALL: usize = 64 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let written = Arc::new(AtomicUsize::new(0));
    let writing = Arc::clone(&written);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {ALL}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        while stream.write_all(&[b'x'; 16 << 10]).await.is_ok() {
            writing.fetch_add(16 << 10, Ordering::SeqCst);
        }
    });
    let mesh = Mesh::start(&DEFAULT, Some(at)).await;
    let mut client = mesh.connect().await;
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut before = 0;
    loop {
        // Time stands still as long as anything moves.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        match written.load(Ordering::SeqCst) {
            now if now > 0 && now == before => break,
            now => before = now,
        }
    }
    assert!(before < ALL / 2, "{before} bytes are what sockets hold, and more");
}
