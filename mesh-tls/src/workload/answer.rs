//! What a CA answered, checked before anything depends on it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::PublicKeyData;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::KeyUsage;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::WorkloadCert;
use crate::key::Key;
use crate::verify::ChainVerifier;
use crate::{CaError, Identity, Roots, SpiffeId, peer};

/// Istio's CA lets certificates begin so long before it makes them.
pub(super) const SKEW: Duration = Duration::from_secs(2 * 60);

/// Leaf first, each intermediate, bundle of roots last. The leaf must have our key and our identity, alone, and the chain
/// must hold at this time by our clock: a workload that shows what nobody can verify is down as well, but nobody sees why.
pub(super) fn check(id: &SpiffeId, key: &Key, answer: &[String], now: SystemTime) -> Result<WorkloadCert, CaError> {
    let bad = |why: String| CaError::Answer(why);
    let [chain @ .., bundle] = answer else { return Err(bad("it is empty".into())) };
    if chain.is_empty() {
        return Err(bad("there is only one certificate in it".into()));
    }
    let certificates: Vec<_> = chain
        .iter()
        .flat_map(|pem| CertificateDer::pem_slice_iter(pem.as_bytes()))
        .collect::<Result<_, _>>()
        .map_err(|e| bad(format!("a certificate can't be read: {e}")))?;
    let [first, rest @ ..] = &certificates[..] else { return Err(bad("there is no certificate in it".into())) };
    let unreadable = || bad("the certificate can't be read".into());
    let (_, parsed) = X509Certificate::from_der(first).map_err(|_| unreadable())?;
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err(bad("the certificate is for another key".into()));
    }
    let names: Vec<String> = peer::read(&certificates).ok_or_else(unreadable)?.names().collect();
    if names != [id.to_string()] {
        return Err(bad(format!("the certificate is for {} instead of {id}", names.join(", "))));
    }
    let at = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let not_before = at(parsed.validity().not_before.timestamp());
    let not_after = at(parsed.validity().not_after.timestamp());
    let ahead = super::seconds_between(now, not_before + SKEW);
    if now < not_before || now >= not_after {
        return Err(bad(format!(
            "the certificate is not valid at this time: this clock and the CA's differ by {ahead} s"
        )));
    }
    let roots = Roots::bundle(bundle.as_bytes()).map_err(|e| bad(format!("its roots: {e}")))?;
    let roots = Arc::new(roots);
    let verifier = ChainVerifier::new(Some(Arc::clone(&roots)), true, &rustls::crypto::aws_lc_rs::default_provider());
    let time = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
    for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
        let held = verifier.verify(first, rest, time, usage);
        held.map_err(|e| bad(format!("the chain does not lead to its roots: {e}")))?;
    }
    let serial = parsed.raw_serial_as_string().replace(':', "").into();
    let identity = Identity::from_pem(chain.concat().as_bytes(), &key.private()).map_err(|e| bad(e.to_string()))?;
    Ok(WorkloadCert {
        id: id.clone(),
        chain: chain.concat().into(),
        bundle: bundle.as_str().into(),
        identity,
        roots,
        serial,
        not_before,
        not_after,
    })
}
