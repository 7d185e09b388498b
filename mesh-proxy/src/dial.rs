//! Dialling an endpoint: a list of hops TCP -> PROXY header -> TLS -> tunnel, as its cluster's plan says.

mod link;

use std::hash::{BuildHasher, Hash, Hasher};

use mesh_core::error::{Error, ErrorKind};
use mesh_core::record::ConnInfo;
use mesh_core::snapshot::ClusterPlan;

pub use link::Link;

use crate::cluster::{Member, Runtime};
use crate::net::Net;

/// For whom a connection is made, as far as its making depends on it.
#[derive(Clone, Copy, Debug)]
pub struct For<'a> {
    /// The client's connection.
    pub conn: &'a ConnInfo,
    /// Authority of the request; `None` for bytes.
    pub host: Option<&'a str>,
}

/// Connections of equal keys to one endpoint may serve each other's requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnKey(u64);

impl ConnKey {
    /// The key of connections for this client through this cluster's hops.
    pub fn of(plan: &ClusterPlan, whom: For<'_>) -> Self {
        if plan.tls.is_none() && plan.proxy_header.is_none() {
            return Self(0);
        }
        let mut hasher = foldhash::fast::FixedState::default().build_hasher();
        if let Some(tls) = &plan.tls {
            (tls.hash.0, whom.host.map(crate::listener::host_of)).hash(&mut hasher);
        }
        if let Some(version) = &plan.proxy_header {
            // The header names the client, so each client has connections of its own.
            (version, whom.conn.peer, whom.conn.local).hash(&mut hasher);
        }
        Self(hasher.finish().max(1))
    }
}

impl<N: Net> Runtime<N> {
    /// Connects to a member of a cluster by all its hops; the error says what a client is to be told.
    ///
    /// # Errors
    /// [`ErrorKind::ConnectTimeout`] after the plan's time, else [`ErrorKind::ConnectFailure`].
    pub async fn dial(&self, plan: &ClusterPlan, member: &Member<N>, _whom: For<'_>) -> Result<Link<N::Stream>, Error> {
        let options = self.options(&plan.source);
        let connecting = self.net.connect(member.endpoint().address, options);
        match tokio::time::timeout(plan.connect_timeout, connecting).await {
            Ok(Ok(stream)) => Ok(Link::Plain(stream)),
            Ok(Err(error)) => Err(Error::new(ErrorKind::ConnectFailure).because(DelayedConnect(error))),
            Err(_) => Err(Error::new(ErrorKind::ConnectTimeout)),
        }
    }
}

/// The operating system's error in Envoy's words.
#[derive(Debug)]
struct DelayedConnect(std::io::Error);

impl std::fmt::Display for DelayedConnect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.0.to_string();
        // Rust appends the number, Envoy does not.
        let words = text.split(" (os error").next().unwrap_or_default();
        write!(f, "delayed connect error: {words}")
    }
}

impl std::error::Error for DelayedConnect {}
