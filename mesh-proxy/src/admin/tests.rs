use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{Method, Request, StatusCode};
use mesh_core::balance::Standing;
use mesh_core::env::Env;
use mesh_core::model::Health;
use mesh_core::outlier::Stats;
use mesh_core::snapshot::{Direction, Endpoint, Snapshot};
use mesh_policy::Reasons;
use mesh_tls::{Authority, AuthorityConfig, CertHandle, CertManager, CertSource, CertState, RotationConfig, SpiffeId};
use parking_lot::Mutex;

use super::{AdminState, ClusterEndpoints, Command, EndpointStatus, Port, Profiles, Readiness, respond};
use crate::listener::PeerSeen;
use crate::telemetry::denials::Denial;
use crate::telemetry::metrics::{Metrics, tests::workload};

mod profiles;

struct FixedEnv;

impl Env for FixedEnv {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn random(&self) -> u64 {
        7
    }
}

struct State {
    readiness: Readiness,
    metrics: Metrics,
    identity: Option<CertHandle>,
    commands: Mutex<Vec<Command>>,
    profiles: Option<Box<dyn Profiles>>,
}

impl AdminState for State {
    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        None
    }

    fn endpoints(&self) -> Vec<ClusterEndpoints> {
        let endpoint = Endpoint {
            address: "10.244.0.9:9080".parse().unwrap(),
            weight: 2,
            health: Health::Unhealthy,
            workload: workload("reviews", "v1"),
            mesh: Default::default(),
        };
        let standing = Some(Standing { priority: 1, load: 30, panic: false, share: 0.0 });
        let (active, ejected, ejections, failures) = (4, true, 2, (3, 1));
        let status = EndpointStatus { endpoint: Arc::new(endpoint), active, ejected, ejections, failures, standing };
        let outliers = Some(Stats { ejections_active: 1, ejections_overflow: 7, ..Stats::default() });
        vec![ClusterEndpoints { name: "c".into(), endpoints: vec![status], outliers }]
    }

    fn readiness(&self) -> Readiness {
        self.readiness
    }

    fn identity(&self) -> Option<&CertHandle> {
        self.identity.as_ref()
    }

    fn now(&self) -> SystemTime {
        FixedEnv.now()
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("access_log.dropped", 3)]
    }

    fn connections(&self, direction: Direction) -> u64 {
        u64::from(direction == Direction::Gateway) * 5
    }

    fn peers(&self) -> Vec<PeerSeen> {
        let (port, address, last_seen) = (9080, "10.244.0.9".parse().unwrap(), FixedEnv.now());
        vec![PeerSeen { port, address, principal: None, connections: 3, open: 1, refused: 0, last_seen }]
    }

    fn denials(&self) -> Vec<Arc<Denial>> {
        let reasons = Reasons { nearest: Some("a rule".into()), ..Reasons::default() };
        let (client, at) = ("10.0.0.9:1".parse().unwrap(), "10.0.0.1:80".parse().unwrap());
        let (time, principal, what, request_id, config) = Default::default();
        vec![Arc::new(Denial { time, client, principal, what, at, request_id, config, reasons })]
    }

    fn profiles(&self) -> Option<&dyn Profiles> {
        self.profiles.as_deref()
    }

    fn command(&self, command: Command) {
        self.commands.lock().push(command);
    }
}

fn state(readiness: Readiness) -> State {
    State { readiness, metrics: Metrics::new(), identity: None, commands: Mutex::default(), profiles: None }
}

fn ask(state: &State, port: Port, method: Method, path: &str) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(path).body(()).unwrap();
    let response = respond(state, port, &request);
    let status = response.status();
    let body = futures_util::FutureExt::now_or_never(http_body_util::BodyExt::collect(response.into_body()));
    (status, String::from_utf8(body.unwrap().unwrap().to_bytes().to_vec()).unwrap())
}

#[test]
fn readiness_by_port() {
    for (readiness, status) in [
        (Readiness::Live, StatusCode::OK),
        (Readiness::Initializing, StatusCode::SERVICE_UNAVAILABLE),
        (Readiness::Draining, StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let state = state(readiness);
        assert_eq!(ask(&state, Port::Health, Method::GET, "/healthz/ready").0, status);
        assert_eq!(ask(&state, Port::Admin, Method::GET, "/ready"), (status, format!("{}\n", readiness.name())));
        assert_eq!(ask(&state, Port::Prometheus, Method::GET, "/healthz/ready").0, StatusCode::NOT_FOUND);
    }
}

#[test]
fn u6_only_the_admin_port_changes_anything_and_only_by_post() {
    let state = state(Readiness::Live);
    let (status, body) = ask(&state, Port::Admin, Method::GET, "/quitquitquit");
    assert_eq!((status.as_u16(), body.as_str()), (405, "Method GET not allowed, POST required."));
    assert_eq!(ask(&state, Port::Prometheus, Method::POST, "/quitquitquit").0, StatusCode::NOT_FOUND);
    assert_eq!(ask(&state, Port::Health, Method::POST, "/quitquitquit").0, StatusCode::NOT_FOUND);
    assert!(state.commands.lock().is_empty());
    for (path, command) in [
        ("/drain_listeners?inboundonly&graceful", Command::Drain { inbound_only: true }),
        ("/drain_listeners", Command::Drain { inbound_only: false }),
        ("/healthcheck/fail", Command::FailHealthCheck(true)),
        ("/quitquitquit", Command::Quit),
    ] {
        assert_eq!(ask(&state, Port::Admin, Method::POST, path).0, StatusCode::OK);
        assert_eq!(state.commands.lock().last(), Some(&command));
    }
}

#[test]
fn u7_headers() {
    let request = Request::builder().uri("/stats").body(()).unwrap();
    let response = respond(&state(Readiness::Live), Port::Admin, &request);
    for (name, value) in [
        ("content-type", "text/plain; charset=UTF-8"),
        ("cache-control", "no-cache, max-age=0"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(response.headers()[name], value);
    }
}

#[test]
fn dumps() {
    let state = state(Readiness::Initializing);
    let (_, dump) = ask(&state, Port::Admin, Method::GET, "/config_dump");
    let dump: serde_json::Value = serde_json::from_str(&dump).unwrap();
    assert_eq!(dump["config"], serde_json::Value::Null);
    assert_eq!(dump["endpoints"]["c"][0]["address"], "10.244.0.9:9080");
    let endpoint = &dump["endpoints"]["c"][0];
    for (field, want) in [
        ("locality", serde_json::json!("")),
        ("active", 4.into()),
        ("ejected", true.into()),
        ("ejections", 2.into()),
        ("consecutiveErrors", 3.into()),
        ("consecutiveLocalOriginFailures", 1.into()),
        ("priority", 1.into()),
        ("priorityLoad", 30.into()),
        ("weight", 2.into()),
    ] {
        assert_eq!(endpoint[field], want, "{field}");
    }
    let clusters = ask(&state, Port::Admin, Method::GET, "/clusters").1;
    for line in [
        "c::10.244.0.9:9080::health_flags::/failed_outlier_check/failed_eds_health",
        "c::10.244.0.9:9080::weight::2",
        "c::10.244.0.9:9080::priority::1",
        "c::10.244.0.9:9080::rq_active::4",
        "c::outlier_detection::ejections_active::1",
    ] {
        assert!(clusters.lines().any(|l| l == line), "{line} in {clusters}");
    }
    let stats = ask(&state, Port::Admin, Method::GET, "/stats").1;
    assert!(stats.starts_with("access_log.dropped: 3\n"), "{stats}");
    assert!(stats.contains("\ncluster.c;.outlier_detection.ejections_overflow: 7\n"), "{stats}");
    let metrics = ask(&state, Port::Prometheus, Method::GET, "/stats/prometheus").1;
    let ejections = "envoy_cluster_outlier_detection_ejections_active{cluster_name=\"c\"} 1\n";
    assert!(metrics.contains("istio_build") && metrics.contains(ejections), "{metrics}");
    for line in [
        "# TYPE mesh_downstream_connections gauge",
        "mesh_downstream_connections{direction=\"inbound\"} 0",
        "mesh_downstream_connections{direction=\"gateway\"} 5",
        "# TYPE process_cpu_seconds_total counter",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} in {metrics}");
    }
    assert_eq!(ask(&state, Port::Admin, Method::GET, "/nope").0, StatusCode::NOT_FOUND);
}

/// A certificate of a CA that signs here, once it is there.
async fn identity() -> CertHandle {
    let ca = Arc::new(Authority::self_signed(AuthorityConfig::default(), Arc::new(FixedEnv)).unwrap());
    let id = SpiffeId::new("cluster.local", "default", "reviews");
    let (manager, handle) = CertManager::new(id, ca, RotationConfig::default(), Arc::new(FixedEnv));
    let mut state = handle.watch();
    let issued = async { state.wait_for(|s| matches!(s, CertState::Issued(_))).await.map(|_| ()) };
    tokio::select! {
        () = manager.run() => unreachable!("it runs for ever"),
        issued = issued => issued.unwrap(),
    }
    handle
}

#[tokio::test]
async fn the_own_certificate_and_how_long_it_lives() {
    let mut state = state(Readiness::Live);
    let certs = |state: &State| -> serde_json::Value {
        serde_json::from_str(&ask(state, Port::Admin, Method::GET, "/certs").1).unwrap()
    };
    assert_eq!(certs(&state), serde_json::json!({ "certificates": [], "renewal": null }));
    assert!(!ask(&state, Port::Prometheus, Method::GET, "/stats/prometheus").1.contains("istio_agent"));
    state.identity = Some(identity().await);
    let shown = certs(&state);
    let (leaf, root) = (&shown["certificates"][0]["cert_chain"][0], &shown["certificates"][0]["ca_cert"][0]);
    assert_eq!(leaf["subject_alt_names"][0]["uri"], "spiffe://cluster.local/ns/default/sa/reviews");
    assert_eq!((&leaf["subject"], &leaf["issuer"]), (&"".into(), &"O=cluster.local".into()));
    assert_eq!(
        (&leaf["valid_from"], &leaf["expiration_time"]),
        (&"2027-01-15T07:58:00Z".into(), &"2027-01-16T08:00:00Z".into())
    );
    assert_eq!(leaf["days_until_expiration"], "1");
    assert_eq!((&root["subject"], &root["days_until_expiration"]), (&"O=cluster.local".into(), &"3650".into()));
    assert_eq!((&shown["renewal"]["issued"], &shown["renewal"]["clockOffsetSeconds"]), (&1.into(), &0.into()));
    let metrics = ask(&state, Port::Prometheus, Method::GET, "/stats/prometheus").1;
    for line in [
        "# TYPE istio_agent_cert_expiry_seconds gauge",
        "istio_agent_cert_expiry_seconds{resource_name=\"default\"} 86400",
        "istio_agent_num_outgoing_requests{request_type=\"csr\"} 1",
        "istio_agent_num_failed_outgoing_requests{request_type=\"csr\"} 0",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} in {metrics}");
    }
}

#[test]
fn who_has_connected() {
    let (status, body) = ask(&state(Readiness::Live), Port::Admin, Method::GET, "/peers");
    assert_eq!(status, StatusCode::OK);
    let all: serde_json::Value = serde_json::from_str(&body).unwrap();
    let peer = &all[0];
    assert_eq!((&peer["port"], &peer["address"], &peer["open"]), (&9080.into(), &"10.244.0.9".into(), &1.into()));
    assert!(peer["principal"].is_null() && peer["mode"].is_null());
    assert_eq!(peer["lastSeen"], "2027-01-15T08:00:00Z");
}
