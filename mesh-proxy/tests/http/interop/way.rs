//! The ways from a client to an application.

use std::net::SocketAddr;

use crate::mesh::{Config, DEFAULT, Door, Mesh};

/// Through which proxies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    Gateway,
    /// Through the client's sidecar and the application's.
    Sidecars,
}

pub(super) const WAYS: [Way; 2] = [Way::Gateway, Way::Sidecars];

/// Running proxies.
pub(super) struct Path {
    /// Where clients connect.
    pub(super) at: SocketAddr,
    pub(super) proxies: Vec<Mesh>,
}

impl Path {
    /// `protocol` is that of the application's port; `extra` is further configuration.
    pub(super) async fn new(way: Way, protocol: &'static str, app: SocketAddr, extra: &'static str) -> Self {
        let config = |door| Config { door, protocol, extra, ..DEFAULT };
        let start = async |door, to| Mesh::start(&config(door), Some(to)).await;
        let proxies = match way {
            Way::Gateway => vec![start(Door::Gateway, app).await],
            Way::Sidecars => {
                let server = start(Door::Inbound, app).await;
                vec![start(Door::Outbound, server.at).await, server]
            }
        };
        Self { at: proxies[0].at, proxies }
    }
}
