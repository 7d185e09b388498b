//! Certificates as people look at them.

use std::sync::Arc;
use std::time::SystemTime;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::peer;

/// What a certificate says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateInfo {
    /// Subject, most specific part first; empty for a workload's.
    pub subject: Arc<str>,
    /// Who signed it, in the same form.
    pub issuer: Arc<str>,
    /// Serial number in hexadecimal.
    pub serial: Arc<str>,
    /// URIs among its subject alternative names: SPIFFE identities.
    pub uris: Vec<Arc<str>>,
    /// DNS names among them.
    pub dns: Vec<Arc<str>>,
    /// SHA-256 of the certificate in hexadecimal, as `verifyCertificateHash` names it.
    pub hash: Arc<str>,
    /// SHA-256 of its public key in base64, as `verifyCertificateSpki` names it.
    pub spki: Arc<str>,
    /// It is valid from then.
    pub not_before: SystemTime,
    /// It is valid until then.
    pub not_after: SystemTime,
}

impl CertificateInfo {
    /// Those of a PEM text, in its order. What can't be read is left out: this is for looking, not for trusting.
    ///
    /// ```
    /// use mesh_tls::CertificateInfo;
    ///
    /// assert_eq!(CertificateInfo::of_pem("nothing here"), []);
    /// ```
    pub fn of_pem(pem: &str) -> Vec<Self> {
        CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(|der| Self::of(&der.ok()?)).collect()
    }

    fn of(der: &CertificateDer<'_>) -> Option<Self> {
        let read = peer::read(std::slice::from_ref(der))?;
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        Some(Self {
            subject: read.subject,
            issuer: peer::name(parsed.issuer()).into(),
            serial: read.serial,
            uris: read.uris,
            dns: read.dns,
            hash: read.hash,
            spki: read.spki,
            not_before: peer::time(parsed.validity().not_before.timestamp()),
            not_after: read.not_after,
        })
    }
}
