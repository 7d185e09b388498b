//! HTTP end to end on loopback sockets: a plan, an upstream that says what it got, raw requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::api::ContentHash;
use mesh_core::model::{Health, Workload};
use mesh_core::record::ConnInfo;
use mesh_core::snapshot::{
    Action, Balancer, ClusterPlan, Direction, Endpoint, EndpointSource, HeaderOps, HttpPlan, ListenerKey, ListenerPlan,
    Map, PathNormalization, Provenance, ProxyId, ProxyKind, ProxyPlan, RoutePlan, RouteTable, ServerHeader, Snapshot,
    UpstreamProtocol, VirtualHostPlan, WeightedCluster,
};
use mesh_proxy::cluster::Runtime;
use mesh_proxy::drain::Drain;
use mesh_proxy::http::Proxy;
use mesh_proxy::listener::{Engine, HttpServer, Route};
use mesh_proxy::net::{HostEnv, HostNet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn snapshot() -> Snapshot {
    let hash = ContentHash(1);
    let origin = Provenance::default("test");
    let target = WeightedCluster {
        cluster: "up".into(),
        weight: 1,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        authority: None,
        missing_status: http::StatusCode::SERVICE_UNAVAILABLE,
        origin: origin.clone(),
    };
    let route = RoutePlan {
        name: "r".into(),
        matches: mesh_core::matching::RequestMatch::default(),
        action: Action::Forward(vec![target]),
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        rewrite: None,
        timeout: None,
        retry: None,
        origin: origin.clone(),
        timeout_origin: origin.clone(),
        retry_origin: origin.clone(),
        hash,
    };
    let host: Arc<str> = "a.example".into();
    let virtual_host = VirtualHostPlan {
        name: host.clone(),
        domains: vec![host.clone()],
        routes: vec![Arc::new(route)],
        origin: origin.clone(),
        hash,
    };
    let exact = Map::from_iter([(host, Arc::new(virtual_host))]);
    let table = RouteTable { name: "80".into(), exact, suffix: vec![], prefix: vec![], any: None, hash };
    let http = HttpPlan {
        routes: Arc::new(table),
        server: ServerHeader::Overwrite("istio-envoy".into()),
        use_remote_address: true,
        trusted_hops: 0,
        path_normalization: PathNormalization::Base,
        hash,
    };
    let key = ListenerKey { direction: Direction::Gateway, address: None, port: 80 };
    let listener = ListenerPlan {
        name: "80".into(),
        key,
        detect: false,
        http: Some(Arc::new(http)),
        l4: vec![],
        fallback: None,
        origin: origin.clone(),
        hash,
    };
    let cluster = ClusterPlan {
        name: "up".into(),
        source: EndpointSource::Service {
            namespace: "d".into(),
            hostname: "up".into(),
            port: 80,
            labels: std::collections::BTreeMap::new(),
        },
        protocol: UpstreamProtocol::Http1,
        balancer: Balancer::LeastRequest,
        connect_timeout: Duration::from_secs(10),
        service: "up".into(),
        service_name: "up".into(),
        service_namespace: "d".into(),
        external: false,
        subset: "".into(),
        origin: origin.clone(),
        policy_origin: origin,
        hash,
    };
    let id = ProxyId {
        kind: ProxyKind::Gateway,
        workload: "w".into(),
        name: "w".into(),
        namespace: "d".into(),
        addresses: vec![],
        domain: "cluster.local".into(),
    };
    let proxy = ProxyPlan {
        id,
        access_log: false,
        access_log_json: false,
        access_log_format: None,
        allow_any: true,
        detection_timeout: None,
        drain_duration: Duration::from_secs(45),
        termination_drain_duration: Duration::from_secs(5),
        workload: None,
        hash,
    };
    Snapshot {
        hash,
        proxy: Arc::new(proxy),
        listeners: Map::from_iter([(key, Arc::new(listener))]),
        clusters: Map::from_iter([("up".into(), Arc::new(cluster))]),
        names: Map::default(),
    }
}

fn endpoint(address: SocketAddr) -> Arc<Endpoint> {
    Arc::new(Endpoint { address, weight: 1, health: Health::Healthy, workload: Arc::new(Workload::default()) })
}

/// Sends raw bytes through the stack and reads until the connection closes.
async fn talk(endpoints: Vec<Arc<Endpoint>>, raw: &str) -> String {
    let proxy = Proxy::new(Arc::new(Runtime::new(HostNet::new(), Arc::new(HostEnv), vec![], 1)));
    Engine::<mesh_proxy::net::HostStream>::set_endpoints(&proxy, &"up".into(), endpoints);
    Engine::<mesh_proxy::net::HostStream>::activate(&proxy, &Arc::new(snapshot()));
    let (mut client, io) = tokio::io::duplex(1 << 20);
    let any: SocketAddr = "10.0.0.9:1234".parse().unwrap();
    let conn = ConnInfo { direction: Direction::Gateway, peer: any, local: any, sni: "".into() };
    let serving = proxy.serve(io, Arc::new(conn), Route::Gateway(80), Drain::new());
    client.write_all(raw.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let (read, ()) = tokio::join!(client.read_to_string(&mut answer), serving);
    read.unwrap();
    answer
}

/// An upstream that answers one request with what it received.
async fn echo() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let at = listener.local_addr().unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut got = Vec::new();
        while !got.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut got).await.unwrap();
        }
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", got.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&got).await.unwrap();
    });
    at
}

const GET: &str = "GET /x HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_request_is_proxied() {
    let answer = talk(vec![endpoint(echo().await)], GET).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    for wanted in [
        "server: istio-envoy",
        "x-envoy-upstream-service-time: ",
        "GET /x HTTP/1.1",
        "x-forwarded-for: 10.0.0.9",
        "x-envoy-attempt-count: 1",
    ] {
        assert!(answer.contains(wanted), "{wanted} in {answer}");
    }
}

#[tokio::test]
async fn local_replies_are_envoys() {
    // A1
    let answer = talk(vec![], &GET.replace("a.example", "b.example")).await;
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n") && answer.contains("content-length: 0"), "{answer}");
    // A5
    let answer = talk(vec![], GET).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("\r\n\r\nno healthy upstream"), "{answer}");
    // O1, O11, O12, O14
    for (raw, status, body) in [
        ("GET / HTTP/1.0\r\n\r\n", "426", "Upgrade Required"),
        ("FOO / HTTP/1.1\r\nhost: a\r\n\r\n", "400", "Bad Request"),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", "400", "Bad Request"),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n", "501", "Not Implemented"),
    ] {
        let answer = talk(vec![], raw).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.ends_with(body), "{raw:?}: {answer}");
    }
}
