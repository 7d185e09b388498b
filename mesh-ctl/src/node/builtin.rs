//! What the mesh adds to the user's objects: the ingress gateway, and the namespaces that objects are in.

use mesh_core::api::Resource;
use mesh_core::convert::{BUILTIN_GATEWAY, builtin_gateway};
use serde_json::{Value, json};

use crate::control::SourceFile;
use crate::manifest::{self, Document};

/// Host ports of the gateway's ports where `--gateway-port` says nothing.
pub const GATEWAY_PORTS: [(u16, u16); 2] = [(80, 8080), (443, 8443)];

/// The ingress gateway, unless one is among these already.
pub(super) fn ingress_gateway(documents: &[Document]) -> Vec<Document> {
    let resources: Vec<Resource> = documents.iter().filter_map(|d| d.resource.clone()).collect();
    if builtin_gateway(&resources).is_empty() {
        return Vec::new();
    }
    let file = SourceFile { path: "built-in ingress gateway".into(), text: BUILTIN_GATEWAY.into() };
    let ours = manifest::read(&file, "istio-system");
    ours.into_iter().filter(|o| documents.iter().all(|d| d.key != o.key)).collect()
}

/// A namespace.
pub(super) fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}
