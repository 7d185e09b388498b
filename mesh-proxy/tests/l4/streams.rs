//! TCP streams. Row ids are those of the observations of Envoy.

use std::time::Duration;

use mesh_core::snapshot::{Balancing, Direction, EndpointSource, OutlierPlan, PoolPlan};
use mesh_proxy::listener::Door;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{RESETS, Running, Setup, closed, upstream};

async fn read_all(mut stream: impl AsyncReadExt + Unpin) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn connections_are_counted_while_they_are_open() {
    let (listener, at) = upstream();
    let proxy = Running::start(Setup::tcp(Some(at)), Door::Outbound).await;
    let open = || [Direction::Outbound, Direction::Inbound, Direction::Gateway].map(|d| proxy.shared.open.count(d));
    let client = proxy.client().await;
    let (server, _) = listener.accept().await.unwrap();
    assert_eq!(open(), [1, 0, 0]);
    drop((client, server));
    let gone = async {
        while open() != [0; 3] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("it is counted no longer");
}

#[tokio::test]
async fn t1_no_endpoint_closes_before_the_client_sends() {
    let proxy = Running::start(Setup::tcp(None), Door::Outbound).await;
    assert_eq!(read_all(proxy.client().await).await, "");
    assert_eq!(proxy.flags().await, ("UH".into(), String::new()));
}

#[tokio::test]
async fn t2_a_refused_connection_is_named() {
    let proxy = Running::start(Setup::tcp(Some(closed())), Door::Outbound).await;
    assert_eq!(read_all(proxy.client().await).await, "");
    let (flags, reason) = proxy.flags().await;
    // D8: a request has them in the other order.
    assert_eq!(flags, "UF,URX");
    assert_eq!(reason.replace(' ', "_"), "delayed_connect_error:_Connection_refused");
}

#[tokio::test]
async fn a14_a_connection_that_is_reset_while_it_is_made_failed_to_connect() {
    let proxy = Running::start(Setup::tcp(Some(RESETS)), Door::Outbound).await;
    assert_eq!(read_all(proxy.client().await).await, "");
    let (flags, reason) = proxy.flags().await;
    assert_eq!((&*flags, &*reason.replace(' ', "_")), ("UF,URX", "delayed_connect_error:_Connection_reset_by_peer"));
}

#[tokio::test(start_paused = true)]
async fn t3_a_connection_that_is_not_made_in_time_is_reset() {
    // The accept queue of this listener is full: the kernel leaves further connections unanswered.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let at = full.local_addr().unwrap().as_socket().unwrap();
    let _waiting: Vec<_> = (0..4).map(|_| connecting(at)).collect();
    let proxy = Running::start(Setup::tcp(Some(at)), Door::Outbound).await;
    let error = proxy.client().await.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let (flags, reason) = proxy.flags().await;
    assert_eq!((&*flags, &*reason), ("UF,URX", ""));
}

/// A connection that is on its way and takes a place in the queue.
fn connecting(at: std::net::SocketAddr) -> socket2::Socket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    let _ = socket.connect(&at.into());
    socket
}

#[tokio::test]
async fn r9_refused_connections_take_an_endpoint_out() {
    let outlier = OutlierPlan { consecutive_5xx: 2, max_ejection_percent: 100, ..OutlierPlan::default() };
    let balancing = Balancing { outlier: Some(outlier), ..Balancing::default() };
    let proxy = Running::start(Setup { balancing, ..Setup::tcp(Some(closed())) }, Door::Outbound).await;
    let mut flags: Vec<String> = Vec::new();
    let taken_out = async {
        while !flags.iter().any(|f| f == "UH") {
            assert_eq!(read_all(proxy.client().await).await, "");
            flags.extend(proxy.flags_so_far());
        }
    };
    tokio::time::timeout(Duration::from_secs(5), taken_out).await.expect("it is taken out");
    let refused = flags.iter().position(|f| f == "UH").unwrap();
    assert!(refused >= 2 && flags[..refused].iter().all(|f| f.contains("UF")), "{flags:?}");
}

#[tokio::test]
async fn t4_an_unknown_cluster_closes() {
    let proxy = Running::start(Setup { cluster: "missing", ..Setup::tcp(None) }, Door::Outbound).await;
    assert_eq!(read_all(proxy.client().await).await, "");
    assert_eq!(proxy.flags().await.0, "NC");
}

#[tokio::test]
async fn a_connection_that_no_rule_takes_is_reset() {
    let proxy = Running::start(Setup { cluster: "none", ..Setup::tcp(None) }, Door::Outbound).await;
    let error = proxy.client().await.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(proxy.flags().await.0, "NR");
}

#[tokio::test]
async fn b6_a_stream_over_the_limit_is_closed_without_a_byte() {
    let (listener, at) = upstream();
    let pool = PoolPlan { max_connections: 1, ..PoolPlan::default() };
    let proxy = Running::start(Setup { pool, ..Setup::tcp(Some(at)) }, Door::Outbound).await;
    let first = proxy.client().await;
    let (_server, _) = listener.accept().await.unwrap();
    assert_eq!(read_all(proxy.client().await).await, "");
    assert_eq!(proxy.flags().await.0, "UO");
    drop(first);
}

#[tokio::test]
async fn c18_an_idle_stream_ends_without_a_flag() {
    let (listener, at) = upstream();
    let pool = PoolPlan { tcp_idle_timeout: Some(Duration::from_millis(20)), ..PoolPlan::default() };
    let proxy = Running::start(Setup { pool, ..Setup::tcp(Some(at)) }, Door::Outbound).await;
    let client = proxy.client().await;
    let (_server, _) = listener.accept().await.unwrap();
    assert_eq!(read_all(client).await, "");
    assert_eq!(proxy.flags().await.0, "-");
}

#[tokio::test]
async fn c19_a_stream_ends_at_its_age() {
    let (listener, at) = upstream();
    let pool = PoolPlan { max_connection_duration: Some(Duration::from_millis(20)), ..PoolPlan::default() };
    let proxy = Running::start(Setup { pool, ..Setup::tcp(Some(at)) }, Door::Outbound).await;
    let client = proxy.client().await;
    let (_server, _) = listener.accept().await.unwrap();
    assert_eq!(read_all(client).await, "");
    assert_eq!(proxy.flags().await.0, "DT");
}

#[tokio::test]
async fn a_client_may_finish_first() {
    let (listener, at) = upstream();
    let proxy = Running::start(Setup::tcp(Some(at)), Door::Outbound).await;
    let mut client = proxy.client().await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let mut text = String::new();
    server.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "question");
    assert_eq!(proxy.shared.outbound.in_flight(), 1);
    server.write_all(b"answer").await.unwrap();
    drop(server);
    assert_eq!(read_all(client).await, "answer");
    assert_eq!(proxy.flags().await.0, "-");
}

#[tokio::test]
async fn passthrough_goes_where_the_client_wanted() {
    let (listener, at) = upstream();
    let setup = Setup { source: EndpointSource::OriginalDst { port: None }, to: at, ..Setup::tcp(None) };
    let proxy = Running::start(setup, Door::Outbound).await;
    let client = proxy.client().await;
    let (mut server, _) = listener.accept().await.unwrap();
    server.write_all(b"outside").await.unwrap();
    drop(server);
    assert_eq!(read_all(client).await, "outside");
}

#[tokio::test]
async fn a_connection_meant_for_the_proxy_itself_is_no_loop() {
    let setup = Setup {
        source: EndpointSource::OriginalDst { port: None },
        to: "10.0.0.1:15006".parse().unwrap(),
        ..Setup::tcp(None)
    };
    let proxy = Running::start(setup, Door::Inbound).await;
    assert_eq!(read_all(proxy.client().await).await, "");
}

/// A port whose protocol is not declared, as far as it matters here: server names are looked at.
fn undeclared(at: std::net::SocketAddr) -> Setup {
    Setup { detect: true, sni: Some("other.example"), ..Setup::tcp(Some(at)) }
}

#[tokio::test]
async fn a_server_that_speaks_first_decides() {
    let (listener, at) = upstream();
    let proxy = Running::start(undeclared(at), Door::Outbound).await;
    let mut client = proxy.client().await;
    let (mut server, _) = listener.accept().await.unwrap();
    server.write_all(b"220 hello\r\n").await.unwrap();
    let mut banner = [0; 11];
    client.read_exact(&mut banner).await.unwrap();
    assert_eq!(&banner, b"220 hello\r\n");
    // The same connection goes on.
    client.write_all(b"QUIT").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(server).await, "QUIT");
}

#[tokio::test]
async fn s4_a_detection_timeout_decides_for_bytes() {
    let (listener, at) = upstream();
    let setup = Setup { detection_timeout: Some(Duration::from_millis(5)), ..undeclared(at) };
    let proxy = Running::start(setup, Door::Outbound).await;
    let mut client = proxy.client().await;
    client.write_all(b"GE").await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let mut two = [0; 2];
    server.read_exact(&mut two).await.unwrap();
    assert_eq!(&two, b"GE");
}

#[tokio::test]
async fn explicit_connect_leads_to_the_named_service() {
    let (listener, at) = upstream();
    let proxy = Running::start(Setup::tcp(Some(at)), Door::Explicit).await;
    let mut client = proxy.client().await;
    client.write_all(b"CONNECT db:5432 HTTP/1.1\r\nhost: db:5432\r\n\r\nearly").await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let mut early = [0; 5];
    server.read_exact(&mut early).await.unwrap();
    assert_eq!(&early, b"early");
    server.write_all(b"late").await.unwrap();
    drop(server);
    client.shutdown().await.unwrap();
    assert_eq!(read_all(client).await, "HTTP/1.1 200 OK\r\n\r\nlate");
}
