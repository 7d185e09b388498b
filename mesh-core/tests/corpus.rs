//! Configuration that others wrote: Istio's samples, test inputs, validation cases and its own schemas. The corpus is
//! not part of the repository; without it these tests say so and pass.

#![allow(clippy::unwrap_used, reason = "a test says what it could not read by failing")]

#[path = "corpus/analyze.rs"]
mod analyze;
#[path = "corpus/faults.rs"]
mod faults;
#[path = "corpus/mutate.rs"]
mod mutate;
#[path = "corpus/seed.rs"]
mod seed;

use std::path::{Path, PathBuf};

use mesh_core::api::{Resource, served_kinds};
use mesh_core::report::{Level, Report};
use mesh_core::validate::validate;
use mesh_core::yaml::{documents, item, read, to_yaml};
use serde_json::{Map, Value, json};

/// The corpus next to the repository, or next to the directory of its worktrees.
fn corpus() -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = ["../../shared/corpus", "../../../shared/corpus"].map(|p| here.join(p));
    let found = places.into_iter().find(|p| p.is_dir());
    if found.is_none() {
        println!("skipped: corpus not present");
    }
    found
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(yaml_files(&path));
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "json") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn is_ours(report: &Report) -> bool {
    let kind = &report.object.kind;
    &*kind.kind == "File" || served_kinds().iter().any(|k| k.group == &*kind.group && k.kind == &*kind.kind)
}

fn errors(reports: Vec<Report>) -> Vec<Report> {
    reports.into_iter().filter(|r| r.level == Level::Error && is_ours(r)).collect()
}

#[test]
fn every_file_of_the_kinds_that_we_read_parses() {
    let Some(corpus) = corpus() else { return };
    let (mut objects, mut wrong) = (0, Vec::new());
    for folder in ["samples", "config", "validate", "seed"] {
        for file in yaml_files(&corpus.join(folder)) {
            let name = file.strip_prefix(&corpus).unwrap().display().to_string();
            let (resources, reports) = read(&name, &std::fs::read_to_string(&file).unwrap());
            objects += resources.len();
            if !name.contains("-invalid") {
                wrong.extend(errors(reports));
                wrong.extend(resources.iter().flat_map(|r| errors(validate(r))));
            }
        }
    }
    println!("{objects} objects");
    let known = |r: &Report| NOT_ACCEPTED.iter().any(|(file, field, _)| &*r.file == *file && &*r.field == *field);
    wrong.retain(|r| !known(r));
    let text: String = wrong.iter().map(|r| format!("{r}\n")).collect();
    assert!(wrong.is_empty(), "{text}");
    assert!(objects > 300, "{objects}");
}

/// Files of the corpus that are wrong on purpose, with the field and the reason.
const NOT_ACCEPTED: [(&str, &str, &str); 1] =
    [("config/integration/pilot/some-dir/missing-gateway.yaml", "spec", "a VirtualService without any route")];

/// Where our text is another than Istio's: ours, Istio's, why.
const CLEARER: [(&str, &str, &str); 1] = [(
    "concurrency must be greater than or equal to 0",
    "spec.concurrency in body should be greater than or equal to 0",
    "the words of the schema's check; the report has the path of the field beside the message",
)];

#[test]
fn invalid_documents_are_refused_for_the_reason_given() {
    let Some(corpus) = corpus() else { return };
    let mut seen = 0;
    for file in yaml_files(&corpus.join("validate")) {
        let name = file.strip_prefix(&corpus).unwrap().display().to_string();
        if !name.contains("-invalid") {
            continue;
        }
        for document in documents(&std::fs::read_to_string(&file).unwrap()).0 {
            let expected = document.value["_err"].as_str().unwrap().to_owned();
            let mut value = document.value;
            value.as_object_mut().unwrap().remove("_err");
            let (resources, mut reports) = read(&name, &to_yaml(&value));
            reports.extend(resources.iter().flat_map(validate));
            if resources.iter().any(|r| matches!(r, Resource::Unread(_))) {
                continue;
            }
            seen += 1;
            let clearer = CLEARER.iter().find(|(_, theirs, _)| *theirs == expected).map(|(ours, _, _)| *ours);
            let errors = errors(reports);
            let found = errors.iter().any(|r| r.message.contains(clearer.unwrap_or(&expected)));
            assert!(found, "{name}: {expected}\n{errors:#?}");
        }
    }
    assert!(seen >= 10, "{seen}");
}

/// A document with one leaf of the schema, and its path.
fn leaves(schema: &Value, path: &str, out: &mut Vec<(String, Value)>, wrap: &dyn Fn(Value) -> Value) {
    if let Some(fields) = schema["properties"].as_object() {
        for (name, inner) in fields {
            let wrap = |v: Value| wrap(Value::Object(Map::from_iter([(name.clone(), v)])));
            leaves(inner, &format!("{path}.{name}"), out, &wrap);
        }
        return;
    }
    let many = &schema["additionalProperties"];
    if schema["type"] == "array" {
        return leaves(&schema["items"], &item(path, 0), out, &|v| wrap(json!([v])));
    }
    if many.is_object() {
        return leaves(many, &format!("{path}.key"), out, &|v| wrap(json!({"key": v})));
    }
    let duration = schema["x-kubernetes-validations"]
        .as_array()
        .is_some_and(|rules| rules.iter().any(|r| r["rule"].as_str().is_some_and(|r| r.contains("duration("))));
    let value = match (schema["type"].as_str(), schema["enum"].as_array()) {
        (_, Some(names)) => names[0].clone(),
        (Some("integer"), _) => json!(1),
        (Some("number"), _) => json!(1.5),
        (Some("boolean"), _) => json!(true),
        (Some("string"), _) if duration || is_duration(path) => json!("5s"),
        (Some("string"), _) => json!("x"),
        _ => json!({}),
    };
    out.push((path.to_owned(), wrap(value)));
}

/// Durations that the schema doesn't mark, because zero is allowed.
fn is_duration(path: &str) -> bool {
    [".tcp.idleTimeout", ".httpCookie.ttl", ".budgetInterval", ".maxConnectionDuration"]
        .iter()
        .any(|end| path.ends_with(end))
}

#[test]
fn every_field_of_istios_schemas_is_known() {
    let Some(corpus) = corpus() else { return };
    let text = std::fs::read_to_string(corpus.join("crds/istio/customresourcedefinitions.gen.yaml")).unwrap();
    let mut checked = 0;
    for crd in documents(&text).0.into_iter().map(|d| d.value) {
        let (group, kind) = (crd["spec"]["group"].as_str().unwrap(), crd["spec"]["names"]["kind"].as_str().unwrap());
        let Some(served) = served_kinds().iter().find(|k| k.group == group && k.kind == kind) else {
            continue;
        };
        for version in crd["spec"]["versions"].as_array().unwrap() {
            let name = version["name"].as_str().unwrap();
            assert!(served.versions.contains(&name), "{kind} {name}");
            let mut all = Vec::new();
            let spec = &version["schema"]["openAPIV3Schema"]["properties"]["spec"];
            leaves(spec, "spec", &mut all, &|v| json!({"spec": v}));
            for (path, mut value) in all {
                value["apiVersion"] = format!("{group}/{name}").into();
                value["kind"] = kind.into();
                value["metadata"] = json!({"name": "x"});
                let (resources, reports) = read("crd", &to_yaml(&value));
                assert!(reports.is_empty(), "{kind} {path}: {reports:#?}");
                // Written back, the field is still there.
                let back = resources[0].to_value();
                let at = path
                    .replace(['[', '.'], "/")
                    .replace(']', "")
                    .replace("mirror_percent", "mirrorPercent")
                    .replace("jwks_uri", "jwksUri");
                assert!(
                    back.pointer(&format!("/{at}")).is_some() || is_zero(&value, &at),
                    "{kind} {path} is lost: {back}"
                );
                checked += 1;
            }
        }
    }
    println!("{checked} leaves");
    assert!(checked > 1000, "{checked}");
}

/// The first value of an enum is its zero, which is not written.
fn is_zero(value: &Value, at: &str) -> bool {
    value.pointer(&format!("/{at}")).is_some_and(Value::is_string)
}

#[test]
fn what_is_read_can_be_written_and_read_again() {
    let Some(corpus) = corpus() else { return };
    for folder in ["samples", "config", "seed"] {
        for file in yaml_files(&corpus.join(folder)) {
            for resource in read("f", &std::fs::read_to_string(&file).unwrap()).0 {
                let (again, reports) = read("f", &to_yaml(&resource.to_value()));
                assert_eq!(again.len(), 1, "{} {}: {reports:?}", file.display(), resource.key());
                assert_eq!((again[0].key(), again[0].hash()), (resource.key(), resource.hash()), "{}", file.display());
            }
        }
    }
}
