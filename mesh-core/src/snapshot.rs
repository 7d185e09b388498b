//! The compiled plan: everything that a proxy needs to decide a connection or a request, fully merged, with where each
//! decision comes from.
//!
//! A [`Snapshot`] is built on a change, never on a request; parts whose input did not change are the same `Arc`s as in
//! the snapshot before (so the services built for them are kept, too). One request sees one snapshot: its listener,
//! route, cluster and log line name one [`Snapshot::hash`]. Endpoints and health are not configuration and live in
//! [`EndpointSet`]s, apart.

mod balancing;
mod cluster;
mod dump;
mod endpoints;
mod filters;
mod http_settings;
mod listener;
mod mesh_tls;
pub mod pool;
mod route;
pub mod security;
mod tls;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};

pub use balancing::{
    Balancer, Balancing, CookiePlan, FailoverPlan, HashKey, LocalityPlan, Near, OutlierPlan, Place, Warmup,
    ZoneAwarePlan,
};
pub use cluster::{ClusterPlan, DnsName, EndpointSource, UpstreamProtocol};
pub use endpoints::{Address, Endpoint, EndpointSet, MeshPeer};
pub use filters::{
    AbortPlan, AbortStatus, CorsPlan, DelayPlan, FaultPlan, MirrorPlan, RateLimitPlan, RouteFilters, Share, StatsPlan,
};
pub use http_settings::{EscapedSlashes, HttpSettings, ProxyPorts, RouteHeaders, Underscores};
pub use listener::{
    Direction, HttpPlan, L4Rule, ListenerKey, ListenerPlan, PathNormalization, ServerHeader, TcpPlan, TlsServer,
    TlsThen,
};
pub use mesh_tls::{MeshAuthority, MeshTls, MtlsMode};
pub use pool::{Http2Ping, Keepalive, PoolPlan, RetryBudgetPlan};
pub use route::{
    Action, DirectResponse, Domains, HeaderOps, RedirectPath, RedirectPlan, RetryOn, RetryPlan, Rewrite, RewritePath,
    RouteDecision, RoutePlan, RouteTable, SomeOps, VirtualHostPlan, WeightedCluster,
};
pub use security::{AuthorizerPlan, BodyPlan, HttpCheck, NamePattern, ProviderPlan, SecurityPlan};
pub use tls::{
    CIPHER_SUITES, ClientCertificate, DownstreamTls, ECDH_CURVES, PeerNames, ProxyHeader, SecretRef, Sni,
    TlsParameters, TlsVersion, TunnelPlan, UpstreamTls, Workloads, XfccDetails,
};

use crate::api::{ContentHash, Key, MeshConfig, Object, Origin};
use crate::model::Workload;

/// A map keyed by name, with the workspace's hasher.
pub type Map<K, V> = HashMap<K, V, RandomState>;

/// Which object and field made a decision, and where that was written. Much in a plan has the same one, so that a copy is
/// a reference count.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Provenance(Arc<DecidedBy>);

/// What a [`Provenance`] says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DecidedBy {
    /// The object; `None` when it is a built-in default.
    pub object: Option<Key>,
    /// The field (`spec.http[1].timeout`), or the rule in words for a default.
    pub field: Arc<str>,
    /// `file:line`, if it came from a file.
    pub location: Option<Arc<str>>,
}

impl std::ops::Deref for Provenance {
    type Target = DecidedBy;

    fn deref(&self) -> &DecidedBy {
        &self.0
    }
}

impl Provenance {
    /// A field of an object.
    pub fn field(key: &Key, origin: &Origin, field: &str) -> Self {
        let location = origin.location(field).map(Into::into);
        Self(Arc::new(DecidedBy { object: Some(key.clone()), field: field.into(), location }))
    }

    /// A field of the mesh's settings; where it is only the default that was merged in, that default, said in words.
    pub fn setting(mesh: &Object<MeshConfig>, field: &str, default: &str) -> Self {
        if mesh.origin.wrote(field) { Self::field(&mesh.key, &mesh.origin, field) } else { Self::default(default) }
    }

    /// A built-in default, said in words.
    pub fn default(rule: &str) -> Self {
        Self(Arc::new(DecidedBy { object: None, field: rule.into(), location: None }))
    }

    /// Hash of object and field. The location does not count: a proxy does not hear of an object that only moved in its
    /// file.
    pub(crate) fn hash(&self) -> ContentHash {
        match &self.object {
            Some(key) => Self::hash_of(key, &self.field),
            None => ContentHash::of(self.field.as_bytes()),
        }
    }

    /// [`Provenance::hash`] of a field of an object.
    pub(crate) fn hash_of(key: &Key, field: &str) -> ContentHash {
        let field = ContentHash::of(field.as_bytes());
        field.with_str(&key.kind.kind).with_str(&key.namespace).with_str(&key.name)
    }
}

/// Kind of proxy; decides what it is sent and which listeners it has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProxyKind {
    /// Beside one workload.
    Sidecar,
    /// Ingress or egress gateway.
    Gateway,
}

/// Who a proxy is: what scope and compile need to know about it, stated by the proxy when it subscribes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyId {
    /// Kind.
    pub kind: ProxyKind,
    /// [`crate::model::Workload::uid`] of its workload.
    pub workload: Arc<str>,
    /// Pod name.
    pub name: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// Own addresses.
    pub addresses: Vec<IpAddr>,
    /// DNS domain of the mesh: `cluster.local`.
    pub domain: Arc<str>,
}

impl ProxyId {
    /// The proxy of a workload, in a mesh whose DNS domain is `cluster.local`.
    #[must_use]
    pub fn of(kind: ProxyKind, workload: &Workload) -> Self {
        Self {
            kind,
            workload: workload.uid.clone(),
            name: workload.name.clone(),
            namespace: workload.namespace.clone(),
            addresses: workload.addresses.clone(),
            domain: "cluster.local".into(),
        }
    }

    /// An application in namespace `default` that is no workload: it calls as with a sidecar, and nobody calls it.
    #[must_use]
    pub fn application() -> Self {
        Self {
            kind: ProxyKind::Sidecar,
            workload: "".into(),
            name: "application".into(),
            namespace: "default".into(),
            addresses: Vec::new(),
            domain: "cluster.local".into(),
        }
    }
}

/// Settings of the whole proxy, from MeshConfig and ProxyConfig.
#[derive(Clone, PartialEq, Debug)]
pub struct ProxyPlan {
    /// Who it is for.
    pub id: ProxyId,
    /// `accessLogFile` is set.
    pub access_log: bool,
    /// `accessLogEncoding: JSON`.
    pub access_log_json: bool,
    /// `accessLogFormat`; `None`: Istio's default.
    pub access_log_format: Option<Arc<str>>,
    /// `gatewayTopology.proxyProtocol`: connections of a gateway begin with a PROXY header.
    pub accepts_proxy_header: bool,
    /// Connections that no listener takes are logged; off by `disableEnvoyListenerLog`.
    pub listener_log: bool,
    /// Ports of the proxy itself.
    pub ports: ProxyPorts,
    /// Header names keep their case towards upstreams, too (`proxyHeaders.preserveHttp1HeaderCase`).
    pub preserve_case: bool,
    /// `outboundTrafficPolicy.mode` in force is ALLOW_ANY.
    pub allow_any: bool,
    /// `protocolDetectionTimeout`; `None`: wait for ever.
    pub detection_timeout: Option<std::time::Duration>,
    /// `drainDuration`.
    pub drain_duration: std::time::Duration,
    /// `terminationDrainDuration`.
    pub termination_drain_duration: std::time::Duration,
    /// `caCertificates`, `caCertificatesPem`.
    pub authorities: Arc<[MeshAuthority]>,
    /// Labels for metrics: the workload's own.
    pub workload: Option<Arc<crate::model::Workload>>,
    /// Hash of it.
    pub hash: ContentHash,
}

/// What a socket that a plan asks for is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum BindDoor {
    /// The outbound listener of this very address and port.
    Outbound,
    /// The inbound listener of this port.
    Inbound,
    /// An HTTP proxy, whose clients name where they want to go.
    HttpProxy,
    /// As if this had been dialled: the address of the service that a socket without one stands for.
    Service(SocketAddr),
    /// This listener of the gateway.
    Gateway(ListenerKey),
}

/// A socket that applications or clients dial, instead of being captured: `captureMode: NONE` or `bind` of a Sidecar, a
/// unix socket of a Gateway.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Bind {
    /// Where to listen: in the workload's network, or among its files.
    pub at: Address,
    /// What its connections are.
    pub door: BindDoor,
}

/// What a name resolves to inside the mesh, for the DNS proxy and for explicit proxying.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NameEntry {
    /// Fully qualified name.
    pub hostname: Arc<str>,
    /// Virtual addresses, or pod addresses of a headless service.
    pub addresses: Vec<IpAddr>,
}

/// The plan of one proxy at one configuration.
#[derive(Clone, PartialEq, Debug)]
pub struct Snapshot {
    /// Names the configuration in force: hash over every part, not over endpoints.
    pub hash: ContentHash,
    /// Settings of the proxy.
    pub proxy: Arc<ProxyPlan>,
    /// Listeners by direction, address and port.
    pub listeners: Map<ListenerKey, Arc<ListenerPlan>>,
    /// Sockets beside those of capture.
    pub binds: Vec<Bind>,
    /// Clusters by name (`outbound|9080|v1|reviews.default.svc.cluster.local`).
    pub clusters: Arc<Map<Arc<str>, Arc<ClusterPlan>>>,
    /// Names that the DNS proxy answers: fully qualified and, in the own namespace, short; lower case.
    pub names: Arc<Map<Arc<str>, Arc<NameEntry>>>,
    /// Policies about who may do what here.
    pub security: Arc<SecurityPlan>,
}

impl Snapshot {
    /// The outbound listener for an original destination: exact address and port, then any address, then the catch-all.
    pub fn outbound(&self, ip: Option<IpAddr>, port: u16) -> &Arc<ListenerPlan> {
        self.find(Direction::Outbound, ip, port)
    }

    /// The inbound listener of a port, or the catch-all for ports that no service declares.
    pub fn inbound(&self, port: u16) -> &Arc<ListenerPlan> {
        self.find(Direction::Inbound, None, port)
    }

    /// The gateway listener of a port, on every address.
    pub fn gateway(&self, port: u16) -> Option<&Arc<ListenerPlan>> {
        self.gateway_at(None, port)
    }

    /// The gateway listener of a port on one address (`bind`); `None`: on every address.
    pub fn gateway_at(&self, address: Option<IpAddr>, port: u16) -> Option<&Arc<ListenerPlan>> {
        self.listeners.get(&ListenerKey::new(Direction::Gateway, address, port))
    }

    fn find(&self, direction: Direction, ip: Option<IpAddr>, port: u16) -> &Arc<ListenerPlan> {
        let get = |address, port| self.listeners.get(&ListenerKey::new(direction, address, port));
        ip.and_then(|ip| get(Some(ip), port))
            .or_else(|| get(None, port))
            .or_else(|| get(None, 0))
            .expect("invariant: compile gives each direction of a sidecar a catch-all listener on port 0")
    }
}
