//! Endpoints and applications at unix sockets.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use crate::mesh::{Config, DEFAULT, Door, Mesh, details, flags};
use crate::row::{Answer, GET};

/// A name that no other test has.
fn unique(prefix: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{prefix}mesh-unix-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Answers each request with what it got of it.
fn serve(listener: UnixListener) {
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut got = Vec::new();
                while stream.read_buf(&mut got).await.is_ok_and(|n| n > 0) {
                    if got.ends_with(b"\r\n\r\n") {
                        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", got.len());
                        let _ = stream.write_all(&[head.as_bytes(), &got].concat()).await;
                        got.clear();
                    }
                }
            });
        }
    });
}

fn at_name(name: &str) {
    let at = SocketAddr::from_abstract_name(name.strip_prefix('@').unwrap()).unwrap();
    let listener = std::os::unix::net::UnixListener::bind_addr(&at).unwrap();
    listener.set_nonblocking(true).unwrap();
    serve(UnixListener::from_std(listener).unwrap());
}

async fn ask(mesh: &mut Mesh) -> (String, String, String) {
    let mut client = mesh.connect().await;
    client.write_all(GET.as_bytes()).await.unwrap();
    let answer = Answer::read(&mut client, false).await;
    let record = mesh.record().await;
    let to = record.cx.endpoint.get().map(|e| e.address.to_string()).unwrap_or_default();
    (format!("{} {}", answer.status, answer.body), format!("{} {}", flags(&record), details(&record)), to)
}

#[tokio::test]
async fn endpoints_of_a_service_entry() {
    let name = unique("@");
    at_name(&name);
    let file = std::env::temp_dir().join(unique(""));
    serve(UnixListener::bind(&file).unwrap());
    for address in [&*name, file.to_str().unwrap()] {
        let extra = format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: sock, namespace: default}}\n\
             spec:\n  hosts: [sock.example]\n  resolution: STATIC\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n  \
             endpoints: [{{address: 'unix://{address}'}}]\n"
        );
        let routes = "[{retries: {attempts: 0}, route: [{destination: {host: sock.example, port: {number: 80}}}]}]";
        for door in [Door::Gateway, Door::Outbound] {
            let config = Config { door, routes, extra: extra.clone().leak(), ..DEFAULT };
            let mut mesh = Mesh::start(&config, None).await;
            let (answer, said, to) = ask(&mut mesh).await;
            assert!(answer.starts_with("200 OK GET /x HTTP/1.1\r\n"), "{answer}");
            assert_eq!((&*said, &*to), ("- via_upstream", address));
        }
    }
    std::fs::remove_file(&file).unwrap();
}

/// A Sidecar that says where the application of port 9 listens.
fn sidecar(address: &str) -> Config {
    let extra = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: s, namespace: default}}\nspec:\n  \
         ingress: [{{port: {{number: 9, name: http, protocol: HTTP}}, defaultEndpoint: 'unix://{address}'}}]\n"
    );
    Config { door: Door::Inbound, extra: extra.leak(), ..DEFAULT }
}

#[tokio::test]
async fn the_application_of_a_sidecar() {
    let name = unique("@");
    at_name(&name);
    let mut mesh = Mesh::start(&sidecar(&name), Some(([127, 0, 0, 1], 9).into())).await;
    let (answer, said, to) = ask(&mut mesh).await;
    assert!(answer.starts_with("200 OK GET /x HTTP/1.1\r\n"), "{answer}");
    assert_eq!((&*said, &*to), ("- via_upstream", &*name));
}

#[tokio::test]
async fn nobody_listens_there() {
    for (path, why) in [(unique("@"), "Connection_refused"), (unique("/nowhere/"), "No_such_file_or_directory")] {
        assert!(!Path::new(&path).exists());
        let mut mesh = Mesh::start(&sidecar(&path), Some(([127, 0, 0, 1], 9).into())).await;
        let (answer, said, _) = ask(&mut mesh).await;
        assert!(answer.starts_with("503 Service Unavailable upstream connect error"), "{answer}");
        assert!(said.contains("UF ") && said.contains(why), "{said}");
    }
}
