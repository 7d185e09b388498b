//! Whose identities count: the mesh's trust domain and its aliases, and who a peer is by its certificate.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use mesh_core::record::PeerCertificate;

use crate::{SpiffeId, TlsError};

const SCHEME: &str = "spiffe://";

/// Trust domains of a mesh (`MeshConfig.trustDomain`, default `cluster.local`, and `trustDomainAliases`).
///
/// ```
/// use mesh_tls::TrustDomains;
///
/// let mesh = TrustDomains::new("td2", ["td1"]);
/// assert!(mesh.accepts("spiffe://td1/ns/foo/sa/a"));
/// assert!(!mesh.accepts("spiffe://td3/ns/foo/sa/a"));
/// let both = ["spiffe://td1/ns/foo/sa/a".to_owned(), "spiffe://td2/ns/foo/sa/a".to_owned()];
/// assert_eq!(mesh.expand(["spiffe://td2/ns/foo/sa/a"]), both);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrustDomains {
    own: Arc<str>,
    aliases: Vec<Arc<str>>,
    federated: Vec<Arc<str>>,
}

impl Default for TrustDomains {
    fn default() -> Self {
        Self::new("cluster.local", [])
    }
}

impl TrustDomains {
    /// The own one and its aliases.
    pub fn new<'a>(own: &str, aliases: impl IntoIterator<Item = &'a str>) -> Self {
        let aliases = aliases.into_iter().map(Into::into).collect();
        Self { own: own.replace('@', ".").into(), aliases, federated: Vec::new() }
    }

    /// With domains of other meshes whose workloads may call (`caCertificates[].trustDomains`).
    pub fn with_federated<'a>(mut self, domains: impl IntoIterator<Item = &'a str>) -> Self {
        self.federated.extend(domains.into_iter().map(Arc::from));
        self
    }

    /// The own one.
    pub fn own(&self) -> &str {
        &self.own
    }

    /// The own one and its aliases.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.own).chain(self.aliases.iter().map(|a| &**a))
    }

    /// Whether a peer with this URI may connect (spec of Istio's inbound filter chains: the URI begins with
    /// `spiffe://DOMAIN/`).
    pub fn accepts(&self, uri: &str) -> bool {
        let Some((domain, path)) = uri.strip_prefix(SCHEME).and_then(|rest| rest.split_once('/')) else { return false };
        !path.is_empty() && self.domains().chain(self.federated.iter().map(|f| &**f)).any(|d| d == domain)
    }

    /// The names that a destination's certificate may have: each of these, and what it is called in the other domains of
    /// this mesh. Sorted, without repetitions. Names of other domains, and of another form, stay as they are.
    pub fn expand<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let mut out = BTreeSet::new();
        for name in names {
            out.insert(name.to_owned());
            let Ok(id) = name.parse::<SpiffeId>() else { continue };
            if self.domains().any(|d| d == id.trust_domain()) {
                out.extend(self.domains().map(|d| SpiffeId::new(d, id.namespace(), id.service_account()).to_string()));
            }
        }
        out.into_iter().collect()
    }
}

/// Who a peer is, by the certificate that it showed. Made once for each connection.
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
    /// Reads it. The chain has been verified before.
    ///
    /// # Errors
    /// The certificate names no workload: it has no URI, or no SPIFFE id, or several URIs, of which no one could say
    /// which is meant (an X.509-SVID has exactly one; Envoy takes the first).
    pub fn of(certificate: &Arc<PeerCertificate>) -> Result<Self, TlsError> {
        let [uri] = &certificate.uris[..] else { return Err(TlsError::Names(certificate.names().collect())) };
        let rest = uri.strip_prefix(SCHEME).and_then(|rest| rest.split_once('/'));
        if !rest.is_some_and(|(domain, path)| !domain.is_empty() && !path.is_empty()) {
            return Err(TlsError::Names(certificate.names().collect()));
        }
        Ok(Self { uri: uri.clone(), id: uri.parse().ok(), certificate: Arc::clone(certificate) })
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
            assert!(matches!(PeerIdentity::of(&showing(refused)), Err(TlsError::Names(_))), "{refused:?}");
        }
    }

    #[test]
    fn domains_are_whole() {
        let mesh = TrustDomains::new("cluster.local", ["old"]).with_federated(["partner"]);
        for (uri, accepted) in [
            ("spiffe://cluster.local/ns/a/sa/b", true),
            ("spiffe://old/ns/a/sa/b", true),
            ("spiffe://partner/ns/a/sa/b", true),
            ("spiffe://cluster.local.evil/ns/a/sa/b", false),
            ("spiffe://cluster.loca/ns/a/sa/b", false),
            ("spiffe://cluster.local", false),
            ("spiffe://cluster.local/", false),
            ("SPIFFE://cluster.local/ns/a/sa/b", false),
            ("cluster.local/ns/a/sa/b", false),
            ("", false),
        ] {
            assert_eq!(mesh.accepts(uri), accepted, "{uri}");
        }
    }

    #[test]
    fn names_of_others_are_not_expanded() {
        let mesh = TrustDomains::new("cluster.local", ["old"]).with_federated(["partner"]);
        let names = ["spiffe://partner/ns/a/sa/b", "example.com", "spiffe://old/ns/a/sa/b"];
        let all =
            ["example.com", "spiffe://cluster.local/ns/a/sa/b", "spiffe://old/ns/a/sa/b", "spiffe://partner/ns/a/sa/b"];
        assert_eq!(mesh.expand(names), all);
    }
}
