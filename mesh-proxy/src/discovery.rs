//! The configuration channel: delta ADS over gRPC, in Envoy's discovery messages, with our own resources inside.
//!
//! One stream carries every kind, so that a change to a route and to its cluster arrives as one delta. How the fields
//! of Envoy's messages are used:
//!
//! | Message | Field | Content |
//! |---|---|---|
//! | request, first | `node.id` | `sidecar~IP~POD.NAMESPACE~DOMAIN`, as Istio's agents |
//! | | `node.metadata.MESH_PROXY` | [`ProxyId`] as JSON |
//! | | `type_url` | [`TYPE_URL`] |
//! | | `resource_names_subscribe` | `*` |
//! | | `initial_resource_versions` | after a reconnect: what the proxy still holds |
//! | response | `resources[].name` | `KIND:NAME` of [`ResourceName`] |
//! | | `resources[].version` | [`ContentHash`] in hexadecimal |
//! | | `resources[].resource` | `type.mesh.local/KIND` and [`mesh_core::wire::WireResource::body`] |
//! | | `removed_resources` | `KIND:NAME` |
//! | request, later | `response_nonce` | the delta that is now in force |
//! | | `node.metadata.MESH_CONFIG` | hash of the configuration in force |
//! | | `error_detail.details[]` | one [`Rejection`] as JSON for each resource that was refused |
//!
//! A delta with rejections is still in force apart from the resources named in them.

mod channel;
mod client;
pub mod proto;
pub mod secrets;
mod server;

#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use mesh_core::api::ContentHash;
use mesh_core::snapshot::ProxyId;
use mesh_core::wire::{Ack, ConfigSource, Delta, Rejection, ResourceName};
use mesh_tls::Secrets;
use tokio::sync::mpsc;

pub use channel::Channel;
pub use server::{ProxyStream, serve, serve_with};

/// Type of the one subscription.
pub const TYPE_URL: &str = "type.mesh.local/*";
/// Where the stream is served.
pub const METHOD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/// Variable by which the local mesh's node tells a proxy who it is: [`ProxyId`] as JSON.
pub const ENV_PROXY: &str = "MESH_PROXY_ID";
/// Variable by which the node tells a gateway where its ports are on the host: `80=127.0.0.1:8080,443=127.0.0.1:8443`.
/// A Gateway server's port that is not in it is on 127.0.0.1, with the same number from 1024 on, else plus 8000. The gateway
/// asks the dialer for these (`LISTEN`) when a server appears and gives them back (`UNLISTEN`) when it goes.
pub const ENV_HOST_PORTS: &str = "MESH_HOST_PORTS";
/// Variable by which the node tells a sidecar in explicit mode where the application listens: an address 127.2.x.y. The
/// sidecar listens for each of the pod's inbound ports on `MESH_POD_IP` (127.1.x.y) and dials the application here.
pub const ENV_APP_IP: &str = "MESH_APP_IP";
/// Variable with the application's ports in explicit mode, where the sidecar can't capture every port: `9080,9090`.
pub const ENV_APP_PORTS: &str = "MESH_APP_PORTS";
/// Longest message in bytes that either side takes.
const MAX_MESSAGE: usize = 256 << 20;

/// Where the control plane is.
#[derive(Debug)]
pub enum Target {
    /// A connected stream socket that the process inherited. There is no second one: when it closes, the source ends.
    Fd(OwnedFd),
    /// A unix socket by path; a name that starts with `@` is in the abstract namespace. Reconnected for ever.
    Path(PathBuf),
}

/// The proxy's side: a [`ConfigSource`] that reconnects by itself (100 ms, doubling up to 10 s) and then receives only the
/// difference to what it holds. Dropping it closes the stream.
#[derive(Debug)]
pub struct Discovery {
    deltas: mpsc::Receiver<Delta>,
    acks: mpsc::Sender<Ack>,
    channel: Channel,
}

impl Discovery {
    /// The connection, for other services of the control plane.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }
}

/// Subscribes as this proxy; call it inside a tokio runtime. Errors are logged and retried. Key material that `keys` is
/// asked for comes over the same connection.
pub fn connect(target: Target, id: ProxyId, keys: Arc<Secrets>) -> Discovery {
    // One delta waits while one is being compiled: the server sees by the missing acknowledgement that we are behind.
    let (to_proxy, deltas) = mpsc::channel(1);
    let (acks, from_proxy) = mpsc::channel(16);
    let channel = Channel::default();
    tokio::spawn(client::run((target, id, keys, channel.clone()), to_proxy, from_proxy));
    Discovery { deltas, acks, channel }
}

impl ConfigSource for Discovery {
    async fn next(&mut self) -> Option<Delta> {
        self.deltas.recv().await
    }

    async fn ack(&mut self, ack: Ack) {
        // The task has ended only if the source is gone for good, which `next` tells.
        let _ = self.acks.send(ack).await;
    }
}
