//! Key material, parsed once when it arrives: what is broken is refused then, not in a handshake.

use std::fmt;
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, TrustAnchor};
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroize;

use crate::verify::known::Known;
use crate::{PrivateKey, SecretError};

/// What a [`crate::SecretRef`] stands for.
#[derive(Clone, Debug)]
pub enum Material {
    /// A certificate chain with its key.
    Identity(Identity),
    /// Authorities.
    Roots(Arc<Roots>),
}

/// A certificate chain with its key. The key is not printed.
#[derive(Clone)]
pub struct Identity(Arc<CertifiedKey>);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({} certificates)", self.0.cert.len())
    }
}

impl Identity {
    /// Reads PEM: the chain with the leaf first, and its key (PKCS#8, PKCS#1 or SEC1).
    ///
    /// # Errors
    /// There is no certificate, no key that the TLS library can use, or they don't belong together.
    pub fn from_pem(chain: &[u8], key: &PrivateKey) -> Result<Self, SecretError> {
        let chain = certificates(chain)?;
        let leaf = chain.first().ok_or_else(|| SecretError("there is no certificate in it".into()))?;
        let mut der = PrivateKeyDer::from_pem_slice(key.expose())
            .map_err(|e| SecretError(format!("the private key can't be read: {e}")))?;
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der);
        der.zeroize();
        let key = key.map_err(|e| SecretError(format!("the private key can't be used: {e}")))?;
        let (_, parsed) =
            X509Certificate::from_der(leaf).map_err(|e| SecretError(format!("the certificate can't be read: {e}")))?;
        // The TLS library's own check refuses certificates of version 1, which `openssl x509 -req` makes.
        if key.public_key().is_some_and(|own| *own != *parsed.public_key().raw) {
            return Err(SecretError("the private key does not belong to the certificate".into()));
        }
        Ok(Self(Arc::new(CertifiedKey::new(chain, key))))
    }

    pub(crate) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.0
    }
}

/// Authorities that certificates are verified against, with revocation lists.
pub struct Roots {
    /// The certificates themselves: one that is in here is trusted as it is.
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    pub(crate) anchors: Vec<TrustAnchor<'static>>,
    pub(crate) crls: Vec<CertRevocationList<'static>>,
    /// Of which it is joined; then it has none itself.
    pub(crate) joined: Vec<Authorities>,
    /// Chains that were verified already.
    pub(crate) known: Known,
}

/// Authorities beside the mesh's own (`caCertificates`).
#[derive(Clone, Debug)]
pub struct Authorities {
    /// Trust domains whose workloads they vouch for, and nobody else does; empty: they vouch for whom the mesh's own do.
    pub trust_domains: Vec<Arc<str>>,
    /// The authorities.
    pub roots: Arc<Roots>,
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |of: fn(&Roots) -> usize| self.sets().map(of).sum::<usize>();
        let (certificates, crls) = (count(|r| r.certificates.len()), count(|r| r.crls.len()));
        write!(f, "Roots({certificates} certificates, {crls} revocation lists)")
    }
}

impl Roots {
    /// Reads PEM.
    ///
    /// # Errors
    /// There is no certificate, or a revocation list can't be read. Single certificates that can't be read are left out,
    /// as long as one can.
    pub fn from_pem(certificates: &[u8], crl: Option<&[u8]>) -> Result<Self, SecretError> {
        let certificates = self::certificates(certificates)?;
        let anchors: Vec<_> = certificates
            .iter()
            .filter_map(|c| webpki::anchor_from_trusted_cert(c).ok().map(|a| a.to_owned()))
            .collect();
        if certificates.is_empty() {
            return Err(SecretError("there is no certificate of an authority in it".into()));
        }
        let mut crls = Vec::new();
        for list in crl.into_iter().flat_map(CertificateRevocationListDer::pem_slice_iter) {
            let list = list.map_err(|e| SecretError(format!("the revocation list can't be read: {e}")))?;
            let list = OwnedCertRevocationList::from_der(&list)
                .map_err(|e| SecretError(format!("the revocation list can't be read: {e:?}")))?;
            crls.push(list.into());
        }
        if crl.is_some() && crls.is_empty() {
            return Err(SecretError("there is no revocation list in it".into()));
        }
        Ok(Self { certificates, anchors, crls, ..Self::nobody() })
    }

    /// Reads a CA's bundle: its roots and, if there are any, their revocation lists in one text.
    ///
    /// # Errors
    /// As [`Roots::from_pem`].
    pub fn bundle(pem: &[u8]) -> Result<Self, SecretError> {
        const BEGIN: &[u8] = b"-----BEGIN X509 CRL-----";
        let has_lists = pem.windows(BEGIN.len()).any(|w| w == BEGIN);
        Self::from_pem(pem, has_lists.then_some(pem))
    }

    /// Authorities that vouch for nobody: stand for those that can't be read, so that nobody else is asked instead.
    pub fn nobody() -> Self {
        Self {
            certificates: Vec::new(),
            anchors: Vec::new(),
            crls: Vec::new(),
            joined: Vec::new(),
            known: Known::default(),
        }
    }

    /// The mesh's own, together with others where there are any.
    pub fn beside(own: &Arc<Self>, others: &[Authorities]) -> Arc<Self> {
        match others {
            [] => Arc::clone(own),
            others => Arc::new(Self::joined(Arc::clone(own), others)),
        }
    }

    /// The mesh's own together with others. Which of them a certificate has to lead to, its trust domain says.
    pub fn joined(own: Arc<Self>, others: &[Authorities]) -> Self {
        let own = Authorities { trust_domains: Vec::new(), roots: own };
        let joined = std::iter::once(own).chain(others.iter().cloned()).collect();
        Self { joined, ..Self::nobody() }
    }

    /// Every set of authorities in it.
    pub(crate) fn sets(&self) -> impl Iterator<Item = &Self> {
        let alone = self.joined.is_empty().then_some(self);
        alone.into_iter().chain(self.joined.iter().map(|a| &*a.roots))
    }

    /// Those that may vouch for a workload of this trust domain.
    pub(crate) fn vouching<'a>(&'a self, domain: &'a str) -> impl Iterator<Item = &'a Self> {
        let knows = |a: &Authorities| a.trust_domains.iter().any(|d| **d == *domain);
        let special = self.joined.iter().any(knows);
        let of = move |a: &&Authorities| if special { knows(a) } else { a.trust_domains.is_empty() };
        let alone = self.joined.is_empty().then_some(self);
        alone.into_iter().chain(self.joined.iter().filter(of).map(|a| &*a.roots))
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, SecretError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|e| SecretError(format!("certificates can't be read: {e}")))
}
