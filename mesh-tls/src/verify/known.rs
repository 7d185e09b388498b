//! Chains that are known to lead to a set of authorities. Workloads meet again and again, with the same certificate for as
//! long as it lives; the signatures in it are verified once, and so a quarter of a handshake's work is done once.
//!
//! What a peer proves anew on every connection stays: that it has the key, its names, the pins.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use aws_lc_rs::digest::{Context, SHA256, digest};
use parking_lot::Mutex;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// What is remembered at most. When there are more, it begins again: one more verification for each.
const MOST: usize = 1024;

/// A chain and what it was shown for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Chain([u8; 32]);

/// Which side of a connection shows a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Chain {
    pub(crate) fn of(side: Side, leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Self {
        let mut all = Context::new(&SHA256);
        all.update(&[side as u8]);
        for certificate in std::iter::once(leaf).chain(intermediates) {
            all.update(digest(&SHA256, certificate).as_ref());
        }
        Self(all.finish().as_ref().try_into().expect("invariant: SHA-256 has 32 bytes"))
    }
}

/// The chains that lead to one set of authorities, and when: from their verification until one of their certificates ends.
/// Authorities and revocation lists that change are another set.
#[derive(Default)]
pub(crate) struct Known(Mutex<HashMap<Chain, RangeInclusive<u64>>>);

impl Known {
    pub(crate) fn holds(&self, chain: Chain, now: UnixTime) -> bool {
        self.0.lock().get(&chain).is_some_and(|valid| valid.contains(&now.as_secs()))
    }

    /// The chain was verified just now.
    pub(crate) fn note(
        &self,
        chain: Chain,
        (leaf, intermediates): (&CertificateDer<'_>, &[CertificateDer<'_>]),
        now: UnixTime,
    ) {
        let ends = std::iter::once(leaf).chain(intermediates).map(|c| ends(c)).min();
        let Some(Some(end)) = ends else { return };
        let mut all = self.0.lock();
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(chain, now.as_secs()..=end);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

/// Last second of a certificate; `None`: it can't be read.
fn ends(certificate: &[u8]) -> Option<u64> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    u64::try_from(parsed.validity().not_after.timestamp()).ok()
}
