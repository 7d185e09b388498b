//! Unix sockets that the binaries open: of a Gateway's server, of a Sidecar's egress listeners.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixStream};

use crate::process::Gateway;

/// Asks, and reads to the end.
fn said(mut stream: UnixStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

const ROUTES: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: all, namespace: default}
spec:
  hosts: ['*']
  gateways: [front]
  http: [{directResponse: {status: 200, body: {string: direct}}}]
";

fn gateway(servers: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: front, namespace: default}}\nspec:\n  \
         selector: {{istio: ingressgateway}}\n  servers:\n{servers}"
    )
}

#[test]
fn a_gateway_listens_at_a_unix_socket_as_long_as_a_server_wants_it() {
    let socket = std::env::temp_dir().join(format!("mesh-doors-{}.sock", std::process::id()));
    let path = socket.to_str().unwrap();
    let port = "  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}\n";
    let bound =
        format!("  - {{port: {{number: 0, name: own, protocol: HTTP}}, bind: 'unix://{path}', hosts: ['*']}}\n");
    let with = gateway(&format!("{port}{bound}"));
    let mut gw = Gateway::start("unix", &[("gateway.yaml", &with), ("routes.yaml", ROUTES)], &["--concurrency", "2"]);
    gw.line(&["listening", &format!("name=\"bind-{path}\"")]);
    for _ in 0..3 {
        let answer =
            said(UnixStream::connect(&socket).unwrap(), "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("direct"), "{answer}");
    }
    std::fs::write(gw.directory.join("gateway.yaml"), gateway(port)).unwrap();
    gw.line(&["closed", path]);
    assert_eq!(UnixStream::connect(&socket).unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

/// Answers every connection with what it gets until there is an empty line.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let serve = move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (mut got, mut buffer) = (Vec::new(), [0; 1024]);
            while !got.ends_with(b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(n) if n > 0 => got.extend_from_slice(&buffer[..n]),
                    _ => break,
                }
            }
            let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", got.len());
            let _ = stream.write_all(&[head.as_bytes(), &got].concat());
        }
    };
    std::thread::Builder::new().spawn(serve).unwrap();
    at
}

#[test]
fn applications_dial_the_unix_sockets_of_a_sidecars_egress() {
    let socket = std::env::temp_dir().join(format!("mesh-egress-{}.sock", std::process::id()));
    let (path, name) = (socket.to_str().unwrap(), format!("mesh-egress-{}", std::process::id()));
    let at = upstream().port();
    let config = format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: app, namespace: default, labels: {{app: app}}}}
spec: {{containers: [{{name: c, image: c}}]}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: up, namespace: default}}
spec:
  hosts: [up.example]
  ports: [{{number: 80, name: http, protocol: HTTP}}, {{number: 81, name: tcp, protocol: TCP}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{http: {at}, tcp: {at}}}}}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: app, namespace: default}}
spec:
  egress:
  - {{port: {{number: 80, protocol: HTTP, name: http}}, bind: 'unix://{path}', hosts: ['*/*']}}
  - {{port: {{number: 81, protocol: TCP, name: tcp}}, bind: 'unix://@{name}', hosts: ['*/*']}}
  - hosts: ['*/*']
"
    );
    let mut sidecar = Gateway::sidecar("egress", &[("all.yaml", &config)], "default/app");
    for at in [path, &*format!("@{name}")] {
        sidecar.line(&["listening", &format!("name=\"bind-{at}\"")]);
    }
    let request = "GET http://up.example/x HTTP/1.1\r\nhost: up.example\r\nconnection: close\r\n\r\n";
    let answer = said(UnixStream::connect(&socket).unwrap(), request);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("GET /x HTTP/1.1\r\n"), "{answer}");
    let elsewhere = "GET / HTTP/1.1\r\nhost: other.example:81\r\nconnection: close\r\n\r\n";
    let answer = said(UnixStream::connect(&socket).unwrap(), elsewhere);
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    let bytes = UnixStream::connect_addr(&UnixAddress::from_abstract_name(&name).unwrap()).unwrap();
    let answer = said(bytes, "as they are\r\n\r\n");
    assert!(answer.ends_with("\r\n\r\nas they are\r\n\r\n"), "{answer}");

    std::fs::write(
        sidecar.directory.join("all.yaml"),
        config.split("---\napiVersion: networking.istio.io/v1\nkind: Sidecar").next().unwrap(),
    )
    .unwrap();
    sidecar.line(&["closed", path]);
    assert!(!socket.exists());
}
