//! `explain` with policies: what it says of the server's end.

use std::sync::Arc;
use std::time::SystemTime;

use http::Method;
use mesh_core::convert::{Addresses, Options, inputs};
use mesh_core::explain::{Caller, ExplainRequest, Explainer, Explanation, From};

use super::Judge;
use crate::jwt::tests::{KEY, OTHER, set};

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
    asked(yaml, method, url, (From::Workload("client".into()), Caller::default()), &[])
}

/// By a client that is no workload, with headers.
fn asked(
    yaml: &str,
    method: Method,
    url: &str,
    (from, caller): (From, Caller),
    headers: &[(&'static str, &str)],
) -> Explanation {
    let (resources, reports) = mesh_core::yaml::read("mesh.yaml", yaml);
    assert!(reports.is_empty(), "{reports:#?}");
    let world = inputs(&resources, &Options::default(), &mut Addresses::default()).world;
    let judge = Judge::at(SystemTime::UNIX_EPOCH).knowing(KEYS, set(&[KEY.jwk("k", "RS256")]).as_bytes());
    let explainer = Explainer::new(&world).judged_by(Arc::new(judge));
    let headers = headers.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect();
    explainer.explain(&ExplainRequest { from, method, url: url.into(), headers, claims: None, caller }).unwrap()
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

const KEYS: &str = "https://issuer.example/keys";

fn policy(kind: &str, namespace: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: {kind}, namespace: {namespace}}}\n\
         spec: {spec}\n"
    )
    .replacen("name: PeerAuthentication", "name: peers", 1)
    .replacen("name: RequestAuthentication", "name: tokens", 1)
    .replacen("name: AuthorizationPolicy", "name: who", 1)
}

/// A client without a proxy at the workload itself, which shows a certificate with this name.
fn direct(name: Option<&str>, address: Option<&str>) -> (From, Caller) {
    let address = address.map(|a| a.parse().unwrap());
    (From::Direct("web".into()), Caller { address, through: None, name: name.map(Into::into) })
}

fn at_gateway(address: &str) -> (From, Caller) {
    let caller = Caller { address: Some(address.parse().unwrap()), ..Caller::default() };
    (From::Gateway("istio-ingressgateway.istio-system".into()), caller)
}

fn services() -> String {
    // Without policies.
    MESH.split("---\n").filter(|d| !d.contains("AuthorizationPolicy")).collect::<Vec<_>>().join("---\n")
}

#[test]
fn a_client_without_a_proxy_is_who_its_certificate_says() {
    let client = "spiffe://cluster.local/ns/ns/sa/client";
    let url = "http://web.ns:8080/a";
    let of = |name| asked(MESH, Method::GET, url, direct(name, None), &[]);
    let all = of(Some(client));
    assert_eq!((all.outcome.status, all.hops.len()), (None, 1), "{all}");
    assert_eq!(all.hops[0].place, "sidecar inbound");
    let said = "request header x-forwarded-client-cert is set to By=spiffe://cluster.local/ns/ns/sa/web;Hash=?;Subject=\"\";\
                URI=spiffe://cluster.local/ns/ns/sa/client";
    assert_eq!(all.hops[0].changes, [said]);
    assert_eq!(of(Some("spiffe://cluster.local/ns/ns/sa/other")).outcome.status, Some(403));
    assert_eq!(of(None).outcome.status, Some(403));
    let all = of(Some("spiffe://elsewhere/ns/ns/sa/client"));
    assert!(
        all.outcome.text.contains("handshake fails, for spiffe://elsewhere/ns/ns/sa/client is of another"),
        "{all}"
    );
}

#[test]
fn strict_ports_take_nobody_without_a_certificate_of_the_mesh() {
    let mesh = services() + &policy("PeerAuthentication", "ns", "{mtls: {mode: STRICT}}");
    let of = |url, name| asked(&mesh, Method::GET, url, direct(name, None), &[]).outcome.text;
    let text = of("http://web.ns:8080/", None);
    assert!(text.starts_with("the connection is reset: the port takes mutual TLS only"), "{text}");
    let text = of("https://web.ns:8080/", None);
    assert!(text.contains("the TLS handshake fails, for the client shows no certificate of the mesh"), "{text}");
    let text = of("http://web.ns:8080/", Some("spiffe://cluster.local/ns/x/sa/x"));
    assert_eq!(text, "forwarded to the application, which answers");
}

#[test]
fn addresses_are_the_clients_as_far_as_it_is_known() {
    let deny = |field: &str, network: &str| {
        let spec = format!("{{action: DENY, rules: [{{from: [{{source: {{{field}: [{network}]}}}}]}}]}}");
        services() + &policy("AuthorizationPolicy", "ns", &spec)
    };
    let status = |mesh: &str, address: &str, headers: &[(&'static str, &str)]| {
        let of = direct(None, Some(address));
        asked(mesh, Method::GET, "http://web.ns:8080/", of, headers).outcome.status
    };
    let forwarded = [("x-forwarded-for", "192.0.2.1, 203.0.113.9")];
    let mesh = deny("ipBlocks", "10.0.0.0/8");
    assert_eq!(status(&mesh, "10.1.1.1", &forwarded), Some(403));
    assert_eq!(status(&mesh, "198.51.100.1", &[("x-forwarded-for", "10.1.1.1")]), None);
    let mesh = deny("remoteIpBlocks", "203.0.113.0/24");
    assert_eq!(status(&mesh, "10.1.1.1", &forwarded), Some(403), "a sidecar believes the proxy before");
    assert_eq!(status(&mesh, "203.0.113.9", &[]), Some(403), "nobody says otherwise");
    assert_eq!(status(&mesh, "203.0.113.9", &[("x-forwarded-for", "10.1.1.1")]), None);
}

const GATEWAY: &str = "---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: ns}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}
  - {port: {number: 443, name: tls, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: c}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: ns}
spec: {hosts: ['*'], gateways: [gw], http: [{route: [{destination: {host: web, port: {number: 80}}}]}]}
";

fn gateway(policies: &str) -> String {
    let pod = "---
apiVersion: v1
kind: Pod
metadata: {name: istio-ingressgateway, namespace: istio-system, labels: {istio: ingressgateway}}
spec: {containers: [{name: c, image: c}]}
";
    services() + pod + GATEWAY + policies
}

#[test]
fn what_a_client_says_of_its_address_ends_at_the_gateway() {
    let spec = "{selector: {matchLabels: {app: web}}, action: DENY, rules: [{from: [{source: {remoteIpBlocks: [203.0.113.0/24]}}]}]}";
    let mesh = gateway(&policy("AuthorizationPolicy", "ns", spec));
    let status = |address: &str, headers: &[(&'static str, &str)]| {
        asked(&mesh, Method::GET, "http://x/", at_gateway(address), headers).outcome.status
    };
    let forged = [("x-forwarded-for", "192.0.2.1")];
    assert_eq!(status("203.0.113.9", &[]), Some(403));
    assert_eq!(status("203.0.113.9", &forged), Some(403), "the gateway adds whom it sees");
    assert_eq!(status("192.0.2.1", &[("x-forwarded-for", "203.0.113.9")]), None);
}

#[test]
fn policies_of_gateways_see_the_server_name_of_https() {
    let spec = "{selector: {matchLabels: {istio: ingressgateway}}, rules: [{when: [{key: connection.sni, values: [a.example]}]}]}";
    let mesh = gateway(&policy("AuthorizationPolicy", "istio-system", spec));
    let of = |url: &str| asked(&mesh, Method::GET, url, at_gateway("192.0.2.1"), &[]);
    let status = |url: &str| of(url).outcome.status;
    assert_eq!(status("https://a.example/"), None, "{}", of("https://a.example/"));
    assert_eq!(status("https://b.example/"), Some(403));
    assert_eq!(status("http://a.example/"), Some(403));
}

#[test]
fn tokens_become_headers_and_go() {
    let rule = format!("{{issuer: i, jwksUri: '{KEYS}', outputClaimToHeaders: [{{header: x-sub, claim: sub}}]}}");
    let mesh = services() + &policy("RequestAuthentication", "ns", &format!("{{jwtRules: [{rule}]}}"));
    let (good, forged) = (KEY.sign(r#"{"iss":"i","sub":"alice"}"#), OTHER.sign(r#"{"iss":"i","sub":"alice"}"#));
    let of = |target: &str, headers: &[(&'static str, &str)]| {
        asked(&mesh, Method::GET, &format!("http://web.ns:8080{target}"), direct(None, None), headers)
    };
    let all = of("/", &[("authorization", &format!("Bearer {good}")), ("x-sub", "eve")]);
    let mut changes = all.hops[0].changes.clone();
    changes.sort();
    assert_eq!(changes, ["request header authorization is removed", "request header x-sub is set to alice"], "{all}");
    let all = of(&format!("/a?access_token={good}&b=c"), &[]);
    let said = ["path without its token is /a?b=c", "request header x-sub is set to alice"];
    assert_eq!(all.hops[0].changes, said, "{all}");
    assert_eq!(of("/", &[("x-sub", "eve")]).hops[0].changes, ["request header x-sub is removed"]);
    let all = of("/", &[("authorization", &format!("Bearer {forged}"))]);
    assert_eq!((all.outcome.status, &*all.outcome.body), (Some(401), "Jwt verification fails"));
}

#[test]
fn external_authorizers_are_asked_before_tokens_are_looked_at() {
    let custom = policy("AuthorizationPolicy", "ns", "{action: CUSTOM, provider: {name: nobody}, rules: [{}]}");
    let rule = format!("{{issuer: i, jwksUri: '{KEYS}'}}");
    let tokens = policy("RequestAuthentication", "ns", &format!("{{jwtRules: [{rule}]}}"));
    let headers = [("authorization", "Bearer broken")];
    let url = "http://web.ns:8080/";
    let all = asked(&(services() + &custom + &tokens), Method::GET, url, direct(None, None), &headers);
    let text = "refused: rbac_access_denied_matched_policy[istio-ext-authz-nobody-ns[ns]-policy[who]-rule[0]-deny-due-to-bad-CUSTOM-action]";
    assert_eq!((all.outcome.status, &*all.outcome.text), (Some(403), text), "{all}");
    let all = asked(&(services() + &tokens), Method::GET, url, direct(None, None), &headers);
    assert_eq!(all.outcome.status, Some(401), "{all}");
}
