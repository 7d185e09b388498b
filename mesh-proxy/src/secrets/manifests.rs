//! Secrets and ConfigMaps among the manifests of a proxy that reads its configuration itself.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
    /// Takes the Secrets and ConfigMaps of one file.
    pub(crate) fn add(&mut self, text: &str) {
        let (documents, _) = mesh_core::yaml::documents(text);
        for document in documents {
            let value = document.value;
            let items = match value["kind"].as_str() {
                Some("List") => value["items"].as_array().cloned().unwrap_or_default(),
                _ => vec![value],
            };
            for item in items.iter().filter(|i| i["apiVersion"] == "v1") {
                let text = |field: &str, default: &str| item["metadata"][field].as_str().unwrap_or(default).to_owned();
                let name = (text("namespace", "default"), text("name", ""));
                match item["kind"].as_str() {
                    Some("Secret") => drop(self.secrets.insert(name, data(item, true))),
                    Some("ConfigMap") => drop(self.config_maps.insert(name, data(item, false))),
                    _ => {}
                }
            }
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

fn data(object: &Value, encoded: bool) -> SecretData {
    let fields = |name: &str, encoded: bool| {
        let object = object[name].as_object().into_iter().flatten();
        object.filter_map(move |(key, value)| {
            let text = value.as_str()?;
            let bytes = match encoded {
                true => STANDARD.decode(text.split_whitespace().collect::<String>()).ok()?,
                false => text.as_bytes().to_vec(),
            };
            Some((key.clone(), bytes))
        })
    };
    SecretData(fields("data", encoded).chain(fields("stringData", false)).collect())
}
