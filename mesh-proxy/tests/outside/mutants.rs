//! Configurations that are wrong by one rule, given to `explain` alone: the comparison has to notice each.

#[path = "mutants/security.rs"]
mod security;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use mesh_core::explain::Explainer;
use mesh_policy::judge::Judge;
use serde_json::{Value, json};

use super::compare::{Depth, differences};
use super::explained::Recorded;
use super::generate::Config;
use super::lab::{Lab, build};

/// A name, and what it does to a document.
type Mutant = (&'static str, fn(&mut Value));

const MUTANTS: [Mutant; 59] = [
    ("the last rule first", |d| rules(d, |list| list.reverse())),
    ("the youngest object first", older),
    ("prefix shorter by a character", |d| texts(d, "prefix", |t| t.truncate(t.len().max(1) - 1))),
    ("prefix longer by a character", |d| texts(d, "prefix", |t| t.push('x'))),
    ("exact is prefix", |d| every(d, &|o| rename(o, "exact", "prefix"))),
    ("regex need not match in full", |d| texts(d, "regex", |t| *t = format!(".*({t}).*"))),
    ("ignoreUriCase turned", |d| conditions(d, |m| flip(m, "ignoreUriCase"))),
    ("withoutHeaders are headers", |d| conditions(d, |m| rename(m, "withoutHeaders", "headers"))),
    ("headers not looked at", |d| conditions(d, |m| m["headers"] = json!({}))),
    ("query not looked at", |d| conditions(d, |m| m["queryParams"] = json!({}))),
    ("method not looked at", |d| conditions(d, |m| leave_out(m, "method"))),
    ("port not looked at", |d| conditions(d, |m| leave_out(m, "port"))),
    ("sourceLabels not looked at", |d| conditions(d, |m| leave_out(m, "sourceLabels"))),
    ("sourceNamespace not looked at", |d| conditions(d, |m| leave_out(m, "sourceNamespace"))),
    ("gateways of a match not looked at", |d| conditions(d, |m| leave_out(m, "gateways"))),
    ("one retry by default", |d| settings(d, "defaultHttpRetryPolicy", json!({"attempts": 1}))),
    ("one retry more", |d| every(d, &|o| number(o, "attempts", |n| n + 1))),
    ("no timeout", |d| every(d, &|o| leave_out(o, "timeout"))),
    ("another timeout", |d| each_rule(d, |r| r["timeout"] = json!("15s"))),
    ("headers are added, not set", |d| every(d, &|o| rename(o, "set", "add"))),
    ("headers are not removed", |d| every(d, &|o| leave_out(o, "remove"))),
    ("weights turned around", weights),
    ("the rewrite is longer", |d| each_rule(d, |r| text(&mut r["rewrite"]["uri"], |t| t.push('x')))),
    ("regex rewrites not done", |d| every(d, &|o| leave_out(o, "uriRegexRewrite"))),
    ("redirects with another code", |d| every(d, &|o| number(o, "redirectCode", |n| if n == 301 { 302 } else { 301 }))),
    ("direct responses with another status", |d| {
        every(d, &|o| number(o, "status", |n| if n == 200 { 201 } else { 200 }))
    }),
    ("everything is exported", |d| leave_out(&mut d["spec"], "exportTo")),
    ("subsets by another label", subsets),
    ("paths are not normalized", |d| settings(d, "pathNormalization", json!({"normalization": "NONE"}))),
    ("no faults", |d| every(d, &|o| leave_out(o, "fault"))),
    ("no delays", |d| every(d, &|o| leave_out(o, "delay"))),
    ("aborts with another status", |d| every(d, &|o| number(o, "httpStatus", |n| if n == 418 { 404 } else { 418 }))),
    ("faults of none are of all", |d| every(d, &|o| leave_none(o, "percentage"))),
    ("no mirrors", |d| {
        every(d, &|o| leave_out(o, "mirror"));
        every(d, &|o| leave_out(o, "mirrors"));
    }),
    ("no CORS", |d| every(d, &|o| leave_out(o, "corsPolicy"))),
    ("CORS for every origin", |d| every(d, &|o| set(o, "allowOrigins", json!([{"exact": "*"}])))),
    ("preflights of others are forwarded", |d| every(d, &|o| leave_out(o, "unmatchedPreflights"))),
    ("no credentials", |d| every(d, &|o| leave_out(o, "allowCredentials"))),
    ("HTTP/2 is not spoken", |d| every(d, &|o| leave_out(o, "h2UpgradePolicy"))),
    ("no rules for bytes", |d| leave_out(&mut d["spec"], "tcp")),
    ("Sidecars narrow nothing", |d| leave_out(&mut d["spec"], "egress")),
    ("an egress proxy is not asked", |d| every(d, &|o| leave_out(o, "egressProxy"))),
    ("unknown hosts are let through", |d| settings(d, "outboundTrafficPolicy", json!({"mode": "ALLOW_ANY"}))),
    ("no rules for TLS", |d| leave_out(&mut d["spec"], "tls")),
    ("networks not looked at", |d| every(d, &|o| leave_out(o, "destinationSubnets"))),
    ("upstreams get no TLS", |d| rule(d, "tls")),
    ("upstreams get no PROXY header", |d| rule(d, "proxyProtocol")),
    ("localities not looked at", |d| {
        rule(d, "localityLbSetting");
        settings(d, "localityLbSetting", json!({"enabled": false}));
    }),
    ("the usual root namespace", |d| settings(d, "rootNamespace", json!("istio-system"))),
    ("all namespaces are looked at", |d| settings(d, "discoverySelectors", json!([]))),
    ("names with underscores stay", |d| {
        proxy_settings(d, |c| c["connectionSettings"]["httpHeadersWithUnderscoresAction"] = json!("ALLOW"))
    }),
    ("escaped slashes stay", |d| {
        proxy_settings(d, |c| c["connectionSettings"]["httpPathWithEscapedSlashesAction"] = json!("KEEP_UNCHANGED"))
    }),
    ("fields that newer ones stand for not looked at", |d| {
        every(d, &|o| ["allowOrigin", "percent", "mirrorPercent"].iter().for_each(|f| leave_out(o, f)));
    }),
    ("gateways take every client", |d| {
        servers(d, &["subjectAltNames", "verifyCertificateHash", "verifyCertificateSpki"])
    }),
    ("authorities of clients not looked at", |d| servers(d, &["caCertCredentialName", "caCrl"])),
    ("all versions, suites and curves", |d| {
        servers(d, &["minProtocolVersion", "maxProtocolVersion", "cipherSuites", "ecdhCurves"]);
    }),
    ("names of a host outside not looked at", |d| {
        if d["kind"] == "ServiceEntry" {
            leave_out(&mut d["spec"], "subjectAltNames");
        }
    }),
    ("no TLS to unknown hosts", |d| with_settings(d, |mesh| leave_out(&mut mesh["outboundTrafficPolicy"], "tls"))),
    ("tries are always counted", |d| proxy_settings(d, |c| leave_out(&mut c["proxyHeaders"], "attemptCount"))),
];

/// Mutants that the recorded pairs don't tell from the original, but should.
pub(crate) fn missed(recorded: &[Recorded], lab: &Lab) -> Vec<&'static str> {
    let all: Vec<&Mutant> = MUTANTS.iter().chain(&security::MUTANTS).collect();
    let next = AtomicUsize::new(0);
    let missed = Mutex::new(Vec::new());
    std::thread::scope(|threads| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            threads.spawn(|| {
                while let Some((name, change)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if !noticed(*change, recorded, lab) {
                        missed.lock().unwrap().push(*name);
                    }
                }
            });
        }
    });
    let mut missed = missed.into_inner().unwrap();
    // What is over now was good then.
    let before = lab.judge_at(SystemTime::now() - Duration::from_secs(200_000));
    if !recorded.iter().any(|r| tells_apart(&r.config, r, (lab, &before))) {
        missed.push("tokens that are over are good");
    }
    missed
}

fn noticed(change: fn(&mut Value), recorded: &[Recorded], lab: &Lab) -> bool {
    recorded.iter().any(|r| {
        let mut changed = r.config.clone();
        changed.made.iter_mut().for_each(change);
        if changed.made == r.config.made {
            return false;
        }
        tells_apart(&changed, r, (lab, &lab.judge))
    })
}

/// Some pair is not as it would be with this configuration and judge.
fn tells_apart(config: &Config, r: &Recorded, (lab, judge): (&Lab, &Arc<Judge>)) -> bool {
    let (world, _) = build(&config.documents(), &lab.pods);
    let explainer = Explainer::new(&world).judged_by(judge.clone());
    r.pairs.iter().any(|(ask, observed)| {
        let explanation = explainer.explain(&ask.question()).unwrap();
        !differences(ask, &explanation, observed, Depth::Behaviour, &lab.certificates).is_empty()
    })
}

/// Does something to every object inside a document's spec.
fn every(value: &mut Value, change: &impl Fn(&mut Value)) {
    if value.is_object() {
        change(value);
    }
    let children: Vec<&mut Value> = match value {
        Value::Object(map) => map.values_mut().collect(),
        Value::Array(items) => items.iter_mut().collect(),
        _ => Vec::new(),
    };
    for child in children {
        every(child, change);
    }
}

fn rules(doc: &mut Value, change: impl FnOnce(&mut Vec<Value>)) {
    if let Some(list) = doc["spec"].get_mut("http").and_then(Value::as_array_mut) {
        change(list);
    }
}

fn each_rule(doc: &mut Value, change: impl Fn(&mut Value)) {
    rules(doc, |list| list.iter_mut().filter(|r| r.get("route").is_some()).for_each(change));
}

fn conditions(doc: &mut Value, change: impl Fn(&mut Value)) {
    rules(doc, |list| {
        let matches = list.iter_mut().filter_map(|r| r.get_mut("match")?.as_array_mut());
        matches.flatten().for_each(change);
    });
}

/// Changes all texts of this name, except those of services' names.
fn texts(doc: &mut Value, name: &str, change: impl Fn(&mut String)) {
    every(doc, &|o| {
        if let Some(found) = o.get_mut(name) {
            text(found, &change);
        }
    });
}

fn text(value: &mut Value, change: impl FnOnce(&mut String)) {
    if let Value::String(text) = value
        && text != "*"
    {
        change(text);
    }
}

fn number(object: &mut Value, name: &str, change: impl FnOnce(i64) -> i64) {
    if let Some(n) = object.get(name).and_then(Value::as_i64).filter(|n| *n > 0) {
        object[name] = change(n).into();
    }
}

fn rename(object: &mut Value, from: &str, to: &str) {
    if let Some(map) = object.as_object_mut()
        && let Some(value) = map.remove(from)
    {
        map.insert(to.to_owned(), value);
    }
}

fn leave_out(object: &mut Value, name: &str) {
    if let Some(map) = object.as_object_mut() {
        map.remove(name);
    }
}

fn set(object: &mut Value, name: &str, value: Value) {
    if object.get(name).is_some() {
        object[name] = value;
    }
}

/// A share of nothing becomes one of everything.
fn leave_none(object: &mut Value, name: &str) {
    if object.get(name).is_some_and(|p| p["value"] == 0) {
        object[name] = json!({"value": 100});
    }
}

fn flip(object: &mut Value, name: &str) {
    let is = object.get(name).and_then(Value::as_bool).unwrap_or(false);
    object[name] = (!is).into();
}

fn older(doc: &mut Value) {
    text(&mut doc["metadata"]["creationTimestamp"], |t| {
        *t = t.replace("2024-01", "2030-01").replace("2025", "2020");
    });
}

fn weights(doc: &mut Value) {
    each_rule(doc, |rule| {
        let Some(list) = rule["route"].as_array_mut() else { return };
        let all: Vec<Value> = list.iter().map(|d| d["weight"].clone()).collect();
        for (destination, weight) in list.iter_mut().zip(all.into_iter().rev()) {
            if destination.get("weight").is_some() {
                destination["weight"] = weight;
            }
        }
    });
}

fn subsets(doc: &mut Value) {
    if let Some(list) = doc["spec"].get_mut("subsets").and_then(Value::as_array_mut) {
        for subset in list {
            text(&mut subset["labels"]["version"], |v| *v = if v == "v1" { "v2".into() } else { "v1".into() });
        }
    }
}

/// Leaves something out of the TLS of a Gateway's servers.
fn servers(doc: &mut Value, names: &[&str]) {
    if doc["kind"] == "Gateway" {
        every(doc, &|o| names.iter().for_each(|name| leave_out(o, name)));
    }
}

/// Leaves something out of a DestinationRule.
fn rule(doc: &mut Value, name: &str) {
    if doc["kind"] == "DestinationRule" {
        every(doc, &|o| leave_out(o, name));
    }
}

fn settings(doc: &mut Value, name: &str, value: Value) {
    with_settings(doc, |mesh| mesh[name] = value);
}

/// Changes the settings of all proxies, where there are any.
fn proxy_settings(doc: &mut Value, change: impl FnOnce(&mut Value)) {
    with_settings(doc, |mesh| {
        if let Some(config) = mesh.get_mut("defaultConfig") {
            change(config);
        }
    });
}

fn with_settings(doc: &mut Value, change: impl FnOnce(&mut Value)) {
    if doc["kind"] != "ConfigMap" {
        return;
    }
    let mesh = doc["data"]["mesh"].as_str().unwrap_or_default();
    let mut mesh = mesh_core::yaml::documents(mesh).0.remove(0).value;
    change(&mut mesh);
    doc["data"]["mesh"] = mesh_core::yaml::to_yaml(&mesh).into();
}
