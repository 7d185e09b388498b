//! The routing files, verbatim and in order, and what has to be seen after each of them.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use serde_json::Value;

use crate::client::{Client, Reply, get};
use crate::faults;
use crate::mesh::{Mesh, meshctl};
use crate::{mtls, ports, security};

pub(crate) struct Seed<'a> {
    pub(crate) mesh: &'a Mesh,
    folder: &'a Path,
}

impl Seed<'_> {
    pub(crate) fn path(&self, number: &str) -> String {
        let files = fs::read_dir(self.folder).unwrap().map(|e| e.unwrap().path());
        let named =
            |p: &std::path::PathBuf| p.file_name().unwrap().to_string_lossy().starts_with(&format!("{number}-"));
        files.filter(named).map(|p| p.to_string_lossy().into_owned()).next().expect("the file of that number")
    }

    fn apply(&self, number: &str) -> Value {
        let changes = self.mesh.json(&["apply", "-o", "json", "-f", &self.path(number)]);
        assert_eq!((&changes["proxies"], &changes["behind"]), (&Value::from(7), &Value::Array(vec![])), "{changes:#}");
        changes
    }

    /// Applies a file of which every field has to be in force.
    pub(crate) fn in_force(&self, number: &str) {
        let changes = self.apply(number);
        let objects = changes["objects"].as_array().unwrap();
        let mut messages = objects.iter().flat_map(|o| o["messages"].as_array().unwrap());
        assert!(!messages.any(|m| m.as_str().unwrap().contains("MESH0101")), "not in force yet: {changes:#}");
    }

    /// What an application in a pod gets, as curl prints the head.
    fn as_ratings_sees(&self, path: &str) -> String {
        let url = format!("http://productpage:9080{path}");
        let head = self.mesh.run(&["exec", "ratings-v1", "--", "curl", "-sI", "-m", "60", &url]);
        head.replace('\r', "").to_ascii_lowercase()
    }
}

fn is(reply: &Reply, status: u16, server: &str) {
    assert_eq!((reply.status, reply.header("server")), (status, Some(server)), "{reply:?}");
}

/// Files 01 to 23, and 29.
pub(crate) fn in_order<'a>(mesh: &'a Mesh, folder: &'a Path) -> Seed<'a> {
    let seed = Seed { mesh, folder };
    seed.apply("01");
    let status = mesh.json(&["status", "-o", "json"]);
    assert_eq!(status["urls"], Value::Array(vec![]), "a URL without a Gateway: {status:#}");

    seed.apply("02");
    let head = seed.as_ratings_sees("/");
    assert!(head.starts_with("http/1.1 404") && head.contains("\nserver: envoy\n"), "{head}");
    let head = seed.as_ratings_sees("/productpage");
    assert!(head.starts_with("http/1.1 200") && head.contains("\nserver: envoy\n"), "{head}");

    seed.apply("03");
    let at = mesh.gateway();
    is(&get(at, "/productpage", &[]), 404, "istio-envoy");
    without_a_gateway_the_port_refuses(&seed, at);

    seed.apply("04");
    let at = mesh.gateway();
    is(&get(at, "/productpage", &[]), 404, "istio-envoy");
    let full = get(at, "/productpage", &["host: productpage.default.svc.cluster.local"]);
    is(&full, 200, "istio-envoy");
    let time = full.header("x-envoy-upstream-service-time").unwrap_or_else(|| panic!("{full:?}"));
    assert!(time.parse::<u64>().is_ok(), "{time}");
    let head = seed.as_ratings_sees("/");
    assert!(head.starts_with("http/1.1 200"), "bound to the Gateway, it is out of the sidecars' way: {head}");

    seed.apply("05");
    is(&get(at, "/productpage", &[]), 200, "istio-envoy");
    is(&get(at, "/", &[]), 404, "istio-envoy");
    subsets(&seed, at);
    faults::in_order(&seed, at);
    security::in_order(&seed, at);
    ports::tcp(&seed);
    ports::https(mesh);
    mtls::strict(&seed, folder, at);
    seed
}

/// Whoever had the port before the Gateway was deleted finds it closed, and open again with the Gateway.
fn without_a_gateway_the_port_refuses(seed: &Seed<'_>, at: SocketAddr) {
    seed.mesh.run(&["delete", "-f", &seed.path("03")]);
    let refused = TcpStream::connect(at).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    seed.apply("03");
}

fn subsets(seed: &Seed<'_>, at: SocketAddr) {
    seed.apply("06");
    seed.apply("07");
    for _ in 0..6 {
        assert_eq!(get(at, "/productpage", &[]).reviews(), "v1");
    }
    seed.apply("08");
    weights(at);

    seed.apply("09");
    let mut client = Client::new(at).unwrap();
    let form = ["content-type: application/x-www-form-urlencoded"];
    let reply = client.send("POST /login", &form, "username=quentin&passwd=any").unwrap();
    assert!(matches!(reply.status, 302 | 303), "{reply:?}");
    let cookie = reply.header("set-cookie").unwrap_or_else(|| panic!("{reply:?}"));
    let cookie = format!("cookie: {}", cookie.split(';').next().unwrap());
    for _ in 0..4 {
        assert_eq!(get(at, "/productpage", &[&cookie]).reviews(), "v3", "signed in");
        assert_eq!(get(at, "/productpage", &[]).reviews(), "v2", "not signed in");
        assert_eq!(get(at, "/productpage", &["cookie: session=quentins"]).reviews(), "v2", "somebody else");
    }
    seed.apply("10");
    let mobile = "user-agent: Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) Mobile/15E148 Safari/604.1";
    for _ in 0..4 {
        assert_eq!(get(at, "/productpage", &[mobile]).reviews(), "v3");
        assert_eq!(get(at, "/productpage", &["user-agent: curl/8"]).reviews(), "v2");
    }
}

/// 15, 25 and 60 of a hundred, within three points over 6,000 requests (more than four standard deviations).
fn weights(at: SocketAddr) {
    let asks = |_| {
        std::thread::spawn(move || {
            let mut client = Client::new(at).unwrap();
            let mut seen = BTreeMap::<String, u32>::new();
            for _ in 0..750 {
                let reply = client.send("GET /api/v1/products/0/reviews", &[], "").unwrap();
                assert_eq!(reply.status, 200, "{reply:?}");
                *seen.entry(reply.reviews().to_owned()).or_default() += 1;
            }
            seen
        })
    };
    let threads: Vec<_> = (0..8).map(asks).collect();
    let mut seen = BTreeMap::<String, u32>::new();
    for thread in threads {
        for (version, count) in thread.join().unwrap() {
            *seen.entry(version).or_default() += count;
        }
    }
    for (version, share) in [("v1", 15.0), ("v2", 25.0), ("v3", 60.0)] {
        let got = f64::from(seen[version]) / 60.0;
        assert!((got - share).abs() <= 3.0, "{version}: {got} % instead of {share} %: {seen:?}");
    }
}

const MISTAKE: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: wrong
spec:
  hosts: [details]
  http:
  - match:
    - uri:
        regex: '['
    route:
    - destination:
        host: details
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: reviews
spec:
  hosts: [reviews]
  http:
  - route:
    - destination:
        host: reviews
        subset: v1
";

/// An object with a mistake is refused with its line; what stands beside it in the same file is in force.
pub(crate) fn mistakes_are_set_aside(mesh: &Mesh) {
    let file = std::env::temp_dir().join(format!("{}.yaml", mesh.name));
    fs::write(&file, MISTAKE).unwrap();
    let output = meshctl(&["--name", &mesh.name, "apply", "-o", "json", "-f", file.to_str().unwrap()]);
    fs::remove_file(&file).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let changes: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(changes["objects"][0]["change"], "refused", "{changes:#}");
    let message = changes["objects"][0]["messages"][0].as_str().unwrap();
    assert!(message.contains(".yaml:10:") && message.contains("is not a regular expression"), "{message}");
    assert_eq!(changes["objects"][1]["change"], "configured", "{changes:#}");
    assert_eq!(get(mesh.gateway(), "/productpage", &[]).reviews(), "v1");
}
