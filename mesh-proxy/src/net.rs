//! Sockets: the one place where the data path meets the operating system, behind the trait [`Net`].
//!
//! Everything else is generic over it, so that the same proxy runs on Linux sockets ([`HostNet`]), through the local
//! mesh's dialer (also [`HostNet`], when it inherits one) and on networks that tests make up.

mod dialer;
mod env;
mod host;
mod inherited;
mod resolver;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use mesh_core::record::ConnInfo;
use mesh_core::snapshot::{Direction, Keepalive};
use tokio::io::{AsyncRead, AsyncWrite};

pub use dialer::Dialer;
pub use env::HostEnv;
pub use host::{HostDatagrams, HostListener, HostNet, HostStream};
pub use inherited::Inherited;
pub use resolver::Resolver;

/// `SO_MARK` of connections to upstreams: never captured again.
pub const MARK_UPSTREAM: u32 = 0x539;
/// `SO_MARK` of connections to the own application: never captured.
pub const MARK_TO_APP: u32 = 0x53a;

/// What a connection is for; decides its mark and how it leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Purpose {
    /// To another workload or to the outside.
    #[default]
    Upstream,
    /// To an address that the host's resolver gave: if that is a loopback address, the host's is meant.
    Named,
    /// To the application that this proxy stands before.
    App,
}

/// How to connect. There is no timeout in here: the caller drops the future.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ConnectOptions {
    /// What for.
    pub purpose: Purpose,
    /// Source address; `None`: the kernel's choice. Istio's sidecars reach their application from 127.0.0.6.
    pub source: Option<IpAddr>,
    /// Times of TCP keep-alive; `None`: the system's.
    pub keepalive: Option<Keepalive>,
}

/// How a proxy reaches its own application.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AppAddress {
    /// Where it listens; `None`: on the address that the client dialled, as in a pod.
    pub ip: Option<IpAddr>,
    /// Traffic of this network namespace is captured. Connections to the application then leave from 127.0.0.6, which
    /// Istio's capture rules let pass and which applications know as the proxy's address.
    pub captured: bool,
}

impl AppAddress {
    /// An address that configuration names (`defaultEndpoint`): loopback of the pod, which in explicit mode is shared with
    /// everybody, so that the application's own address stands for it there.
    pub fn at(&self, ip: IpAddr, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip.filter(|_| ip.is_loopback()).unwrap_or(ip), port)
    }

    /// Address of the application's `port` for a connection of this client, and how to connect to it.
    pub fn connect(&self, conn: &ConnInfo, port: u16) -> (SocketAddr, ConnectOptions) {
        let dialled = if conn.direction == Direction::Inbound { conn.local.ip() } else { Ipv4Addr::LOCALHOST.into() };
        let source = self.captured.then_some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6)));
        let address = SocketAddr::new(self.ip.unwrap_or(dialled), port);
        (address, ConnectOptions { purpose: Purpose::App, source, keepalive: None })
    }
}

/// Which of several equal listeners of one port is wanted: one per worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    /// Index of the worker, from 0.
    pub index: usize,
    /// Number of workers.
    pub of: usize,
}

impl Share {
    /// The only one.
    pub const WHOLE: Self = Self { index: 0, of: 1 };
}

/// Addresses of a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resolved {
    /// Addresses, in the resolver's order.
    pub addresses: Vec<IpAddr>,
    /// How long they may be used.
    pub ttl: Duration,
}

impl Resolved {
    /// Reads `seconds address…`, as the local mesh's dialer answers.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(text: &str) -> io::Result<Self> {
        let mut words = text.split_whitespace();
        let seconds = words.next().and_then(|word| word.parse().ok());
        let addresses: Option<Vec<IpAddr>> = words.map(|word| word.parse().ok()).collect();
        let broken = || io::Error::new(io::ErrorKind::InvalidData, format!("{text:?} is no answer to a look-up"));
        let (seconds, addresses) = seconds.zip(addresses).ok_or_else(broken)?;
        Ok(Self { addresses, ttl: Duration::from_secs(seconds) })
    }
}

impl std::fmt::Display for Resolved {
    /// As [`Resolved::parse`] reads it; a time to live that is not whole seconds is rounded up.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.ttl.as_millis().div_ceil(1000))?;
        self.addresses.iter().try_for_each(|ip| write!(f, " {ip}"))
    }
}

/// A connected byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The peer's address; an IPv4 peer of a dual-stack socket is given as IPv4. Who dials a unix socket is on this
    /// machine: that is loopback, with port 0.
    fn peer_addr(&self) -> io::Result<SocketAddr>;

    /// The own address, in the same form.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Makes the close that follows an abortive one (RST), so that the peer sees an error and not an end.
    fn abort_on_close(&self);
}

/// A listening socket.
pub trait Listener: Send + 'static {
    /// What it accepts.
    type Stream: Stream;

    /// The next connection. An error concerns that connection or the whole process (descriptors used up), never the
    /// listener: the caller goes on accepting.
    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Where it listens.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// A socket of datagrams.
pub trait Datagrams: Send + Sync + 'static {
    /// The next datagram: its length and sender. An error is about an earlier one that was sent.
    fn receive(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<(usize, SocketAddr)>> + Send;

    /// Sends a datagram.
    fn send(&self, bytes: &[u8], to: SocketAddr) -> impl Future<Output = io::Result<usize>> + Send;

    /// The own address.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// The network, as a proxy sees it.
pub trait Net: Clone + Send + Sync + 'static {
    /// Its connections.
    type Stream: Stream;
    /// Its listeners.
    type Listener: Listener<Stream = Self::Stream>;
    /// Its datagram sockets.
    type Datagrams: Datagrams;

    /// Connects.
    fn connect(&self, to: SocketAddr, options: ConnectOptions)
    -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Connects to a unix socket beside the proxy: an absolute path, or `@NAME`. Not every network has them.
    fn connect_unix(&self, path: &str) -> impl Future<Output = io::Result<Self::Stream>> + Send {
        let _ = path;
        std::future::ready(Err(io::ErrorKind::Unsupported.into()))
    }

    /// Listens on such a socket, which everybody who sees it may dial; a path is free again when the listener goes.
    fn listen_unix(&self, path: &str) -> impl Future<Output = io::Result<Self::Listener>> + Send {
        let _ = path;
        std::future::ready(Err(io::ErrorKind::Unsupported.into()))
    }

    /// Listens. An inherited socket of that name goes before a new one, and a wildcard IPv6 address takes IPv4 too. Must
    /// be called on the runtime that accepts.
    fn listen(
        &self,
        name: &str,
        at: SocketAddr,
        share: Share,
    ) -> impl Future<Output = io::Result<Self::Listener>> + Send;

    /// Listens on a port that users of this machine reach: in the local mesh a port of the host, which the dialer opens.
    fn listen_host(
        &self,
        name: &str,
        at: SocketAddr,
        share: Share,
    ) -> impl Future<Output = io::Result<Self::Listener>> + Send;

    /// A socket for datagrams at this address.
    fn datagrams(&self, at: SocketAddr) -> impl Future<Output = io::Result<Self::Datagrams>> + Send;

    /// Gives such a port back, once every listener of it has been dropped.
    fn unlisten_host(&self, at: SocketAddr) -> impl Future<Output = io::Result<()>> + Send;

    /// Addresses of a name outside the mesh.
    fn resolve(&self, name: &str) -> impl Future<Output = io::Result<Resolved>> + Send;

    /// Where an accepted connection was meant to go before it was captured; the own address if it was not captured.
    fn original_dst(&self, stream: &Self::Stream) -> io::Result<SocketAddr>;
}
