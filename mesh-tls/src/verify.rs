//! Verification of certificate chains. Names and pins are checked afterwards, on every connection, also a resumed one:
//! see [`crate::peer`].

pub(crate) mod known;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage, RevocationOptionsBuilder, UnknownStatusPolicy};
use x509_parser::prelude::{FromDer, X509Certificate};

use self::known::{Chain, Side};
use crate::material::Roots;
use crate::peer;

type Signed = Result<HandshakeSignatureValid, Error>;

/// Verifies chains, of servers and of clients.
pub(crate) struct ChainVerifier {
    /// `None`: every certificate is accepted.
    roots: Option<Arc<Roots>>,
    /// Whether a client has to show one.
    mandatory: bool,
    algorithms: WebPkiSupportedAlgorithms,
    subjects: Vec<DistinguishedName>,
}

impl fmt::Debug for ChainVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainVerifier({:?})", self.roots)
    }
}

impl ChainVerifier {
    pub(crate) fn new(roots: Option<Arc<Roots>>, mandatory: bool, provider: &CryptoProvider) -> Self {
        let anchors = roots.iter().flat_map(|r| r.sets()).flat_map(|r| &r.anchors);
        let subjects = anchors.map(|a| DistinguishedName::in_sequence(&a.subject)).collect();
        Self { roots, mandatory, algorithms: provider.signature_verification_algorithms, subjects }
    }

    /// Whether a chain leads to the authorities, at this time and for this use.
    pub(crate) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), Error> {
        let Some(all) = &self.roots else { return Ok(()) };
        let mut failed = CertificateError::UnknownIssuer.into();
        for roots in all.vouching(&trust_domain(all, leaf)) {
            match self.leads_to(roots, leaf, intermediates, now, usage) {
                Ok(()) => return Ok(()),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// The same of what the other side of a connection shows, which need not be verified twice.
    fn verify_peer(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        side: Side,
    ) -> Result<(), Error> {
        let Some(roots) = &self.roots else { return Ok(()) };
        let chain = Chain::of(side, leaf, intermediates);
        if roots.known.holds(chain, now) {
            return Ok(());
        }
        let usage = match side {
            Side::Client => KeyUsage::client_auth(),
            Side::Server => KeyUsage::server_auth(),
        };
        self.verify(leaf, intermediates, now, usage)?;
        roots.known.note(chain, (leaf, intermediates), now);
        Ok(())
    }

    fn leads_to(
        &self,
        roots: &Roots,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), Error> {
        // A certificate that is among the authorities is trusted as it is, as with OpenSSL's partial chains: what
        // `openssl req -x509` makes is its own authority.
        if roots.certificates.iter().any(|c| c == leaf) {
            return in_time(leaf, now);
        }
        let crls: Vec<_> = roots.crls.iter().collect();
        let revocation = RevocationOptionsBuilder::new(&crls)
            .ok()
            .map(|options| options.with_status_policy(UnknownStatusPolicy::Deny).build());
        let leaf = EndEntityCert::try_from(leaf).map_err(of_webpki)?;
        leaf.verify_for_usage(self.algorithms.all, &roots.anchors, intermediates, now, usage, revocation, None)
            .map_err(of_webpki)
            .map(drop)
    }
}

/// The trust domain of a workload's certificate, where it matters; empty: it has none.
fn trust_domain(roots: &Roots, leaf: &CertificateDer<'_>) -> String {
    if roots.joined.is_empty() {
        return String::new();
    }
    let peer = peer::read(std::slice::from_ref(leaf));
    let domain = peer.iter().flat_map(|p| &p.uris).find_map(|uri| uri.strip_prefix("spiffe://")?.split('/').next());
    domain.unwrap_or_default().to_owned()
}

fn in_time(leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let bad = |e| Error::InvalidCertificate(e);
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| bad(CertificateError::BadEncoding))?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now > parsed.validity().not_after.timestamp() {
        return Err(bad(CertificateError::Expired));
    }
    if now < parsed.validity().not_before.timestamp() {
        return Err(bad(CertificateError::NotValidYet));
    }
    Ok(())
}

fn of_webpki(error: webpki::Error) -> Error {
    use webpki::Error as E;
    Error::InvalidCertificate(match error {
        E::BadDer | E::BadDerTime | E::TrailingData(_) => CertificateError::BadEncoding,
        E::CertNotValidYet { .. } => CertificateError::NotValidYet,
        E::CertExpired { .. } | E::InvalidCertValidity => CertificateError::Expired,
        E::UnknownIssuer => CertificateError::UnknownIssuer,
        E::CertRevoked => CertificateError::Revoked,
        E::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        E::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        E::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    })
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify_peer(end_entity, intermediates, now, Side::Server).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Signed {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Signed {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What is the same on both sides is asked of the other one.
impl ClientCertVerifier for ChainVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify_peer(end_entity, intermediates, now, Side::Client).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Signed {
        ServerCertVerifier::verify_tls12_signature(self, message, cert, dss)
    }

    fn verify_tls13_signature(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Signed {
        ServerCertVerifier::verify_tls13_signature(self, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}
