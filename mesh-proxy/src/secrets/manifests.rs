//! Secrets and ConfigMaps among the manifests of a proxy that reads its configuration itself.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesh_core::api::Resource;
use mesh_tls::{Material, SecretData, SecretError, SecretRef, SecretState, Secrets};
use serde_json::Value;

/// Namespace and name.
type Name = (String, String);

/// What manifests hold of key material.
#[derive(Default, Debug)]
pub(crate) struct Manifests {
    /// What was said already: saying it again would renew what is built of it.
    answered: BTreeSet<(SecretRef, u64)>,
    secrets: BTreeMap<Name, SecretData>,
    config_maps: BTreeMap<Name, SecretData>,
}

impl Manifests {
    /// Takes what a resource holds of it, if it is a Secret or a ConfigMap.
    pub(crate) fn add(&mut self, resource: &Resource) {
        let key = resource.key();
        let name = (key.namespace.to_string(), key.name.to_string());
        match resource {
            Resource::ConfigMap(map) => {
                let data = map.spec.data.iter().map(|(key, text)| (key.clone(), text.clone().into_bytes()));
                self.config_maps.insert(name, SecretData(data.collect()));
            }
            Resource::Unread(object) if key.kind.group.is_empty() && &*key.kind.kind == "Secret" => {
                self.secrets.insert(name, secret(&object.spec));
            }
            _ => {}
        }
    }

    /// Answers every new reference to a Secret or ConfigMap.
    pub(crate) fn deliver(&mut self, to: &Secrets) {
        let wanted = to.wanted_since();
        self.answered.retain(|wish| wanted.contains(wish));
        for wish in wanted {
            if !self.answered.insert(wish.clone()) {
                continue;
            }
            let (name, _) = wish;
            if let Some(answer) = self.get(&name) {
                to.set(&name, answer.map_or_else(SecretState::Missing, SecretState::Ready));
            }
        }
    }

    fn get(&self, name: &SecretRef) -> Option<Result<Material, SecretError>> {
        let key = |namespace: &str, name: &str| (namespace.to_owned(), name.to_owned());
        let missing = |what: &str| SecretError(format!("there is no such {what} in the manifests"));
        Some(match name {
            SecretRef::Credential { namespace, name } => {
                let found = self.secrets.get(&key(namespace, name));
                found.ok_or_else(|| missing("Secret")).and_then(SecretData::identity)
            }
            SecretRef::CredentialRoots { namespace, name } => {
                let own = self.secrets.get(&key(namespace, &format!("{name}-cacert")));
                let found = own.filter(|s| s.has_roots()).or_else(|| self.secrets.get(&key(namespace, name)));
                found.ok_or_else(|| missing("Secret")).and_then(SecretData::roots)
            }
            SecretRef::ConfigMapRoots { namespace, name } => {
                let found = self.config_maps.get(&key(namespace, name));
                found.ok_or_else(|| missing("ConfigMap")).and_then(SecretData::roots)
            }
            SecretRef::Files { .. } | SecretRef::RootsFile { .. } | SecretRef::Workload | SecretRef::MeshRoots => {
                return None;
            }
        })
    }
}

/// `stringData` over `data`, which is Base64.
fn secret(object: &Value) -> SecretData {
    let fields = |name: &str| {
        let fields = object[name].as_object().into_iter().flatten();
        fields.filter_map(|(key, value)| Some((key.clone(), value.as_str()?)))
    };
    let decoded = |(key, text): (String, &str)| {
        let bytes = STANDARD.decode(text.split_whitespace().collect::<String>()).ok()?;
        Some((key, bytes))
    };
    let plain = fields("stringData").map(|(key, text)| (key, text.as_bytes().to_vec()));
    SecretData(fields("data").filter_map(decoded).chain(plain).collect())
}
