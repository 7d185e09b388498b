//! `networking.istio.io` ProxyConfig: settings of the proxies of some workloads, read when a proxy starts. The message of
//! the same name in the mesh's settings is [`super::ProxyConfig`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::destination_rule::LabelSelector;
use super::proxy_config::ProxyImage;
use super::values::is_default;

/// Spec of a ProxyConfig.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ProxySettings {
    /// Workloads of the namespace; absent means all, in the root namespace those of the mesh.
    #[serde(skip_serializing_if = "is_default")]
    pub selector: Option<LabelSelector>,
    /// Worker threads; 0 means one for each processor.
    #[serde(skip_serializing_if = "is_default")]
    pub concurrency: Option<i32>,
    /// Added to the proxy's environment, as `proxyMetadata`.
    #[serde(skip_serializing_if = "is_default")]
    pub environment_variables: BTreeMap<String, String>,
    /// Image of the proxy.
    #[serde(skip_serializing_if = "is_default")]
    pub image: Option<ProxyImage>,
}
