//! What certificates of the mesh look like.

use std::time::{Duration, SystemTime};

use mesh_core::env::Env;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use super::{AuthorityConfig, CaError, Signer, pem_of};
use crate::SpiffeId;
use crate::key::{self, Key};

/// Certificates are valid from so long before they are made: for clocks that are behind the CA's.
pub(crate) const SKEW: Duration = Duration::from_secs(2 * 60);
/// A request is a key and a signature; nothing needs more.
const MAX_REQUEST: usize = 64 * 1024;
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
/// `SEQUENCE {}`: CA:FALSE, by default.
const NO_CA: &[u8] = &[0x30, 0x00];

/// The public key of a request whose signature proves that the caller has the private one.
pub(super) fn public_key(csr: &[u8]) -> Result<SubjectPublicKeyInfo, CaError> {
    let bad = |why: &str| CaError::Request(why.to_owned());
    if csr.len() > MAX_REQUEST {
        return Err(bad("it is too long"));
    }
    let der = CertificateSigningRequestDer::from_pem_slice(csr).map_err(|_| bad("it is no PEM request"))?;
    let (rest, request) =
        X509CertificationRequest::from_der(&der).map_err(|_| bad("it can't be read as a PKCS#10 request"))?;
    if !rest.is_empty() {
        return Err(bad("something follows the request"));
    }
    request.verify_signature().map_err(|_| bad("its signature is not of the key in it"))?;
    let public = &request.certification_request_info.subject_pki;
    if let PublicKey::RSA(rsa) = public.parsed().map_err(|_| bad("its key can't be read"))? {
        let bits = rsa.key_size();
        if !(2048..=8192).contains(&bits) {
            return Err(CaError::Request(format!("an RSA key of {bits} bits is refused")));
        }
    }
    SubjectPublicKeyInfo::from_der(public.raw).map_err(|_| bad("its kind of key is not supported"))
}

/// A workload's certificate, in PEM, as Istio's CA makes it: the identity is its only name, in a critical extension since
/// there is no subject; it is a server's and a client's, and no authority's.
pub(super) fn leaf(
    signer: &Signer,
    caller: &SpiffeId,
    key: &SubjectPublicKeyInfo,
    ttl: Duration,
    env: &dyn Env,
) -> Result<String, CaError> {
    let now = env.now();
    if now >= signer.not_after {
        return Err(CaError::Signer("its certificate has expired".into()));
    }
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since(now - SKEW);
    // What outlives its signer can't be verified, and would not be renewed in time.
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since((now + ttl).min(signer.not_after));
    params.serial_number = Some(serial(env));
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![key::san(caller)?];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    // The library's own way to write CA:FALSE adds a subject key identifier, which Istio's leaves don't have.
    let mut no_ca = CustomExtension::from_oid_content(BASIC_CONSTRAINTS, NO_CA.to_vec());
    no_ca.set_criticality(true);
    params.custom_extensions = vec![no_ca];
    params.use_authority_key_identifier_extension = signer.has_key_id;
    let leaf = params.signed_by(key, &signer.issuer).map_err(|e| CaError::Signer(e.to_string()))?;
    Ok(pem_of(leaf.der()))
}

/// A root that signs itself.
pub(super) fn root(config: &AuthorityConfig, key: Key, env: &dyn Env) -> Result<Signer, CaError> {
    let now = env.now();
    let (not_before, not_after) = (now - SKEW, now + config.root_ttl);
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since(not_before);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since(not_after);
    params.serial_number = Some(serial(env));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, &*config.organization);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).map_err(|e| CaError::Signer(e.to_string()))?.der().clone();
    let issuer = Issuer::new(params, key);
    Ok(Signer { issuer, certificate, intermediates: Vec::new(), not_before, not_after, has_key_id: true })
}

/// 127 random bits, never zero: positive for whoever reads it as signed.
fn serial(env: &dyn Env) -> SerialNumber {
    let bits = (u128::from(env.random()) << 64 | u128::from(env.random())) & (u128::MAX >> 1) | 1 << 126;
    SerialNumber::from_slice(&bits.to_be_bytes())
}

/// In whole seconds, as certificates have it.
fn since(time: SystemTime) -> Duration {
    Duration::from_secs(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs())
}
