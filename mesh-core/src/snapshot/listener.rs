//! Listeners: what takes a connection, and what decides it.

use std::net::IpAddr;
use std::sync::Arc;

use super::{DownstreamTls, HttpSettings, MeshTls, Provenance, RouteTable, WeightedCluster};
use crate::api::ContentHash;
use crate::matching::{Cidr, HostPattern};
use crate::record::TlsInfo;

/// Which way the traffic of a listener goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Direction {
    /// To the own application (15006).
    Inbound,
    /// From the own application (15001).
    Outbound,
    /// Into or through a gateway.
    Gateway,
}

/// Identity of a listener in a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ListenerKey {
    /// Direction.
    pub direction: Direction,
    /// Virtual address; `None` is any.
    pub address: Option<IpAddr>,
    /// Port; 0 is the catch-all of a sidecar's direction.
    pub port: u16,
    /// Of a gateway's listener at a unix socket (`bind: unix://…`): the hash of its path. It has no address.
    pub socket: Option<ContentHash>,
}

impl ListenerKey {
    /// A listener in the network.
    pub const fn new(direction: Direction, address: Option<IpAddr>, port: u16) -> Self {
        Self { direction, address, port, socket: None }
    }

    /// A gateway's listener at a unix socket. `port` is the number of its server, by which rules name it.
    pub fn socket(path: &str, port: u16) -> Self {
        let socket = Some(ContentHash::of(path.as_bytes()));
        Self { direction: Direction::Gateway, address: None, port, socket }
    }
}

/// What a listener does with connections, fully merged. `decide_connection` reads it.
#[derive(Clone, PartialEq, Debug)]
pub struct ListenerPlan {
    /// `0.0.0.0_9080`, `10.96.0.3_443`, `virtualOutbound`, `virtualInbound`; of a unix socket its path.
    pub name: Arc<str>,
    /// Identity.
    pub key: ListenerKey,
    /// Look at the first bytes before deciding between `http` and the L4 rules. Off: `http` if there is one, else L4.
    pub detect: bool,
    /// HTTP half.
    pub http: Option<Arc<HttpPlan>>,
    /// The mesh's own TLS, on an inbound listener; `None`: connections are what they are.
    pub mesh: Option<MeshTls>,
    /// Servers that end TLS, of a gateway or of a Sidecar's `ingress`; the most specific server name wins, over those of
    /// `l4` too.
    pub tls: Vec<TlsServer>,
    /// L4 rules, first match wins.
    pub l4: Vec<L4Rule>,
    /// What takes a connection that nothing above takes; `None`: close it (flag `NR`).
    pub fallback: Option<Arc<TcpPlan>>,
    /// The Service, Gateway server or rule that made it.
    pub origin: Provenance,
    /// Hash over all of it.
    pub hash: ContentHash,
}

impl ListenerPlan {
    /// Whether a connection to the own application may be used: by whether TLS was ended on it, and for whom.
    pub fn allows(&self, tls: Option<&TlsInfo>) -> bool {
        match &self.mesh {
            Some(mesh) => mesh.allows(tls),
            None => self.tls.is_empty() || tls.is_some(),
        }
    }
}

/// A server of a gateway, or of a Sidecar's `ingress`, that ends TLS.
#[derive(Clone, PartialEq, Debug)]
pub struct TlsServer {
    /// `https.443.https.GATEWAY.NAMESPACE`; of a Sidecar `inbound|9000||`.
    pub name: Arc<str>,
    /// Server names, any of them; `*` takes clients that send none, too.
    pub sni: Vec<HostPattern>,
    /// TLS.
    pub tls: Arc<DownstreamTls>,
    /// What is inside.
    pub then: TlsThen,
    /// The Gateway's server, or the entry of `ingress`.
    pub origin: Provenance,
}

/// What is inside TLS that such a server ends.
#[derive(Clone, PartialEq, Debug)]
pub enum TlsThen {
    /// HTTP.
    Http(Arc<HttpPlan>),
    /// Bytes.
    Tcp(Arc<TcpPlan>),
}

/// `server` response header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServerHeader {
    /// Always this value.
    Overwrite(Arc<str>),
    /// The upstream's; the proxy's name on local replies.
    PassThrough,
}

/// `meshConfig.pathNormalization`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PathNormalization {
    /// As sent.
    None,
    /// RFC 3986 dot segments, `\` to `/`, unreserved escapes decoded.
    #[default]
    Base,
    /// And `//` to `/`.
    MergeSlashes,
    /// And `%2F`, `%5C` decoded first.
    DecodeAndMergeSlashes,
}

/// How an HTTP listener treats requests before they are routed.
#[derive(Clone, PartialEq, Debug)]
pub struct HttpPlan {
    /// Routes by host.
    pub routes: Arc<RouteTable>,
    /// `server` header.
    pub server: ServerHeader,
    /// Gateways: the peer is the edge (append to `x-forwarded-for`, replace request id and forwarded-proto).
    pub use_remote_address: bool,
    /// `gatewayTopology.numTrustedProxies`.
    pub trusted_hops: u32,
    /// Path normalization.
    pub path_normalization: PathNormalization,
    /// Hosts of other servers of the same port: a request for one of them came on the wrong connection (421).
    pub elsewhere: Arc<[HostPattern]>,
    /// How HTTP is spoken.
    pub settings: HttpSettings,
    /// Hash over all of it.
    pub hash: ContentHash,
}

/// One L4 rule of a listener.
#[derive(Clone, PartialEq, Debug)]
pub struct L4Rule {
    /// SNI patterns, any of them; empty: any connection, TLS or not.
    pub sni: Vec<HostPattern>,
    /// Application protocols, one of which a TLS client must offer; empty: any.
    pub alpn: Vec<Arc<str>>,
    /// Destination networks, any of them; empty: all.
    pub destination_subnets: Vec<Cidr>,
    /// Where it goes.
    pub plan: Arc<TcpPlan>,
}

/// Where a TCP stream goes.
#[derive(Clone, PartialEq, Debug)]
pub struct TcpPlan {
    /// Route name for the access log; empty: `-`.
    pub route_name: Arc<str>,
    /// Targets; their weights sum to more than 0.
    pub clusters: Vec<WeightedCluster>,
    /// Which field made it.
    pub origin: Provenance,
    /// Hash over all of it.
    pub hash: ContentHash,
}
