//! Plans for tests.

use std::sync::Arc;
use std::time::Duration;

use mesh_core::api::ContentHash;
use mesh_core::snapshot::{Balancer, ClusterPlan, Endpoint, EndpointSource, Provenance, UpstreamProtocol};

/// A cluster of this name and source, with defaults.
pub(crate) fn plan(name: &str, source: EndpointSource) -> ClusterPlan {
    let origin = Provenance::default("test");
    ClusterPlan {
        name: name.into(),
        source,
        protocol: UpstreamProtocol::Http1,
        balancer: Balancer::RoundRobin,
        balancing: Arc::default(),
        connect_timeout: Duration::from_secs(10),
        pool: Arc::default(),
        pool_origin: origin.clone(),
        auto_tls: None,
        tls_origin: Provenance::default("test"),
        tls: None,
        proxy_header: None,
        tunnel: None,
        service: "".into(),
        service_name: "".into(),
        service_namespace: "".into(),
        external: false,
        subset: "".into(),
        origin: origin.clone(),
        policy_origin: origin,
        hash: ContentHash::default(),
    }
}

/// An endpoint of which nothing is known.
pub(crate) fn endpoint() -> Endpoint {
    Endpoint {
        address: std::net::SocketAddr::from(([10, 0, 0, 1], 80)).into(),
        weight: 1,
        health: Default::default(),
        workload: Arc::default(),
        mesh: Default::default(),
    }
}
