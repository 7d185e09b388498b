//! A peer's certificate, taken apart once for each connection.

mod subject;

pub(crate) use subject::rfc2253 as name;

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesh_core::record::PeerCertificate;
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Takes a chain apart, leaf first. `None`: the leaf can't be read.
pub(crate) fn read(chain: &[CertificateDer<'_>]) -> Option<PeerCertificate> {
    let leaf = chain.first()?;
    let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
    let mut peer = PeerCertificate {
        uris: Vec::new(),
        dns: Vec::new(),
        ips: Vec::new(),
        emails: Vec::new(),
        subject: subject::rfc2253(parsed.subject()).into(),
        serial: parsed.raw_serial().iter().map(|b| format!("{b:02x}")).collect::<String>().into(),
        hash: hex(digest(&SHA256, leaf).as_ref()).into(),
        spki: STANDARD.encode(digest(&SHA256, parsed.public_key().raw)).into(),
        not_after: time(parsed.validity().not_after.timestamp()),
        chain: chain.iter().map(|c| c.as_ref().into()).collect(),
    };
    let names = parsed.subject_alternative_name().ok().flatten();
    for name in names.iter().flat_map(|n| &n.value.general_names) {
        match name {
            GeneralName::URI(uri) => peer.uris.push((*uri).into()),
            GeneralName::DNSName(name) => peer.dns.push((*name).into()),
            GeneralName::RFC822Name(name) => peer.emails.push((*name).into()),
            GeneralName::IPAddress(bytes) => peer.ips.extend(address(bytes)),
            _ => {}
        }
    }
    Some(peer)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

pub(crate) fn time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Pins as users write them: keys in base64, certificates in hexadecimal, with or without colons.
pub(crate) fn pinned(peer: &PeerCertificate, spki: &[std::sync::Arc<str>], hashes: &[std::sync::Arc<str>]) -> bool {
    let same = |text: &str| text.chars().filter(|c| *c != ':').map(|c| c.to_ascii_lowercase()).eq(peer.hash.chars());
    (spki.is_empty() && hashes.is_empty()) || spki.iter().any(|s| **s == *peer.spki) || hashes.iter().any(|h| same(h))
}
