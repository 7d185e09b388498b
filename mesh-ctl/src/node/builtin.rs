//! What the mesh adds to the user's objects: the ingress gateway, and the namespaces that objects are in.

use serde_json::{Value, json};

use super::plan::GATEWAY_IMAGE;

/// Name of the ingress gateway's Deployment and Service.
pub const GATEWAY: &str = "istio-ingressgateway";
/// Istio's namespace.
pub const SYSTEM: &str = "istio-system";
/// Host ports of the gateway's ports where `--gateway-port` says nothing.
pub const GATEWAY_PORTS: [(u16, u16); 2] = [(80, 8080), (443, 8443)];

/// The ingress gateway, with the labels and ports of Istio's.
pub fn ingress_gateway() -> Vec<Value> {
    let labels = json!({"app": GATEWAY, "istio": "ingressgateway"});
    let meta = json!({"name": GATEWAY, "namespace": SYSTEM, "labels": labels});
    let port = |name: &str, number: u16| json!({"name": name, "port": number, "targetPort": number});
    vec![
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": meta,
            "spec": {
                "type": "LoadBalancer",
                "selector": labels,
                "ports": [port("status-port", 15021), port("http2", 80), port("https", 443)],
            },
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta,
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": super::pod::PROXY_CONTAINER, "image": GATEWAY_IMAGE}]},
                },
            },
        }),
    ]
}

/// A namespace.
pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}
