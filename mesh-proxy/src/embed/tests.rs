//! An embedded mesh is made of what a sidecar is made of.

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_core::compile::compile;
use mesh_core::convert::{Addresses, Options, inputs};
use mesh_core::snapshot::{ProxyId, ProxyKind};

use super::*;
use crate::cluster::Runtime;
use crate::net::HostEnv;
use crate::stack::activate;

/// A member and somebody whom it calls, with every kind of stack.
const MEMBER: &str = "apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: caller, namespace: default}
spec: {address: 127.0.0.1, labels: {app: caller}, serviceAccount: caller}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: callers, namespace: default}
spec:
  hosts: [caller.example]
  ports: [{number: 80, name: http}]
  resolution: STATIC
  workloadSelector: {labels: {app: caller}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: called, namespace: default}
spec:
  hosts: [called.example]
  ports: [{number: 80, name: http}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.2}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: called, namespace: default}
spec:
  hosts: [called.example]
  http:
  - match: [{uri: {prefix: /old}}]
    redirect: {uri: /new}
  - route: [{destination: {host: called.example}}]
";

#[tokio::test]
async fn a_member_and_a_sidecar_have_the_same_stacks_and_the_docs_print_them() {
    let mesh = Mesh::builder().yaml(MEMBER).workload("default/caller").start().await.unwrap();
    let member = mesh.0.shared.http.active().load_full().unwrap().orders();

    let (resources, reports) = mesh_core::yaml::read("mesh.yaml", MEMBER);
    assert!(reports.is_empty(), "{reports:?}");
    let world = inputs(&resources, &Options::default(), &mut Addresses::default()).world;
    let id = ProxyId { kind: ProxyKind::Sidecar, ..mesh.0.id.clone() };
    let runtime = Arc::new(Runtime::new(HostNet::new(), Arc::new(HostEnv), Vec::new(), 1));
    let sidecar = activate(compile(&world, &id, None).snapshot, &runtime, None).orders();

    let levels = |orders: &BTreeSet<String>| orders.iter().map(|o| o.split(':').next().unwrap().to_owned()).collect();
    let all: BTreeSet<String> = levels(&sidecar);
    assert_eq!(all, BTreeSet::from(["cluster", "inbound", "outbound", "route"].map(str::to_owned)));
    assert_eq!(member, sidecar);
    let docs = include_str!("../../../docs/architecture.md");
    for order in &sidecar {
        let printed = docs.lines().any(|line| line.split_whitespace().eq(order.split_whitespace()));
        assert!(printed, "docs/architecture.md does not say\n    {order}");
    }
}
