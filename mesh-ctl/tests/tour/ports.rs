//! What is not plain HTTP: the TCP server of file 29, and a gateway's HTTPS as docs/tls.md tells it.

use std::fs;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::mesh::{MESHCTL, Mesh, good};
use crate::seed::Seed;

fn has(program: &str, probe: &str) -> bool {
    Command::new(program).arg(probe).output().is_ok_and(|o| o.status.success())
}

/// Programs under a home folder are not shown to pods.
const PYTHON: &str = "/usr/bin/python3";

/// A server that says its name and what it got, in place of the image that nobody has here.
const IMAGE: &str = "\
apiVersion: v1
kind: ConfigMap
metadata:
  name: iperf-image
  labels:
    mesh.local/images: \"true\"
data:
  iperf: |
    image: mlabbe/iperf
    command:
    - /usr/bin/python3
    - -c
    - |
      import socketserver
      class Handler(socketserver.StreamRequestHandler):
          def handle(self):
              self.wfile.write(b'tcp-iperf ' + self.rfile.readline())
      class Server(socketserver.ThreadingTCPServer):
          allow_reuse_address = True
      Server(('', 5201), Handler).serve_forever()
";

/// What a pod gets by TCP: one line there, one line back.
const ASK: &str = "\
import socket
s = socket.create_connection(('tcp-iperf', 5201), 60)
s.sendall(b'line\\n')
print(s.makefile().readline().strip())
";

/// File 29 verbatim: its pod runs and callers in the mesh reach it.
pub(crate) fn tcp(seed: &Seed<'_>) {
    if !has(PYTHON, "--version") {
        println!("skipped TCP: {PYTHON} is not there");
        return;
    }
    let mesh = seed.mesh;
    let folder = Folder::new(&format!("{}-tcp", mesh.name));
    mesh.run(&["apply", "-f", &folder.file("image.yaml", IMAGE)]);
    mesh.run(&["apply", "-f", &seed.path("29")]);
    mesh.run(&["status", "--wait", "60"]);
    let answer = mesh.run(&["exec", "details-v1", "--", PYTHON, "-c", ASK]);
    assert_eq!(answer.trim(), "tcp-iperf line");
    let log = mesh.run(&["logs", "details-v1", "-c", "proxy"]);
    assert!(log.contains("outbound|5201||tcp-iperf.default.svc.cluster.local"), "{log}");
    mesh.run(&["delete", "-f", &seed.path("29")]);
}

struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A Secret, a Gateway with TLS, and clients that trust its certificate, or don't.
pub(crate) fn https(mesh: &Mesh) {
    let made = rcgen::generate_simple_self_signed(["bookinfo.example".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let folder = Folder::new(&format!("{}-https", mesh.name));
    let trusted = folder.file("tls.crt", &certificate);
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: bookinfo-cert, namespace: istio-system}}\n\
         type: kubernetes.io/tls\ndata:\n  tls.crt: {}\n  tls.key: {}\n",
        STANDARD.encode(&certificate),
        STANDARD.encode(&key)
    );
    let secret = folder.file("secret.yaml", &secret);
    mesh.run(&["apply", "-f", &secret, "-f", "docs/examples/gateway-https.yaml"]);
    let status = mesh.json(&["status", "-o", "json"]);
    let urls = status["urls"].as_array().unwrap();
    let url = urls.iter().filter_map(|u| u["url"].as_str()).find_map(|u| u.strip_prefix("https://"));
    let port = url.and_then(|u| u.rsplit(':').next()).unwrap_or_else(|| panic!("no https: {status:#}"));
    let url = format!("https://bookinfo.example:{port}/productpage");
    let load = ["load", "-c", "2", "-n", "20", "-o", "json", "--resolve", "127.0.0.1"];
    for version in [&[][..], &["--h2"]] {
        let args = [&load[..], version, &["--cacert", &trusted, &url]].concat();
        let report: Value = serde_json::from_str(&good(&args)).unwrap();
        assert_eq!(report["codes"]["200"]["count"], 20, "{report:#}");
    }
    let output = Command::new(MESHCTL).args(load).arg(&url).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["errors"]["tls"]["count"]), (Some(1), &Value::from(20)), "{report:#}");
    mesh.run(&["delete", "-f", "docs/examples/gateway-https.yaml"]);
    mesh.run(&["delete", "secret", "bookinfo-cert", "-n", "istio-system"]);
}
