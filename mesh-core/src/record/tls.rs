//! What a TLS handshake said, once for each connection.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderValue;

use super::{ClientCert, PeerIdentity};
use crate::snapshot::XfccDetails;

/// A connection's TLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsInfo {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// Cipher suite in IANA's name; empty: not known.
    pub cipher: Arc<str>,
    /// Application protocol that was agreed on; empty: none.
    pub alpn: Arc<str>,
    /// The certificate that the peer showed; `None`: it showed none. Nobody may have verified it: who the peer is, `identity`
    /// and [`TlsInfo::verified`] say.
    pub peer: Option<Arc<PeerCertificate>>,
    /// The chain of `peer` leads to the authorities that this side trusts, and its names and pins are those expected.
    pub is_verified: bool,
    /// Who the peer is; `None`: nobody that is known. Always verified.
    pub identity: Option<PeerIdentity>,
    /// URI of the own certificate; `None`: it has none, or none was shown.
    pub own: Option<Arc<str>>,
    /// How `x-forwarded-client-cert` names the peer; `None`: it doesn't.
    pub client_cert: Option<ClientCert>,
}

impl TlsInfo {
    /// The peer's certificate, if it was verified.
    pub fn verified(&self) -> Option<&Arc<PeerCertificate>> {
        self.peer.as_ref().filter(|_| self.is_verified)
    }

    /// Says that the peer's certificate was verified, and thereby who the peer is.
    #[must_use]
    pub fn into_verified(self) -> Self {
        let identity = self.peer.as_ref().and_then(PeerIdentity::of);
        Self { is_verified: self.peer.is_some(), identity, ..self }
    }

    /// The element of `x-forwarded-client-cert` about the peer. `None`: there is nothing to say.
    pub fn client_cert(&self, details: XfccDetails) -> Option<HeaderValue> {
        self.client_cert.as_ref()?.element(self.own.as_deref(), self.peer.as_ref()?, details)
    }
}

/// A peer's certificate, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerCertificate {
    /// URIs among its names: SPIFFE ids.
    pub uris: Vec<Arc<str>>,
    /// DNS names.
    pub dns: Vec<Arc<str>>,
    /// Addresses among its names.
    pub ips: Vec<IpAddr>,
    /// Mail addresses.
    pub emails: Vec<Arc<str>>,
    /// Subject, as RFC 2253 writes it.
    pub subject: Arc<str>,
    /// Serial number in hexadecimal.
    pub serial: Arc<str>,
    /// SHA-256 of the certificate in hexadecimal.
    pub hash: Arc<str>,
    /// SHA-256 of its public key in base64.
    pub spki: Arc<str>,
    /// It is valid until then.
    pub not_after: SystemTime,
    /// The chain as it was sent, leaf first, in DER.
    pub chain: Vec<Arc<[u8]>>,
}

impl PeerCertificate {
    /// Every name, as text.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let texts = self.uris.iter().chain(&self.dns).chain(&self.emails).map(ToString::to_string);
        texts.chain(self.ips.iter().map(ToString::to_string))
    }

    /// Whether one of its names is this one; a DNS name of it may begin with `*.`, for exactly one label.
    pub fn has_name(&self, name: &str) -> bool {
        let is = |own: &Arc<str>| **own == *name;
        self.uris.iter().any(is)
            || self.emails.iter().any(is)
            || name.parse().is_ok_and(|ip: IpAddr| self.ips.contains(&ip))
            || self.dns.iter().any(|own| dns_matches(own, name))
    }

    /// Whether it is for a host: a DNS name, or an address.
    pub fn is_for_host(&self, host: &str) -> bool {
        match host.parse::<IpAddr>() {
            Ok(ip) => self.ips.contains(&ip),
            Err(_) => self.dns.iter().any(|own| dns_matches(own, host.trim_end_matches('.'))),
        }
    }
}

fn dns_matches(pattern: &str, name: &str) -> bool {
    if pattern.eq_ignore_ascii_case(name) {
        return true;
    }
    let (Some(suffix), Some((label, rest))) = (pattern.strip_prefix("*."), name.split_once('.')) else { return false };
    !label.is_empty() && label != "*" && rest.eq_ignore_ascii_case(suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> PeerCertificate {
        PeerCertificate {
            uris: vec!["spiffe://cluster.local/ns/a/sa/b".into()],
            dns: vec!["a.example.com".into(), "*.wild.example.com".into()],
            ips: vec![[127, 0, 0, 1].into()],
            emails: Vec::new(),
            subject: "".into(),
            serial: "01".into(),
            hash: "".into(),
            spki: "".into(),
            not_after: SystemTime::UNIX_EPOCH,
            chain: Vec::new(),
        }
    }

    #[test]
    fn names() {
        for (name, any, host) in [
            ("spiffe://cluster.local/ns/a/sa/b", true, false),
            ("spiffe://cluster.local/ns/a/sa/bb", false, false),
            ("a.example.com", true, true),
            ("A.example.com", true, true),
            ("b.example.com", false, false),
            ("x.wild.example.com", true, true),
            ("x.y.wild.example.com", false, false),
            ("wild.example.com", false, false),
            (".wild.example.com", false, false),
            ("*.wild.example.com", true, true),
            ("127.0.0.1", true, true),
            ("127.0.0.2", false, false),
            ("", false, false),
        ] {
            let c = certificate();
            assert_eq!((c.has_name(name), c.is_for_host(name)), (any, host), "{name}");
        }
    }
}
