//! The client's side.

use std::fmt;
use std::sync::Arc;

use mesh_core::record::{PeerCertificate, TlsInfo};
use mesh_core::snapshot::{PeerNames, SecretRef, Sni, UpstreamTls};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::sign::SingleCertAndKey;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::ahead::ReadAhead;
use crate::follow::{Following, Materials, Now};
use crate::verify::ChainVerifier;
use crate::{SecretSource, TlsError, TlsStream, mtls, peer, suites};

/// What a connection is going to carry: what it offers where the plan names no protocols.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carries {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Bytes: no protocol is offered.
    Bytes,
}

impl Carries {
    fn protocols(self) -> &'static [&'static str] {
        match self {
            Self::Http1 => &["http/1.1"],
            Self::Http2 => &["h2"],
            Self::Bytes => &[],
        }
    }
}

/// Who is meant by a connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Server<'a> {
    /// Authority of the request that it is for, without the port.
    pub host: Option<&'a str>,
    /// Who the endpoint may say that it is ([`mesh_core::snapshot::MeshPeer::identities`]); empty: not known.
    pub identities: &'a [Arc<str>],
}

/// Originates TLS as a plan says. Build it once and keep it, as an [`crate::Acceptor`].
///
/// ```
/// use std::sync::Arc;
///
/// use mesh_core::snapshot::{PeerNames, Provenance, SecretRef, Sni, TlsParameters, UpstreamTls};
/// use mesh_tls::{Connector, Secrets};
///
/// let plan = UpstreamTls {
///     mode: "SIMPLE",
///     identity: None,
///     roots: SecretRef::SYSTEM,
///     sni: Sni::Host("example.com".into()),
///     names: PeerNames::Host("example.com".into()),
///     verify: true,
///     alpn: vec![],
///     parameters: TlsParameters::default(),
///     origin: Provenance::default("an example"),
///     hash: Default::default(),
/// };
/// let connector = Connector::new(Arc::new(plan), &Secrets::default());
/// # let _ = connector;
/// ```
pub struct Connector {
    plan: Arc<UpstreamTls>,
    config: Following<Configs>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connector({:?})", self.plan)
    }
}

/// One configuration for each kind of traffic. They share sessions.
struct Configs {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    bytes: Arc<ClientConfig>,
    /// The same, for servers whose name nobody knows.
    nameless: Arc<ClientConfig>,
    /// URI of the own certificate.
    own: Option<Arc<str>>,
}

/// Stands for a name that is not sent.
const NAMELESS: &str = "nameless.invalid";

impl Connector {
    /// A connector that takes key material from `secrets`.
    pub fn new(plan: Arc<UpstreamTls>, secrets: &dyn SecretSource) -> Self {
        let materials = Materials::watch(secrets, Self::needs(&plan));
        Self { plan, config: Following::new(materials) }
    }

    /// The key material that a connector of this plan takes.
    pub fn needs(plan: &UpstreamTls) -> impl Iterator<Item = &SecretRef> {
        plan.identity.iter().chain(plan.verify.then_some(&plan.roots))
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<UpstreamTls> {
        &self.plan
    }

    /// As [`Connector::connect_to`], of an endpoint whose identity is not known.
    ///
    /// # Errors
    /// As there.
    pub async fn connect<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: IO,
        host: Option<&str>,
        carries: Carries,
    ) -> Result<TlsStream<IO>, TlsError> {
        self.connect_to(io, Server { host, identities: &[] }, carries).await
    }

    /// Begins TLS on a connection to this server. There is no timeout in here: the caller drops the future.
    ///
    /// # Errors
    /// The key material is missing, the handshake failed, or the server's certificate is for somebody else.
    pub async fn connect_to<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: IO,
        server: Server<'_>,
        carries: Carries,
    ) -> Result<TlsStream<IO>, TlsError> {
        let host = server.host;
        let configs = self.config.get(|now| build(&self.plan, now)).await?;
        let sni = match &self.plan.sni {
            Sni::Name(name) => Some(&**name),
            // Bytes for a wildcard host: which of its names it is, only the server knows.
            Sni::Host(default) => host.or(Some(&**default).filter(|name| !name.starts_with('*'))),
        };
        let config = match carries {
            Carries::Http1 => &configs.http1,
            Carries::Http2 => &configs.http2,
            Carries::Bytes if sni.is_none() => &configs.nameless,
            Carries::Bytes => &configs.bytes,
        };
        let sni = sni.unwrap_or(NAMELESS);
        let name = ServerName::try_from(sni.trim_end_matches('.').to_owned())
            .map_err(|_| TlsError::Config(format!("{sni:?} can't be a server name").into()))?;
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(name, ReadAhead::new(io)).await.map_err(TlsError::handshake)?;
        TlsStream::new(stream.into(), configs.own.clone(), |info| self.expect(info, server))
    }

    /// On every connection: a resumed session may be one that was made for another name.
    fn expect(&self, info: TlsInfo, server: Server<'_>) -> Result<TlsInfo, TlsError> {
        let Server { host, identities } = server;
        if !self.plan.verify {
            return Ok(info);
        }
        let peer: Option<&PeerCertificate> = info.peer.as_deref();
        let holds = match &self.plan.names {
            PeerNames::Any => true,
            PeerNames::Host(default) => peer.is_some_and(|p| match (host, default.strip_prefix('*')) {
                (None, Some(domain)) => p.dns.iter().any(|name| name.to_ascii_lowercase().ends_with(domain)),
                _ => p.is_for_host(host.unwrap_or(default)),
            }),
            PeerNames::OneOf(names) => peer.is_some_and(|p| names.iter().any(|n| p.has_name(n))),
            PeerNames::Endpoint(others) if identities.is_empty() && others.is_empty() => true,
            PeerNames::Endpoint(others) => peer.is_some_and(|p| identities.iter().chain(others).any(|n| p.has_name(n))),
        };
        match holds {
            // Between workloads the other side is one, whoever else the mesh's authorities have signed for.
            true => match info.into_verified() {
                info if self.plan.is_mesh() && info.identity.is_none() => {
                    Err(TlsError::Names(info.peer.iter().flat_map(|p| p.names()).collect()))
                }
                info => Ok(info),
            },
            false => Err(TlsError::Names(peer.map(|p| p.names().collect()).unwrap_or_default())),
        }
    }
}

fn build(plan: &UpstreamTls, now: &Now) -> Result<Configs, TlsError> {
    let provider = Arc::new(suites::provider(&plan.parameters));
    let versions = suites::versions(&plan.parameters, &provider)?;
    let roots = match plan.verify {
        true => Some(Arc::clone(now.roots(&plan.roots)?)),
        false => None,
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|e| TlsError::Config(e.to_string().into()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ChainVerifier::new(roots, false, &provider)));
    let mut own = None;
    let mut config = match &plan.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let key = now.identity(identity)?.certified();
            own = peer::read(&key.cert).and_then(|own| own.uris.into_iter().next());
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key.as_ref().clone())))
        }
    };
    let mesh = plan.is_mesh();
    if mesh {
        // A resumed session is not verified again: between workloads every connection has a full handshake.
        config.resumption = Resumption::disabled();
    }
    let offering = |carries: Carries| {
        let mut config = config.clone();
        config.alpn_protocols = match (&plan.alpn[..], mesh) {
            // As Istio's ALPN filter: what the connection carries replaces what the plan says.
            (_, true) => protocols(mtls::offered(carries)),
            ([], false) => protocols(carries.protocols()),
            (own, false) => protocols(own),
        };
        Arc::new(config)
    };
    let [http1, http2, bytes] = [Carries::Http1, Carries::Http2, Carries::Bytes].map(offering);
    let mut nameless = bytes.as_ref().clone();
    nameless.enable_sni = false;
    Ok(Configs { http1, http2, bytes, nameless: Arc::new(nameless), own })
}

fn protocols<P: AsRef<str>>(names: &[P]) -> Vec<Vec<u8>> {
    names.iter().map(|p| p.as_ref().as_bytes().to_vec()).collect()
}
