//! Requests that the proxy makes itself, to clusters of its plan: for keys, and to authorizers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use mesh_core::api::ContentHash;
use mesh_core::error::Error;
use mesh_core::layers::{Request, Response};
use mesh_core::record::{ConnInfo, Cx};
use mesh_core::snapshot::{ClusterPlan, Direction};
use tower::Service;

use crate::cluster::Runtime;
use crate::net::Net;
use crate::pool::Destination;
use crate::stack;

/// Sends a request to a cluster, over the pools and with the limits that routes to it have.
pub(crate) async fn send<N: Net>(
    runtime: &Arc<Runtime<N>>,
    plan: &Arc<ClusterPlan>,
    mut request: Request,
) -> Result<Response, Error> {
    // Nobody is downstream of it.
    let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let conn = ConnInfo {
        direction: Direction::Outbound,
        peer: nobody,
        local: nobody,
        direct: None,
        sni: "".into(),
        tls: None,
        peer_text: Default::default(),
    };
    request.extensions_mut().insert(Arc::new(Cx::new(Arc::new(conn), ContentHash::default())));
    let cluster = runtime.cluster(&plan.name);
    let to = Destination { runtime: Arc::clone(runtime), cluster, plan: Arc::clone(plan) };
    stack::cluster(Arc::new(to), None).call(request).await
}
