//! Pods without a sidecar: what the node does for them in its own network, as kube-proxy and the cluster's DNS do.
//!
//! The node's rules send their DNS queries to port 15053 and connections that leave the pods' network to port 15099, with
//! the original destination kept. A virtual address goes to a ready endpoint; everything else leaves through the dialer.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mesh_core::compile::{Compiled, compile};
use mesh_core::endpoints::of_service;
use mesh_core::model::Health;
use mesh_core::snapshot::{ProxyId, ProxyKind};
use mesh_core::world::World;
use mesh_proxy::dns;
use mesh_proxy::net::{Datagrams, HostDatagrams};
use socket2::SockRef;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use super::mesh::Mesh;
use crate::localmesh::{DNS_PORT, Dialer, Mode, NODE_PROXY_PORT};

/// Serves until the mesh ends. In explicit mode there is nothing to serve: nothing is captured.
pub(super) async fn serve(mesh: Arc<Mesh>) {
    if mesh.mode() != Mode::Namespaces {
        return;
    }
    let (names, connections) = tokio::join!(serve_names(&mesh), serve_connections(&mesh));
    for error in [names.err(), connections.err()].into_iter().flatten() {
        tracing::warn!(%error, "pods without a sidecar are not served");
    }
}

async fn serve_names(mesh: &Arc<Mesh>) -> io::Result<()> {
    let socket = Arc::new(HostDatagrams::bind((Ipv6Addr::UNSPECIFIED, DNS_PORT).into()).await?);
    let mut plan: Option<(u64, Compiled)> = None;
    let mut buffer = vec![0; 4096];
    loop {
        // An error here is about an earlier answer, not about the socket.
        let Ok((length, from)) = socket.receive(&mut buffer).await else { continue };
        let (revision, world) = {
            let published = &mesh.state().published;
            (published.revision, published.world.clone())
        };
        if plan.as_ref().is_none_or(|(r, _)| *r != revision) {
            let compiled = compile(&world, &somebody(), plan.as_ref().map(|(_, c)| c));
            plan = Some((revision, compiled));
        }
        let snapshot = plan.as_ref().map(|(_, c)| c.snapshot.clone());
        let (query, dialer, socket) = (buffer[..length].to_vec(), mesh.dialer.clone(), socket.clone());
        tokio::spawn(async move {
            let outside = async |name: String| dialer.resolve(&name).await;
            if let Some(reply) = dns::answer(&query, snapshot.as_deref(), outside).await {
                // A client that has gone asks no more.
                let _ = socket.send(&reply, from).await;
            }
        });
    }
}

/// A proxy of no workload, which sees what everybody sees.
fn somebody() -> ProxyId {
    ProxyId {
        kind: ProxyKind::Sidecar,
        workload: "".into(),
        name: "node".into(),
        namespace: "default".into(),
        addresses: Vec::new(),
        domain: "cluster.local".into(),
    }
}

#[expect(clippy::disallowed_methods, reason = "the node is a program of its own, beside the proxies")]
async fn serve_connections(mesh: &Arc<Mesh>) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, NODE_PROXY_PORT)).await?;
    loop {
        let Ok((client, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        tokio::spawn(connection(mesh.clone(), client));
    }
}

async fn connection(mesh: Arc<Mesh>, mut client: TcpStream) {
    let Some(wanted) = original(&client) else { return };
    // Someone who dials this port itself would come back here for ever.
    if wanted.port() == NODE_PROXY_PORT {
        return;
    }
    let way = route(&mesh.state().published.world, wanted);
    match open(&mesh.dialer, way).await {
        Ok(mut upstream) => {
            // How a copied connection ends is the affair of its two ends.
            let _ = copy_bidirectional(&mut client, &mut upstream).await;
        }
        Err(error) => {
            tracing::debug!(%wanted, %error, "a connection of a pod without a sidecar");
            // So that the client sees an error and not an empty answer.
            let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO));
        }
    }
}

fn original(client: &TcpStream) -> Option<SocketAddr> {
    let socket = SockRef::from(client);
    let found = socket.original_dst_v4().or_else(|_| socket.original_dst_v6()).ok()?;
    let address = found.as_socket()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// To a pod.
    Inside(SocketAddr),
    /// To an address outside.
    Outside(SocketAddr),
    /// To a host name outside that has a virtual address here.
    Named(Arc<str>, u16),
    /// A Service without a ready endpoint, or without this port.
    Nowhere,
}

fn route(world: &World, wanted: SocketAddr) -> Way {
    let Some(service) = world.services().iter().find(|s| s.addresses.contains(&wanted.ip())) else {
        return Way::Outside(wanted);
    };
    let all = of_service(world, service, wanted.port(), &BTreeMap::new());
    let ready: Vec<SocketAddr> =
        all.iter().filter(|e| e.health == Health::Healthy).filter_map(|e| e.address.ip()).collect();
    let turn = usize::try_from(mesh_core::env::Env::random(&mesh_proxy::net::HostEnv)).unwrap_or_default();
    match ready.get(turn % ready.len().max(1)) {
        Some(to) if inside(to.ip()) => Way::Inside(*to),
        Some(to) => Way::Outside(*to),
        None if service.ports.iter().any(|p| p.number == wanted.port()) && service.selector.is_none() => {
            Way::Named(service.hostname.clone(), wanted.port())
        }
        None => Way::Nowhere,
    }
}

fn inside(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if v4.octets()[..2] == [10, 244])
}

#[expect(clippy::disallowed_methods, reason = "the node is a program of its own, beside the proxies")]
async fn open(dialer: &Dialer, way: Way) -> io::Result<TcpStream> {
    let outside = async |to: SocketAddr| {
        let socket = dialer.connect(to).await?;
        socket.set_nonblocking(true)?;
        TcpStream::from_std(socket)
    };
    match way {
        Way::Inside(to) => TcpStream::connect(to).await,
        Way::Outside(to) => outside(to).await,
        Way::Named(host, port) => {
            let found = dialer.resolve(&host).await?;
            let first = found.addresses.first().ok_or_else(|| io::Error::other("the name has no address"))?;
            outside(SocketAddr::new(*first, port)).await
        }
        Way::Nowhere => Err(io::Error::other("no ready endpoint")),
    }
}

#[cfg(test)]
mod tests {
    use mesh_core::convert::{Addresses, Options, inputs};
    use mesh_core::yaml;

    use super::*;

    const TEXT: &str = "\
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {clusterIP: 10.96.0.9, selector: {app: a}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: a-1, labels: {app: a}}
spec: {containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Service
metadata: {name: b}
spec: {clusterIP: 10.96.0.10, selector: {app: b}, ports: [{port: 80}]}
";

    #[test]
    fn virtual_addresses_lead_to_pods_and_others_outside() {
        let (resources, _) = yaml::read("f.yaml", TEXT);
        let world = inputs(&resources, &Options::default(), &mut Addresses::default()).world;
        let to = |text: &str| route(&world, text.parse().unwrap());
        assert!(matches!(to("10.96.0.9:80"), Way::Inside(a) if a.port() == 8080));
        assert_eq!(to("10.96.0.9:81"), Way::Nowhere);
        assert_eq!(to("10.96.0.10:80"), Way::Nowhere);
        assert_eq!(to("192.0.2.1:443"), Way::Outside("192.0.2.1:443".parse().unwrap()));
    }
}
