//! What leaves the mesh, as docs/egress.md tells it: a mesh in namespaces, two TLS sites under test names, real clients.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use serde_json::Value;

const MESHCTL: &str = env!("CARGO_BIN_EXE_meshctl");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn meshctl(args: &[&str]) -> Output {
    Command::new(MESHCTL).args(args).current_dir(root()).env_remove("MESH_NAME").output().unwrap()
}

/// Whether a program can be run here.
fn has(program: &str, probe: &str) -> bool {
    Command::new(program).arg(probe).output().is_ok_and(|o| o.status.success())
}

fn programs() {
    let folder = Path::new(MESHCTL).parent().unwrap();
    let profile = match folder.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        name => name,
    };
    let mut build = Command::new(env!("CARGO"));
    // The features of `cargo test --workspace`, so that there is nothing to do.
    build.args(["build", "--quiet", "--locked", "--workspace", "--bins", "--examples", "--profile", profile]);
    build.arg("--target-dir").arg(folder.parent().unwrap());
    assert!(build.current_dir(root()).status().unwrap().success());
}

type Names = Arc<Mutex<BTreeMap<String, Ipv4Addr>>>;

/// A DNS server that knows some names, until the process ends.
fn dns(names: Names) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = socket.local_addr().unwrap();
    std::thread::Builder::new()
        .spawn(move || {
            let mut buffer = [0; 1500];
            loop {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                if let Some(reply) = reply(&buffer[..length], &names.lock().unwrap()) {
                    let _ = socket.send_to(&reply, from);
                }
            }
        })
        .unwrap();
    at
}

fn reply(query: &[u8], names: &BTreeMap<String, Ipv4Addr>) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*query.get(at)?);
        if length == 0 {
            break;
        }
        labels.push(text(query.get(at + 1..at + 1 + length)?).to_ascii_lowercase());
        at += 1 + length;
    }
    let question = query.get(12..at + 5)?;
    let address = names.get(&labels.join(".")).filter(|_| query[at + 2] == 1);
    let known = names.contains_key(&labels.join("."));
    let mut out = query[..2].to_vec();
    out.extend([0x85, if known { 0x80 } else { 0x83 }, 0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
    out.extend(question);
    if let Some(ip) = address {
        out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4]);
        out.extend(ip.octets());
    }
    Some(out)
}

/// A folder with a certificate for the test names, readable by the pods.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("mesh-egress-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=test", "-keyout", "key.pem", "-out", "cert.pem", "-addext"])
            .arg("subjectAltName=DNS:a-cup-of.coffee,DNS:une-tasse-de.cafe")
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", text(&made.stderr));
        Self(folder)
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A pod without a sidecar that serves TLS on port 443, as a web site outside would.
fn site(folder: &Folder) -> String {
    let indent = |file: &str| folder.text(file).lines().map(|l| format!("    {l}\n")).collect::<String>();
    format!(
        "\
apiVersion: v1
kind: ConfigMap
metadata: {{name: site}}
data:
  cert.pem: |
{}  key.pem: |
{}---
apiVersion: v1
kind: Pod
metadata:
  name: site
  annotations: {{sidecar.istio.io/inject: 'false'}}
spec:
  volumes: [{{name: tls, configMap: {{name: site}}}}]
  containers:
  - name: site
    image: site
    command: [openssl, s_server, -accept, '443', -cert, /tls/cert.pem, -key, /tls/key.pem, -www, -quiet]
    volumeMounts: [{{name: tls, mountPath: /tls}}]
",
        indent("cert.pem"),
        indent("key.pem")
    )
}

struct Mesh {
    name: String,
}

impl Mesh {
    fn run(&self, args: &[&str]) -> String {
        let output = meshctl(&[&["--name", self.name.as_str()], args].concat());
        let said = text(&output.stdout);
        assert!(output.status.success(), "meshctl {args:?}: {}\n{said}{}", output.status, text(&output.stderr));
        said
    }

    /// curl inside a workload: its exit code, and the status that it got.
    fn curl(&self, workload: &str, url: &str) -> (i32, String) {
        let curl = ["curl", "-s", "-o", "/dev/null", "-m", "20", "-k", "-w", "%{http_code}", url];
        let output = meshctl(&[&["--name", self.name.as_str(), "exec", workload, "--"], &curl[..]].concat());
        (output.status.code().unwrap_or(-1), text(&output.stdout).trim().to_owned())
    }

    /// Whether a site passes, with what curl said where it does not.
    fn passes(&self, workload: &str, url: &str) -> bool {
        match self.curl(workload, url) {
            (0, status) => status == "200",
            // The connection ended in the handshake, or was reset.
            (35 | 52 | 56, _) => false,
            other => panic!("{workload} {url}: {other:?}"),
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        meshctl(&["down", "--name", &self.name]);
    }
}

#[test]
fn each_workload_reaches_its_own_sites() {
    for (program, probe) in [("openssl", "version"), ("curl", "--version")] {
        if !has(program, probe) {
            return println!("skipped: {program} is not installed");
        }
    }
    programs();
    let names = Names::default();
    let at = dns(names.clone()).to_string();
    let folder = Folder::new();
    let site_file = folder.0.join("site.yaml");
    fs::write(&site_file, site(&folder)).unwrap();
    let mesh = Mesh { name: format!("test-egress-{}", std::process::id()) };
    let up = ["up", "examples/bookinfo/platform", site_file.to_str().unwrap(), "--detach", "--mode", "namespaces"];
    let rest = ["--resolver", &at, "--gateway-port", "80=0", "--gateway-port", "443=0", "--name", &mesh.name];
    let output = meshctl(&[&up[..], &rest[..]].concat());
    let stderr = text(&output.stderr);
    if stderr.contains("explicit mode is used") {
        return println!("skipped: {stderr}");
    }
    assert!(output.status.success(), "{stderr}");
    let pod: Value = serde_json::from_str(&mesh.run(&["get", "pod", "site", "-o", "json"])).unwrap();
    let ip: Ipv4Addr = pod["status"]["podIP"].as_str().unwrap_or_else(|| panic!("{pod:#}")).parse().unwrap();
    for name in ["a-cup-of.coffee", "une-tasse-de.cafe", "elsewhere.example"] {
        names.lock().unwrap().insert(name.into(), ip);
    }
    let (coffee, cafe) = ("https://a-cup-of.coffee/", "https://une-tasse-de.cafe/");

    // ALLOW_ANY: everything passes, declared or not.
    assert!(mesh.passes("productpage-v1", coffee));
    assert!(mesh.passes("productpage-v1", "https://elsewhere.example/"));

    mesh.run(&["apply", "-f", "docs/examples/egress/registry-only.yaml"]);
    assert!(!mesh.passes("productpage-v1", coffee));
    assert_eq!(mesh.curl("productpage-v1", "http://a-cup-of.coffee/"), (0, "502".into()));

    mesh.run(&["apply", "-f", "docs/examples/egress/coffee.yaml"]);
    assert!(mesh.passes("productpage-v1", coffee));
    assert!(mesh.passes("reviews-v2", cafe));
    assert!(!mesh.passes("productpage-v1", "https://elsewhere.example/"));
    assert_eq!(mesh.curl("productpage-v1", "http://elsewhere.example/"), (0, "502".into()));
    assert_eq!(mesh.curl("productpage-v1", "http://a-cup-of.coffee/"), (0, "502".into()));

    from_the_pod_of_the_corpus(&mesh, coffee);

    mesh.run(&["apply", "-f", "docs/examples/egress/one-site-each.yaml"]);
    assert!(mesh.passes("productpage-v1", coffee));
    assert!(!mesh.passes("productpage-v1", cafe));
    assert!(mesh.passes("reviews-v2", cafe));
    assert!(!mesh.passes("reviews-v2", coffee));
    // Inside, all goes on.
    assert_eq!(mesh.curl("productpage-v1", "http://details:9080/health"), (0, "200".into()));
    let why = mesh.run(&["explain", "request", "--from", "productpage-v1", "--url", cafe, "-o", "json"]);
    assert!(why.contains("Sidecar default/productpage"), "{why}");
}

/// File 25 verbatim: a pod for looking around. What is declared passes, the rest is reset, plain HTTP to it is 502.
fn from_the_pod_of_the_corpus(mesh: &Mesh, declared: &str) {
    let pod = root().join("../shared/corpus/seed/25-pod-debug-network.yaml");
    if !pod.is_file() {
        return println!("skipped: {} is not here", pod.display());
    }
    mesh.run(&["apply", "-f", pod.to_str().unwrap()]);
    mesh.run(&["status", "--wait", "60"]);
    assert!(mesh.passes("debug-network", declared));
    assert!(!mesh.passes("debug-network", "https://elsewhere.example/"));
    assert_eq!(mesh.curl("debug-network", "http://elsewhere.example/"), (0, "502".into()));
    mesh.run(&["delete", "-f", pod.to_str().unwrap()]);
}

#[test]
fn the_entry_of_the_corpus_is_the_one_of_the_page() {
    let corpus = root().join("../shared/corpus/seed/24-serviceentry-coffee.yaml");
    let Ok(corpus) = fs::read_to_string(&corpus) else {
        return println!("skipped: {} is not here", corpus.display());
    };
    let page = fs::read_to_string(root().join("docs/examples/egress/coffee.yaml")).unwrap();
    let spec = |text: &str| {
        let (read, reports) = mesh_core::yaml::read("f.yaml", text);
        assert!(reports.is_empty(), "{reports:?}");
        read[0].to_value()["spec"].clone()
    };
    assert_eq!(spec(&corpus), spec(&page));
}
