//! Dialling an endpoint: a list of hops TCP -> PROXY header -> TLS -> tunnel, as its cluster's plan says.

mod link;
mod tunnel;

use std::hash::{BuildHasher, Hash, Hasher};

use bytes::Bytes;
use mesh_core::error::{Error, ErrorKind};
use mesh_core::record::ConnInfo;
use mesh_core::snapshot::{Address, ClusterPlan, Endpoint, TunnelPlan};
use mesh_tls::{Carries, Server};
use tokio::io::AsyncWriteExt;

pub use link::Link;

use crate::cluster::{Member, Runtime};
use crate::detect::Prefixed;
use crate::listener::host_of;
use crate::net::Net;
use crate::proxy_protocol;

/// For whom a connection is made, as far as its making depends on it.
#[derive(Clone, Copy, Debug)]
pub struct For<'a> {
    /// The client's connection.
    pub conn: &'a ConnInfo,
    /// Authority of the request; `None` for bytes.
    pub host: Option<&'a str>,
    /// What it will carry.
    pub carries: Carries,
}

/// Connections of equal keys to one endpoint may serve each other's requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnKey(u64);

impl ConnKey {
    /// The key of connections for this client to this endpoint through the cluster's hops.
    pub fn of(plan: &ClusterPlan, endpoint: &Endpoint, whom: For<'_>) -> Self {
        let tls = plan.tls_with(&endpoint.mesh);
        if tls.is_none() && plan.proxy_header.is_none() {
            return Self(0);
        }
        let mut hasher = foldhash::fast::FixedState::default().build_hasher();
        if let Some(tls) = tls {
            tls.hash.0.hash(&mut hasher);
            if tls.by_host() {
                whom.host.map(host_of).hash(&mut hasher);
            }
            if tls.is_mesh() {
                // Whoever has the address next is somebody else.
                endpoint.mesh.identities.hash(&mut hasher);
            }
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
    /// [`ErrorKind::ConnectTimeout`] after the plan's time for all of it, else [`ErrorKind::ConnectFailure`].
    pub async fn dial(&self, plan: &ClusterPlan, member: &Member<N>, whom: For<'_>) -> Result<Link<N::Stream>, Error> {
        let hops = async {
            // The common case, without the larger future of the others.
            if plan.tls_with(&member.endpoint().mesh).is_none() && plan.proxy_header.is_none() {
                return self.socket(plan, member).await.map(Link::Plain);
            }
            Box::pin(self.wrapped(plan, member, whom)).await
        };
        match tokio::time::timeout(plan.connect_timeout, hops).await {
            Ok(dialled) => dialled,
            Err(_) => Err(Error::new(ErrorKind::ConnectTimeout)),
        }
    }

    async fn socket(&self, plan: &ClusterPlan, member: &Member<N>) -> Result<N::Stream, Error> {
        let connected = match &member.endpoint().address {
            Address::Ip(at) => self.net.connect(*at, self.options(plan)).await,
            Address::Unix(path) => self.net.connect_unix(path).await,
        };
        connected.map_err(|e| Error::new(ErrorKind::ConnectFailure).because(DelayedConnect(e)))
    }

    async fn wrapped(&self, plan: &ClusterPlan, member: &Member<N>, whom: For<'_>) -> Result<Link<N::Stream>, Error> {
        let mut stream = self.socket(plan, member).await?;
        if let Some(version) = plan.proxy_header {
            let header = proxy_protocol::header(version, whom.conn.peer, whom.conn.local);
            let sent = stream.write_all(&header).await;
            sent.map_err(|e| Error::new(ErrorKind::ConnectFailure).because(DelayedConnect(e)))?;
        }
        let mesh = &member.endpoint().mesh;
        let Some(tls) = plan.tls_with(mesh) else { return Ok(Link::Plain(stream)) };
        let connector = self.tls.connector(tls);
        let server = Server { host: whom.host.map(host_of), identities: &mesh.identities };
        match connector.connect_to(stream, server, whom.carries).await {
            Ok(stream) => Ok(Link::Tls(Box::new(stream))),
            Err(error) => Err(Error::new(ErrorKind::ConnectFailure).because(error)),
        }
    }

    /// Connects for a stream of bytes; `tunnel` is what the first destination of its route says.
    ///
    /// # Errors
    /// As [`Runtime::dial`]; the far end of a tunnel is part of the connection.
    pub async fn dial_bytes(
        &self,
        plan: &ClusterPlan,
        member: &Member<N>,
        conn: &ConnInfo,
        through: Option<&TunnelPlan>,
    ) -> Result<Prefixed<Link<N::Stream>>, Error> {
        let whom = For { conn, host: None, carries: Carries::Bytes };
        let link = self.dial(plan, member, whom).await?;
        let plain = |link| Prefixed::new(Bytes::new(), link);
        let Some(through) = through else { return Ok(plain(link)) };
        let open = async {
            match through.post {
                true => tunnel::post(link, through).await.map(|post| plain(Link::Post(Box::new(post)))),
                false => tunnel::connect(link, through).await,
            }
        };
        match tokio::time::timeout(plan.connect_timeout, Box::pin(open)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(Error::new(ErrorKind::ConnectFailure).because(error)),
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
