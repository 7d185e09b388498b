//! Values of a connection's TLS.

use std::sync::Arc;

use mesh_core::record::{RequestRecord, TlsInfo};

/// Whose connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The client's.
    Downstream,
    /// The one that the request went on by.
    Upstream,
}

/// Which value of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlsValue {
    /// `TLS_VERSION`
    Version,
    /// `TLS_CIPHER`
    Cipher,
    /// `PEER_URI_SAN`: URIs of the peer's certificate
    PeerUris,
    /// `PEER_DNS_SAN`: DNS names of it
    PeerDns,
    /// `PEER_SUBJECT`
    PeerSubject,
    /// `PEER_SERIAL`
    PeerSerial,
    /// `PEER_FINGERPRINT_256`: SHA-256 of it
    PeerFingerprint,
    /// `LOCAL_URI_SAN`: URI of the own certificate
    OwnUri,
}

/// Operators by the part of their names that follows `DOWNSTREAM_` or `UPSTREAM_`.
const VALUES: [(&str, TlsValue); 8] = [
    ("TLS_VERSION", TlsValue::Version),
    ("TLS_CIPHER", TlsValue::Cipher),
    ("PEER_URI_SAN", TlsValue::PeerUris),
    ("PEER_DNS_SAN", TlsValue::PeerDns),
    ("PEER_SUBJECT", TlsValue::PeerSubject),
    ("PEER_SERIAL", TlsValue::PeerSerial),
    ("PEER_FINGERPRINT_256", TlsValue::PeerFingerprint),
    ("LOCAL_URI_SAN", TlsValue::OwnUri),
];

/// The operator of this name in upper case.
pub(super) fn named(name: &str) -> Option<(Side, TlsValue)> {
    let (side, rest) = match name.strip_prefix("DOWNSTREAM_") {
        Some(rest) => (Side::Downstream, rest),
        None => (Side::Upstream, name.strip_prefix("UPSTREAM_")?),
    };
    let (_, value) = VALUES.iter().find(|(n, _)| *n == rest)?;
    Some((side, *value))
}

/// Names of all of them.
pub(super) fn names() -> impl Iterator<Item = String> {
    ["DOWNSTREAM", "UPSTREAM"].into_iter().flat_map(|side| VALUES.map(|(name, _)| format!("{side}_{name}")))
}

pub(super) fn write(side: Side, value: TlsValue, record: &RequestRecord, out: &mut Vec<u8>) {
    let cx = &record.cx;
    let tls: Option<&Arc<TlsInfo>> = match side {
        Side::Downstream => cx.conn.tls.as_ref(),
        Side::Upstream => cx.upstream_tls.get().and_then(Option::as_ref),
    };
    let Some(tls) = tls else { return };
    // As Envoy, what a certificate says is logged whether or not anybody vouches for it.
    let peer = tls.peer.as_deref();
    let mut list = |names: &[Arc<str>]| out.extend_from_slice(names.join(",").as_bytes());
    match (value, peer) {
        (TlsValue::Version, _) => out.extend_from_slice(tls.version.as_bytes()),
        (TlsValue::Cipher, _) => out.extend_from_slice(tls.cipher.as_bytes()),
        (TlsValue::OwnUri, _) => out.extend_from_slice(tls.own.as_deref().unwrap_or_default().as_bytes()),
        (TlsValue::PeerUris, Some(peer)) => list(&peer.uris),
        (TlsValue::PeerDns, Some(peer)) => list(&peer.dns),
        (TlsValue::PeerSubject, Some(peer)) => out.extend_from_slice(peer.subject.as_bytes()),
        (TlsValue::PeerSerial, Some(peer)) => out.extend_from_slice(peer.serial.as_bytes()),
        (TlsValue::PeerFingerprint, Some(peer)) => out.extend_from_slice(peer.hash.as_bytes()),
        (_, None) => {}
    }
}
