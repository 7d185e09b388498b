//! NodePorts: ports of the host that lead to a ready pod of a Service, through its inbound capture.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use mesh_core::api::Key;
use mesh_core::endpoints::of_service;
use mesh_core::model::Health;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::mesh::{Mesh, NodePort};

/// Opens what is asked for and closes what is not.
pub(super) fn look(mesh: &Arc<Mesh>) {
    let mut state = mesh.state();
    let mut wanted = BTreeMap::new();
    for service in state.store.iter().filter_map(|s| s.document.service()) {
        if service.spec.r#type != "NodePort" {
            continue;
        }
        for port in service.spec.ports.iter().filter(|p| p.node_port != 0) {
            if let (Ok(node_port), Ok(number)) = (u16::try_from(port.node_port), u16::try_from(port.port)) {
                wanted.entry(node_port).or_insert((service.key.clone(), number));
            }
        }
    }
    state.node_ports.retain(|at, open| {
        let same = wanted.get(at).is_some_and(|(service, port)| *service == open.service && *port == open.port);
        if !same {
            open.stop.send_replace(true);
        }
        same
    });
    let fresh: Vec<_> = wanted.into_iter().filter(|(at, _)| !state.node_ports.contains_key(at)).collect();
    for (at, (service, port)) in fresh {
        let stop = watch::Sender::new(false);
        let stopped = stop.subscribe();
        state.node_ports.insert(at, NodePort { service: service.clone(), port, stop, error: String::new() });
        tokio::spawn(serve(mesh.clone(), at, service, port, stopped));
    }
}

async fn serve(mesh: Arc<Mesh>, at: u16, service: Key, port: u16, mut stopped: watch::Receiver<bool>) {
    let host = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), at);
    let listener = match open(&mesh, host).await {
        Ok(listener) => listener,
        Err(e) => {
            let text = format!("nodePort {at}: {e}");
            tracing::warn!(%service, "{text}");
            if let Some(open) = mesh.state().node_ports.get_mut(&at) {
                open.error = text;
            }
            return mesh.note();
        }
    };
    let mut turn = 0;
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => client,
                Err(e) => {
                    tracing::warn!(error = %e, "nodePort {at}");
                    continue;
                }
            },
            _ = stopped.wait_for(|s| *s) => break,
        };
        turn += 1;
        let Some(to) = endpoint(&mesh, &service, port, turn) else { continue };
        tokio::spawn(forward(client, to));
    }
    drop(listener);
    let _ = mesh.dialer.unlisten(host).await;
}

async fn open(mesh: &Mesh, at: SocketAddr) -> io::Result<TcpListener> {
    let (_, mut sockets) = mesh.dialer.listen(at, 1).await?;
    let socket = sockets.pop().ok_or_else(|| io::Error::other("the dialer gave no socket"))?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

/// A ready endpoint of a Service, in turn.
pub(super) fn endpoint(mesh: &Mesh, service: &Key, port: u16, turn: usize) -> Option<SocketAddr> {
    let state = mesh.state();
    let world = &state.published.world;
    let service = world.services().iter().find(|s| s.key == *service)?;
    let all = of_service(world, service, port, &BTreeMap::new());
    let ready: Vec<SocketAddr> =
        all.iter().filter(|e| e.health == Health::Healthy).filter_map(|e| e.address.ip()).collect();
    ready.get(turn % ready.len().max(1)).copied()
}

#[expect(clippy::disallowed_methods, reason = "the node is a program of its own, beside the proxies")]
async fn forward(mut client: TcpStream, to: SocketAddr) {
    match TcpStream::connect(to).await {
        Ok(mut upstream) => {
            // An end that broke off breaks off on the other side, too: a client is to see that it was reset.
            if copy_bidirectional(&mut client, &mut upstream).await.is_err() {
                let _ = client.set_zero_linger();
            }
        }
        Err(e) => tracing::debug!(%to, error = %e, "nodePort"),
    }
}

/// Host addresses of the gateway's ports; a port that is to be picked is picked now.
///
/// # Errors
/// No port is free.
pub(super) async fn gateway_ports(
    dialer: &crate::localmesh::Dialer,
    wanted: &BTreeMap<u16, u16>,
) -> io::Result<BTreeMap<u16, SocketAddr>> {
    let mut ports = BTreeMap::new();
    for (port, host) in wanted {
        let mut at = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), *host);
        if *host == 0 {
            let (picked, _) = dialer.listen(at, 1).await?;
            dialer.unlisten(picked).await?;
            at = picked;
        }
        ports.insert(*port, at);
    }
    Ok(ports)
}
