//! Identities, as docs/identity.md tells it: what a gateway shows, and a sidecar that speaks the mesh's TLS to it.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::mesh::Mesh;

fn openssl(arguments: &[&str], input: Stdio) -> Option<String> {
    let output = Command::new("openssl").args(arguments).stdin(input).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Host port of the gateway's HTTPS.
fn https_port(mesh: &Mesh) -> String {
    let status = mesh.json(&["status", "-o", "json"]);
    let urls = status["urls"].as_array().unwrap();
    let url = urls.iter().filter_map(|u| u["url"].as_str()).find_map(|u| u.strip_prefix("https://"));
    url.and_then(|u| u.rsplit(':').next()).unwrap_or_else(|| panic!("no https: {status:#}")).to_owned()
}

/// The gateway as a service inside, reached with the mesh's TLS; `account` is whom clients expect there.
fn service(gateway: &str, account: &str) -> String {
    format!(
        "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: inside, namespace: default}}
spec:
  hosts: [inside.example.com]
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 443}}]
  location: MESH_INTERNAL
  resolution: STATIC
  endpoints: [{{address: {gateway}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: inside, namespace: default}}
spec:
  host: inside.example.com
  trafficPolicy:
    tls:
      mode: ISTIO_MUTUAL
      sni: inside.example.com
      subjectAltNames: ['spiffe://cluster.local/ns/istio-system/sa/{account}']
"
    )
}

/// What the gateway shows, to a client that shows nothing.
fn shown(mesh: &Mesh) {
    let at = format!("127.0.0.1:{}", https_port(mesh));
    let client = ["s_client", "-connect", &at, "-servername", "inside.example.com"];
    let Some(session) = openssl(&client, Stdio::null()) else { return println!("skipped: there is no openssl") };
    let mut reader = Command::new("openssl")
        .args(["x509", "-noout", "-text"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut reader.stdin.take().unwrap(), session.as_bytes()).unwrap();
    let text = String::from_utf8(reader.wait_with_output().unwrap().stdout).unwrap();
    let text = text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    for part in [
        "Signature Algorithm: sha256WithRSAEncryption\nIssuer: O = cluster.local",
        "\nSubject:\n",
        "Public-Key: (2048 bit)",
        "X509v3 Key Usage: critical\nDigital Signature, Key Encipherment\n",
        "TLS Web Server Authentication, TLS Web Client Authentication\n",
        "X509v3 Basic Constraints: critical\nCA:FALSE\n",
        "X509v3 Subject Alternative Name: critical\n\
         URI:spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account\n",
    ] {
        assert!(text.contains(part), "{part:?} in\n{session}\n{text}");
    }
}

/// `meshctl certs`, before and after the root begins to change.
fn certificates(mesh: &Mesh) {
    let certs = mesh.json(&["certs", "-o", "json"]);
    let identities: Vec<&str> = certs["workloads"]
        .as_array()
        .unwrap()
        .iter()
        .map(|w| w["proxy"]["certificates"][0]["cert_chain"][0]["subject_alt_names"][0]["uri"].as_str().unwrap())
        .collect();
    for account in [
        "default/sa/bookinfo-productpage",
        "default/sa/bookinfo-reviews",
        "istio-system/sa/istio-ingressgateway-service-account",
    ] {
        let id = format!("spiffe://cluster.local/ns/{account}");
        assert!(identities.contains(&id.as_str()), "{id} in {identities:?}");
    }
    let roots = certs["ca"]["roots"].as_array().unwrap();
    assert_eq!((&certs["ca"]["rotation"], roots.len()), (&"stable".into(), 1));
    let table = mesh.run(&["certs", "productpage-v1", "--rotate-root"]);
    assert!(table.starts_with("rotation: announced\n"), "{table}");
    assert!(table.contains("spiffe://cluster.local/ns/default/sa/bookinfo-productpage"), "{table}");
    let roots = mesh.json(&["certs", "productpage-v1", "-o", "json"])["ca"]["roots"].clone();
    let signs: Vec<bool> = roots.as_array().unwrap().iter().map(|r| r["signs"].as_bool().unwrap()).collect();
    assert_eq!(signs, [true, false], "the new one waits until everybody knows it");
}

pub(crate) fn of_workloads(mesh: &Mesh) {
    let token = ["exec", "productpage-v1", "--", "stat", "-c", "%a %s", "/var/run/secrets/tokens/istio-token"];
    assert_eq!(mesh.run(&token).trim(), "600 43");
    certificates(mesh);
    mesh.run(&["apply", "-f", "docs/examples/gateway-mutual.yaml"]);
    shown(mesh);
    let pods = mesh.json(&["get", "pods", "-n", "istio-system", "-o", "json"]);
    let pods: Vec<Value> = pods["items"].as_array().or(pods.as_array()).cloned().unwrap_or_else(|| vec![pods.clone()]);
    let gateway = pods.iter().find_map(|p| p["status"]["podIP"].as_str()).unwrap_or_else(|| panic!("{pods:#?}"));
    let file = std::env::temp_dir().join(format!("{}-inside.yaml", mesh.name));
    let curl =
        ["exec", "productpage-v1", "--", "curl", "-s", "-m", "20", "--resolve", "inside.example.com:80:192.0.2.1"];
    let ask = || mesh.run(&[&curl[..], &["http://inside.example.com/"]].concat());
    fs::write(&file, service(gateway, "istio-ingressgateway-service-account")).unwrap();
    mesh.run(&["apply", "-f", file.to_str().unwrap()]);
    assert_eq!(ask(), "you are inside\n");
    // Secure naming: somebody else than the one that is expected there.
    fs::write(&file, service(gateway, "somebody-else")).unwrap();
    mesh.run(&["apply", "-f", file.to_str().unwrap()]);
    let refused = ask();
    assert!(refused.starts_with("upstream connect error"), "{refused}");
    let log = mesh.run(&["logs", "productpage-v1", "-c", "proxy"]);
    assert!(log.contains("SAN_matcher"), "{log}");
    mesh.run(&["delete", "-f", file.to_str().unwrap()]);
    mesh.run(&["delete", "-f", "docs/examples/gateway-mutual.yaml"]);
    fs::remove_file(file).unwrap();
}
