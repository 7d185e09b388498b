//! Secrets for proxies: straight from the store to the proxy of a pod, on its own connection, and only those of the pod's
//! namespace. They are no part of the World.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use mesh_core::api::{Key, Kind};
use mesh_proxy::discovery::secrets::{ROOT_CA, SecretPem, SecretServer};
use tokio::sync::watch;

use super::mesh::Mesh;

/// What the proxy of one pod may ask for.
pub(super) struct PodSecrets {
    mesh: Weak<Mesh>,
    namespace: Arc<str>,
}

impl PodSecrets {
    pub(super) fn new(mesh: &Arc<Mesh>, namespace: &Arc<str>) -> Self {
        Self { mesh: Arc::downgrade(mesh), namespace: namespace.clone() }
    }

    fn data(&self, kind: &str, name: &str) -> Option<Data> {
        let mesh = self.mesh.upgrade()?;
        let state = mesh.state();
        let stored = state.store.get(&Key::new(Kind::new("", kind), &self.namespace, name))?;
        Some(Data(stored.document.data_bytes()))
    }
}

impl SecretServer for PodSecrets {
    fn get(&self, name: &str) -> Result<SecretPem, String> {
        if name == ROOT_CA {
            let mesh = self.mesh.upgrade().ok_or("the mesh is going away")?;
            let bundle = mesh.ca.authority().trust_bundle().borrow().as_bytes().to_vec();
            return Ok(SecretPem::Roots(bundle, None));
        }
        let missing = |kind: &str, name: &str| format!("there is no {kind} {}/{name}", self.namespace);
        if let Some(rest) = name.strip_prefix("configmap://") {
            let (namespace, name) = rest.split_once('/').unwrap_or_default();
            if *namespace != *self.namespace {
                return Err(format!("ConfigMaps of namespace {namespace} are not for a proxy in {}", self.namespace));
            }
            return self.data("ConfigMap", name).ok_or_else(|| missing("ConfigMap", name))?.roots();
        }
        let Some(name) = name.strip_prefix("kubernetes://") else { return Err(format!("{name} names no Secret")) };
        if let Some(base) = name.strip_suffix("-cacert") {
            let own = self.data("Secret", name).filter(|d| d.roots().is_ok());
            return own.or_else(|| self.data("Secret", base)).ok_or_else(|| missing("Secret", base))?.roots();
        }
        self.data("Secret", name).ok_or_else(|| missing("Secret", name))?.identity()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.mesh.upgrade().map_or_else(|| watch::channel(0).1, |mesh| mesh.changes())
    }
}

/// The data of one object.
struct Data(BTreeMap<String, Vec<u8>>);

impl Data {
    fn take(&self, name: &str) -> Option<Vec<u8>> {
        self.0.get(name).cloned()
    }

    fn identity(&self) -> Result<SecretPem, String> {
        let pair = |a, b| Some((self.take(a)?, self.take(b)?));
        let found = pair("cert", "key").or_else(|| pair("tls.crt", "tls.key"));
        let (chain, key) = found.ok_or_else(|| self.unexpected("(cert and key) or (tls.crt and tls.key)"))?;
        Ok(SecretPem::Identity(chain, key))
    }

    fn roots(&self) -> Result<SecretPem, String> {
        // A revocation list counts under either name: that of the other layout is a slip, and not to be overlooked.
        let crl = |own: &str, other: &str| self.take(own).or_else(|| self.take(other));
        let generic = self.take("cacert").map(|roots| (roots, crl("crl", "ca.crl")));
        let found = generic.or_else(|| self.take("ca.crt").map(|roots| (roots, crl("ca.crl", "crl"))));
        let (roots, crl) = found.ok_or_else(|| self.unexpected("cacert or ca.crt"))?;
        Ok(SecretPem::Roots(roots, crl))
    }

    /// In Istio's words.
    fn unexpected(&self, wanted: &str) -> String {
        let found: Vec<&str> = self.0.keys().map(String::as_str).collect();
        format!("found secret, but didn't have expected keys {wanted}; found: {}", found.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(keys: &[&str]) -> Data {
        Data(keys.iter().map(|k| ((*k).to_owned(), k.as_bytes().to_vec())).collect())
    }

    #[test]
    fn generic_keys_go_before_those_of_tls_secrets() {
        let all = data(&["cert", "key", "tls.crt", "tls.key", "cacert", "ca.crt", "crl"]);
        assert!(all.identity() == Ok(SecretPem::Identity(b"cert".to_vec(), b"key".to_vec())));
        assert!(all.roots() == Ok(SecretPem::Roots(b"cacert".to_vec(), Some(b"crl".to_vec()))));
        let tls = data(&["tls.crt", "tls.key", "ca.crt"]);
        assert!(tls.identity() == Ok(SecretPem::Identity(b"tls.crt".to_vec(), b"tls.key".to_vec())));
        assert!(tls.roots() == Ok(SecretPem::Roots(b"ca.crt".to_vec(), None)));
        let crl = |keys: &[&str]| match data(keys).roots() {
            Ok(SecretPem::Roots(_, crl)) => crl,
            _ => None,
        };
        assert_eq!(crl(&["cacert", "ca.crl"]).as_deref(), Some(&b"ca.crl"[..]));
        assert_eq!(crl(&["ca.crt", "crl"]).as_deref(), Some(&b"crl"[..]));
        let broken = data(&["cert"]).identity();
        assert!(broken.is_err_and(|e| e.ends_with("(cert and key) or (tls.crt and tls.key); found: cert")));
    }
}
