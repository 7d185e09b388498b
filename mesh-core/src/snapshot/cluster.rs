//! Clusters: how the instances of a destination are found, balanced and spoken to.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Balancer, Balancing, MeshPeer, PoolPlan, Provenance, ProxyHeader, TunnelPlan, UpstreamTls};
use crate::api::ContentHash;
use crate::model::Workload;

/// Where a cluster's endpoints come from.
#[derive(Clone, PartialEq, Debug)]
pub enum EndpointSource {
    /// Workloads of a service.
    Service {
        /// Namespace of the service.
        namespace: Arc<str>,
        /// Fully qualified host.
        hostname: Arc<str>,
        /// Service port number.
        port: u16,
        /// Labels of the subset; empty: all.
        labels: BTreeMap<String, String>,
    },
    /// DNS names, resolved in the background.
    Dns {
        /// Names.
        names: Vec<DnsName>,
        /// Use only the first address (`DNS_ROUND_ROBIN`).
        first_only: bool,
        /// `dnsRefreshRate`: pause after a look-up that failed. After one that did not, the answer's time to live counts.
        retry: Duration,
    },
    /// The name that a request asks for (Host, or the server name of TLS), resolved when it comes.
    DynamicDns {
        /// Port to connect to; `None`: the one that the client dialled, and 443 for 80 where TLS is put around it.
        port: Option<u16>,
    },
    /// The address that the client dialled.
    OriginalDst {
        /// Another port than the client's (`targetPort`).
        port: Option<u16>,
    },
    /// The own application on this port.
    LocalApp {
        /// Port of the application.
        port: u16,
        /// Address of the application; `None`: the one that the client dialled. A loopback address is dialled from
        /// loopback, not from the address that capture lets through.
        ip: Option<IpAddr>,
    },
    /// The own application at a unix socket (`defaultEndpoint: unix://PATH` of a Sidecar): an absolute path, or `@NAME`.
    LocalSocket(Arc<str>),
    /// The own application on the port that the client dialled.
    LocalOriginalDst,
    /// Nothing: what is sent here fails.
    BlackHole,
}

/// A name (or an address) that stands for instances of a service.
#[derive(Clone, PartialEq, Debug)]
pub struct DnsName {
    /// Host name, or an address that needs no look-up.
    pub host: Arc<str>,
    /// Port of the instances.
    pub port: u16,
    /// What is known about them: labels, locality, weight.
    pub workload: Arc<Workload>,
    /// The mesh's own TLS with them.
    pub mesh: MeshPeer,
}

/// HTTP version towards an upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// What the downstream speaks (undeclared ports, `useClientProtocol`).
    Client,
    /// Bytes.
    Tcp,
}

/// A destination, subset and port.
#[derive(Clone, PartialEq, Debug)]
pub struct ClusterPlan {
    /// `outbound|9080|v1|reviews.default.svc.cluster.local`, `inbound|9080||`, `PassthroughCluster`, …
    pub name: Arc<str>,
    /// Where endpoints come from.
    pub source: EndpointSource,
    /// Protocol.
    pub protocol: UpstreamProtocol,
    /// Balancer.
    pub balancer: Balancer,
    /// Consistent hash, warm-up, locality, outliers.
    pub balancing: Arc<Balancing>,
    /// TCP connect timeout.
    pub connect_timeout: Duration,
    /// TLS to every endpoint, because a rule says so.
    pub tls: Option<Arc<UpstreamTls>>,
    /// Otherwise: TLS to the endpoints that take the mesh's own; `None`: plaintext to all.
    pub auto_tls: Option<Arc<UpstreamTls>>,
    /// Who says whether there is TLS.
    pub tls_origin: Provenance,
    /// PROXY header to send first.
    pub proxy_header: Option<ProxyHeader>,
    /// Tunnel for byte streams.
    pub tunnel: Option<Arc<TunnelPlan>>,
    /// Limits.
    pub pool: Arc<PoolPlan>,
    /// Service host for metrics labels (`destination_service`); empty for passthrough clusters.
    pub service: Arc<str>,
    /// Service name for metrics labels.
    pub service_name: Arc<str>,
    /// Service namespace for metrics labels.
    pub service_namespace: Arc<str>,
    /// Outside the mesh.
    pub external: bool,
    /// Subset name; empty: none.
    pub subset: Arc<str>,
    /// The service that made it.
    pub origin: Provenance,
    /// The DestinationRule and field in force for the policy.
    pub policy_origin: Provenance,
    /// Where the limits come from.
    pub pool_origin: Provenance,
    /// Hash over all of it.
    pub hash: ContentHash,
}

impl ClusterPlan {
    /// TLS with an endpoint of which this is known; `None`: plaintext.
    pub fn tls_with(&self, endpoint: &MeshPeer) -> Option<&Arc<UpstreamTls>> {
        self.tls.as_ref().or(self.auto_tls.as_ref().filter(|_| endpoint.takes))
    }
}
