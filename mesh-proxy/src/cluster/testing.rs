//! Plans for tests.

use std::time::Duration;

use mesh_core::api::ContentHash;
use mesh_core::snapshot::{Balancer, Balancing, ClusterPlan, EndpointSource, PoolPlan, Provenance, UpstreamProtocol};

/// A cluster of this name and source, with defaults.
pub(crate) fn plan(name: &str, source: EndpointSource) -> ClusterPlan {
    let origin = Provenance::default("test");
    ClusterPlan {
        name: name.into(),
        source,
        protocol: UpstreamProtocol::Http1,
        balancer: Balancer::RoundRobin,
        balancing: Balancing::default(),
        connect_timeout: Duration::from_secs(10),
        pool: PoolPlan::default(),
        pool_origin: origin.clone(),
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
