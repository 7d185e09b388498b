//! The services and pods that every configuration has.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use mesh_core::api::Key;
use mesh_core::convert::Placement;
use serde_json::Value;

use super::echo::Echo;
use super::lab::{Block, Lab, placed};

/// Last byte of the address of `side.shop`, the pod whose proxy takes what is for it.
pub(crate) const SIDE: u8 = 31;

/// Last byte of the address on which the application of `side.shop` listens, behind its sidecar.
pub(crate) const SIDE_APP: u8 = 32;

/// Port of `side.shop` that carries bytes.
pub(crate) const SIDE_BYTES: u16 = 9100;

/// Last bytes of the addresses from which clients without a proxy call.
pub(crate) const CALLERS: [u8; 2] = [61, 62];

/// Last byte of the address where mirrors lead.
pub(crate) const COPIES: u8 = 53;

/// Last bytes of the addresses of hosts outside.
pub(crate) const OUTSIDE: [u8; 2] = [51, 52];

/// Names of a host outside that speaks TLS.
pub(crate) const NAMES: [&str; 2] = ["one.tls.example", "two.tls.example"];

/// Port of the pods that speak TLS only.
const TLS: u16 = 8443;

/// Pods: namespace, name, labels, last byte of the address, ports that are open.
type Pod = (&'static str, &'static str, &'static str, u8, &'static [u16]);

const PODS: [Pod; 12] = [
    ("shop", "front", "{app: front, tier: web, istio-locality: r1.z1}", 1, &[]),
    ("other", "cron", "{app: cron, tier: batch, istio-locality: r2.z1}", 2, &[]),
    ("shop", "srv-1", "{app: srv, version: v1, istio-locality: r1.z1}", 11, &[8080, 8081]),
    ("shop", "srv-2", "{app: srv, version: v2, istio-locality: r1.z2}", 12, &[8080, 8081]),
    ("shop", "srv-3", "{app: srv, version: v3, istio-locality: r2.z1}", 13, &[8080, 8081]),
    ("back", "back-1", "{app: back, version: v1, istio-locality: r1.z1}", 21, &[8080, 9000, TLS]),
    ("back", "back-2", "{app: back, version: v2, istio-locality: r2.z1}", 22, &[8080, 9000, TLS]),
    ("shop", "side", "{app: side, version: v1}", SIDE, &[]),
    // Nobody listens on its port.
    ("shop", "dead", "{app: dead}", 41, &[]),
    ("other", "rpc", "{app: rpc}", 42, &[8080]),
    // These serve what proxies ask themselves.
    ("other", "keys", "{app: keys, istio-locality: r1.z1}", 43, &[]),
    ("other", "check", "{app: check, istio-locality: r1.z1}", 44, &[]),
];

/// Services: namespace, name, selector, last byte of the virtual address (0: none), ports.
type Service = (&'static str, &'static str, &'static str, u8, &'static str);

const SERVICES: [Service; 12] = [
    ("shop", "srv", "srv", 101, "[{name: http, port: 80, targetPort: 8080}, {name: http-alt, port: 8081}]"),
    ("back", "back", "back", 102, "[{name: http-main, port: 80, targetPort: web}]"),
    ("shop", "side", "side", 103, "[{name: http, port: 8080, targetPort: LOCAL}, {name: tcp, port: 9100}]"),
    ("shop", "dead", "dead", 104, "[{name: http, port: 80, targetPort: 8080}]"),
    ("back", "auto", "back", 105, "[{name: main, port: 9000}]"),
    ("back", "raw", "back", 106, "[{name: tcp-raw, port: 9001, targetPort: 9000}]"),
    ("back", "secure", "back", 109, "[{name: tls, port: 443, targetPort: 8443}]"),
    ("other", "rpc", "rpc", 107, "[{name: grpc, port: 80, targetPort: 8080}]"),
    ("other", "keys", "keys", 112, "[{name: http, port: 80, targetPort: 8080}]"),
    (
        "other",
        "check",
        "check",
        113,
        "[{name: http, port: 80, targetPort: 8080}, {name: grpc, port: 81, targetPort: 8081}]",
    ),
    ("shop", "empty", "nobody", 108, "[{name: http, port: 80}]"),
    ("shop", "headless", "srv", 0, "[{name: http, port: 8080}]"),
];

/// Last byte of a service's virtual address.
pub(crate) fn vip(name: &str) -> u8 {
    let outside = [("ext", 110), ("names", 111)].into_iter().find(|(n, _)| *n == name).map(|(_, last)| last);
    SERVICES.iter().find(|s| s.1 == name).map(|s| s.3).or(outside).expect("a service")
}

/// Where the pods run.
pub(crate) fn pods(block: &Block) -> BTreeMap<Key, Placement> {
    PODS.iter().map(|(namespace, name, _, last, _)| placed(namespace, name, block.ip(*last))).collect()
}

/// What else listens: a virtual address that a client was let through to, and the endpoints of hosts outside.
const OUTSIDE_PORTS: [(u8, u16); 8] =
    [(51, 8080), (51, 8081), (51, TLS), (52, 8080), (52, 8081), (52, TLS), (COPIES, 8080), (101, 8081)];

fn listening() -> impl Iterator<Item = (u8, u16)> {
    let pods = PODS.iter().flat_map(|(.., last, ports)| ports.iter().map(|p| (*last, *p)));
    pods.chain(OUTSIDE_PORTS)
}

/// Somebody listens there: a proxy, or an upstream.
pub(crate) fn is_open(at: SocketAddr) -> bool {
    let IpAddr::V4(ip) = at.ip() else { return false };
    let last = ip.octets()[3];
    last == SIDE || listening().any(|open| open == (last, at.port()))
}

/// Opens the ports of the pods without sidecar, of the application behind the one that has one, and of the external
/// hosts.
pub(crate) async fn listen(lab: &Lab) -> Echo {
    let echo = Echo::new(&lab.certificates);
    let (block, app) = (&lab.block, lab.block.local);
    for (last, port) in listening().chain([(SIDE_APP, app)]) {
        echo.listen(SocketAddr::new(block.ip(last), port)).await;
    }
    echo.listen(SocketAddr::new(block.ip(SIDE_APP), SIDE_BYTES)).await;
    // Nobody's requests belong here: no pod of the laboratory has the host's loopback for itself.
    echo.serve_on(block.local_listener());
    super::services::listen(block).await;
    echo
}

/// The documents, without the mesh's settings.
pub(crate) fn documents(block: &Block) -> Vec<Value> {
    let mut text = String::new();
    for name in ["shop", "back", "other", "istio-system"] {
        text += &format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{mesh: in}}}}\n");
    }
    for (namespace, name, labels, ..) in PODS {
        let account = name.split('-').next().unwrap_or(name);
        let inject = if name == "side" { "true" } else { "false" };
        text += &format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: {namespace}\n  labels: {labels}\n  \
             annotations: {{sidecar.istio.io/inject: '{inject}'}}\nspec:\n  serviceAccountName: {account}\n  containers:\n  - name: c\n    image: c\n    \
             ports: [{{name: web, containerPort: 8080}}]\n"
        );
    }
    for (namespace, name, selector, last, ports) in SERVICES {
        let ports = ports.replace("LOCAL", &block.local.to_string());
        let own = ["keys", "check"].contains(&name);
        let export = if own { ", annotations: {networking.istio.io/exportTo: '*'}" } else { "" };
        let ip = if last == 0 { "None".to_owned() } else { block.ip(last).to_string() };
        text += &format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}{export}}}\nspec:\n  clusterIP: \
             {ip}\n  selector: {{app: {selector}}}\n  ports: {ports}\n"
        );
    }
    text += &outside(block);
    mesh_core::yaml::documents(&text).0.into_iter().map(|d| d.value).collect()
}

/// Hosts outside.
fn outside(block: &Block) -> String {
    let ip = |last: u8| block.ip(last);
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: alias, namespace: shop}}
spec: {{type: ExternalName, externalName: back.back.svc.cluster.local}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: ext, namespace: shop}}
spec:
  hosts: [ext.example.com]
  addresses: [{}]
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 8080}}]
  resolution: STATIC
  endpoints:
  - {{address: {first}, labels: {{version: v1}}}}
  - {{address: {second}, labels: {{version: v2}}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: names, namespace: shop}}
spec:
  hosts: [{}]
  addresses: [{}]
  ports: [{{number: 443, name: tls, protocol: TLS, targetPort: {TLS}}}]
  resolution: STATIC
  endpoints: [{{address: {first}}}, {{address: {second}}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: copies, namespace: shop}}
spec:
  hosts: [copies.example.com]
  exportTo: ['*']
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 8080}}]
  resolution: STATIC
  endpoints: [{{address: {}, labels: {{version: v1}}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: copies, namespace: shop}}
spec:
  host: copies.example.com
  exportTo: ['*']
  trafficPolicy: {{loadBalancer: {{localityLbSetting: {{enabled: false}}}}}}
  subsets: [{{name: one, labels: {{version: v1}}}}]
",
        ip(110),
        NAMES.join(", "),
        ip(111),
        ip(COPIES),
        first = ip(51),
        second = ip(52),
    )
}
