use std::sync::Arc;

use rcgen::date_time_ymd;
use rustls::CertificateError;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::ChainVerifier;
use crate::Roots;
use crate::tests::Ca;

/// Noon of a day of January 2030.
fn january(day: u64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_893_456_000 + (day - 1) * 86_400 + 43_200))
}

fn verifier(roots: &Arc<Roots>) -> ChainVerifier {
    ChainVerifier::new(Some(Arc::clone(roots)), true, &rustls::crypto::aws_lc_rs::default_provider())
}

/// Valid from the 2nd of January 2030 until the 5th begins.
fn leaf(ca: &Ca) -> CertificateDer<'static> {
    let leaf = ca.leaf(&["spiffe://cluster.local/ns/default/sa/a"], |p| {
        (p.not_before, p.not_after) = (date_time_ymd(2030, 1, 2), date_time_ymd(2030, 1, 5));
    });
    CertificateDer::from_pem_slice(leaf.pem.as_bytes()).unwrap()
}

#[test]
fn a_chain_is_verified_once_and_for_its_time_only() {
    let ca = Ca::new("mesh");
    let roots = Arc::new(Roots::from_pem(ca.pem.as_bytes(), None).unwrap());
    let leaf = leaf(&ca);
    // Verifiers of one set of authorities know the same.
    let client = |day| verifier(&roots).verify_client_cert(&leaf, &[], january(day)).map(drop);
    let name = ServerName::try_from("a").unwrap();
    let server = |day| verifier(&roots).verify_server_cert(&leaf, &[], &name, &[], january(day)).map(drop);

    assert_eq!(client(1), Err(CertificateError::NotValidYet.into()));
    assert_eq!(roots.known.len(), 0, "what failed is not remembered");
    client(3).unwrap();
    assert_eq!(roots.known.len(), 1);
    client(4).unwrap();
    assert_eq!(roots.known.len(), 1, "it was known");
    // The clock was set back, behind the time when it was verified and before it was valid.
    client(2).unwrap();
    assert_eq!(client(1), Err(CertificateError::NotValidYet.into()));
    assert_eq!(client(5), Err(CertificateError::Expired.into()));
    server(3).unwrap();
    assert_eq!(roots.known.len(), 2, "another use is another question");
}

#[test]
fn what_is_known_of_one_chain_says_nothing_of_another() {
    let (ca, other) = (Ca::new("mesh"), Ca::new("other"));
    let roots = Arc::new(Roots::from_pem(ca.pem.as_bytes(), None).unwrap());
    let verifier = verifier(&roots);
    let (good, bad) = (leaf(&ca), leaf(&other));
    verifier.verify_client_cert(&good, &[], january(3)).unwrap();
    // Neither a stranger's leaf with ours behind it, nor one byte that is another one.
    assert!(verifier.verify_client_cert(&bad, std::slice::from_ref(&good), january(3)).is_err());
    let mut forged = good.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert!(verifier.verify_client_cert(&forged.into(), &[], january(3)).is_err());
    // And other authorities start knowing nothing.
    let others = Arc::new(Roots::from_pem(other.pem.as_bytes(), None).unwrap());
    assert!(self::verifier(&others).verify_client_cert(&good, &[], january(3)).is_err());
    assert_eq!((roots.known.len(), others.known.len()), (1, 0));
}

#[test]
fn memory_for_chains_is_bounded() {
    let ca = Ca::new("mesh");
    let roots = Arc::new(Roots::from_pem(ca.pem.as_bytes(), None).unwrap());
    let leaf = leaf(&ca);
    for i in 0..3_000_u32 {
        let chain = super::Chain::of(super::Side::Client, &i.to_be_bytes().to_vec().into(), &[]);
        roots.known.note(chain, (&leaf, &[]), january(3));
        assert!(roots.known.holds(chain, january(3)));
    }
    assert!(roots.known.len() <= 1024);
}
