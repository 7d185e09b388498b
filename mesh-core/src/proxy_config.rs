//! The ProxyConfig of one workload, merged: the mesh's `defaultConfig`, then ProxyConfig resources (of the root namespace,
//! of the workload's namespace, with a selector that picks it), then the annotation `proxy.istio.io/config`. What comes
//! later wins, field by field.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::decode::decode;
use crate::api::{Object, ProxyConfig, ProxySettings};
use crate::validate::validate_proxy_config;
use crate::world::{World, covers};
use crate::yaml;

/// Annotation of pods with a ProxyConfig in YAML.
pub const ANNOTATION: &str = "proxy.istio.io/config";

/// Who asks: a workload's namespace, labels and annotations.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// Namespace.
    pub namespace: &'a str,
    /// Labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Annotations.
    pub annotations: &'a BTreeMap<String, String>,
}

/// The ProxyConfig in force, and what is wrong with the annotation, which then has no effect.
pub fn effective(world: &World, asker: Asker<'_>) -> (ProxyConfig, Option<String>) {
    let mut config = world.mesh().spec.default_config.clone().unwrap_or_default();
    for object in resources(world, asker) {
        let ProxySettings { selector: _, concurrency, environment_variables, image } = &object.spec;
        config.concurrency = concurrency.or(config.concurrency);
        config.proxy_metadata.extend(environment_variables.clone());
        config.image = image.clone().or(config.image);
    }
    match asker.annotations.get(ANNOTATION).map(|text| annotated(&config, text)) {
        None => (config, None),
        Some(Ok(merged)) => (merged, None),
        Some(Err(why)) => (config, Some(why)),
    }
}

/// The ProxyConfig resources for a workload, the most specific last: at most one of each level, the oldest.
pub fn resources<'w>(world: &'w World, asker: Asker<'_>) -> Vec<&'w Arc<Object<ProxySettings>>> {
    let selector = |o: &Object<ProxySettings>| o.spec.selector.as_ref().map(|s| s.match_labels.clone());
    let general = |o: &&Arc<Object<ProxySettings>>| selector(o).is_none_or(|s| s.is_empty());
    let of = |namespace: &str| {
        let namespace = namespace.to_owned();
        world.proxy_configs().iter().filter(move |o| *o.key.namespace == *namespace)
    };
    let root = of(world.root_namespace()).find(general);
    let own = of(asker.namespace).find(general).filter(|_| asker.namespace != world.root_namespace());
    let picked = of(asker.namespace).find(|o| selector(o).is_some_and(|s| !s.is_empty() && covers(&s, asker.labels)));
    [root, own, picked].into_iter().flatten().collect()
}

fn annotated(config: &ProxyConfig, text: &str) -> Result<ProxyConfig, String> {
    let wrong = |why: String| format!("annotation {ANNOTATION}: {why}");
    let (documents, errors) = yaml::documents(text);
    if let Some(error) = errors.into_iter().next() {
        return Err(wrong(error.message));
    }
    let Some(document) = documents.into_iter().next() else { return Ok(config.clone()) };
    let mut merged = serde_json::to_value(config).expect("invariant: settings have text keys");
    yaml::merge_settings_into(&mut merged, document.value);
    let merged = decode::<ProxyConfig>(&merged, "", true).0.map_err(|e| wrong(format!("{} {}", e.path, e.message)))?;
    validate_proxy_config(&merged).map_or(Ok(merged), |why| Err(wrong(why)))
}

/// A value of `proxyMetadata` that switches something on.
pub fn is_on(config: &ProxyConfig, name: &str) -> bool {
    config.proxy_metadata.get(name).is_some_and(|v| matches!(v.as_str(), "1" | "true" | "TRUE" | "True" | "t" | "T"))
}

#[cfg(test)]
mod tests;
