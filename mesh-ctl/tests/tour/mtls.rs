//! Mutual TLS, as docs/mtls.md tells it: everything inside speaks it without being asked, and STRICT leaves nothing else.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use serde_json::Value;

use crate::client::{Client, get};
use crate::mesh::Mesh;
use crate::seed::Seed;

const LOG: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    accessLogFile: /dev/stdout
    accessLogFormat: \"peer %REQ(:PATH)% [%DOWNSTREAM_PEER_URI_SAN%] [%UPSTREAM_PEER_URI_SAN%] %RESPONSE_FLAGS%\\n\"
";

/// The port of the host that leads to productpage past the gateway (patch 02).
fn node_port(mesh: &Mesh) -> SocketAddr {
    let status = mesh.json(&["status", "-o", "json"]);
    let urls = status["urls"].as_array().unwrap();
    let url = urls.iter().find(|u| u["kind"] == "nodePort").unwrap_or_else(|| panic!("no port: {status:#}"));
    url["url"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap()
}

/// Exit status of curl, if there is one.
fn curl(at: SocketAddr) -> Option<i32> {
    let url = format!("http://{at}/productpage");
    Command::new("curl").args(["-s", "-o", "/dev/null", "-m", "60", &url]).status().ok()?.code()
}

/// Files 16 and 17, and patch 02.
pub(crate) fn strict(seed: &Seed<'_>, folder: &std::path::Path, at: SocketAddr) {
    let mesh = seed.mesh;
    let patch = folder.join("patch-02-nodeport.json");
    mesh.run(&["patch", "svc", "productpage", "--type", "json", "--patch-file", patch.to_str().unwrap()]);
    let outside = node_port(mesh);
    let mut open = Client::new(outside).unwrap();
    assert_eq!(open.send("GET /productpage", &[], "").unwrap().status, 200, "PERMISSIVE takes plaintext");
    assert_eq!(get(at, "/productpage", &[]).status, 200);

    seed.in_force("16");
    // The connection that was open, a new one, and curl's.
    let error = open.send("GET /productpage", &[], "").unwrap_err();
    assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
    let reset = Client::new(outside).unwrap().send("GET /productpage", &[], "").unwrap_err();
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset, "{reset}");
    if let Some(code) = curl(outside) {
        assert_eq!(code, 56, "curl: connection reset by peer");
    }
    // Through the gateway and between the services nothing has changed.
    assert_eq!(get(at, "/productpage", &[]).status, 200);
    let page = get(at, "/productpage", &[]).body;
    assert!(!page.contains("Error fetching"), "{page}");

    seed.in_force("17");
    mesh.run(&["delete", "-f", &seed.path("16")]);
    assert!(TcpStream::connect(outside).is_ok(), "the port is open");
    assert_eq!(Client::new(outside).unwrap().send("GET /productpage", &[], "").unwrap_err().kind(), reset.kind());
    assert_eq!(get(at, "/productpage", &[]).status, 200);

    told(mesh, at);
    seen(mesh);
    mesh.run(&["delete", "-f", &seed.path("17")]);
    assert_eq!(get(outside, "/productpage", &[]).status, 200, "without a policy both are taken again");
    let back = "[{\"op\": \"replace\", \"path\": \"/spec/type\", \"value\": \"ClusterIP\"}]";
    mesh.run(&["patch", "svc", "productpage", "--type", "json", "-p", back]);
}

/// Who still speaks plaintext: it is known who was let in before, and who is refused now.
fn seen(mesh: &Mesh) {
    let servers = mesh.json(&["mtls", "productpage-v1", "details-v1", "-o", "json"]);
    let [page, details] = &servers.as_array().unwrap()[..] else { panic!("{servers:#}") };
    let peers = |server: &Value| server["peers"].as_array().unwrap().clone();
    let plain = peers(page).into_iter().find(|p| p["principal"].is_null()).unwrap_or_else(|| panic!("{page:#}"));
    assert!(plain["connections"].as_u64() > Some(0) && plain["refused"].as_u64() > Some(0), "{plain:#}");
    assert_eq!((&page["strict"], &plain["mode"], &plain["port"]), (&false.into(), &"STRICT".into(), &9080.into()));
    let by = "spiffe://cluster.local/ns/default/sa/bookinfo-productpage";
    assert!(peers(details).iter().any(|p| p["principal"] == by), "{details:#}");
    let table = mesh.run(&["mtls", "productpage-v1", "--plaintext"]);
    assert!(table.contains("would refuse somebody under STRICT: productpage-v1"), "{table}");
}

/// Who spoke to whom is in the log, and `explain` says how and because of which line.
fn told(mesh: &Mesh, at: SocketAddr) {
    let file = std::env::temp_dir().join(format!("{}-log.yaml", mesh.name));
    std::fs::write(&file, LOG).unwrap();
    mesh.run(&["apply", "-f", file.to_str().unwrap()]);
    assert_eq!(get(at, "/productpage?mtls", &[]).status, 200);
    let gateway = "spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account";
    let page = "spiffe://cluster.local/ns/default/sa/bookinfo-productpage";
    let line = |workload: &str, path: &str| {
        let log = mesh.run(&["logs", workload, "-c", "proxy"]);
        let found = log.lines().rev().find(|l| l.contains(&format!("peer {path} ")));
        found.unwrap_or_else(|| panic!("{workload}: no line in\n{log}")).to_owned()
    };
    assert!(line("istio-ingressgateway.istio-system", "/productpage?mtls").contains(&format!("[-] [{page}] -")));
    assert!(line("productpage-v1", "/productpage?mtls").contains(&format!("[{gateway}] [-] -")));
    assert!(line("details-v1", "/details/0").contains(&format!("[{page}] [-] -")));
    let usual = LOG.lines().filter(|l| !l.contains("accessLogFormat")).map(|l| format!("{l}\n")).collect::<String>();
    std::fs::write(&file, usual).unwrap();
    mesh.run(&["apply", "-f", file.to_str().unwrap()]);
    let _ = std::fs::remove_file(&file);

    let explained = mesh.json(&[
        "explain",
        "request",
        "--from",
        "productpage-v1",
        "--url",
        "http://details:9080/details/0",
        "-o",
        "json",
    ]);
    let transport = &explained["hops"][0]["clusters"][0]["transport"][0];
    assert_eq!(
        transport["value"],
        Value::from("mutual TLS with spiffe://cluster.local/ns/default/sa/bookinfo-details")
    );
    let server = &explained["hops"][1]["tls"];
    assert_eq!(server["value"], Value::from("mutual TLS of the mesh, STRICT"));
    assert_eq!(server["object"], Value::from("PeerAuthentication istio-system/default-mtls"));
    assert!(server["location"].as_str().unwrap().contains("17-peerauthentication-mesh-strict.yaml:"), "{server:#}");
}
