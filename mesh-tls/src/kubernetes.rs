//! Key material as Kubernetes' Secrets and ConfigMaps hold it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::{Identity, Material, PrivateKey, Roots, SecretError};

/// The data of a Secret. It is not printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SecretData(pub BTreeMap<String, Vec<u8>>);

impl fmt::Debug for SecretData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl SecretData {
    fn pair(&self, a: &str, b: &str) -> Option<(&[u8], &[u8])> {
        Some((self.0.get(a)?, self.0.get(b)?))
    }

    /// Certificate chain and key: `cert` and `key`, else `tls.crt` and `tls.key`.
    ///
    /// # Errors
    /// Neither pair is there, or it can't be used.
    pub fn identity(&self) -> Result<Material, SecretError> {
        let pair = self.pair("cert", "key").or_else(|| self.pair("tls.crt", "tls.key"));
        let (chain, key) = pair.ok_or_else(|| self.unexpected("(cert and key) or (tls.crt and tls.key)"))?;
        Identity::from_pem(chain, &PrivateKey::from_pem(key)).map(Material::Identity)
    }

    /// Whether there are authorities in it.
    pub fn has_roots(&self) -> bool {
        self.roots_pem().is_some()
    }

    fn roots_pem(&self) -> Option<(&[u8], Option<&[u8]>)> {
        let get = |name: &str| self.0.get(name).map(Vec::as_slice);
        match (get("cacert"), get("ca.crt")) {
            (Some(roots), _) => Some((roots, get("crl").or(get("ca.crl")))),
            (None, Some(roots)) => Some((roots, get("ca.crl").or(get("crl")))),
            (None, None) => None,
        }
    }

    /// Authorities: `cacert`, else `ca.crt`, with the revocation list `crl` or `ca.crl`.
    ///
    /// # Errors
    /// There are none, or they can't be used.
    pub fn roots(&self) -> Result<Material, SecretError> {
        let (roots, crl) = self.roots_pem().ok_or_else(|| self.unexpected("cacert or ca.crt"))?;
        Roots::from_pem(roots, crl).map(|r| Material::Roots(Arc::new(r)))
    }

    fn unexpected(&self, wanted: &str) -> SecretError {
        let found: Vec<&str> = self.0.keys().map(String::as_str).collect();
        SecretError(format!("found secret, but didn't have expected keys {wanted}; found: {}", found.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_in_istios_words() {
        let data = SecretData([("a".to_owned(), vec![1]), ("tls.crt".to_owned(), vec![2])].into());
        let said = data.identity().unwrap_err().to_string();
        let istio =
            "found secret, but didn't have expected keys (cert and key) or (tls.crt and tls.key); found: a, tls.crt";
        assert_eq!(said, istio);
        assert!(!data.has_roots());
        assert_eq!(format!("{data:?}"), r#"{"a", "tls.crt"}"#);
    }
}
