//! Services and workloads: what a Kubernetes Service, a ServiceEntry, a Pod and a WorkloadEntry have in common.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Selector;
use crate::api::{ContentHash, Key, Origin};
use crate::matching::Cidr;

/// Protocol of a port: of `appProtocol`, else of the name's first token, else detected from the first bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AppProtocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// gRPC, over HTTP/2.
    Grpc,
    /// gRPC-Web: HTTP/1.1 or 2 with gRPC bodies.
    GrpcWeb,
    /// TLS that carries HTTP; routed by SNI.
    Https,
    /// TLS that carries anything; routed by SNI.
    Tls,
    /// Bytes.
    Tcp,
    /// Datagrams; never captured.
    Udp,
    /// Not declared: HTTP if the first bytes look like it, else TCP.
    Auto,
}

impl AppProtocol {
    /// Protocol of a service port: `appProtocol`, else the port name, else well-known server-first ports are TCP.
    pub fn of_port(app_protocol: Option<&str>, name: &str, number: u16) -> Self {
        match app_protocol {
            Some("kubernetes.io/h2c") => return Self::Http2,
            Some("kubernetes.io/ws") => return Self::Http,
            Some("kubernetes.io/wss") => return Self::Https,
            _ => {}
        }
        let text = app_protocol.unwrap_or(name).to_ascii_lowercase();
        if text.starts_with("grpc-web") {
            return Self::GrpcWeb;
        }
        match text.split('-').next().unwrap_or_default() {
            "http" => Self::Http,
            "http2" => Self::Http2,
            "grpc" => Self::Grpc,
            "https" => Self::Https,
            "tls" => Self::Tls,
            "tcp" | "mongo" | "mysql" | "redis" => Self::Tcp,
            "udp" => Self::Udp,
            _ if matches!(number, 25 | 53 | 3306 | 27017) => Self::Tcp,
            _ => Self::Auto,
        }
    }

    /// HTTP of any version, decided by declaration.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// Upstreams of this port are spoken to in HTTP/2.
    pub fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc)
    }
}

/// How a service's endpoints are found.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Resolution {
    /// From the workloads that the selector picks, or from the listed endpoints.
    #[default]
    Static,
    /// Connect to the address that the client dialled.
    None,
    /// Every address of each endpoint's DNS name.
    Dns,
    /// The first address of the DNS name.
    DnsRoundRobin,
    /// From Host or SNI when a request comes.
    DynamicDns,
}

/// Whether a service is part of the mesh.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Location {
    /// Inside: identity and mutual TLS apply.
    #[default]
    Internal,
    /// Outside.
    External,
}

/// `trafficDistribution`: which instances a client prefers, whatever the mesh says about localities.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TrafficDistribution {
    /// All alike.
    #[default]
    Any,
    /// `PreferSameZone`, or the older `PreferClose`: same network, then region, zone and subzone.
    SameZone,
    /// `PreferSameNode`: the same, and then the same node.
    SameNode,
}

/// One port of a service.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Port number that clients use.
    pub number: u16,
    /// Port name; may be empty for a single port.
    pub name: Arc<str>,
    /// Protocol.
    pub protocol: AppProtocol,
    /// Port number on the workload, if it is a number; 0 if it is named.
    pub target_port: u16,
    /// Name of the container port, if `targetPort` is a name; looked up in [`Workload::ports`].
    pub target_name: Option<Arc<str>>,
    /// `nodePort`, 0 if none.
    pub node_port: u16,
}

/// A service: a name with ports that stands for workloads.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// The Service or ServiceEntry it was made from.
    pub key: Key,
    /// Where that was written.
    pub origin: Origin,
    /// Fully qualified host name (`reviews.default.svc.cluster.local`), lower case. A ServiceEntry with several hosts
    /// makes several services.
    pub hostname: Arc<str>,
    /// Namespace of the object.
    pub namespace: Arc<str>,
    /// Virtual addresses; empty for headless services.
    pub addresses: Vec<IpAddr>,
    /// Networks whose every address is one of the service's (CIDR `addresses` of a ServiceEntry).
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub networks: Box<[Cidr]>,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// Labels that a workload of the same namespace must have; `None`: no selector, `endpoints` are all there is.
    pub selector: Option<Selector>,
    /// Listed endpoints of a ServiceEntry.
    pub endpoints: Vec<Arc<Workload>>,
    /// How endpoints are found.
    pub resolution: Resolution,
    /// In the mesh or outside.
    pub location: Location,
    /// Namespaces that may see it: `*`, `.` resolved to the own namespace, names; empty: nobody (`~`).
    pub export_to: Vec<Arc<str>>,
    /// `clusterIP: None`.
    pub headless: bool,
    /// Which instances clients prefer.
    #[serde(default)]
    pub traffic_distribution: TrafficDistribution,
    /// Target host of an ExternalName service.
    pub external_name: Option<Arc<str>>,
    /// Accepted server names, from ServiceEntry.
    pub subject_alt_names: Vec<Arc<str>>,
    /// Labels of the object (`istio: ingressgateway` of a gateway's Service).
    pub labels: BTreeMap<String, String>,
    /// Creation time, for oldest-first merging.
    pub created: Option<Arc<str>>,
    /// Hash over everything but the origin.
    pub hash: ContentHash,
}

/// Whether a workload may get traffic.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Health {
    /// Ready.
    #[default]
    Healthy,
    /// Not ready, or going away.
    Unhealthy,
}

/// Whether a workload's proxy accepts mutual TLS.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TlsMode {
    /// Plaintext.
    #[default]
    Disabled,
    /// Istio's mutual TLS.
    Istio,
}

/// How to reach a workload.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Tunnel {
    /// Directly.
    #[default]
    None,
    /// Through HTTP/2 CONNECT over mutual TLS to port 15008.
    Hbone,
}

/// One instance: a pod, a WorkloadEntry, an endpoint of a ServiceEntry.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Unique id: `cluster/group/kind/namespace/name`.
    pub uid: Arc<str>,
    /// Name of the instance (pod name).
    pub name: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// Addresses, IPv4 first; may be a host name in [`Workload::hostname`] instead.
    pub addresses: Vec<IpAddr>,
    /// DNS name of an endpoint that has no address.
    pub hostname: Option<Arc<str>>,
    /// Unix socket (an absolute path, or `@NAME`) of an endpoint that has no address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<Arc<str>>,
    /// Labels, which subsets and selectors match.
    pub labels: BTreeMap<String, String>,
    /// Annotations that the data plane reads.
    pub annotations: BTreeMap<String, String>,
    /// Container or endpoint ports by name.
    pub ports: BTreeMap<String, u16>,
    /// Service account.
    pub service_account: Arc<str>,
    /// Name of the owner that the user wrote (Deployment name, or the instance's own name).
    pub workload_name: Arc<str>,
    /// Kind of that owner, lower case (`deployment`, `pod`).
    pub workload_kind: Arc<str>,
    /// Cluster id.
    pub cluster: Arc<str>,
    /// Network id; empty is the default network.
    pub network: Arc<str>,
    /// `region/zone/subzone`.
    pub locality: Arc<str>,
    /// Mutual TLS capability of its proxy.
    pub tls_mode: TlsMode,
    /// Tunnel to it.
    pub tunnel: Tunnel,
    /// Health.
    pub health: Health,
    /// Load-balancing weight, at least 1.
    pub weight: u32,
    /// Hash over all of it.
    pub hash: ContentHash,
}
