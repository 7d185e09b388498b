//! Who a peer is, by a certificate that was verified.

use std::fmt;
use std::sync::Arc;

use super::PeerCertificate;
use crate::identity::SpiffeId;

const SCHEME: &str = "spiffe://";

/// Who a peer is, by a certificate that was verified. Made once for each connection, by who ends or begins TLS; nothing else
/// may take a certificate for an identity.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    uri: Arc<str>,
    id: Option<SpiffeId>,
    certificate: Arc<PeerCertificate>,
}

impl fmt::Debug for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerIdentity({})", self.uri)
    }
}

impl PeerIdentity {
    /// Reads it. The caller has verified the chain before. `None`: the certificate names no workload: it has no URI, or no
    /// SPIFFE id, or several URIs, of which no one could say which is meant (an X.509-SVID has exactly one; Envoy takes the
    /// first).
    pub fn of(certificate: &Arc<PeerCertificate>) -> Option<Self> {
        let [uri] = &certificate.uris[..] else { return None };
        let (domain, path) = uri.strip_prefix(SCHEME)?.split_once('/')?;
        let named = !domain.is_empty() && !path.is_empty();
        named.then(|| Self { uri: uri.clone(), id: uri.parse().ok(), certificate: Arc::clone(certificate) })
    }

    /// `spiffe://cluster.local/ns/default/sa/sleep`.
    pub fn uri(&self) -> &Arc<str> {
        &self.uri
    }

    /// As policies write it: without the scheme.
    pub fn principal(&self) -> &str {
        self.uri.strip_prefix(SCHEME).unwrap_or(&self.uri)
    }

    /// Taken apart; `None`: it is a SPIFFE id of another form than Istio's, so that it has no namespace.
    pub fn id(&self) -> Option<&SpiffeId> {
        self.id.as_ref()
    }

    /// The certificate: digest, names and the chain as it was sent.
    pub fn certificate(&self) -> &Arc<PeerCertificate> {
        &self.certificate
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn showing(uris: &[&str]) -> Arc<PeerCertificate> {
        Arc::new(PeerCertificate {
            uris: uris.iter().map(|u| (*u).into()).collect(),
            dns: vec![],
            ips: vec![],
            emails: vec![],
            subject: "".into(),
            serial: "1".into(),
            hash: "00".into(),
            spki: "".into(),
            not_after: SystemTime::UNIX_EPOCH,
            chain: vec![],
        })
    }

    #[test]
    fn who_a_peer_is() {
        let peer = PeerIdentity::of(&showing(&["spiffe://cluster.local/ns/foo/sa/a"])).unwrap();
        assert_eq!(peer.principal(), "cluster.local/ns/foo/sa/a");
        assert_eq!(peer.id().map(SpiffeId::namespace), Some("foo"));
        let other = PeerIdentity::of(&showing(&["spiffe://cluster.local/vm/7"])).unwrap();
        assert_eq!((other.principal(), other.id()), ("cluster.local/vm/7", None));
        for refused in [
            &[][..],
            &["https://cluster.local/ns/foo/sa/a"],
            &["spiffe://cluster.local"],
            &["spiffe:///ns/foo/sa/a"],
            &["spiffe://cluster.local/ns/foo/sa/a", "spiffe://cluster.local/ns/foo/sa/b"],
        ] {
            assert_eq!(PeerIdentity::of(&showing(refused)), None, "{refused:?}");
        }
    }
}
