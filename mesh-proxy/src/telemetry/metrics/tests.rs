use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use http::{HeaderValue, Method, StatusCode, Uri, Version};
use mesh_core::api::ContentHash;
use mesh_core::model::{Health, TlsMode, Tunnel, Workload};
use mesh_core::record::{ConnInfo, Cx, HttpRecord, RequestRecord, Sink};
use mesh_core::snapshot::{Balancer, ClusterPlan, Direction, Endpoint, EndpointSource, Provenance, UpstreamProtocol};

use super::{Metrics, Neighbours};

pub(crate) fn workload(name: &str, version: &str) -> Arc<Workload> {
    Arc::new(Workload {
        uid: format!("//Pod/default/{name}").into(),
        name: name.into(),
        namespace: "default".into(),
        addresses: vec!["10.244.0.7".parse().unwrap()],
        hostname: None,
        labels: BTreeMap::from([("app".into(), name.into()), ("version".into(), version.into())]),
        annotations: BTreeMap::new(),
        ports: BTreeMap::new(),
        service_account: "default".into(),
        workload_name: format!("{name}-{version}").into(),
        workload_kind: "deployment".into(),
        cluster: "Kubernetes".into(),
        network: "".into(),
        locality: "".into(),
        tls_mode: TlsMode::Disabled,
        tunnel: Tunnel::None,
        socket: None,
        health: Health::Healthy,
        weight: 1,
        hash: ContentHash::of(name.as_bytes()),
    })
}

fn cluster() -> Arc<ClusterPlan> {
    Arc::new(ClusterPlan {
        name: "outbound|9080||reviews.default.svc.cluster.local".into(),
        source: EndpointSource::BlackHole,
        protocol: UpstreamProtocol::Http1,
        balancer: Balancer::LeastRequest,
        balancing: Arc::default(),
        connect_timeout: Duration::from_secs(10),
        auto_tls: None,
        tls_origin: Provenance::default("test"),
        tls: None,
        proxy_header: None,
        tunnel: None,
        pool: Arc::default(),
        pool_origin: Provenance::default("test"),
        service: "reviews.default.svc.cluster.local".into(),
        service_name: "reviews".into(),
        service_namespace: "default".into(),
        external: false,
        subset: "".into(),
        origin: Provenance::default("test"),
        policy_origin: Provenance::default("test"),
        hash: ContentHash(1),
    })
}

fn record(direction: Direction, http: bool) -> RequestRecord {
    let conn = ConnInfo {
        direction,
        peer: "10.244.0.7:5000".parse().unwrap(),
        local: "10.96.0.1:9080".parse().unwrap(),
        direct: None,
        sni: "".into(),
        tls: None,
        peer_text: Default::default(),
    };
    RequestRecord {
        start: SystemTime::UNIX_EPOCH,
        duration: Duration::from_millis(3),
        cx: Arc::new(Cx::new(Arc::new(conn), ContentHash(0))),
        http: http.then(|| HttpRecord {
            method: Method::GET,
            target: Uri::from_static("/"),
            version: Version::HTTP_11,
            host: Some(HeaderValue::from_static("made-up.example")),
            status: Some(StatusCode::OK),
            grpc_status: None,
            grpc: false,
            user_agent: None,
        }),
        termination: "".into(),
    }
}

fn sample(text: &str, name: &str) -> String {
    text.lines().find(|l| l.starts_with(&format!("{name}{{"))).unwrap_or_else(|| panic!("{name} in {text}")).to_owned()
}

#[test]
fn source_reporter_names_both_sides() {
    let metrics = Metrics::new();
    metrics.set_neighbours(Neighbours { own: Some(workload("productpage", "v1")), ..Neighbours::default() });
    let record = record(Direction::Outbound, true);
    record.cx.cluster.set(cluster()).unwrap();
    let endpoint = Endpoint {
        address: "10.244.0.9:9080".parse().unwrap(),
        weight: 1,
        health: Health::Healthy,
        workload: workload("reviews", "v3"),
        mesh: Default::default(),
    };
    record.cx.endpoint.set(Arc::new(endpoint));
    metrics.record(&record);
    metrics.record(&record);
    let line = sample(&metrics.encode(), "istio_requests_total");
    assert!(line.ends_with("} 2"), "{line}");
    for label in [
        "reporter=\"source\"",
        "source_workload=\"productpage-v1\"",
        "source_app=\"productpage\"",
        "destination_workload=\"reviews-v3\"",
        "destination_version=\"v3\"",
        "destination_service=\"reviews.default.svc.cluster.local\"",
        "destination_service_name=\"reviews\"",
        "destination_service_namespace=\"default\"",
        "source_principal=\"unknown\"",
        "request_protocol=\"http\"",
        "response_code=\"200\"",
        "grpc_response_status=\"\"",
        "response_flags=\"-\"",
        "connection_security_policy=\"unknown\"",
    ] {
        assert!(line.contains(label), "{label} in {line}");
    }
}

#[test]
fn destination_reporter_finds_the_peer_by_address() {
    let metrics = Metrics::new();
    let peer = workload("productpage", "v1");
    metrics.set_neighbours(Neighbours {
        own: Some(workload("reviews", "v3")),
        by_address: [(peer.addresses[0], peer.clone())].into_iter().collect(),
    });
    metrics.record(&record(Direction::Inbound, true));
    let line = sample(&metrics.encode(), "istio_requests_total");
    for label in [
        "reporter=\"destination\"",
        "source_workload=\"productpage-v1\"",
        "destination_workload=\"reviews-v3\"",
        // No cluster names a service, and a made-up Host must not become a label.
        "destination_service=\"reviews\"",
        "connection_security_policy=\"none\"",
    ] {
        assert!(line.contains(label), "{label} in {line}");
    }
}

#[test]
fn tcp_streams_have_their_own_metrics() {
    let metrics = Metrics::new();
    let record = record(Direction::Outbound, false);
    record.cx.response_bytes.store(7, Ordering::Relaxed);
    metrics.record(&record);
    let text = metrics.encode();
    assert!(sample(&text, "istio_tcp_sent_bytes_total").ends_with("} 7"));
    let opened = sample(&text, "istio_tcp_connections_opened_total");
    assert!(opened.contains("request_protocol=\"tcp\"") && !opened.contains("response_code"), "{opened}");
    assert!(!text.contains("istio_requests_total{"));
}

#[test]
fn histograms_count_upwards() {
    let metrics = Metrics::new();
    let record = record(Direction::Outbound, true);
    record.cx.response_bytes.store(4_000_000, Ordering::Relaxed);
    metrics.record(&record);
    metrics.record(&record);
    let text = metrics.encode();
    let value = |name: &str, le: &str| {
        let start = format!("istio_{name}{{");
        let line = text.lines().find(|l| l.starts_with(&start) && l.contains(le)).unwrap_or_else(|| panic!("{name}"));
        line.rsplit_once(' ').unwrap().1.to_owned()
    };
    for (name, le, wanted) in [
        ("request_duration_milliseconds_bucket", "le=\"1\"", "0"),
        ("request_duration_milliseconds_bucket", "le=\"5\"", "2"),
        ("request_duration_milliseconds_bucket", "le=\"+Inf\"", "2"),
        ("request_duration_milliseconds_sum", "", "6.0"),
        ("request_duration_milliseconds_count", "", "2"),
        ("request_bytes_bucket", "le=\"0.5\"", "2"),
        ("response_bytes_bucket", "le=\"3600000\"", "0"),
        ("response_bytes_bucket", "le=\"+Inf\"", "2"),
        ("response_bytes_sum", "", "8000000.0"),
    ] {
        assert_eq!(value(name, le), wanted, "{name} {le}");
    }
}
