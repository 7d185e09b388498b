//! Situations that few configurations have by chance. One is dealt to every second configuration: documents that no
//! other ones touch, and requests that show what they do.

use serde_json::{Value, json};

use super::object;
use crate::about::{dial, page, sidecar};
use crate::client::To;
use crate::lab::{Block, Lab};
use crate::requests::{Ask, door};
use crate::rng::Rng;
use crate::topology::OUTSIDE;

/// A situation.
#[derive(Debug)]
pub(crate) struct Card {
    documents: fn(&Block, &mut Vec<Value>),
    /// Makes a request be about it.
    pub(crate) ask: fn(&mut Rng, &Lab, &mut Ask),
}

const CARDS: [Card; 9] = [
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

/// From a sidecar, by the host alone.
fn to_host(rng: &mut Rng, lab: &Lab, ask: &mut Ask, host: &str) {
    dial(rng, lab, ask, (host, 80, "srv"));
    ask.remove("x-do");
}

/// From a sidecar that looks the name up.
fn to_outside(rng: &mut Rng, lab: &Lab, ask: &mut Ask) {
    sidecar(rng, ask);
    ask.go((To::door(door(lab, ask.who)), "card.example.com".to_owned(), None));
    ask.remove("x-do");
}
