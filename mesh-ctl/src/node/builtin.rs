//! What the mesh adds to the user's objects: the ingress gateway, mesh settings, and the namespaces that objects are in.

use mesh_core::api::Resource;
use mesh_core::convert::{BUILTIN_GATEWAY, BUILTIN_MESH_CONFIG, builtin_gateway, builtin_mesh_config};
use serde_json::{Value, json};

use crate::control::SourceFile;
use crate::manifest::{self, Document};

/// Host ports of the gateway's ports where `--gateway-port` says nothing.
pub const GATEWAY_PORTS: [(u16, u16); 2] = [(80, 8080), (443, 8443)];

/// The ingress gateway and the mesh settings, unless there are some among these already.
pub(super) fn objects(documents: &[Document]) -> Vec<Document> {
    let resources: Vec<Resource> = documents.iter().filter_map(|d| d.resource.clone()).collect();
    let gateway = ("built-in ingress gateway", BUILTIN_GATEWAY, builtin_gateway(&resources).is_empty());
    let settings = ("built-in mesh settings", BUILTIN_MESH_CONFIG, builtin_mesh_config(&resources).is_empty());
    let ours = [gateway, settings].into_iter().filter(|(_, _, there)| !there).flat_map(|(path, text, _)| {
        manifest::read(&SourceFile { path: path.into(), text: text.into() }, "istio-system")
    });
    ours.filter(|o| documents.iter().all(|d| d.key != o.key)).collect()
}

/// A namespace.
pub(super) fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}
