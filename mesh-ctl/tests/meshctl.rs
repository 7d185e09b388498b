//! `meshctl` from outside: the offline verbs on files, and a whole mesh in each mode.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "tour/mesh.rs"]
mod mesh;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use mesh::{Mesh, good, meshctl, out, root};

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&good(args)).unwrap()
}

struct Files(PathBuf);

impl Files {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let folder = std::env::temp_dir().join(format!("meshctl-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for (file, text) in files {
            fs::write(folder.join(file), text).unwrap();
        }
        Self(folder)
    }

    fn path(&self, file: &str) -> String {
        self.0.join(file).to_string_lossy().into_owned()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const ROUTE: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: reviews
spec:
  hosts: [reviews]
  http:
  - route:
    - destination:
        host: nowhere
";

const BAD_REGEX: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: bad
spec:
  hosts: [reviews]
  http:
  - match:
    - uri:
        regex: '['
    route:
    - destination:
        host: reviews
";

#[test]
fn validate_names_file_line_and_field() {
    let files = Files::new("validate", &[("good.yaml", ROUTE), ("bad.yaml", BAD_REGEX)]);
    assert_eq!(meshctl(&["validate", &files.path("good.yaml")]).status.code(), Some(0));
    let bad = meshctl(&["validate", "-o", "json", &files.path("good.yaml"), &files.path("bad.yaml")]);
    assert_eq!(bad.status.code(), Some(1));
    let entries: Value = serde_json::from_str(&out(&bad)).unwrap();
    assert_eq!(entries[0]["valid"], true);
    assert_eq!(entries[0]["origin"], "VirtualService default/reviews");
    assert_eq!(entries[1]["valid"], false);
    assert_eq!(entries[1]["errors"][0]["line"], 10, "{entries:#}");
    assert!(entries[1]["errors"][0]["field"].as_str().unwrap().starts_with("spec.http[0].match[0].uri"), "{entries:#}");
}

#[test]
fn analyze_has_the_codes_and_exit_codes_of_istioctl() {
    let files = Files::new("analyze", &[("route.yaml", ROUTE), ("broken.yaml", "a: [\n")]);
    let platform = "examples/bookinfo/platform";
    let good = meshctl(&["analyze", platform, "examples/bookinfo/routing"]);
    assert_eq!(good.status.code(), Some(0));
    // Nobody wrote the settings that the mesh starts with.
    assert!(!String::from_utf8_lossy(&good.stdout).contains("MeshConfig"), "{good:?}");
    let found = meshctl(&["analyze", platform, &files.path("route.yaml")]);
    assert_eq!(found.status.code(), Some(79), "{}", out(&found));
    assert!(out(&found).contains("Error [IST0101] (VirtualService default/reviews "), "{}", out(&found));
    let suppressed = ["analyze", platform, &files.path("route.yaml"), "-S", "IST0101=VirtualService reviews.*"];
    assert_eq!(meshctl(&suppressed).status.code(), Some(0));
    let list = json(&["analyze", "-o", "json", platform, &files.path("route.yaml")]);
    let message = list.as_array().unwrap().iter().find(|m| m["code"] == "IST0101").unwrap();
    assert!(message["reference"].as_str().unwrap().ends_with("route.yaml:10"), "{message:#}");
    assert_eq!(meshctl(&["analyze", &files.path("broken.yaml")]).status.code(), Some(65));
    assert_eq!(meshctl(&["analyze"]).status.code(), Some(64));
}

#[test]
fn explain_follows_a_request_from_files() {
    let gateway = ["explain", "request", "--gateway", "istio-ingressgateway.istio-system"];
    let paths = ["-o", "json", "examples/bookinfo/platform", "examples/bookinfo/routing"];
    let ask = |url| json(&[&gateway[..], &["--url", url], &paths[..]].concat());
    let hit = ask("http://localhost/productpage");
    assert_eq!(hit["hops"].as_array().unwrap().len(), 2, "{hit:#}");
    assert_eq!(hit["hops"][0]["route"]["object"], "VirtualService default/bookinfo");
    let miss = ask("http://localhost/nothing");
    assert_eq!(miss["outcome"]["status"], 404, "{miss:#}");
    assert!(miss["hops"][0]["miss"]["why"][0].is_string(), "{miss:#}");
}

#[test]
fn explain_config_names_the_origin_of_every_value() {
    let paths =
        ["examples/bookinfo/platform", "docs/examples/reviews-subsets.yaml", "docs/examples/reviews-quentin.yaml"];
    let config = json(&[&["explain", "config", "productpage-v1", "-o", "json"], &paths[..]].concat());
    let items = config["items"].as_array().unwrap();
    for section in ["settings", "listener", "virtualHost", "route", "cluster"] {
        assert!(items.iter().any(|i| i["section"] == section), "no {section} in {config:#}");
    }
    for value in items.iter().flat_map(|i| i["values"].as_array().unwrap()) {
        assert!(value["value"].is_string() && value["field"].is_string(), "{value:#}");
    }
    let route = items.iter().find(|i| i["name"].as_str().unwrap().starts_with("quentin of reviews")).unwrap();
    let matched = &route["values"].as_array().unwrap()[0];
    assert_eq!((&matched["what"], &matched["value"]), (&"match".into(), &"header end-user exact \"quentin\"".into()));
    assert!(matched["location"].as_str().unwrap().ends_with("reviews-quentin.yaml:11"), "{matched:#}");
    let text = good(&[&["explain", "config", "productpage-v1", "--only", "settings"], &paths[..]].concat());
    assert!(text.contains("outboundTrafficPolicy") && !text.contains("cluster outbound"), "{text}");
}

/// Policies decide in cases, too.
#[test]
fn cases_about_policies() {
    let said = good(&["test", "docs/examples/authz-cases.yaml"]);
    assert!(said.contains("nobody writes it"), "{said}");
}

#[test]
fn test_runs_the_documented_example() {
    let cases = "docs/examples/reviews-cases.yaml";
    let text = good(&["test", cases]);
    let page = fs::read_to_string(root().join("docs/testing.md")).unwrap();
    let documented: Vec<&str> =
        page.lines().skip_while(|l| !l.contains("$ meshctl test")).skip(1).map(str::trim).collect();
    for (line, documented) in text.lines().zip(documented) {
        assert_eq!(line, documented);
    }
    let report = json(&["test", cases, "-o", "json", "--run", "quentin"]);
    assert_eq!((&report["passed"], &report["coverage"]["reached"]), (&1.into(), &1.into()), "{report:#}");
    assert_eq!(report["coverage"]["unreached"].as_array().unwrap().len(), 2, "{report:#}");
    assert_eq!(meshctl(&["test", cases, "--run", "quentin", "--min-coverage", "90"]).status.code(), Some(1));
}

#[test]
fn test_says_what_failed_and_where_it_is_decided() {
    let text = fs::read_to_string(root().join("docs/examples/reviews-cases.yaml")).unwrap();
    let text = text.replace("subset: v3", "subset: v<2>");
    let here = |path: &str| root().join(path).canonicalize().unwrap().to_string_lossy().into_owned();
    let text = text.replace("../../examples/bookinfo", &here("examples/bookinfo"));
    let text = text.replace("- reviews-", &format!("- {}/reviews-", here("docs/examples")));
    let files = Files::new("test", &[("cases.yaml", &text), ("bad.yaml", "cases: {}\n")]);
    let failed = meshctl(&["test", &files.path("cases.yaml")]);
    assert_eq!(failed.status.code(), Some(1));
    let said = out(&failed);
    assert!(
        said.contains("subset: expected v<2>, got v3 (VirtualService default/reviews spec.http[0].route[0]"),
        "{said}"
    );
    let junit = out(&meshctl(&["test", "-o", "junit", &files.path("cases.yaml")]));
    assert!(junit.contains("tests=\"4\" failures=\"1\"") && junit.contains("expected v&lt;2&gt;, got v3"), "{junit}");
    assert_eq!(meshctl(&["test", &files.path("bad.yaml")]).status.code(), Some(65));
    assert_eq!(meshctl(&["test", "examples/bookinfo/routing"]).status.code(), Some(1));
}

/// A server that answers every request with this status, and with this header line; one connection for each.
fn answering(head: &'static str) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap() == 0 {
                    break;
                }
                request.push(byte[0]);
            }
            write!(stream, "{head}\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").unwrap();
        }
    });
    at
}

#[test]
fn load_counts_answers_errors_and_sockets() {
    let at = answering("HTTP/1.1 503 Service Unavailable\r\nx-envoy-overloaded: true");
    let report = json(&["load", "-c", "2", "-qps", "0", "-n", "20", "-o", "json", &format!("http://{at}/x")]);
    assert_eq!(report["codes"]["503"]["count"], 20, "{report:#}");
    let numbers = (&report["overloaded"], &report["sockets"], &report["bodyBytes"], &report["requests"]);
    assert_eq!(numbers, (&20.into(), &20.into(), &40.into(), &20.into()), "{report:#}");
    assert!(report["latencySeconds"]["percentiles"].as_array().unwrap().len() == 5, "{report:#}");
    // A port that was just free: nothing listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = meshctl(&["load", "-c", "1", "-n", "3", &format!("http://{free}/")]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(out(&refused).contains("Error connectionRefused : 3 (100.0 %)"), "{}", out(&refused));
    assert_eq!(meshctl(&["load", "ftp://x/"]).status.code(), Some(1));
}

#[test]
fn without_a_mesh_the_error_says_how_to_start_one() {
    let output = meshctl(&["status", "--name", "no-such-mesh"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("meshctl up"));
    assert_eq!(meshctl(&["frobnicate"]).status.code(), Some(64));
    assert!(good(&["completion", "bash"]).contains("meshctl"));
}

/// Status and body of a GET.
fn get(at: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: bookinfo.test\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok());
    (status.unwrap_or_else(|| panic!("no HTTP: {answer:?}")), answer)
}

/// Processes whose command line has this word.
fn processes_of(word: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = entries.filter_map(|e| fs::read_to_string(e.path().join("cmdline")).ok());
    lines.filter(|l| l.contains(word) && l.contains("up")).collect()
}

/// Looks at the mesh while somebody asks for the product page, until the looks have seen that.
fn top_shows_who_does_what(mesh: &Mesh, at: SocketAddr) {
    let over = AtomicBool::new(false);
    let told = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(get(at, "/productpage").0, 200);
            }
        });
        let limit = Instant::now() + Duration::from_secs(60);
        let served = |row: &Value| row["requestsPerSecond"].as_f64().is_some_and(|n| n > 0.0);
        let told = loop {
            let told = mesh.json(&["top", "-o", "json", "--sort", "rps"]);
            let rows = told["workloads"].as_array().unwrap();
            let all = ["istio-ingressgateway", "productpage-v1", "details-v1"];
            if all.iter().all(|name| rows.iter().any(|r| r["workload"] == *name && served(r))) {
                break told;
            }
            assert!(Instant::now() < limit, "{told:#}");
        };
        over.store(true, Ordering::Relaxed);
        told
    });
    let row = |name: &str| told["workloads"].as_array().unwrap().iter().find(|r| r["workload"] == name).unwrap();
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{told:#}"));
    for name in ["istio-ingressgateway", "productpage-v1", "details-v1"] {
        let row = row(name);
        let [p50, p99] = ["p50", "p99"].map(|p| number(&row["latencyMs"][p]));
        assert!(p50 > 0.0 && p50 <= p99, "{row:#}");
        assert_eq!((&row["pods"], number(&row["errorPercent"])), (&1.into(), 0.0), "{row:#}");
        let proxy = &row["proxy"];
        assert!(number(&row["memoryBytes"]) >= number(&proxy["memoryBytes"]), "{row:#}");
        assert!(
            number(&proxy["memoryBytes"]) > 1e6 && number(&row["cpuCores"]) >= number(&proxy["cpuCores"]),
            "{row:#}"
        );
    }
    // An application's processes count where it has some.
    let page = row("productpage-v1");
    assert!(number(&page["memoryBytes"]) > number(&page["proxy"]["memoryBytes"]) + 1e6, "{page:#}");
    assert!(number(&page["connections"]) >= 1.0, "the gateway keeps some to it: {page:#}");

    let table = mesh.run(&["top", "--once", "--interval", "100ms", "--pods", "-n", "default", "details-v1"]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with(&format!("mesh {}, ", mesh.name)) && lines.len() == 4, "{table}");
    assert!(lines[2].starts_with("POD ") && lines[3].starts_with("details-v1-"), "{table}");
    let nobody = meshctl(&["--name", &mesh.name, "top", "nobody"]);
    assert!(nobody.status.code() == Some(1), "{nobody:?}");
}

fn whole_mesh(mode: &str) {
    let mesh = match Mesh::up(mode, &["examples/bookinfo/platform", "examples/bookinfo/routing"]) {
        Ok(mesh) => mesh,
        Err(reason) if mode == "namespaces" => return println!("skipped in namespaces: {reason}"),
        Err(reason) => panic!("{reason}"),
    };
    let status = mesh.json(&["status", "-o", "json"]);
    assert_eq!((&status["ready"], &status["mode"]), (&Value::Bool(true), &Value::from(mode)), "{status:#}");
    let at = mesh.gateway();
    let (code, page) = get(at, "/productpage");
    assert_eq!(code, 200, "{page}");
    assert!(page.contains("reviews-v"), "{page}");
    assert_eq!(get(at, "/nothing").0, 404);

    mesh.run(&["apply", "-f", "docs/examples/reviews-subsets.yaml"]);
    let changes = mesh.json(&["apply", "-o", "json", "-f", "docs/examples/reviews-v1.yaml"]);
    assert_eq!(changes["objects"][0]["change"], "created", "{changes:#}");
    assert_eq!((&changes["proxies"], &changes["behind"]), (&Value::from(7), &serde_json::json!([])), "{changes:#}");
    // In force when `apply` returns: not one request goes elsewhere.
    for _ in 0..12 {
        let (code, page) = get(at, "/productpage");
        assert_eq!(code, 200);
        assert!(page.contains("reviews-v1-"), "{page}");
    }
    let url = ["--url", "http://reviews:9080/reviews/0", "-o", "json"];
    let running = mesh.json(&[&["explain", "request", "--from", "productpage-v1"], &url[..]].concat());
    let cluster = &running["hops"][0]["clusters"][0];
    assert_eq!(cluster["cluster"]["value"], "outbound|9080|v1|reviews.default.svc.cluster.local", "{running:#}");
    assert_eq!(cluster["share"], 100.0);

    let routes = mesh.run(&["pc", "routes", "productpage-v1", "--grep", "reviews.default"]);
    assert!(routes.contains("VirtualService default/reviews (docs/examples/reviews-v1.yaml:"), "{routes}");
    let endpoints = mesh.json(&["proxy-config", "endpoints", "productpage-v1", "-o", "json"]);
    let v1 = &endpoints["outbound|9080|v1|reviews.default.svc.cluster.local"];
    assert_eq!(v1.as_array().map(Vec::len), Some(1), "{endpoints:#}");

    let patch = r#"[{"op": "replace", "path": "/spec/http/0/route/0/destination/subset", "value": "v3"}]"#;
    mesh.run(&["patch", "vs", "reviews", "--type", "json", "-p", patch]);
    assert!(get(at, "/productpage").1.contains("reviews-v3-"));
    mesh.run(&["delete", "vs", "reviews"]);
    assert!(meshctl(&["--name", &mesh.name, "get", "vs", "reviews"]).status.code() == Some(1));

    assert!(mesh.run(&["exec", "ratings-v1", "--", "sh", "-c", "echo $HOSTNAME"]).starts_with("ratings-v1-"));
    assert!(mesh.run(&["get", "pods"]).contains("2/2"));
    // The load generator runs inside a pod, and its requests go through the sidecar.
    let load = ["exec", "ratings-v1", "--", "meshctl", "load", "-c", "2", "-n", "10", "-o", "json"];
    let report = mesh.json(&[&load[..], &["http://productpage:9080/productpage"]].concat());
    assert_eq!(report["codes"]["200"]["count"], 10, "{report:#}");
    assert_eq!(report["sockets"], 2, "{report:#}");
    top_shows_who_does_what(&mesh, at);
    mesh.run(&["restart", "details-v1"]);
    assert_eq!(get(at, "/productpage").0, 200);

    // Each proxy answers for itself, wherever its admin port is.
    for workload in ["istio-ingressgateway.istio-system", "reviews-v1"] {
        let certificates = mesh.run(&["certs", workload]);
        assert!(certificates.contains("spiffe://cluster.local/ns/"), "{certificates}");
    }

    mesh.run(&["down"]);
    assert!(TcpStream::connect(at).is_err(), "the gateway's port is still open");
    let limit = Instant::now() + Duration::from_secs(10);
    while !processes_of(&mesh.name).is_empty() {
        assert!(Instant::now() < limit, "left behind: {:?}", processes_of(&mesh.name));
        std::thread::yield_now();
    }
}

#[test]
fn bookinfo_in_namespaces() {
    whole_mesh("namespaces");
}

#[test]
fn bookinfo_in_explicit_mode() {
    whole_mesh("explicit");
}
