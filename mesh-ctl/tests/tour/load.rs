//! Changes while requests run: none fails, and route, cluster and log of each belong to one configuration.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;

use crate::client::{Client, get};
use crate::mesh::{MESHCTL, Mesh};

const CONNECTIONS: usize = 64;

/// Fewer than what is asked of a release; this variable sets the number.
const COUNT: &str = "MESH_TEST_APPLIES";
const DEFAULT_COUNT: usize = 24;

const LOG_FORMAT: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    accessLogFile: /dev/stdout
    accessLogFormat: \"load %REQ(:PATH)% %ROUTE_NAME% %UPSTREAM_CLUSTER% %MESH_CONFIG% %RESPONSE_CODE% %RESPONSE_FLAGS%\\n\"
";

/// Requests in flight until it ends.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<(u64, String)>>>,
}

impl Load {
    fn start(at: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicU64::new(0));
        let one = |which: usize| {
            let (stop, next) = (stop.clone(), next.clone());
            std::thread::spawn(move || {
                let mut seen = Vec::new();
                let mut client = Client::new(at).unwrap();
                // Some go through all hops, most only as far as they have to.
                let path = if which.is_multiple_of(16) { "/productpage" } else { "/api/v1/products" };
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let reply = client
                        .send(&format!("GET {path}?n={number}"), &[], "")
                        .unwrap_or_else(|e| panic!("request {number} of {path} failed: {e}"));
                    assert_eq!(reply.status, 200, "request {number} of {path}: {reply:?}");
                    seen.push((number, reply.header("x-route").unwrap_or("none").to_owned()));
                }
                seen
            })
        };
        let threads = (0..CONNECTIONS).map(one).collect();
        Self { stop, threads }
    }

    /// The route that answered each request.
    fn end(self) -> HashMap<u64, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|t| t.join().expect("no request fails")).collect()
    }
}

/// What the gateway logs, while it logs it.
struct Log {
    child: std::process::Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Log {
    fn follow(mesh: &Mesh) -> Self {
        let mut command = Command::new(MESHCTL);
        command.args(["--name", &mesh.name, "logs", "-f", "istio-ingressgateway.istio-system", "-c", "proxy"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (into, output) = (lines.clone(), BufReader::new(child.stdout.take().unwrap()));
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                into.lock().unwrap().push(line);
            }
        });
        Self { child, lines }
    }

    /// Ends it once it has shown a request of this path.
    fn end(mut self, last: &str) -> Vec<String> {
        while !self.lines.lock().unwrap().iter().any(|l| l.contains(last)) {
            std::thread::yield_now();
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::take(&mut self.lines.lock().unwrap())
    }
}

/// A VirtualService whose route has the name of its number and tells it in a header.
fn route(number: usize, destination: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: bookinfo, namespace: default}}
spec:
  hosts: ['*']
  gateways: [bookinfo-gateway]
  http:
  - name: r{number}
    headers: {{response: {{set: {{x-route: r{number}}}}}}}
    route: [{{destination: {{host: productpage, {destination}}}}}]
"
    )
}

fn gateway(hosts: &str, more: bool) -> String {
    let second = "\n  - {port: {number: 8090, name: http-second, protocol: HTTP}, hosts: ['*']}";
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: bookinfo-gateway, namespace: default}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - {{port: {{number: 80, name: http, protocol: HTTP}}, hosts: {hosts}}}{}
",
        if more { second } else { "" }
    )
}

fn subsets(names: &[&str]) -> String {
    let list: Vec<_> = names.iter().map(|n| format!("{{name: {n}, labels: {{version: v1}}}}")).collect();
    format!(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: productpage, namespace: default}}
spec: {{host: productpage, subsets: [{}]}}
",
        list.join(", ")
    )
}

fn service(ports: &[u16]) -> String {
    let port = |p: &u16| format!("{{name: http-{p}, port: {p}, targetPort: 9080}}");
    let list: Vec<_> = ports.iter().map(port).collect();
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: productpage, namespace: default, labels: {{app: productpage, service: productpage}}}}
spec: {{selector: {{app: productpage}}, ports: [{}]}}
",
        list.join(", ")
    )
}

/// One round of changes that keep every request possible; the route's number is `number` where it changes.
fn round(number: usize) -> Vec<(Option<&'static str>, String)> {
    let n = number;
    vec![
        (Some("outbound|9080||"), route(n, "port: {number: 9080}")),
        (None, gateway("['*', 'extra.example']", false)),
        (None, subsets(&["v1", "extra"])),
        (Some("outbound|9080|extra|"), route(n + 1, "port: {number: 9080}, subset: extra")),
        (None, service(&[9080, 9081])),
        (Some("outbound|9081||"), route(n + 2, "port: {number: 9081}")),
        (None, subsets(&["v1"])),
        (None, service(&[9081])),
        (None, gateway("['*']", true)),
        (None, service(&[9080, 9081])),
        (Some("outbound|9080|v1|"), route(n + 3, "port: {number: 9080}, subset: v1")),
        (None, gateway("['*']", false)),
    ]
}

fn apply(mesh: &Mesh, text: &str) {
    let mut command = Command::new(MESHCTL);
    command.args(["--name", &mesh.name, "apply", "-o", "json", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let changes: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    assert_eq!(changes["behind"], Value::Array(vec![]), "{changes:#}");
    assert_eq!(changes["rejected"], Value::Array(vec![]), "{changes:#}");
}

/// Applies under load.
pub(crate) fn applies(mesh: &Mesh) {
    let count = std::env::var(COUNT).map_or(DEFAULT_COUNT, |n| n.parse().unwrap());
    apply(mesh, LOG_FORMAT);
    apply(mesh, &subsets(&["v1"]));
    apply(mesh, &route(0, "port: {number: 9080}, subset: v1"));
    let mut clusters = BTreeMap::from([("r0".to_owned(), "outbound|9080|v1|")]);
    let at = mesh.gateway();
    let log = Log::follow(mesh);
    let load = Load::start(at);
    let mut number = 0;
    let changes = (0..).flat_map(|r| round(4 * r + 1)).take(count);
    for (at_change, (cluster, text)) in changes.enumerate() {
        apply(mesh, &text);
        if let Some(cluster) = cluster {
            number += 1;
            clusters.insert(format!("r{number}"), cluster);
        }
        // In force when `apply` returns.
        assert_eq!(get(at, "/api/v1/products", &[]).header("x-route"), Some(&*format!("r{number}")));
        if at_change % 12 == 5 {
            mesh.run(&["restart", "productpage-v1"]);
        }
    }
    let answered = load.end();
    assert_eq!(get(at, "/api/v1/products?n=end", &[]).status, 200);
    let lines = log.end("n=end ");
    println!("{count} applies, {} requests, {} log lines", answered.len(), lines.len());
    one_configuration_each(&answered, &clusters, &lines);
    assert!(answered.values().any(|r| *r == format!("r{number}")), "the load went on to the last change");
}

/// A configuration has one route and one cluster for these requests, and each log line agrees with the answer.
fn one_configuration_each(answered: &HashMap<u64, String>, clusters: &BTreeMap<String, &str>, lines: &[String]) {
    let mut by_hash = BTreeMap::<&str, &str>::new();
    let mut joined = 0;
    for line in lines.iter().filter(|l| l.contains("?n=")) {
        let words: Vec<&str> = line.split(' ').collect();
        let ["load", path, route, cluster, hash, "200", "-"] = words[..] else { panic!("{line}") };
        let number = path.rsplit('=').next().unwrap();
        if let Some(got) = number.parse().ok().and_then(|n: u64| answered.get(&n)) {
            assert_eq!(got, route, "the header of the answer and its log line: {line}");
            joined += 1;
        }
        assert!(cluster.starts_with(clusters[route]), "{line} instead of {}", clusters[route]);
        assert_eq!(by_hash.insert(hash, route).unwrap_or(route), route, "one hash, one route: {line}");
    }
    assert!(joined > 0 && by_hash.len() > 1, "{joined} requests in the log, of {} configurations", by_hash.len());
}
