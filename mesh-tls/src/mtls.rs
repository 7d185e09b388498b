//! Mutual TLS between workloads: what Istio's sidecars speak to each other, over [`Acceptor`] and [`Connector`].
//!
//! Either side follows [`SecretRef::Workload`] and [`SecretRef::MeshRoots`]: without them no handshake succeeds, and new
//! ones are in force for the next one. There is no session resumption on either side, so that nobody goes on under an
//! identity that has expired, no early data, and no renegotiation, which the TLS library does not have.

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::sync::Arc;

use mesh_core::snapshot::{
    DownstreamTls, PeerNames, Provenance, SecretRef, Sni, TlsParameters, UpstreamTls, Workloads,
};
use tokio::io::{AsyncRead, AsyncWrite};

pub use mesh_core::decide::{Arrival, PortProtocol, decide_arrival, is_mesh_protocol};
pub use mesh_core::snapshot::MtlsMode;

use crate::{Acceptor, Carries, Connector, PeerIdentity, SecretSource, TlsError, TlsStream, TrustDomains};

/// Config of a [`MtlsAcceptor`].
#[derive(Clone, PartialEq, Debug)]
pub struct MtlsConfig {
    /// Whose workloads may connect.
    pub trust: TrustDomains,
    /// Whether the trust domain of a peer is looked at. Default true (`PILOT_SKIP_VALIDATE_TRUST_DOMAIN` is not set);
    /// otherwise any identity of the mesh's roots may connect.
    pub check_trust_domain: bool,
    /// What is agreed on inside, preferred first. Default `h2` and `http/1.1`. Istio's TCP ports put `istio-peer-exchange`
    /// before them, which promises an exchange of metadata; we have none, so it is never agreed on.
    pub alpn: Vec<Arc<str>>,
    /// Limits. Default [`TlsParameters::mesh`] without arguments.
    pub parameters: TlsParameters,
}

impl Default for MtlsConfig {
    fn default() -> Self {
        Self {
            trust: TrustDomains::default(),
            check_trust_domain: true,
            alpn: ["h2", "http/1.1"].map(Arc::from).into(),
            parameters: TlsParameters::mesh(false, []),
        }
    }
}

/// Ends mesh TLS: the peer must show a certificate of the mesh's authorities for a workload of a trusted domain. Build it
/// once for each listener and keep it.
///
/// ```
/// use mesh_tls::{MtlsAcceptor, MtlsConfig, PeerIdentity, Secrets, TlsError};
/// use tokio::net::TcpStream;
///
/// async fn who(acceptor: &MtlsAcceptor, connection: TcpStream) -> Result<PeerIdentity, TlsError> {
///     let (_stream, peer) = acceptor.accept(connection).await?;
///     Ok(peer)
/// }
/// let acceptor = MtlsAcceptor::new(MtlsConfig::default(), &Secrets::default());
/// # let _ = (acceptor, who);
/// ```
#[derive(Debug)]
pub struct MtlsAcceptor(Acceptor);

impl MtlsAcceptor {
    /// An acceptor that takes the own identity and the mesh's roots from `secrets`.
    pub fn new(config: MtlsConfig, secrets: &dyn SecretSource) -> Self {
        let MtlsConfig { trust, check_trust_domain, alpn, parameters } = config;
        let workloads = if check_trust_domain { Workloads::Of(trust) } else { Workloads::All };
        let plan = DownstreamTls { alpn, ..DownstreamTls::mesh(workloads, parameters) }.hashed();
        Self(Acceptor::new(Arc::new(plan), secrets))
    }

    /// Waits until the own identity is there.
    ///
    /// # Errors
    /// It is not, or has expired: nobody can be served.
    pub async fn ready(&self) -> Result<(), TlsError> {
        self.0.ready().await
    }

    /// Accepts a connection and says who the peer is. There is no timeout in here: the caller drops the future.
    ///
    /// # Errors
    /// The own identity is missing, the handshake failed, or the peer is not a workload that may connect.
    pub async fn accept<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: IO,
    ) -> Result<(TlsStream<IO>, PeerIdentity), TlsError> {
        identified(self.0.accept(io).await?)
    }
}

/// A destination inside the mesh, for a [`MtlsConnector`].
#[derive(Clone, PartialEq, Debug)]
pub struct MtlsUpstream {
    /// Host of the service.
    pub host: Arc<str>,
    /// Port of the service.
    pub port: u16,
    /// Subset; empty: none.
    pub subset: Arc<str>,
    /// Identities of the destination's endpoints: `subjectAltNames`, else the service accounts of all its workloads. Each
    /// also counts under the aliases of its trust domain. Empty: any identity of the mesh's roots.
    pub accounts: Vec<Arc<str>>,
    /// Limits. [`TlsParameters::mesh`] without arguments is the default.
    pub parameters: TlsParameters,
}

impl MtlsUpstream {
    /// `outbound_.PORT_.SUBSET_.HOST`, the name by which east-west gateways route without ending TLS.
    pub fn sni(&self) -> String {
        format!("outbound_.{}_.{}_.{}", self.port, self.subset, self.host)
    }

    /// As a plan.
    pub fn plan(&self, trust: &TrustDomains) -> UpstreamTls {
        let expected = trust.expand(self.accounts.iter().map(|a| &**a));
        UpstreamTls {
            mode: "ISTIO_MUTUAL",
            identity: Some(SecretRef::Workload),
            roots: SecretRef::MeshRoots,
            sni: Sni::Name(self.sni().into()),
            names: match &expected[..] {
                [] => PeerNames::Any,
                names => PeerNames::OneOf(names.iter().map(|n| n.as_str().into()).collect()),
            },
            verify: true,
            alpn: Vec::new(),
            parameters: self.parameters.clone(),
            origin: Provenance::default("mutual TLS of the mesh"),
            hash: Default::default(),
        }
    }
}

/// Begins mesh TLS with a destination whose identity is known: secure naming. Build it once for each destination.
pub struct MtlsConnector(Connector);

impl fmt::Debug for MtlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl MtlsConnector {
    /// A connector that takes the own identity and the mesh's roots from `secrets`.
    pub fn new(upstream: &MtlsUpstream, trust: &TrustDomains, secrets: &dyn SecretSource) -> Self {
        Self(Connector::new(Arc::new(upstream.plan(trust)), secrets))
    }

    /// Begins TLS on a connection and says who answered. There is no timeout in here: the caller drops the future.
    ///
    /// # Errors
    /// The own identity is missing, the handshake failed, or the destination is somebody else.
    pub async fn connect<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: IO,
        carries: Carries,
    ) -> Result<(TlsStream<IO>, PeerIdentity), TlsError> {
        identified(self.0.connect(io, None, carries).await?)
    }
}

fn identified<IO>(stream: TlsStream<IO>) -> Result<(TlsStream<IO>, PeerIdentity), TlsError> {
    match stream.info().identity.clone() {
        Some(peer) => Ok((stream, peer)),
        None => Err(TlsError::Names(stream.info().peer.iter().flat_map(|p| p.names()).collect())),
    }
}

/// What a client of the mesh offers for each kind of traffic: the mesh's own name for it first, by which a PERMISSIVE port
/// knows mesh traffic; then what is really spoken. `istio-peer-exchange` is left out: we exchange no metadata.
pub(crate) fn offered(carries: Carries) -> &'static [&'static str] {
    match carries {
        Carries::Http1 => &["istio-http/1.1", "istio", "http/1.1"],
        Carries::Http2 => &["istio-h2", "istio", "h2"],
        Carries::Bytes => &["istio"],
    }
}
