//! TLS of the load generator: the mesh's own client side, with key material from files.

use std::path::PathBuf;
use std::sync::Arc;

use mesh_core::api::ContentHash;
use mesh_core::snapshot::{PeerNames, Provenance, SecretRef, Sni, TlsParameters, UpstreamTls};
use mesh_proxy::secrets;
use mesh_tls::{Connector, SecretState, Secrets};

/// What a TLS connection shows and expects; by default what a browser does.
#[derive(Clone, Debug, Default)]
pub struct TlsSettings {
    /// Accept every certificate.
    pub insecure: bool,
    /// Authorities, as PEM; `None`: the system's.
    pub authorities: Option<PathBuf>,
    /// Certificate chain and key of the client, as PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A connector to `host`, with its key material read.
///
/// # Errors
/// A file can't be read or used; the text names it.
pub(super) fn connector(settings: &TlsSettings, host: &str) -> Result<Connector, String> {
    let text = |path: &PathBuf| Arc::from(path.to_string_lossy());
    let identity = settings.identity.as_ref();
    let plan = UpstreamTls {
        mode: if identity.is_some() { "MUTUAL" } else { "SIMPLE" },
        identity: identity
            .map(|(certificate, key)| SecretRef::Files { certificate: text(certificate), key: text(key) }),
        roots: SecretRef::RootsFile { roots: settings.authorities.as_ref().map(text), crl: None },
        sni: Sni::Host(host.into()),
        names: PeerNames::Host(host.into()),
        verify: !settings.insecure,
        alpn: Vec::new(),
        parameters: TlsParameters::default(),
        origin: Provenance::default("the command line"),
        hash: ContentHash::default(),
    };
    let secrets = Secrets::default();
    let connector = Connector::new(Arc::new(plan), &secrets);
    for name in secrets.wanted() {
        let material = secrets::read(&name).map_err(|e| e.to_string())?;
        secrets.set(&name, SecretState::Ready(material));
    }
    Ok(connector)
}
