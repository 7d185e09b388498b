//! `explain` with policies: what it says of the server's end.

use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, Method};
use mesh_core::convert::{Addresses, Options, inputs};
use mesh_core::explain::{ExplainRequest, Explainer, Explanation, From};

use super::Judge;

const MESH: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: ns}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 90}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: ns, labels: {app: web}}
spec: {serviceAccountName: web, containers: [{name: c, image: c}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: ns, labels: {app: client}}
spec: {serviceAccountName: client, containers: [{name: c, image: c}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: ns}
spec: {host: web, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: ns}
spec:
  selector: {matchLabels: {app: web}}
  rules:
  - from:
    - source: {serviceAccounts: [client]}
    to:
    - operation: {methods: [GET], paths: [/a]}
";

fn explained(yaml: &str, method: Method, url: &str) -> Explanation {
    let (resources, reports) = mesh_core::yaml::read("mesh.yaml", yaml);
    assert!(reports.is_empty(), "{reports:#?}");
    let world = inputs(&resources, &Options::default(), &mut Addresses::default()).world;
    let explainer = Explainer::new(&world).judged_by(Arc::new(Judge::at(SystemTime::UNIX_EPOCH)));
    let (from, headers) = (From::Workload("client".into()), HeaderMap::new());
    explainer.explain(&ExplainRequest { from, method, url: url.into(), headers, claims: None }).unwrap()
}

#[test]
fn the_servers_end_says_which_policy_allowed() {
    let all = explained(MESH, Method::GET, "http://web/a");
    assert_eq!(all.outcome.status, None, "{all}");
    let text = all.to_string();
    assert!(text.contains("peer          spiffe://cluster.local/ns/ns/sa/client"), "{text}");
    let wanted = "authz         ALLOW: ns[ns]-policy[readers]-rule[0] at mesh.yaml:27 matched  \
                  (AuthorizationPolicy ns/readers spec.rules[0], mesh.yaml:27)";
    assert!(text.contains(wanted), "{text}");
}

#[test]
fn a_refusal_names_the_nearest_rule_and_what_it_missed() {
    let all = explained(MESH, Method::HEAD, "http://web/a");
    assert_eq!((all.outcome.status, &*all.outcome.body), (Some(403), "RBAC: access denied"), "{all}");
    let hop = all.hops.last().unwrap();
    let miss = hop.miss.as_ref().unwrap();
    let why = ["method is HEAD, wanted one of GET (spec.rules[0].to[0].operation.methods, mesh.yaml:30)"];
    assert_eq!(miss.why, why);
    assert!(all.to_string().contains("refused: rbac_access_denied_matched_policy[none]"), "{all}");
}

#[test]
fn bytes_are_judged_too() {
    let all = explained(MESH, Method::GET, "http://web:90/a");
    let hop = all.hops.last().unwrap();
    let reply = hop.reply.as_ref().unwrap();
    assert_eq!(reply.status, None);
    assert!(reply.text.contains("closed at the client's first byte"), "{all}");
}

#[test]
fn without_tls_nobody_is_known() {
    let plain = MESH.replace("ISTIO_MUTUAL", "DISABLE");
    let all = explained(&plain, Method::GET, "http://web/a");
    assert_eq!(all.outcome.status, Some(403), "{all}");
    let why = &all.hops.last().unwrap().miss.as_ref().unwrap().why;
    assert!(why[0].starts_with("source.serviceAccount is none, wanted one of client"), "{why:?}");
}
