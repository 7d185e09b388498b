//! Situations that few configurations have by chance. One is dealt to every second configuration: documents that no
//! other ones touch, and requests that show what they do.

use std::net::SocketAddr;

use mesh_core::snapshot::TlsVersion;
use serde_json::{Value, json};

use super::object;
use crate::about::{dial, page, sidecar};
use crate::client::To;
use crate::identities::CLIENTS;
use crate::lab::{Block, Lab, PORTS_TLS, Who};
use crate::requests::{Ask, SUITES};
use crate::rng::Rng;
use crate::secrets::Hello;
use crate::tokens::INLINE;
use crate::topology::{OUTSIDE, SIDE};

/// A situation.
#[derive(Debug)]
pub(crate) struct Card {
    documents: fn(&Block, &mut Vec<Value>),
    /// Makes a request be about it.
    pub(crate) ask: fn(&mut Rng, &Lab, &mut Ask),
}

const CARDS: [Card; 16] = [
    // Preflights from origins that no policy names.
    Card {
        documents: |_, made| {
            made.push(cors(json!({"allowOrigins": [{"exact": "http://a.example"}], "unmatchedPreflights": "IGNORE"})))
        },
        ask: |r, lab, ask| {
            to_host(r, lab, ask, "cors.example.com");
            page(r, ask, "http://b.example", true);
        },
    },
    // Fields that newer ones stand for.
    Card {
        documents: |_, made| made.push(cors(json!({"allowOrigin": ["http://a.example"]}))),
        ask: |r, lab, ask| {
            to_host(r, lab, ask, "cors.example.com");
            page(r, ask, "http://a.example", false);
        },
    },
    // Names of a host outside that are not the host's.
    Card {
        documents: |block, made| {
            let tls = json!({"mode": "SIMPLE", "caCertificates": block.files.join("ca.pem")});
            outside(block, made, json!({"tls": tls}), json!(["up.example"]));
        },
        ask: to_outside,
    },
    // HTTP/2 where the port says HTTP.
    Card {
        documents: |block, made| {
            outside(block, made, json!({"connectionPool": {"http": {"h2UpgradePolicy": "UPGRADE"}}}), json!([]));
        },
        ask: to_outside,
    },
    Card {
        documents: |block, made| outside(block, made, json!({"proxyProtocol": {"version": "V2"}}), json!([])),
        ask: to_outside,
    },
    // Paths in another case.
    Card {
        documents: |_, made| {
            let folded = json!({"match": [{"uri": {"exact": "/Folded"}, "ignoreUriCase": true}], "directResponse": {"status": 201}});
            made.push(service("case", "2024-01-01T00:00:00Z", json!([folded, {"directResponse": {"status": 202}}])));
        },
        ask: |r, lab, ask| {
            to_host(r, lab, ask, "case.example.com");
            ask.target = "/folDED".to_owned();
        },
    },
    // Two objects for one host, of which the older has the later name.
    Card {
        documents: |_, made| {
            for (name, born, status) in [("a", "2025-01-01T00:00:00Z", 201), ("b", "2024-01-01T00:00:00Z", 202)] {
                let mut one = service("age", born, json!([{"directResponse": {"status": status}}]));
                one["metadata"]["name"] = json!(format!("age-{name}"));
                made.push(one);
            }
        },
        ask: |r, lab, ask| to_host(r, lab, ask, "age.example.com"),
    },
    // Networks that the address is not in.
    Card {
        documents: |_, made| {
            let to = |host: &str, port: u16| json!([{"destination": {"host": host, "port": {"number": port}}}]);
            let other = json!({"match": [{"destinationSubnets": ["10.0.0.0/8"]}], "route": to("dead.shop.svc.cluster.local", 80)});
            let rules = json!([other, {"route": to("back.back.svc.cluster.local", 80)}]);
            let mut object = object(
                "VirtualService",
                "back",
                "networks",
                json!({"hosts": ["raw"], "exportTo": ["*"], "tcp": rules}),
            );
            object["metadata"]["creationTimestamp"] = json!("2020-01-01T00:00:00Z");
            made.push(object);
        },
        ask: |r, lab, ask| dial(r, lab, ask, ("raw.back.svc.cluster.local", 9001, "raw")),
    },
    // Users that are not the one who is meant, and tokens that are for somebody else.
    Card {
        documents: |block, made| {
            users(block, made);
            let alice = json!([{"from": [{"source": {"requestPrincipals": [format!("{INLINE}/alice")]}}]}]);
            made.push(of_side("AuthorizationPolicy", "alice", json!({"action": "DENY", "rules": alice})));
        },
        ask: |r, lab, ask| {
            to_side(lab, ask);
            let (subject, audience) = r.pick(&[("alice", "web"), ("bob", "web"), ("bob", "other")]);
            let token = lab.block.tokens.of(subject, audience, true);
            ask.set("authorization", &format!("Bearer {token}"));
        },
    },
    // A token that is for the proxy alone.
    Card {
        documents: |block, made| {
            let rule = json!({"issuer": INLINE, "jwks": block.tokens.inline_keys()});
            made.push(of_side("RequestAuthentication", "users-card", json!({"jwtRules": [rule]})));
        },
        ask: |_, lab, ask| {
            to_side(lab, ask);
            ask.set("authorization", &format!("Bearer {}", lab.block.tokens.of("bob", "web", true)));
        },
    },
    // Tokens that are over.
    Card {
        documents: users,
        ask: |_, lab, ask| {
            to_side(lab, ask);
            ask.set("authorization", &format!("Bearer {}", lab.block.tokens.of("bob", "web", false)));
        },
    },
    // Clients that are not who connects.
    Card {
        documents: |_, made| {
            for (name, field, networks) in
                [("clients", "remoteIpBlocks", "203.0.113.0/24"), ("peers", "ipBlocks", "192.0.2.0/24")]
            {
                let rules = json!([{"from": [{"source": {field: [networks]}}]}]);
                made.push(of_side("AuthorizationPolicy", name, json!({"action": "DENY", "rules": rules})));
            }
        },
        ask: |r, lab, ask| {
            to_side(lab, ask);
            ask.set("x-forwarded-for", r.pick(&["203.0.113.9", "192.0.2.1"]));
        },
    },
    // A policy that is only tried, and one about whom requests are for that a workload makes.
    Card {
        documents: |_, made| {
            let mut policy = of_side("AuthorizationPolicy", "tried", json!({"action": "DENY", "rules": [{}]}));
            policy["metadata"]["annotations"] = json!({"istio.io/dry-run": "true"});
            made.push(policy);
            let clients = json!([{"source": {"notRemoteIpBlocks": ["127.0.0.0/8"]}}]);
            let hosts = json!([{"operation": {"hosts": ["*.example.com"]}}]);
            let spec = json!({"action": "DENY", "rules": [{"from": clients, "to": hosts}]});
            let mut policy = object("EgressPolicy", "shop", "clients", spec);
            policy["apiVersion"] = json!("policy.mesh.local/v1");
            made.push(policy);
        },
        ask: |_, lab, ask| to_side(lab, ask),
    },
    // A server that takes no client but one that nobody is.
    Card {
        documents: |_, made| {
            let pins = json!(["ab".repeat(32)]);
            gateway(made, json!({"mode": "MUTUAL", "credentialName": "gateway", "verifyCertificateHash": pins}));
        },
        ask: |_, lab, ask| to_gateway(lab, ask, |_| {}),
    },
    // A server that is too new for its clients.
    Card {
        documents: |_, made| {
            gateway(made, json!({"mode": "SIMPLE", "credentialName": "gateway", "minProtocolVersion": "TLSV1_3"}));
        },
        ask: |_, lab, ask| {
            to_gateway(lab, ask, |hello| {
                hello.speaks.max = TlsVersion::V1_2;
                hello.speaks.cipher_suites = [SUITES[0].into()].into();
            });
        },
    },
    // A root namespace of which something holds for all others.
    Card {
        documents: |_, made| {
            let text = made[0]["data"]["mesh"].as_str().expect("invariant: the settings come first");
            let mut mesh = mesh_core::yaml::documents(text).0.remove(0).value;
            mesh["rootNamespace"] = json!("back");
            made[0]["data"]["mesh"] = mesh_core::yaml::to_yaml(&mesh).into();
            let spec = json!({"egress": [{"hosts": ["back/*"]}], "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}});
            made.push(object("Sidecar", "back", "root", spec));
        },
        ask: |r, lab, ask| to_host(r, lab, ask, "srv.shop.svc.cluster.local"),
    },
];

/// A card, for every second configuration.
pub(super) fn deal(rng: &mut Rng, block: &Block, made: &mut Vec<Value>) -> Option<&'static Card> {
    let card = CARDS.get(rng.below(2 * CARDS.len()))?;
    (card.documents)(block, made);
    Some(card)
}

/// A VirtualService for a host of its own.
fn service(name: &str, born: &str, rules: Value) -> Value {
    let spec = json!({"hosts": [format!("{name}.example.com")], "exportTo": ["*"], "http": rules});
    let mut object = object("VirtualService", "shop", name, spec);
    object["metadata"]["creationTimestamp"] = json!(born);
    object
}

fn cors(policy: Value) -> Value {
    let to = json!([{"destination": {"host": "ext.example.com", "port": {"number": 80}}}]);
    service("cors", "2024-01-01T00:00:00Z", json!([{"corsPolicy": policy, "route": to}]))
}

/// A host outside, with a traffic policy.
fn outside(block: &Block, made: &mut Vec<Value>, policy: Value, names: Value) {
    let spec = json!({
        "hosts": ["card.example.com"],
        "exportTo": ["*"],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080}],
        "resolution": "STATIC",
        "endpoints": OUTSIDE.map(|last| json!({"address": block.ip(last).to_string()})),
        "subjectAltNames": names,
    });
    made.push(object("ServiceEntry", "shop", "card", spec));
    let spec = json!({"host": "card.example.com", "exportTo": ["*"], "trafficPolicy": policy});
    made.push(object("DestinationRule", "shop", "card", spec));
}

/// A policy of the server that clients call themselves.
fn of_side(kind: &str, name: &str, mut spec: Value) -> Value {
    spec["selector"] = json!({"matchLabels": {"app": "side"}});
    let mut object = object(kind, "shop", name, spec);
    object["apiVersion"] = json!("security.istio.io/v1");
    object
}

/// Tokens for the server.
fn users(block: &Block, made: &mut Vec<Value>) {
    let mut rule = json!({"issuer": INLINE, "jwks": block.tokens.inline_keys(), "forwardOriginalToken": true});
    rule["audiences"] = json!(["web"]);
    made.push(of_side("RequestAuthentication", "users-card", json!({"jwtRules": [rule]})));
}

/// To the server itself, as a workload of the mesh.
fn to_side(lab: &Lab, ask: &mut Ask) {
    ask.who = Who::Side;
    let (name, port) = ("side.shop.svc.cluster.local", lab.block.local);
    let door = To::door(SocketAddr::new(lab.block.ip(SIDE), port));
    let to = To { tls: Some(Hello::to(name)), identity: Some(CLIENTS[0]), ..door };
    ask.go((to, format!("{name}:{port}"), Some(name.to_owned())));
    for name in ["x-do", "x-forwarded-for", "authorization", "x-token", "cookie"] {
        ask.remove(name);
    }
    ask.target = "/a".to_owned();
}

/// A server of the gateway for one host, on the port where there are few.
fn gateway(made: &mut Vec<Value>, tls: Value) {
    let port = json!({"number": PORTS_TLS[1], "name": "card", "protocol": "HTTPS"});
    let servers = json!([{"port": port, "hosts": ["ext.example.com"], "tls": tls}]);
    let spec = json!({"selector": {"istio": "ingressgateway"}, "servers": servers});
    made.push(object("Gateway", "istio-system", "card", spec));
}

fn to_gateway(lab: &Lab, ask: &mut Ask, change: impl FnOnce(&mut Hello)) {
    ask.who = Who::Gateway;
    let name = "ext.example.com";
    let mut hello = Hello::to(name);
    change(&mut hello);
    let to = To { tls: Some(hello), ..To::door(lab.gateway(PORTS_TLS[1])) };
    ask.go((to, format!("{name}:{}", PORTS_TLS[1]), Some(name.to_owned())));
}

/// From a sidecar, by the host alone.
fn to_host(rng: &mut Rng, lab: &Lab, ask: &mut Ask, host: &str) {
    dial(rng, lab, ask, (host, 80, "srv"));
    ask.remove("x-do");
}

/// From a sidecar that looks the name up.
fn to_outside(rng: &mut Rng, lab: &Lab, ask: &mut Ask) {
    sidecar(rng, ask);
    ask.go((To::door(lab.door(ask.who)), "card.example.com".to_owned(), None));
    ask.remove("x-do");
}
