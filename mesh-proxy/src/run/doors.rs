//! The ports of a proxy, opened and closed as the plan asks.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mesh_core::snapshot::{Address, Bind, BindDoor, Direction, ProxyKind, ProxyPorts, Snapshot};

use super::{Args, Place, Process};
use crate::discovery;
use crate::dns;
use crate::listener::Door;
use crate::net::{Net, Share};
use crate::worker::{Open, Opening, Workers};

/// Port of the explicit proxy in explicit mode.
const OUTBOUND: u16 = 15001;
const DNS: u16 = 15053;

/// Open ports.
pub(super) struct Doors {
    shared: Process,
    workers: Workers,
    place: Place,
    host_ports: BTreeMap<u16, SocketAddr>,
    offset: u16,
    any: IpAddr,
    /// Where captured connections come to: as the first configuration said, because the rules of the network that send
    /// them here are made once, too.
    capture: Option<(u16, u16)>,
    open: BTreeMap<String, (Opening, Open)>,
    failed: BTreeMap<String, String>,
}

impl Doors {
    pub(super) fn new(shared: Process, workers: Workers, place: Place, args: &Args) -> Self {
        let host_ports = args.host_ports(place.dialer);
        let (offset, any) = (args.listen_offset, args.any());
        Self {
            shared,
            workers,
            place,
            host_ports,
            offset,
            any,
            capture: None,
            open: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Whether some port could not be opened.
    pub(super) fn are_missing(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Opens what the plan wants and closes what it does not want any more. What can't be opened is logged, and tried
    /// again later.
    pub(super) async fn reconcile(&mut self, snapshot: &Snapshot) {
        let ProxyPorts { outbound, inbound, http: _ } = snapshot.proxy.ports;
        if *self.capture.get_or_insert((outbound, inbound)) != (outbound, inbound) {
            tracing::warn!(
                "proxyListenPort and proxyInboundListenPort are those of the start until the proxy is restarted"
            );
        }
        let wanted = self.wanted(snapshot);
        let gone: Vec<String> = self.open.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        for name in gone {
            if let Some((what, open)) = self.open.remove(&name) {
                self.close(&name, &what, open).await;
            }
        }
        self.failed.retain(|name, _| wanted.contains_key(name));
        for (name, what) in wanted {
            if self.open.contains_key(&name) {
                continue;
            }
            match self.workers.open(&self.shared, &what).await {
                Ok(open) => {
                    tracing::info!(name, at = %open.at, "listening");
                    self.failed.remove(&name);
                    self.open.insert(name, (what, open));
                }
                Err(error) => self.complain(name, &what, &error),
            }
        }
    }

    fn complain(&mut self, name: String, what: &Opening, error: &io::Error) {
        let text = error.to_string();
        if self.failed.get(&name) != Some(&text) {
            tracing::error!(name, at = %what.at, "port can't be opened: {text}");
            self.failed.insert(name, text);
        }
    }

    async fn close(&self, name: &str, what: &Opening, open: Open) {
        let at = open.at.clone();
        open.close().await;
        if what.host
            && let Some(ip) = at.ip()
            && let Err(error) = self.shared.net.unlisten_host(ip).await
        {
            tracing::warn!(name, %at, %error, "the host's port could not be given back");
        }
        tracing::info!(name, %at, "closed");
    }

    fn wanted(&self, snapshot: &Snapshot) -> BTreeMap<String, Opening> {
        let all = match (self.place.kind, self.place.explicit) {
            (ProxyKind::Sidecar, Some(ip)) => explicit(ip, snapshot),
            (ProxyKind::Sidecar, None) => self.captured(snapshot),
            (ProxyKind::Gateway, _) => self.gateway(snapshot),
        };
        all.into_iter().map(|o| (o.name.clone(), o)).collect()
    }

    /// Ports of capture, the HTTP proxy on loopback, and listeners that applications or clients dial themselves.
    fn captured(&self, snapshot: &Snapshot) -> Vec<Opening> {
        let ports = snapshot.proxy.ports;
        let (outbound, inbound) = self.capture.unwrap_or((ports.outbound, ports.inbound));
        let mut all = vec![
            opening("outbound", SocketAddr::new(self.any, outbound), Door::Outbound),
            opening("inbound", SocketAddr::new(self.any, inbound), Door::Inbound),
        ];
        let loopback = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        all.extend(ports.http.map(|port| opening("http-proxy", loopback(port), Door::Explicit)));
        all.extend(snapshot.binds.iter().map(bound));
        all
    }

    fn gateway(&self, snapshot: &Snapshot) -> Vec<Opening> {
        let keys = snapshot.listeners.keys().filter(|k| k.direction == Direction::Gateway && k.socket.is_none());
        let mut all: Vec<Opening> = snapshot.binds.iter().map(bound).collect();
        for key in keys {
            let port = key.port;
            if let Some(ip) = key.address {
                // A server that says where it listens listens there, and nowhere else.
                let at = SocketAddr::new(ip, port.saturating_add(self.offset));
                all.push(opening(&format!("gateway-{ip}-{port}"), at, Door::GatewayAt(*key)));
                continue;
            }
            let door = Door::Gateway(port);
            let mapped = self.host_ports.get(&port).copied();
            if self.place.own_network {
                // In-mesh clients reach the gateway in its own network.
                all.push(opening(&format!("pod-{port}"), SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port), door));
            }
            let at = match (mapped, self.place.dialer) {
                (Some(at), _) => at,
                (None, true) => {
                    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), if port < 1024 { port + 8000 } else { port })
                }
                (None, false) => SocketAddr::new(self.any, port.saturating_add(self.offset)),
            };
            all.push(Opening { host: true, ..opening(&format!("gateway-{port}"), at, door) });
        }
        all
    }

    /// Whether names are asked of this proxy.
    pub(super) fn serves_dns(&self) -> bool {
        self.place.captured
    }

    /// Opens the DNS ports. IPv6 resolvers are asked on a socket of their own, because an answer must come from the
    /// address that was asked. DNS that can't be opened is logged: the rest works by address.
    pub(super) async fn open_dns(&self) {
        let net = &self.shared.net;
        let (mut udp, mut tcp) = (Vec::new(), Vec::new());
        for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let at = SocketAddr::new(ip, DNS);
            match net.datagrams(at).await {
                Ok(socket) => udp.push(socket),
                Err(error) => tracing::warn!(%at, %error, "DNS"),
            }
            match net.listen("dns", at, Share::WHOLE).await {
                Ok(listener) => tcp.push(listener),
                Err(error) => tracing::warn!(%at, %error, "DNS over TCP"),
            }
        }
        dns::serve(self.shared.clone(), udp, tcp).await;
    }
}

fn opening(name: &str, at: impl Into<Address>, door: Door) -> Opening {
    Opening { name: name.to_owned(), at: at.into(), host: false, door }
}

/// A socket that the plan asks for beside its ports.
fn bound(bind: &Bind) -> Opening {
    let door = match bind.door {
        BindDoor::Outbound => Door::OutboundDirect,
        BindDoor::Inbound => Door::InboundDirect,
        BindDoor::HttpProxy => Door::Explicit,
        BindDoor::Service(at) => Door::OutboundTo(at),
        BindDoor::Gateway(key) => Door::GatewayAt(key),
    };
    opening(&format!("bind-{}", bind.at), bind.at.clone(), door)
}

/// Explicit mode: the proxy's port, and the application's ports at the address under which the mesh knows the pod. Loopback
/// is everybody's there, so that of what the plan asks for only unix sockets are opened.
fn explicit(ip: IpAddr, snapshot: &Snapshot) -> Vec<Opening> {
    let mut all = vec![opening("outbound", SocketAddr::new(ip, OUTBOUND), Door::Explicit)];
    all.extend(snapshot.binds.iter().filter(|b| b.at.ip().is_none()).map(bound));
    let ports = std::env::var(discovery::ENV_APP_PORTS).unwrap_or_default();
    for port in ports.split(',').filter_map(|p| p.trim().parse().ok()) {
        all.push(opening(&format!("inbound-{port}"), SocketAddr::new(ip, port), Door::InboundDirect));
    }
    all
}
