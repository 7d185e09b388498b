//! Other people's clients, where the machine has them.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use crate::certificates::{Ca, Leaf};
use crate::running::{Running, plain_upstream, routes, yaml};

pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mesh-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn run(program: &str, arguments: &[&str]) -> Option<(bool, String)> {
    let mut command = Command::new(program);
    let output = match command.args(arguments).stdin(Stdio::null()).output().await {
        Ok(output) => output,
        Err(error) => {
            eprintln!("SKIPPED: {program} can't be run: {error}");
            return None;
        }
    };
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

async fn gateway(tls: &str, leaf: &Leaf, ca: &Ca) -> Running {
    let servers =
        format!("  - {{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: [a.example.com], tls: {{{tls}}}}}");
    let up = plain_upstream().await;
    let gateway = Running::start(&yaml(&servers, up, &routes("a.example.com")), 443).await;
    gateway.deliver("a", leaf.material());
    gateway.deliver_roots("a", ca.roots());
    gateway
}

#[tokio::test]
async fn curl_speaks_http1_and_http2_to_a_gateway() {
    let ca = Ca::new("ca");
    let folder = Folder::new("curl");
    let roots = folder.file("ca.pem", &ca.pem);
    let gateway = gateway("mode: SIMPLE, credentialName: a", &ca.leaf(&["a.example.com"]), &ca).await;
    let port = gateway.at.port();
    let (to, url) = (format!("a.example.com:{port}:127.0.0.1"), format!("https://a.example.com:{port}/x"));
    for (version, says) in [("--http1.1", "1.1 200"), ("--http2", "2 200")] {
        let arguments = [
            "-s",
            "--max-time",
            "20",
            "--cacert",
            &roots,
            "--resolve",
            &to,
            version,
            "-o",
            "/dev/null",
            "-w",
            "%{http_version} %{http_code}",
            &url,
        ];
        let Some((_, said)) = run("curl", &arguments).await else { return };
        assert_eq!(said, says);
    }
}

#[tokio::test]
async fn curl_without_a_client_certificate_is_refused_where_one_is_required() {
    let ca = Ca::new("ca");
    let folder = Folder::new("mutual");
    let roots = folder.file("ca.pem", &ca.pem);
    let client = ca.leaf(&["client"]);
    let (certificate, key) = (folder.file("client.pem", &client.pem), folder.file("client.key", &client.key));
    let gateway = gateway("mode: MUTUAL, credentialName: a", &ca.leaf(&["a.example.com"]), &ca).await;
    let port = gateway.at.port();
    let (to, url) = (format!("a.example.com:{port}:127.0.0.1"), format!("https://a.example.com:{port}/x"));
    let base =
        ["-s", "--max-time", "20", "--cacert", &roots, "--resolve", &to, "-o", "/dev/null", "-w", "%{http_code}"];
    let Some((fine, said)) = run("curl", &[&base[..], &[&*url]].concat()).await else { return };
    assert!(!fine && said.starts_with("000"), "{said}");
    let shown = [&base[..], &["--cert", &certificate, "--key", &key, &url]].concat();
    let Some((_, said)) = run("curl", &shown).await else { return };
    assert_eq!(said, "200");
}

#[tokio::test]
async fn openssl_sees_versions_and_protocols_as_the_server_limits_them() {
    let ca = Ca::new("ca");
    let tls =
        "mode: SIMPLE, credentialName: a, maxProtocolVersion: TLSV1_2, cipherSuites: [ECDHE-ECDSA-AES256-GCM-SHA384]";
    let gateway = gateway(tls, &ca.leaf(&["a.example.com"]), &ca).await;
    let to = gateway.at.to_string();
    let arguments = ["s_client", "-connect", &to, "-servername", "a.example.com", "-alpn", "http/1.1,h2"];
    let Some((_, said)) = run("openssl", &arguments).await else { return };
    assert!(said.contains("ECDHE-ECDSA-AES256-GCM-SHA384") && said.contains("TLSv1.2"), "{said}");
    assert!(said.contains("ALPN protocol: h2"), "S2: the server's order wins: {said}");
    let old = ["s_client", "-connect", &to, "-servername", "a.example.com", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"];
    let Some((_, said)) = run("openssl", &old).await else { return };
    assert!(said.contains(" alert ") && said.contains("Cipher is (NONE)"), "S1: {said}");
}
