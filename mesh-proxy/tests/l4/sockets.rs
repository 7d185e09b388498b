//! Unix sockets of a Sidecar that applications dial: HTTP by the host that a request names, bytes for the service that the
//! socket stands for.

use std::net::SocketAddr;
use std::sync::Arc;

use mesh_core::convert::{Addresses, Options, inputs};
use mesh_core::snapshot::{Address, BindDoor, ProxyId, ProxyKind, Snapshot};
use mesh_proxy::cluster::Runtime;
use mesh_proxy::http::Proxy;
use mesh_proxy::listener::{Door, Engine, Shared};
use mesh_proxy::net::{HostEnv, HostNet, HostStream, Listener, Net};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::support::upstream;

/// Answers what it gets with a greeting and the bytes.
fn greets(greeting: &'static str) -> SocketAddr {
    let (listener, at) = upstream();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut got = [0; 1024];
            let n = stream.read(&mut got).await.unwrap_or(0);
            let _ = stream.write_all(&[greeting.as_bytes(), &got[..n]].concat()).await;
        }
    });
    at
}

fn snapshot(yaml: &str, shared: &Shared<HostNet, Proxy<HostNet>>) -> Arc<Snapshot> {
    let (resources, reports) = mesh_core::yaml::read("test.yaml", yaml);
    assert!(reports.is_empty(), "{reports:?}");
    assert!(resources.iter().flat_map(mesh_core::validate::validate).next().is_none());
    let options = Options { dns_capture: Some(true), ..Options::default() };
    let world = inputs(&resources, &options, &mut Addresses::default()).world;
    let of = world.workloads_in("default").first().expect("the client").clone();
    let id = ProxyId::of(ProxyKind::Sidecar, &of);
    let snapshot = mesh_core::compile::compile(&world, &id, None).snapshot;
    for (name, cluster) in snapshot.clusters.iter() {
        let endpoints = mesh_core::endpoints::endpoints(&world, cluster).into_iter().map(Arc::new).collect();
        Engine::<HostStream>::set_endpoints(&shared.http, name, endpoints);
    }
    shared.activate(&snapshot);
    snapshot
}

fn yaml(name: &str, web: SocketAddr, db: SocketAddr) -> String {
    let entry = |name: &str, number: u16, protocol: &str, to: SocketAddr| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: default}}\n\
             spec:\n  hosts: [{name}.example]\n  resolution: STATIC\n  \
             ports: [{{number: {number}, name: p, protocol: {protocol}}}]\n  \
             endpoints: [{{address: 127.0.0.1, ports: {{p: {}}}}}]\n",
            to.port()
        )
    };
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: client, namespace: default}}\n\
         spec: {{containers: [{{name: c, image: c}}]}}\n{}{}---\napiVersion: networking.istio.io/v1\nkind: Sidecar\n\
         metadata: {{name: s, namespace: default}}\nspec:\n  outboundTrafficPolicy: {{mode: REGISTRY_ONLY}}\n  egress:\n  \
         - {{port: {{number: 0, protocol: HTTP, name: web}}, bind: 'unix://@{name}-web', hosts: ['./web.example']}}\n  \
         - {{port: {{number: 5432, protocol: TCP, name: db}}, bind: 'unix://@{name}-db', hosts: ['./*']}}\n",
        entry("web", 8080, "HTTP", web),
        entry("db", 5432, "TCP", db)
    )
}

async fn talk(socket: &str, text: &str) -> String {
    let mut stream = UnixStream::connect(socket.replacen('@', "\0", 1)).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn applications_dial_unix_sockets() {
    let net = HostNet::new();
    let sink: Arc<dyn mesh_core::record::Sink> = Arc::new(Nobody);
    let runtime = Runtime::new(net.clone(), Arc::new(HostEnv), vec![sink.clone()], 1);
    let shared = Arc::new(Shared::new(net.clone(), Proxy::new(Arc::new(runtime)), Arc::new(HostEnv), sink));
    let name = format!("mesh-l4-{}", std::process::id());
    let web = greets("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nweb got ");
    let db = greets("db got ");
    let snapshot = snapshot(&yaml(&name, web, db), &shared);
    for bind in &snapshot.binds {
        let Address::Unix(path) = &bind.at else { panic!("{bind:?}") };
        let mut listener = net.listen_unix(path).await.unwrap();
        // As the process opens them.
        let door = match bind.door {
            BindDoor::HttpProxy => Door::Explicit,
            BindDoor::Service(to) => Door::OutboundTo(to),
            other => panic!("{other:?}"),
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            while let Ok(stream) = listener.accept().await {
                tokio::spawn(shared.clone().serve(stream, door));
            }
        });
    }
    assert_eq!(snapshot.binds.len(), 2);
    assert_eq!(talk(&format!("@{name}-db"), "select").await, "db got select");
    let get = |host: &str| format!("GET /x HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let answer = talk(&format!("@{name}-web"), &get("web.example:8080")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("web got GET /x HTTP/1.1\r\n"), "{answer}");
    let answer = talk(&format!("@{name}-web"), &get("other.example:8080")).await;
    assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "nobody knows it: {answer}");
}

struct Nobody;

impl mesh_core::record::Sink for Nobody {
    fn record(&self, _: &mesh_core::record::RequestRecord) {}
}
