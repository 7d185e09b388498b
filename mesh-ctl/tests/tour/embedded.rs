//! reviews as a member of the mesh: what a sidecar would do for it, the library does.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::get;
use crate::faults::REVIEWS;
use crate::mesh::{Mesh, meshctl, out};
use crate::seed::Seed;

const VERSIONS: [&str; 3] = ["reviews-v1", "reviews-v2", "reviews-v3"];

/// The pods of a workload; one that is being replaced is among them until it has gone.
fn pods(mesh: &Mesh, name: &str) -> Vec<Value> {
    let status = mesh.json(&["status", "-o", "json"]);
    status["workloads"].as_array().unwrap().iter().filter(|w| w["workload"] == name).cloned().collect()
}

/// Pods with sidecars are replaced by pods without.
pub(crate) fn instead_of_sidecars(mesh: &Mesh) {
    mesh.run(&["apply", "-f", "examples/bookinfo/embedded"]);
    let limit = Instant::now() + Duration::from_secs(60);
    for name in VERSIONS {
        let embedded = |pod: &Value| pod["proxy"] == "embedded" && pod["ready"] == true;
        loop {
            let now = pods(mesh, name);
            if matches!(&now[..], [pod] if embedded(pod)) {
                break;
            }
            assert!(Instant::now() < limit, "{name} is not one embedded pod: {now:#?}");
        }
    }
}

/// What reviews calls goes through its own stack: file 12 breaks three of ten calls of ratings.
pub(crate) fn calls_have_faults(seed: &Seed<'_>) {
    let at = seed.mesh.gateway();
    seed.in_force("12");
    let unavailable = (0..100).filter(|_| get(at, REVIEWS, &[]).body.contains("currently unavailable")).count();
    assert!((10..=60).contains(&unavailable), "{unavailable} of a hundred without stars");
    let log = seed.mesh.run(&["logs", "reviews-v2"]);
    assert!(log.contains("\"GET /ratings/0 HTTP/1.1\" 403 FI fault_filter_abort "), "{log}");
    seed.mesh.run(&["delete", "vs", "ratings"]);
}

const ACCOUNTS: &str = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: reviews}
spec:
  selector: {matchLabels: {app: reviews}}
  rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/bookinfo-productpage]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ratings}
spec:
  selector: {matchLabels: {app: ratings}}
  rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/bookinfo-reviews]}}]}]
";

/// reviews knows who calls, and shows who it is.
pub(crate) fn service_accounts(seed: &Seed<'_>) {
    let mesh = seed.mesh;
    let file = std::env::temp_dir().join(format!("{}-accounts.yaml", mesh.name));
    std::fs::write(&file, ACCOUNTS).unwrap();
    mesh.run(&["apply", "-f", file.to_str().unwrap()]);
    let reply = get(mesh.gateway(), REVIEWS, &[]);
    assert!(reply.status == 200 && reply.body.contains("black"), "{reply:?}");
    let url = "http://reviews:9080/reviews/0";
    let refused = mesh.run(&["exec", "details-v1", "--", "curl", "-s", "-m", "60", "-w", " %{http_code}", url]);
    assert_eq!(refused, "RBAC: access denied 403");
    mesh.run(&["delete", "-f", file.to_str().unwrap()]);
    std::fs::remove_file(file).unwrap();
}

/// Under STRICT (file 17) nobody gets in who shows no certificate, as a program beside reviews, which nothing captures.
pub(crate) fn strict(seed: &Seed<'_>) {
    let ip = pods(seed.mesh, "reviews-v2")[0]["ip"].as_str().unwrap().to_owned();
    let url = format!("http://{ip}:9080/reviews/0");
    let curl = ["exec", "reviews-v1", "--", "curl", "-s", "-m", "60", "-o", "/dev/null", "-w", "%{http_code}", &url];
    assert_eq!(seed.mesh.run(&curl), "200", "PERMISSIVE takes plaintext");
    seed.in_force("17");
    let output = meshctl(&[&["--name", seed.mesh.name.as_str()], &curl[..]].concat());
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(56), "000"), "curl: reset by the peer");
    assert_eq!(get(seed.mesh.gateway(), REVIEWS, &[]).status, 200);
    seed.mesh.run(&["delete", "-f", &seed.path("17")]);
}

/// `meshctl top` has members of the mesh, too: one process, so nothing of it is the proxy's.
pub(crate) fn figures(mesh: &Mesh) {
    let top = mesh.json(&["top", "reviews-v2", "ratings-v1", "--interval", "100ms", "-o", "json"]);
    let rows = top["workloads"].as_array().unwrap();
    let row = |name: &str| rows.iter().find(|r| r["workload"] == name).unwrap_or_else(|| panic!("{top:#}"));
    let (member, beside) = (row("reviews-v2"), row("ratings-v1"));
    assert!(member["proxy"].is_null() && beside["proxy"].is_object(), "{top:#}");
    for row in [member, beside] {
        assert!(row["requestsPerSecond"].is_number() && row["connections"].is_number(), "{top:#}");
        assert!(row["cpuCores"].is_number() && row["memoryBytes"].as_u64() > Some(1_000_000), "{top:#}");
    }
}

/// Metrics have the labels that a sidecar's have, and say the same.
pub(crate) fn labels(mesh: &Mesh) {
    let line = |workload: &str| {
        let stats = "http://127.0.0.1:15090/stats/prometheus";
        let text = mesh.run(&["exec", workload, "--", "curl", "-s", "-m", "60", stats]);
        let inbound = |l: &&str| {
            l.starts_with("istio_requests_total{")
                && l.contains("reporter=\"destination\"")
                && l.contains("source_workload=\"productpage-v1\"")
                && l.contains("response_code=\"200\"")
        };
        text.lines().find(inbound).unwrap_or_else(|| panic!("{workload}: {text}")).to_owned()
    };
    let names = |line: &str| -> BTreeSet<String> {
        line.split(['{', ',', '}']).filter_map(|l| Some(l.split_once('=')?.0.to_owned())).collect()
    };
    let (embedded, sidecar) = (line("reviews-v2"), line("details-v1"));
    assert_eq!(names(&embedded), names(&sidecar));
    for label in [
        "source_principal=\"spiffe://cluster.local/ns/default/sa/bookinfo-productpage\"",
        "destination_principal=\"spiffe://cluster.local/ns/default/sa/bookinfo-reviews\"",
        "destination_service=\"reviews.default.svc.cluster.local\"",
        "connection_security_policy=\"mutual_tls\"",
    ] {
        assert!(embedded.contains(label), "{label}: {embedded}");
    }
}
