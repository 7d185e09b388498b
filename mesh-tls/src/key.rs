//! Private keys: made here, used here, never written out. What holds one is neither printed nor compared, and is
//! overwritten when it is dropped, as far as the libraries beneath allow: the TLS library's own copy is freed by AWS-LC,
//! which cleans what it frees.

use std::fmt;
use std::sync::Arc;

use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PublicKeyData, SanType, SignatureAlgorithm, SigningKey,
    string::Ia5String,
};
use zeroize::{Zeroize, Zeroizing};

use crate::{CaError, SpiffeId};

/// A private key in PEM form. It is neither printed nor compared.
#[derive(Clone)]
pub struct PrivateKey(Arc<Zeroizing<Vec<u8>>>);

impl PrivateKey {
    /// Wraps PEM bytes.
    pub fn from_pem(pem: &[u8]) -> Self {
        Self(Arc::new(Zeroizing::new(pem.to_vec())))
    }

    /// The PEM bytes, for the TLS stack.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

/// Kinds of keys that workloads and authorities have.
///
/// The default is ECDSA with P-256, as Istio's node proxy: a key costs microseconds and a handshake a tenth of RSA's.
/// Istio's sidecars make RSA-2048 unless told otherwise (`ECC_SIGNATURE_ALGORITHM`, `WORKLOAD_RSA_KEY_SIZE`), and so do
/// those of its `demo` profile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum KeyKind {
    /// ECDSA with the curve P-256.
    #[default]
    EcdsaP256,
    /// ECDSA with the curve P-384.
    EcdsaP384,
    /// RSA with 2048 bits.
    Rsa2048,
}

/// A key pair that signs. Dropping it overwrites the private half.
pub(crate) struct Key(KeyPair);

impl Key {
    pub(crate) fn generate(kind: KeyKind) -> Result<Self, CaError> {
        let made = match kind {
            KeyKind::EcdsaP256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            KeyKind::EcdsaP384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            KeyKind::Rsa2048 => KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256),
        };
        made.map(Self).map_err(|e| CaError::Signer(format!("a key can't be made: {e}")))
    }

    /// Reads PEM: PKCS#8, PKCS#1 or SEC1.
    pub(crate) fn from_pem(key: &PrivateKey) -> Result<Self, CaError> {
        let bad = |e: &dyn fmt::Display| CaError::Files(format!("the key can't be used: {e}"));
        let pem = std::str::from_utf8(key.expose()).map_err(|e| bad(&e))?;
        KeyPair::from_pem(pem).map(Self).map_err(|e| bad(&e))
    }

    pub(crate) fn private(&self) -> PrivateKey {
        let pem = Zeroizing::new(self.0.serialize_pem());
        PrivateKey::from_pem(pem.as_bytes())
    }

    /// A certificate signing request in PEM. It asks for the identity, as Istio's agents do; a CA that takes anybody's
    /// word for it is broken, so nothing depends on it.
    pub(crate) fn request(&self, id: &SpiffeId) -> Result<String, CaError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![san(id)?];
        let bad = |e: rcgen::Error| CaError::Request(e.to_string());
        params.serialize_request(self).and_then(|r| r.pem()).map_err(bad)
    }
}

/// The one name that a workload's certificate has.
pub(crate) fn san(id: &SpiffeId) -> Result<SanType, CaError> {
    let uri = Ia5String::try_from(id.to_string());
    uri.map(SanType::URI).map_err(|_| CaError::Request(format!("{id} can't be a name in a certificate")))
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_not_printed() {
        for kind in [KeyKind::EcdsaP256, KeyKind::EcdsaP384] {
            let key = Key::generate(kind).unwrap();
            let private = key.private();
            let pem = std::str::from_utf8(private.expose()).unwrap();
            assert!(pem.contains("PRIVATE KEY"));
            let secret = pem.lines().nth(1).unwrap();
            for printed in [format!("{key:?}"), format!("{private:?}"), format!("{:#?}", Some(&private))] {
                assert!(!printed.contains("PRIVATE") && !printed.contains(secret), "{printed}");
            }
            let again = Key::from_pem(&private).unwrap();
            assert_eq!(again.der_bytes(), key.der_bytes());
        }
    }

    #[test]
    fn a_broken_key_is_refused_without_showing_it() {
        let said = Key::from_pem(&PrivateKey::from_pem(b"secret")).unwrap_err().to_string();
        assert!(!said.contains("secret"), "{said}");
    }
}
