//! The mesh inside an application: what a sidecar does, without one.
//!
//! ```text
//! Client --> outbound stack --> pool --> net        (Mesh::client, Mesh::connect)
//! net --> detect, TLS --> inbound stack --> service (Mesh::serve, Mesh::layer)
//! ```
//!
//! It is the library that the sidecar binary is made of, with the same plan, stacks, pools and counters; what differs is
//! where a request comes from and where it ends. Sockets of the application's own ([`Mesh::serve`]) take the place of
//! captured ones, and the last step of the inbound stack calls a service instead of dialling a port.
//!
//! ```no_run
//! # async fn run() -> std::io::Result<()> {
//! use mesh_proxy::{Body, Mesh};
//! use tower::Service;
//!
//! let mesh = Mesh::builder().files(["mesh.yaml"]).workload("default/reviews-v1").start().await?;
//!
//! let mut client = mesh.client();
//! let request = http::Request::get("http://ratings:9080/ratings/0").body(Body::Empty).expect("a request");
//! let response = client.call(request).await.expect("a body that does not fail");
//! println!("{}", response.status());
//!
//! let app = tower::service_fn(|_: http::Request<Body>| async {
//!     Ok::<_, std::convert::Infallible>(http::Response::new(Body::from("hello")))
//! });
//! mesh.serve(std::net::TcpListener::bind("0.0.0.0:9080")?, app).await
//! # }
//! ```

mod application;
mod builder;
mod client;
mod connect;
mod server;
#[cfg(test)]
mod tests;
mod trace;
mod upgrade;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use mesh_core::record::ConnInfo;
use mesh_core::snapshot::{Direction, ProxyId};
use tokio::sync::watch as channel;
use tokio::task::JoinSet;

pub use self::application::Application;
use self::application::Applications;
pub use self::builder::Builder;
pub use self::client::{Client, ResponseBody};
pub use self::connect::{Connect, MeshStream};
pub use self::server::{MeshLayer, MeshService};
pub use self::watch::ConfigWatch;
use crate::admin::{AdminState, Readiness, State};
use crate::force::Facts;
use crate::http::Proxy;
use crate::listener::Shared;
use crate::net::HostNet;

/// A member of the mesh. Clones are the same one; it ends when the last of them, and of its clients and layers, is dropped.
#[derive(Clone)]
pub struct Mesh(Arc<Inner>);

struct Inner {
    id: ProxyId,
    shared: Arc<Shared<HostNet, Proxy<HostNet>>>,
    applications: Applications,
    state: Arc<State<HostNet>>,
    facts: channel::Receiver<Facts>,
    config: channel::Receiver<String>,
    /// Whether the end has come.
    over: channel::Sender<bool>,
    /// What follows the configuration, ended with this.
    _tasks: JoinSet<()>,
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mesh").field("workload", &self.0.id.name).field("config", &*self.0.config.borrow()).finish()
    }
}

impl Mesh {
    /// To say where configuration and identity come from.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Calls others through the mesh: routes, retries, balancing, mutual TLS as a sidecar's.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.clone())
    }

    /// Connections through the mesh, for clients that speak their own protocol or bring their own HTTP.
    #[must_use]
    pub fn connector(&self) -> Connect {
        Connect::new(self.clone())
    }

    /// Inbound policies, metrics and logs around a service of any server, which listens on this port of the workload. TLS
    /// is the server's own affair: who the client is, is not known, and where PeerAuthentication says STRICT, nobody is
    /// let in. [`Mesh::serve`] does that part, too.
    #[must_use]
    pub fn layer(&self, port: u16) -> MeshLayer {
        MeshLayer::new(self.clone(), port)
    }

    /// To follow which configuration is in force.
    #[must_use]
    pub fn watch(&self) -> ConfigWatch {
        ConfigWatch::new(self.0.config.clone())
    }

    /// Whether configuration is in force and nobody has asked for the end: what a readiness probe wants to know.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.state.readiness() == Readiness::Live
    }

    /// Istio's standard metrics in Prometheus' text format (`istio_requests_total`, …), and the mesh's own.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.0.state.metrics().encode()
    }

    /// Ends without losing a request: responses say that connections end, and this resolves when nothing is in flight and
    /// the other proxies send nothing here any more, or would have heard of the end by now (`terminationDrainDuration`,
    /// Istio's default: 5 s; nobody is waited for where nothing is served); at the latest after `drainDuration` (45 s).
    /// Ports accept until then; [`Mesh::serve`] then returns.
    pub async fn shutdown(&self) {
        let Inner { shared, state, applications, facts, over, .. } = &*self.0;
        state.set_draining();
        shared.inbound.start();
        shared.drained(facts.clone(), applications.is_empty().then_some(Duration::ZERO)).await;
        state.flush_log().await;
        over.send_replace(true);
    }

    /// A connection of the application itself, for requests that come from inside.
    fn own(&self, direction: Direction, port: u16) -> ConnInfo {
        let ip = self.0.id.addresses.first().copied().unwrap_or(std::net::Ipv4Addr::LOCALHOST.into());
        ConnInfo {
            direction,
            peer: (ip, 0).into(),
            local: (ip, port).into(),
            direct: None,
            sni: "".into(),
            tls: None,
            peer_text: Default::default(),
        }
    }
}
