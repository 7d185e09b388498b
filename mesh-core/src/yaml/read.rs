//! From text to resources, and to the mesh's settings.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Document, documents, each_document, item};
use crate::api::decode::{camel, decode};
use crate::api::{Key, Kind, MeshConfig, Object, Origin, Resource, Source, Span, codes, kube};
use crate::report::Report;

/// Reads every object of a file. What can't be read is an error report; the rest is returned.
pub fn read(file_name: &str, text: &str) -> (Vec<Resource>, Vec<Report>) {
    let path: Arc<str> = file_name.into();
    let (mut resources, mut unread, mut reports) = (Vec::new(), Vec::new(), Vec::new());
    let file = Key::new(Kind::new("", "File"), "", file_name);
    each_document(text, |document| match document {
        Ok(document) => {
            let source = Source::File { path: path.clone(), document: document.index };
            for (value, origin) in objects(document, &source) {
                match Resource::parse(value, origin) {
                    Ok((resource, more)) => {
                        resources.push(resource);
                        reports.extend(more);
                    }
                    Err(more) => reports.extend(more),
                }
            }
        }
        Err(error) => {
            let source = Source::File { path: path.clone(), document: error.index };
            let origin = Origin { source, span: error.span, spans: Arc::default() };
            let mut report = codes::SYNTAX.report((&file, &origin), "", error.message);
            report.fix = error.fix;
            unread.push(report);
        }
    });
    unread.extend(reports);
    (resources, unread)
}

/// The objects of a document: itself, or the items of a list.
pub fn objects(document: Document, source: &Source) -> Vec<(Value, Origin)> {
    let Document { mut value, spans, span, .. } = document;
    let is_list = value["kind"].as_str().is_some_and(|k| k.ends_with("List")) && value["items"].is_array();
    let items = match value.get_mut("items") {
        Some(Value::Array(items)) if is_list => std::mem::take(items),
        _ => return vec![(value, Origin { source: source.clone(), span, spans })],
    };
    let one = |(i, value): (usize, Value)| {
        let prefix = item("items", i);
        let of_item = spans.iter().filter_map(|(path, span)| {
            let rest = path.strip_prefix(&*prefix)?;
            let rest = rest.strip_prefix('.').or_else(|| rest.starts_with('[').then_some(rest))?;
            Some((rest, span))
        });
        let origin = Origin {
            source: source.clone(),
            span: spans.get(&prefix).unwrap_or(span),
            spans: Arc::new(of_item.collect()),
        };
        (value, origin)
    };
    items.into_iter().enumerate().map(one).collect()
}

/// The mesh's settings from key `mesh` of a ConfigMap, merged into Istio's defaults: what is written replaces the
/// default, except that `defaultConfig` is merged field by field and `extensionProviders` by name. The field paths of
/// reports begin with `data.mesh`.
///
/// # Errors
/// The text is no YAML or has fields of the wrong type; it must then be refused as a whole.
pub fn mesh_config(map: &Object<kube::ConfigMap>) -> Result<(MeshConfig, Vec<Report>), Vec<Report>> {
    const BASE: &str = "data.mesh";
    let Some(text) = map.spec.data.get("mesh") else {
        let message = "the ConfigMap has no key mesh; the mesh's defaults are in force";
        return Err(vec![codes::SCHEMA.report((&map.key, &map.origin), "data", message)]);
    };
    // The text of a block scalar begins on the line after its key.
    let at = map.origin.at(BASE);
    let place = |inner: Span| Span { line: if at.line == 0 { 0 } else { at.line + inner.line }, column: inner.column };
    let (documents, errors) = documents(text);
    if let Some(error) = errors.into_iter().next() {
        let origin = Origin { span: place(error.span), spans: Arc::default(), ..map.origin.clone() };
        let mut report = codes::SCHEMA.report((&map.key, &origin), BASE, error.message);
        report.fix = error.fix;
        return Err(vec![report]);
    }
    let Some(document) = documents.into_iter().next() else {
        return Ok((MeshConfig::istio_default(), Vec::new()));
    };
    let inner = document.spans.iter().map(|(path, span)| {
        let joined = if path.starts_with('[') { format!("{BASE}{path}") } else { format!("{BASE}.{path}") };
        (joined, place(span))
    });
    let outer = map.origin.spans.iter().map(|(path, span)| (path.to_owned(), span));
    let origin = Origin { spans: Arc::new(outer.chain(inner).collect()), ..map.origin.clone() };
    let subject = (&map.key, &origin);
    let wrong = |e: crate::api::decode::DecodeError| {
        vec![codes::SCHEMA.report(subject, &e.path, format!("{} {}", e.path, e.message))]
    };
    let (written, unknown) = decode::<MeshConfig>(&document.value, BASE, true);
    written.map_err(wrong)?;
    let reports = unknown
        .into_iter()
        .map(|u| codes::UNKNOWN.report(subject, &u.path, format!("unknown field {} is ignored by Istio", u.path)));
    let merged = merge_settings(document.value);
    let config = decode::<MeshConfig>(&merged, BASE, true).0.map_err(wrong)?;
    Ok((config, reports.collect()))
}

fn merge_settings(written: Value) -> Value {
    let defaults = serde_json::to_value(MeshConfig::istio_default());
    let Value::Object(mut merged) = defaults.expect("invariant: the defaults serialize") else {
        return written;
    };
    let Value::Object(written) = json_names(written) else {
        return Value::Object(merged);
    };
    for (key, value) in written {
        match (key.as_str(), merged.get_mut(&key)) {
            (_, _) if value.is_null() => {}
            ("defaultConfig", Some(base)) => merge(base, value),
            ("extensionProviders", Some(Value::Array(base))) => {
                for provider in value.as_array().into_iter().flatten() {
                    base.retain(|b| b["name"] != provider["name"]);
                    base.push(provider.clone());
                }
            }
            _ => {
                merged.insert(key, value);
            }
        }
    }
    Value::Object(merged)
}

/// Field names in their JSON form; the keys of free maps stay.
fn json_names(value: Value) -> Value {
    let Value::Object(map) = value else {
        return value;
    };
    let rename = |(key, value): (String, Value)| match key.as_str() {
        "proxyMetadata" | "proxy_metadata" | "runtimeValues" | "runtime_values" => (camel(&key), value),
        _ => (camel(&key), json_names(value)),
    };
    Value::Object(map.into_iter().map(rename).collect::<Map<_, _>>())
}

/// Merges settings as written over others, field by field.
pub(crate) fn merge_settings_into(base: &mut Value, over: Value) {
    merge(base, json_names(over));
}

fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (base, over) => *base = over,
    }
}
