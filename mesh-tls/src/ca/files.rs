//! The operator's key material, in the two layouts that Istio's CA reads from `cacerts`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_core::env::Env;
use rcgen::{Issuer, PublicKeyData};
use rustls::CertificateError;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use webpki::KeyUsage;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{CaError, Signer, pem_of, profile};
use crate::key::Key;
use crate::verify::ChainVerifier;
use crate::{KeyKind, PrivateKey, Roots, SecretData, SpiffeId};

/// What is read, whichever layout it came in.
struct Files<'d> {
    signer: (&'static str, &'d [u8]),
    key: (&'static str, &'d [u8]),
    chain: Option<(&'static str, &'d [u8])>,
    roots: (&'static str, &'d [u8]),
    /// `ca-crl.pem`, which either layout may have.
    crl: Option<&'d [u8]>,
}

impl<'d> Files<'d> {
    /// A TLS Secret is looked for first (cert-manager's `istio-csr` and the like mount one), then Istio's own names.
    fn find(data: &'d SecretData) -> Result<Self, CaError> {
        let get = |name: &'static str| data.0.get(name).map(|d| (name, d.as_slice()));
        // An empty one is none: that is how it is taken back.
        let crl = get(CRL).map(|(_, pem)| pem).filter(|pem| !pem.trim_ascii().is_empty());
        if let (Some(signer), Some(key), Some(roots)) = (get("tls.crt"), get("tls.key"), get("ca.crt")) {
            return Ok(Self { signer, key, chain: Some(signer), roots, crl });
        }
        let need = |name| {
            get(name)
                .ok_or_else(|| CaError::Files(format!("there is no {name} (nor all of tls.crt, tls.key and ca.crt)")))
        };
        let (signer, key, roots) = (need("ca-cert.pem")?, need("ca-key.pem")?, need("root-cert.pem")?);
        Ok(Self { signer, key, chain: get("cert-chain.pem"), roots, crl })
    }
}

/// Revocation lists of the authorities in the chain.
const CRL: &str = "ca-crl.pem";

/// What an operator's files hold, checked.
pub(super) struct Read {
    pub(super) signer: Signer,
    pub(super) roots: Vec<CertificateDer<'static>>,
    /// PEM of revocation lists.
    pub(super) crl: Option<Arc<str>>,
}

/// The signer, the roots and what they have revoked.
pub(super) fn read(data: &SecretData, env: &dyn Env) -> Result<Read, CaError> {
    let files = Files::find(data)?;
    let certificate = certificates(files.signer)?
        .into_iter()
        .next()
        .ok_or_else(|| CaError::Files(format!("there is no certificate in {}", files.signer.0)))?;
    let roots = certificates(files.roots)?;
    if roots.is_empty() {
        return Err(CaError::Files(format!("there is no certificate in {}", files.roots.0)));
    }
    let chain = files.chain.map(certificates).transpose()?.unwrap_or_default();
    let key = Key::from_pem(&PrivateKey::from_pem(files.key.1)).map_err(|e| within(files.key.0, &e))?;
    let intermediates = intermediates(&certificate, &chain, &roots);
    let signer = signer(files.signer.0, certificate, key, intermediates, env.now())?;
    let crl = files.crl.map(lists).transpose()?;
    leads_to(&signer, (&roots, crl.as_deref()), env)?;
    Ok(Read { signer, roots, crl })
}

/// The lists alone, in our own spelling.
fn lists(pem: &[u8]) -> Result<Arc<str>, CaError> {
    let lists = CertificateRevocationListDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let lists = lists.map_err(|e| CaError::Files(format!("{CRL} can't be read: {e}")))?;
    if lists.is_empty() {
        return Err(CaError::Files(format!("there is no revocation list in {CRL}")));
    }
    Ok(lists.iter().map(|list| crate::pem::encode("X509 CRL", list)).collect::<String>().into())
}

fn within(file: &str, error: &CaError) -> CaError {
    match error {
        CaError::Files(why) => CaError::Files(format!("{file}: {why}")),
        other => other.clone(),
    }
}

fn certificates((name, pem): (&str, &[u8])) -> Result<Vec<CertificateDer<'static>>, CaError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|e| CaError::Files(format!("certificates of {name} can't be read: {e}")))
}

/// What a peer needs between a leaf and its roots: the signer unless it is a root, and the rest of its chain.
fn intermediates(
    signer: &CertificateDer<'_>,
    chain: &[CertificateDer<'static>],
    roots: &[CertificateDer<'static>],
) -> Vec<String> {
    let rest = chain.iter().filter(|c| *c != signer);
    std::iter::once(signer).chain(rest).filter(|c| !roots.contains(*c)).map(|c| pem_of(c)).collect()
}

fn signer(
    file: &str,
    certificate: CertificateDer<'static>,
    key: Key,
    intermediates: Vec<String>,
    now: SystemTime,
) -> Result<Signer, CaError> {
    let bad = |why: &str| CaError::Files(format!("{file}: {why}"));
    let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| bad("the certificate can't be read"))?;
    if !parsed.is_ca() {
        return Err(bad("the certificate is no authority's (CA:TRUE is missing)"));
    }
    if parsed.key_usage().ok().flatten().is_some_and(|u| !u.value.key_cert_sign()) {
        return Err(bad("the certificate's key may not sign certificates"));
    }
    if key.subject_public_key_info() != parsed.public_key().raw {
        return Err(bad("the key does not belong to the certificate"));
    }
    let at = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let not_before = at(parsed.validity().not_before.timestamp());
    let not_after = at(parsed.validity().not_after.timestamp());
    if now >= not_after {
        return Err(bad("the certificate has expired"));
    }
    let has_key_id = parsed
        .extensions()
        .iter()
        .any(|e| matches!(e.parsed_extension(), x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(_)));
    let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|e| bad(&e.to_string()))?;
    Ok(Signer { issuer, certificate, intermediates, not_before, not_after, has_key_id })
}

/// Signs a leaf for nobody and verifies it as a peer will: chain, path lengths, expiry, names and revocation in one.
fn leads_to(
    signer: &Signer,
    (roots, crl): (&[CertificateDer<'static>], Option<&str>),
    env: &dyn Env,
) -> Result<(), CaError> {
    let bad = |why: String| CaError::Files(format!("the chain does not lead to the roots: {why}"));
    let nobody = SpiffeId::new("cluster.local", "none", "none");
    let key = Key::generate(KeyKind::EcdsaP256)?;
    let key = profile::public_key(key.request(&nobody)?.as_bytes())?;
    let leaf = profile::leaf(signer, &nobody, &key, profile::SKEW, env)?;
    let chain = std::iter::once(&leaf).chain(&signer.intermediates);
    let chain: Vec<_> = chain.filter_map(|p| CertificateDer::from_pem_slice(p.as_bytes()).ok()).collect();
    let lists = crl.map(str::as_bytes);
    let roots = Roots::from_pem(super::pem(roots).as_bytes(), lists).map_err(|e| bad(e.to_string()))?;
    let verifier = ChainVerifier::new(Some(Arc::new(roots)), true, &rustls::crypto::aws_lc_rs::default_provider());
    let now = env.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let [leaf, rest @ ..] = &chain[..] else { return Err(bad("the chain is empty".into())) };
    verifier.verify(leaf, rest, UnixTime::since_unix_epoch(now), KeyUsage::client_auth()).map_err(|e| match e {
        rustls::Error::InvalidCertificate(CertificateError::UnknownRevocationStatus) => CaError::Files(format!(
            "{CRL} has no list of one of the authorities of the chain: each has to issue one, if only an empty one"
        )),
        other => bad(other.to_string()),
    })
}
