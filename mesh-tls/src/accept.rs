//! The server's side.

use std::fmt;
use std::sync::Arc;

use mesh_core::record::{ClientCert, TlsInfo};
use mesh_core::snapshot::{ClientCertificate, DownstreamTls, SecretRef};
use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;

use crate::ahead::ReadAhead;
use crate::follow::{Following, Materials, Now};
use crate::verify::ChainVerifier;
use crate::{SecretSource, TlsError, TlsStream, peer, suites, xfcc_element};

/// Terminates TLS as a plan says. Build it once and keep it: it holds the configuration of the material in force, and
/// builds the next one after a change; connections go on.
///
/// ```
/// use std::sync::Arc;
///
/// use mesh_core::snapshot::{DownstreamTls, Provenance, SecretRef, TlsParameters};
/// use mesh_tls::{Acceptor, Secrets};
///
/// let plan = DownstreamTls {
///     certificates: vec![SecretRef::Files { certificate: "tls.crt".into(), key: "tls.key".into() }],
///     client: Default::default(),
///     roots: None,
///     workloads: None,
///     names: vec![],
///     spki: vec![],
///     hashes: vec![],
///     verify: true,
///     alpn: vec!["h2".into(), "http/1.1".into()],
///     parameters: TlsParameters::default(),
///     origin: Provenance::default("an example"),
///     hash: Default::default(),
/// };
/// let acceptor = Acceptor::new(Arc::new(plan), &Secrets::default());
/// # let _ = acceptor;
/// ```
pub struct Acceptor {
    plan: Arc<DownstreamTls>,
    config: Following<Configs>,
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Acceptor({:?})", self.plan)
    }
}

/// The same configuration with and without application protocols: a client that shares none is served without, where
/// the TLS library would refuse it.
struct Configs {
    agreed: Arc<ServerConfig>,
    without: Arc<ServerConfig>,
    /// The own URI, for `By` of `x-forwarded-client-cert`.
    by: Option<Arc<str>>,
}

impl Acceptor {
    /// An acceptor that takes key material from `secrets`.
    pub fn new(plan: Arc<DownstreamTls>, secrets: &dyn SecretSource) -> Self {
        let refs: Vec<&SecretRef> = plan.certificates.iter().chain(&plan.roots).collect();
        let materials = Materials::watch(secrets, refs);
        Self { plan, config: Following::new(materials) }
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<DownstreamTls> {
        &self.plan
    }

    /// Waits until key material is there.
    ///
    /// # Errors
    /// It is not: no handshake can succeed.
    pub async fn ready(&self) -> Result<(), TlsError> {
        self.config.get(|now| build(&self.plan, now)).await.map(drop)
    }

    /// Accepts TLS on a connection. There is no timeout in here: the caller drops the future.
    ///
    /// # Errors
    /// The key material is missing, the handshake failed, or the client's certificate is not one of those expected.
    pub async fn accept<IO: AsyncRead + AsyncWrite + Unpin>(&self, io: IO) -> Result<TlsStream<IO>, TlsError> {
        let configs = self.config.get(|now| build(&self.plan, now)).await?;
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), ReadAhead::new(io)).await;
        let start = start.map_err(TlsError::handshake)?;
        let shares = |mut offered: Box<dyn Iterator<Item = &[u8]> + '_>| {
            offered.any(|p| self.plan.alpn.iter().any(|own| own.as_bytes() == p))
        };
        let agreed = start.client_hello().alpn().is_none_or(|offered| shares(Box::new(offered)));
        let config = if agreed { &configs.agreed } else { &configs.without };
        let stream = start.into_stream(Arc::clone(config)).await.map_err(TlsError::handshake)?;
        TlsStream::new(stream.into(), configs.by.clone(), |info| {
            let info = self.expect(info)?;
            Ok(TlsInfo { client_cert: info.peer.is_some().then(|| ClientCert::new(xfcc_element)), ..info })
        })
    }

    /// Who the client is, if it may be one.
    fn expect(&self, info: TlsInfo) -> Result<TlsInfo, TlsError> {
        let DownstreamTls { client, verify, names, spki, hashes, workloads, .. } = &*self.plan;
        let nobody = || TlsError::Names(Arc::new([]));
        let Some(peer) = info.peer.clone() else {
            return if workloads.is_some() { Err(nobody()) } else { Ok(info) };
        };
        if !verify || *client == ClientCertificate::None {
            return if workloads.is_some() { Err(nobody()) } else { Ok(info) };
        }
        let other = || TlsError::Names(peer.names().collect());
        if !names.is_empty() && !names.iter().any(|n| peer.has_name(n)) {
            return Err(other());
        }
        if !peer::pinned(&peer, spki, hashes) {
            return Err(TlsError::Pin);
        }
        let info = info.into_verified();
        let welcome = match &info.identity {
            Some(identity) => self.plan.welcomes(identity),
            None => workloads.is_none(),
        };
        if welcome { Ok(info) } else { Err(other()) }
    }
}

fn build(plan: &DownstreamTls, now: &Now) -> Result<Configs, TlsError> {
    let provider = Arc::new(suites::provider(&plan.parameters));
    let versions = suites::versions(&plan.parameters, &provider)?;
    // One broken certificate of two leaves the other in force.
    let (keys, missing): (Vec<_>, Vec<_>) = plan.certificates.iter().map(|c| now.identity(c)).partition(Result::is_ok);
    let keys: Vec<_> = keys.into_iter().flatten().map(|i| Arc::clone(i.certified())).collect();
    if keys.is_empty() {
        let first = missing.into_iter().find_map(Result::err);
        return Err(first.map_or_else(|| TlsError::Config("the server has no certificate".into()), TlsError::from));
    }
    let by = keys.first().and_then(|k| peer::read(&k.cert)).and_then(|own| own.uris.into_iter().next());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|e| TlsError::Config(e.to_string().into()))?;
    let builder = match plan.client {
        ClientCertificate::None => builder.with_no_client_auth(),
        client @ (ClientCertificate::Optional | ClientCertificate::Required) => {
            let roots = match (&plan.roots, plan.verify) {
                (_, false) => None,
                (Some(roots), true) => Some(Arc::clone(now.roots(roots)?)),
                (None, true) => {
                    return Err(TlsError::Config("there are no authorities for client certificates".into()));
                }
            };
            let mandatory = client == ClientCertificate::Required && plan.verify;
            builder.with_client_cert_verifier(Arc::new(ChainVerifier::new(roots, mandatory, &provider)))
        }
    };
    let mut without = builder.with_cert_resolver(Arc::new(Certificates(keys)));
    if plan.client == ClientCertificate::None {
        without.ticketer =
            rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|e| TlsError::Config(e.to_string().into()))?;
    } else {
        // A resumed session is not verified again: with client certificates every connection has a full handshake.
        without.session_storage = Arc::new(NoServerSessionStorage {});
        without.send_tls13_tickets = 0;
    }
    let mut agreed = without.clone();
    agreed.alpn_protocols = plan.alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    Ok(Configs { agreed: Arc::new(agreed), without: Arc::new(without), by })
}

/// The first certificate that the client can verify.
#[derive(Debug)]
struct Certificates(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable = |k: &&Arc<CertifiedKey>| k.key.choose_scheme(hello.signature_schemes()).is_some();
        self.0.iter().find(usable).or(self.0.first()).cloned()
    }
}
