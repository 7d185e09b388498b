//! No field of the sample configurations is without effect: another value makes another decision, or analysis says why
//! it doesn't.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;

use mesh_core::analyze::{ANALYZERS, AnalyzeInput, analyze_with};
use mesh_core::api::Resource;
use mesh_core::compile::compile;
use mesh_core::convert::{Addresses, Options, builtin_gateway, inputs, quarantined};
use mesh_core::endpoints::endpoints;
use mesh_core::snapshot::{ProxyId, ProxyKind};
use mesh_core::validate::validate;
use mesh_core::yaml::{documents, to_yaml};
use serde_json::{Value, json};

use crate::{corpus, yaml_files};

/// Fields whose values no decision can depend on.
const NAMES_ONLY: &[(&str, &str)] =
    &[("servers/N/port/name", "a name for logs and for HTTPS route names"), ("ports/N/name", "a name")];

/// What is decided with these documents: plans and endpoints of every kind of proxy, and what analysis says.
fn decided(texts: &[String]) -> (String, Vec<String>) {
    let (mut resources, mut reports): (Vec<Resource>, Vec<_>) = (Vec::new(), Vec::new());
    for (i, text) in texts.iter().enumerate() {
        let (some, said) = mesh_core::yaml::read(&format!("{i}.yaml"), text);
        reports.extend(some.iter().flat_map(validate));
        resources.extend(some);
        reports.extend(said);
    }
    resources.extend(builtin_gateway(&resources));
    let options = Options { quarantined: quarantined(&reports), ..Options::default() };
    let world = inputs(&resources, &options, &mut Addresses::default()).world;
    let mut plan = String::new();
    for wanted in ["productpage", "details", "reviews", "ratings", "istio-ingressgateway"] {
        let Some(w) = world.workloads().iter().find(|w| w.workload_name.starts_with(wanted)) else { continue };
        let kind = if wanted.starts_with("istio") { ProxyKind::Gateway } else { ProxyKind::Sidecar };
        let id = ProxyId::of(kind, w);
        let snapshot = compile(&world, &id, None).snapshot;
        plan.push_str(&snapshot.hash.to_string());
        let mut clusters: Vec<_> = snapshot.clusters.values().collect();
        clusters.sort_by(|a, b| a.name.cmp(&b.name));
        for e in clusters.iter().flat_map(|c| endpoints(&world, c)) {
            plan.push_str(&format!(" {} {} {:?}", e.address, e.weight, e.workload.locality));
        }
    }
    let input = AnalyzeInput { resources: &resources, reports: &reports, world: Some(&world), clusters: &[] };
    let said =
        analyze_with(&input, ANALYZERS).iter().map(|r| format!("{} {} {}", r.code, r.object, r.message)).collect();
    (plan, said)
}

fn pointers(value: &Value, at: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(k, v)| pointers(v, &format!("{at}/{}", k.replace('/', "~1")), out)),
        Value::Array(list) => list.iter().enumerate().for_each(|(i, v)| pointers(v, &format!("{at}/{i}"), out)),
        _ => out.push(at.to_owned()),
    }
}

fn other(value: &Value) -> Value {
    match value {
        Value::Bool(b) => json!(!b),
        Value::Number(n) => match n.as_i64() {
            Some(n) => json!(n + 1),
            None => json!(n.as_f64().unwrap_or_default() + 1.0),
        },
        Value::String(s) if s.ends_with('s') && s.starts_with(|c: char| c.is_ascii_digit()) => json!("77s"),
        Value::String(s) => json!(format!("{s}x")),
        other => other.clone(),
    }
}

const KINDS: [&str; 5] = ["VirtualService", "DestinationRule", "Gateway", "ServiceEntry", "Sidecar"];

#[test]
fn no_field_of_the_samples_is_without_effect() {
    let Some(corpus) = corpus() else { return };
    let samples = corpus.join("samples/bookinfo");
    let read = |p: &PathBuf| std::fs::read_to_string(p).unwrap();
    let base = read(&samples.join("platform/kube/bookinfo.yaml"));
    let subsets = read(&samples.join("networking/destination-rule-all.yaml"));
    let own = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples"));
    let gateway = read(&own.join("../../examples/bookinfo/routing/bookinfo.yaml"));
    let sites = read(&own.join("egress/coffee.yaml"));
    let mut files = yaml_files(&samples.join("networking"));
    files.extend(yaml_files(&own));
    let (mut changed, mut silent) = (0, Vec::new());
    for file in files {
        let all: Vec<Value> = documents(&read(&file)).0.into_iter().map(|d| d.value).collect();
        let istio = |v: &Value| v["kind"].as_str().is_some_and(|k| KINDS.contains(&k));
        if !all.iter().any(istio) {
            continue;
        }
        // Rules alone decide nothing; they are seen together with the application and its subsets.
        let has_rule = all.iter().any(|v| v["kind"] == "DestinationRule");
        let texts = |all: &[Value]| {
            let mut texts = vec![base.clone()];
            if !has_rule {
                texts.push(subsets.clone());
            }
            if file.starts_with(&own) && !all.iter().any(|v| v["kind"] == "Gateway") {
                texts.push(gateway.clone());
            }
            if file.starts_with(own.join("egress")) && !all.iter().any(|v| v["kind"] == "ServiceEntry") {
                texts.push(sites.clone());
            }
            texts.extend(all.iter().map(to_yaml));
            texts
        };
        let before = decided(&texts(&all));
        for (d, document) in all.iter().enumerate().filter(|(_, v)| istio(v)) {
            let mut leaves = Vec::new();
            pointers(&document["spec"], "/spec", &mut leaves);
            for pointer in leaves {
                let mut now = all.clone();
                let slot = now[d].pointer_mut(&pointer).unwrap();
                *slot = other(slot);
                changed += 1;
                let name = document["metadata"]["name"].as_str().unwrap_or_default();
                let what = format!("{} {} {name}{pointer}", file.file_name().unwrap().display(), document["kind"]);
                let any = |p: &str| if p.bytes().all(|b| b.is_ascii_digit()) { "N".to_owned() } else { p.to_owned() };
                let general = pointer.split('/').skip(1).map(any).collect::<Vec<_>>().join("/");
                let names = NAMES_ONLY.iter().any(|(end, _)| general.ends_with(end));
                if !names && decided(&texts(&now)) == before && !is_accounted(&before.1, &pointer) {
                    silent.push(what);
                }
            }
        }
    }
    println!("{changed} changes");
    assert!(changed > 200, "{changed}");
    assert!(
        silent.is_empty(),
        "{} of {changed} without effect and without a word:\n{}",
        silent.len(),
        silent.join("\n")
    );
}

/// Analysis has said of the field, or of one around it, that it has no effect.
fn is_accounted(said: &[String], pointer: &str) -> bool {
    let parts = pointer.split('/').skip(1).map(|p| match p.bytes().all(|b| b.is_ascii_digit()) {
        true => format!("[{p}]"),
        false => format!(".{p}"),
    });
    let field: String = parts.collect::<String>().trim_start_matches('.').to_owned();
    let silent = |m: &&String| ["MESH0101", "MESH0102", "MESH0103"].iter().any(|c| m.starts_with(c));
    said.iter().filter(silent).any(|m| {
        let words: Vec<&str> = m.split(' ').collect();
        words.iter().any(|w| {
            w.starts_with("spec") && field.strip_prefix(w).is_some_and(|r| r.is_empty() || r.starts_with(['.', '[']))
        })
    })
}
