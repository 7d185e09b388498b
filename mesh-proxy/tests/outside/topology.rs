//! The services and pods that every configuration has.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use mesh_core::api::Key;
use mesh_core::convert::Placement;
use serde_json::Value;

use super::echo::Echo;
use super::lab::{Block, placed};

/// Last byte of the address on which the application of `side.shop` listens, behind its sidecar.
pub(crate) const SIDE_APP: u8 = 32;

/// Last byte of the address where mirrors lead.
pub(crate) const COPIES: u8 = 53;

/// Pods: namespace, name, labels, last byte of the address, ports that are open.
type Pod = (&'static str, &'static str, &'static str, u8, &'static [u16]);

const PODS: [Pod; 10] = [
    ("shop", "front", "{app: front, tier: web}", 1, &[]),
    ("other", "cron", "{app: cron, tier: batch}", 2, &[]),
    ("shop", "srv-1", "{app: srv, version: v1}", 11, &[8080, 8081]),
    ("shop", "srv-2", "{app: srv, version: v2}", 12, &[8080, 8081]),
    ("shop", "srv-3", "{app: srv, version: v3}", 13, &[8080, 8081]),
    ("back", "back-1", "{app: back, version: v1}", 21, &[8080, 9000]),
    ("back", "back-2", "{app: back, version: v2}", 22, &[8080, 9000]),
    ("shop", "side", "{app: side, version: v1}", 31, &[]),
    // Nobody listens on its port.
    ("shop", "dead", "{app: dead}", 41, &[]),
    ("other", "rpc", "{app: rpc}", 42, &[8080]),
];

/// Services: namespace, name, selector, last byte of the virtual address (0: none), ports.
type Service = (&'static str, &'static str, &'static str, u8, &'static str);

const SERVICES: [Service; 9] = [
    ("shop", "srv", "srv", 101, "[{name: http, port: 80, targetPort: 8080}, {name: http-alt, port: 8081}]"),
    ("back", "back", "back", 102, "[{name: http-main, port: 80, targetPort: web}]"),
    ("shop", "side", "side", 103, "[{name: http, port: 8080}]"),
    ("shop", "dead", "dead", 104, "[{name: http, port: 80, targetPort: 8080}]"),
    ("back", "auto", "back", 105, "[{name: main, port: 9000}]"),
    ("back", "raw", "back", 106, "[{name: tcp-raw, port: 9001, targetPort: 9000}]"),
    ("other", "rpc", "rpc", 107, "[{name: grpc, port: 80, targetPort: 8080}]"),
    ("shop", "empty", "nobody", 108, "[{name: http, port: 80}]"),
    ("shop", "headless", "srv", 0, "[{name: http, port: 8080}]"),
];

/// Last byte of a service's virtual address.
pub(crate) fn vip(name: &str) -> u8 {
    SERVICES.iter().find(|s| s.1 == name).map(|s| s.3).or((name == "ext").then_some(110)).expect("a service")
}

/// Where the pods run.
pub(crate) fn pods(block: &Block) -> BTreeMap<Key, Placement> {
    PODS.iter().map(|(namespace, name, _, last, _)| placed(namespace, name, block.ip(*last))).collect()
}

/// Opens the ports of the pods without sidecar, of the application behind the one that has one, and of the external
/// hosts.
pub(crate) async fn listen(block: &Block) -> Echo {
    let echo = Echo::default();
    let pods = PODS.iter().flat_map(|(.., last, ports)| ports.iter().map(|p| (*last, *p)));
    // A virtual address that a client was let through to, and the endpoints of `ext.example.com`.
    for (last, port) in pods.chain([(SIDE_APP, 8080), (101, 8081), (51, 8080), (52, 8080), (COPIES, 8080)]) {
        echo.listen(SocketAddr::new(block.ip(last), port)).await;
    }
    echo
}

/// The documents, without the mesh's settings.
pub(crate) fn documents(block: &Block) -> Vec<Value> {
    let mut text = String::new();
    for (namespace, name, labels, ..) in PODS {
        let inject = if name == "side" { "true" } else { "false" };
        text += &format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: {namespace}\n  labels: {labels}\n  \
             annotations: {{sidecar.istio.io/inject: '{inject}'}}\nspec:\n  containers:\n  - name: c\n    image: c\n    \
             ports: [{{name: web, containerPort: 8080}}]\n"
        );
    }
    for (namespace, name, selector, last, ports) in SERVICES {
        let ip = if last == 0 { "None".to_owned() } else { block.ip(last).to_string() };
        text += &format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  clusterIP: \
             {ip}\n  selector: {{app: {selector}}}\n  ports: {ports}\n"
        );
    }
    text += &format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: alias, namespace: shop}}\nspec: {{type: ExternalName, \
         externalName: back.back.svc.cluster.local}}\n---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: ext, namespace: shop}}\nspec:\n  hosts: [ext.example.com]\n  addresses: [{}]\n  ports: \
         [{{number: 80, name: http, protocol: HTTP, targetPort: 8080}}]\n  resolution: STATIC\n  endpoints:\n  \
         - {{address: {}, labels: {{version: v1}}}}\n  - {{address: {}, labels: {{version: v2}}}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: copies, namespace: shop}}\nspec:\n  \
         hosts: [copies.example.com]\n  exportTo: ['*']\n  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 8080}}]\n  \
         resolution: STATIC\n  endpoints: [{{address: {}}}]\n",
        block.ip(110),
        block.ip(51),
        block.ip(52),
        block.ip(COPIES)
    );
    mesh_core::yaml::documents(&text).0.into_iter().map(|d| d.value).collect()
}
