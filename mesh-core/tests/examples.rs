//! The examples of the documentation are valid, in force to the last field, and do what their page says.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use mesh_core::compile::compile;
use mesh_core::convert::{Addresses, Options, inputs};
use mesh_core::report::Level;
use mesh_core::snapshot::{BindDoor, EndpointSource, ProxyId, ProxyKind, Snapshot};
use mesh_core::yaml;

fn read(path: &str) -> Vec<mesh_core::api::Resource> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (resources, reports) = yaml::read(path, &std::fs::read_to_string(root.join(path)).unwrap());
    assert!(reports.iter().all(|r| r.level < Level::Warning), "{reports:#?}");
    resources
}

/// The plan of a workload of bookinfo with these examples.
fn plan(workload: &str, examples: &[&str]) -> std::sync::Arc<Snapshot> {
    let mut resources = read("examples/bookinfo/platform/bookinfo.yaml");
    for example in examples {
        resources.extend(read(&format!("docs/examples/{example}")));
    }
    let made = inputs(&resources, &Options::default(), &mut Addresses::default());
    assert!(made.reports.iter().all(|r| r.level < Level::Warning), "{:#?}", made.reports);
    let w = made.world.workloads().iter().find(|w| w.name.starts_with(workload)).unwrap();
    let id = ProxyId::of(ProxyKind::Sidecar, w);
    let compiled = compile(&made.world, &id, None);
    let reports: Vec<_> = compiled.reports().filter(|r| r.level >= Level::Warning).collect();
    assert!(reports.is_empty(), "{reports:#?}");
    compiled.snapshot
}

#[test]
fn retries() {
    let snapshot = plan("reviews-v2", &["ratings-retries.yaml"]);
    let cluster = &snapshot.clusters["outbound|9080||ratings.default.svc.cluster.local"];
    assert_eq!(cluster.pool.to_string(), "retryBudget 20% (at least 3)");
    let listener = snapshot.outbound(None, 9080);
    let table = &listener.http.as_ref().unwrap().routes;
    let host = table.virtual_hosts().find(|v| v.name.starts_with("ratings.")).unwrap();
    let retry = host.routes[0].retry.as_ref().unwrap().to_string();
    assert_eq!(
        retry,
        "2 on connect-failure,refused-stream,gateway-error,reset, 500ms for each try, back-off from 25ms"
    );
}

#[test]
fn unix_sockets() {
    let snapshot = plan("productpage-v1", &["egress/unix-sockets.yaml"]);
    let app = &snapshot.clusters["inbound|9080||"].source;
    assert_eq!(*app, EndpointSource::LocalSocket("/var/run/productpage.sock".into()));
    let binds: Vec<_> = snapshot.binds.iter().map(|b| (b.at.to_string(), b.door)).collect();
    assert_eq!(binds, [("/var/run/mesh.sock".to_owned(), BindDoor::HttpProxy)]);
    let cache = &snapshot.outbound(Some([240, 240, 9, 9].into()), 11211).l4[0].plan;
    assert_eq!(&*cache.clusters[0].cluster, "outbound|11211||cache.example");
}

#[test]
fn tls_of_a_sidecars_own() {
    let snapshot = plan("details-v1", &["ingress-tls.yaml"]);
    let [server] = &snapshot.inbound(9443).tls[..] else { panic!("{:?}", snapshot.inbound(9443)) };
    assert_eq!(server.tls.to_string(), "TLS ends with files /etc/details/tls.crt and /etc/details/tls.key");
    assert!(snapshot.inbound(9080).mesh.is_some(), "the other port takes the mesh's own");
}

#[test]
fn unknown_hosts_by_name() {
    let snapshot = plan("productpage-v1", &["egress/dynamic-dns.yaml"]);
    let tls = snapshot.clusters["AllowAnyDynamicDNSCluster"].tls.as_ref().unwrap().to_string();
    let want = "SIMPLE, sni: the authority, the server must be the authority, verified by the system's authorities";
    assert_eq!(tls, want);
}

#[test]
fn limits() {
    let snapshot = plan("reviews-v1", &["productpage-limits.yaml"]);
    let cluster = &snapshot.clusters["outbound|9080||productpage.default.svc.cluster.local"];
    let limits = "maxConnections 1, http1MaxPendingRequests 1, maxRequestsPerConnection 100, http idleTimeout 30s";
    assert_eq!((cluster.pool.to_string().as_str(), cluster.connect_timeout.as_secs()), (limits, 2));
}
