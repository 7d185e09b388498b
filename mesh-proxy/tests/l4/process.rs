//! The real gateway binary: ports that come and go with the configuration, and its drain.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A running gateway, or sidecar, with a directory of configuration.
pub(crate) struct Gateway {
    pub(crate) directory: PathBuf,
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStderr>>,
}

impl Gateway {
    pub(crate) fn start(name: &str, files: &[(&str, &str)], args: &[&str]) -> Self {
        let own = ["--bind", "127.0.0.1", "--gateway-port", "80=0", "--gateway-port", "81=0", "--health-port", "0"];
        Self::spawn(env!("CARGO_BIN_EXE_mesh-gateway"), name, files, &[&own[..], args].concat())
    }

    /// The sidecar of a pod.
    pub(crate) fn sidecar(name: &str, files: &[(&str, &str)], workload: &str) -> Self {
        // Ports of capture are fixed, but every address of loopback has its own.
        let [high, low] = (std::process::id() as u16).to_be_bytes();
        let ip = format!("127.77.{high}.{low}");
        let own = ["--workload", workload, "--bind", &ip, "--concurrency", "2", "--health-port", "off"];
        Self::spawn(env!("CARGO_BIN_EXE_mesh-proxy"), name, files, &own)
    }

    fn spawn(program: &str, name: &str, files: &[(&str, &str)], args: &[&str]) -> Self {
        let directory = std::env::temp_dir().join(format!("mesh-l4-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        for (name, text) in files {
            std::fs::write(directory.join(name), text).unwrap();
        }
        let admin = if args.contains(&"--admin-port") { &[][..] } else { &["--admin-port", "off"] };
        let mut child = Command::new(program)
            .arg("--config")
            .arg(&directory)
            .args(["--metrics-port", "off"])
            .args(admin)
            .args(args)
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { directory, child, lines }
    }

    /// The next log line with all of these words.
    pub(crate) fn line(&mut self, words: &[&str]) -> String {
        for line in &mut self.lines {
            let line = line.unwrap();
            if words.iter().all(|w| line.contains(w)) {
                return line;
            }
        }
        panic!("the gateway ended without saying {words:?}");
    }

    /// Waits until this port is open.
    pub(crate) fn port(&mut self, name: &str) -> SocketAddr {
        let line = self.line(&["listening", &format!("name=\"{name}\"")]);
        line.rsplit_once("at=").unwrap().1.trim().parse().unwrap()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

pub(crate) fn gateway(ports: &[u16]) -> String {
    let servers =
        ports.iter().map(|p| format!("  - port: {{number: {p}, name: http-{p}, protocol: HTTP}}\n    hosts: ['*']\n"));
    let head = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: front, namespace: default}\n\
                spec:\n  selector: {istio: ingressgateway}\n  servers:\n";
    format!("{head}{}", servers.collect::<String>())
}

pub(crate) fn routes(upstream: SocketAddr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: up, namespace: default}}\n\
         spec:\n  hosts: [up.example]\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n  resolution: STATIC\n  \
         endpoints: [{{address: {}, ports: {{http: {}}}}}]\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: up, namespace: default}}\n\
         spec:\n  hosts: ['*']\n  gateways: [front]\n  http:\n  \
         - match: [{{uri: {{exact: /direct}}}}]\n    directResponse: {{status: 200, body: {{string: direct}}}}\n  \
         - route: [{{destination: {{host: up.example, port: {{number: 80}}}}}}]\n",
        upstream.ip(),
        upstream.port()
    )
}

fn get(at: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn ports_come_and_go_with_the_gateway() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let files = [("gateway.yaml", gateway(&[80])), ("routes.yaml", routes(upstream))];
    let files: Vec<_> = files.iter().map(|(n, t)| (*n, t.as_str())).collect();
    let mut gw = Gateway::start("ports", &files, &[]);
    let first = gw.port("gateway-80");
    assert!(get(first, "/direct").starts_with("HTTP/1.1 200 OK\r\n"));
    std::fs::write(gw.directory.join("gateway.yaml"), gateway(&[80, 81])).unwrap();
    let second = gw.port("gateway-81");
    assert!(get(second, "/direct").ends_with("direct"));
    std::fs::write(gw.directory.join("gateway.yaml"), gateway(&[80])).unwrap();
    gw.line(&["closed", "gateway-81"]);
    let refused = TcpStream::connect(second).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(get(first, "/direct").ends_with("direct"));
}

#[test]
fn a_drain_finishes_what_is_in_flight_and_answers_what_still_comes() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let files = [("gateway.yaml", gateway(&[80])), ("routes.yaml", routes(upstream.local_addr().unwrap()))];
    let files: Vec<_> = files.iter().map(|(n, t)| (*n, t.as_str())).collect();
    let mut gw = Gateway::start("drain", &files, &["--minimum-drain", "0"]);
    let health = gw.port("health");
    let at = gw.port("gateway-80");
    gw.line(&["configuration in force"]);
    assert!(get(health, "/healthz/ready").starts_with("HTTP/1.1 200 "));

    let mut slow = TcpStream::connect(at).unwrap();
    write!(slow, "GET /slow HTTP/1.1\r\nhost: a.example\r\n\r\n").unwrap();
    let (mut serving, _) = upstream.accept().unwrap();
    let mut head = [0; 1024];
    assert!(serving.read(&mut head).unwrap() > 0);

    gw.signal(Signal::TERM);
    gw.line(&["draining"]);
    assert!(get(health, "/healthz/ready").starts_with("HTTP/1.1 503 "));
    // Without asking for it, the client is told that the connection ends; it is served nevertheless.
    let mut late = TcpStream::connect(at).unwrap();
    write!(late, "GET /direct HTTP/1.1\r\nhost: a.example\r\n\r\n").unwrap();
    let mut text = String::new();
    late.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("connection: close\r\n"), "{text}");

    write!(serving, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nslow!").unwrap();
    text.clear();
    slow.read_to_string(&mut text).unwrap();
    assert!(text.contains("connection: close\r\n") && text.ends_with("slow!"), "{text}");
    assert_eq!(gw.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let files = [("gateway.yaml", gateway(&[80])), ("routes.yaml", routes(upstream.local_addr().unwrap()))];
    let files: Vec<_> = files.iter().map(|(n, t)| (*n, t.as_str())).collect();
    let mut gw = Gateway::start("second", &files, &["--minimum-drain", "3600"]);
    let at = gw.port("gateway-80");
    gw.line(&["configuration in force"]);
    assert!(get(at, "/direct").ends_with("direct"));
    gw.signal(Signal::TERM);
    gw.line(&["draining"]);
    gw.signal(Signal::TERM);
    gw.line(&["ending at once"]);
    assert_eq!(gw.child.wait().unwrap().code(), Some(0));
}
