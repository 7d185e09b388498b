//! Manifests: files of documents, each with its content as written and as the mesh reads it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use mesh_core::api::kube::ServiceSpec;
use mesh_core::api::{Key, Kind, Object, Origin, Resource, Source, Span};
use mesh_core::convert::{MESH_CONFIG_MAP, mesh_config};
use mesh_core::report::{Level, Report};
use mesh_core::validate::validate;
use mesh_core::yaml;
use serde_json::Value;

use crate::control::SourceFile;
use crate::kinds;

/// One document.
#[derive(Clone, Debug)]
pub struct Document {
    /// Identity, as far as it could be read.
    pub key: Key,
    /// Content.
    pub value: Value,
    /// Where it was written.
    pub origin: Origin,
    /// As the mesh reads it; `None`: it can't be used, the reports say why.
    pub resource: Option<Resource>,
    /// What is worth knowing about it.
    pub reports: Vec<Report>,
}

impl Document {
    /// Reads one object.
    pub fn new(value: Value, origin: Origin) -> Self {
        let mut document = Self { key: key_of(&value), value, origin, resource: None, reports: Vec::new() };
        document.refresh();
        document
    }

    /// Reads the value again after a change of it.
    pub fn refresh(&mut self) {
        match Resource::parse(self.value.clone(), self.origin.clone()) {
            Ok((resource, reports)) => {
                self.key = resource.key().clone();
                self.reports = reports;
                self.reports.extend(validate(&resource));
                self.reports.extend(settings(&resource));
                self.resource = Some(resource);
            }
            Err(reports) => {
                self.resource = None;
                self.reports = reports;
            }
        }
    }

    /// It has an error and is not in force.
    pub fn refused(&self) -> bool {
        self.resource.is_none() || self.reports.iter().any(|r| r.level == Level::Error)
    }

    /// A label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.value["metadata"]["labels"][name].as_str()
    }

    /// All labels.
    pub fn labels(&self) -> BTreeMap<String, String> {
        self.resource.as_ref().map(|r| r.meta().labels.clone()).unwrap_or_default()
    }

    /// `data` of a ConfigMap.
    pub fn config_map_data(&self) -> Option<BTreeMap<String, String>> {
        match &self.resource {
            Some(Resource::ConfigMap(o)) => Some(o.spec.data.clone()),
            _ => None,
        }
    }

    /// Content of a ConfigMap or Secret, decoded.
    pub fn data_bytes(&self) -> BTreeMap<String, Vec<u8>> {
        let secret = &*self.key.kind.kind == "Secret";
        let field = |name: &str, encoded: bool| {
            let object = self.value[name].as_object().into_iter().flatten();
            object.filter_map(move |(k, v)| {
                let text = v.as_str()?;
                let bytes = if encoded { base64(text)? } else { text.as_bytes().to_vec() };
                Some((k.clone(), bytes))
            })
        };
        field("data", secret).chain(field("binaryData", true)).chain(field("stringData", false)).collect()
    }

    /// A Service.
    pub fn service(&self) -> Option<&Arc<Object<ServiceSpec>>> {
        match &self.resource {
            Some(Resource::Service(o)) => Some(o),
            _ => None,
        }
    }
}

/// What is wrong with the mesh's settings, if it is these: the words are those of whoever brings them into force.
fn settings(resource: &Resource) -> Vec<Report> {
    match resource {
        Resource::ConfigMap(map) if (&*map.key.namespace, &*map.key.name) == MESH_CONFIG_MAP => {
            mesh_config(map).map_or_else(|errors| errors, |(_, warnings)| warnings)
        }
        _ => Vec::new(),
    }
}

/// What can be read of an object's identity without reading the object.
fn key_of(value: &Value) -> Key {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let group = text("/apiVersion").split_once('/').map_or("", |(group, _)| group);
    Key::new(Kind::new(group, text("/kind")), text("/metadata/namespace"), text("/metadata/name"))
}

/// The objects of a file. Objects that name no namespace are in the given one. A document that is no YAML is there too,
/// with a report and without content.
pub fn read(file: &SourceFile, namespace: &str) -> Vec<Document> {
    let path: Arc<str> = file.path.as_str().into();
    let (documents, errors) = yaml::documents(&file.text);
    let mut found = Vec::new();
    for document in documents {
        let source = Source::File { path: path.clone(), document: document.index };
        for (mut value, origin) in yaml::objects(document, &source) {
            set_namespace(&mut value, namespace);
            found.push(Document::new(value, origin));
        }
    }
    for error in errors {
        let source = Source::File { path: path.clone(), document: error.index };
        let origin = Origin { source, span: error.span, spans: Arc::default() };
        let key = Key::new(Kind::new("", "File"), "", &file.path);
        let mut report = mesh_core::api::codes::SYNTAX.report((&key, &origin), "", error.message);
        report.fix = error.fix;
        let value = Value::Null;
        found.push(Document { key, value, origin, resource: None, reports: vec![report] });
    }
    found.sort_by_key(|d| match d.origin.source {
        Source::File { document, .. } => document,
        _ => 0,
    });
    found
}

fn set_namespace(value: &mut Value, namespace: &str) {
    let key = key_of(value);
    if !key.namespace.is_empty() || !kinds::namespaced(&key.kind) {
        return;
    }
    if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.insert("namespace".into(), namespace.into());
    }
}

/// One YAML or JSON value.
///
/// # Errors
/// Nothing, several documents, or no YAML.
pub fn value(text: &str) -> Result<Value, String> {
    let (mut documents, errors) = yaml::documents(text);
    match (documents.pop(), errors.into_iter().next()) {
        (_, Some(e)) => Err(format!("line {}: {}", e.span.line, e.message)),
        (Some(one), None) if documents.is_empty() => Ok(one.value),
        (Some(_), None) => Err("there are several documents; write one".into()),
        (None, None) => Err("it is empty".into()),
    }
}

/// An object that no file holds.
pub fn live(value: Value) -> Document {
    Document::new(value, Origin { source: Source::Live, span: Span::default(), spans: Arc::default() })
}

/// The manifests that paths name: files as they are, directories with their `.yaml`, `.yml` and `.json` files in the order
/// of their names, `-` for standard input.
///
/// # Errors
/// A path can't be read; the text names it.
pub fn load(paths: &[String]) -> Result<Vec<SourceFile>, String> {
    let mut files = Vec::new();
    for path in paths {
        if path == "-" {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map_err(|e| format!("standard input: {e}"))?;
            files.push(SourceFile { path: path.clone(), text });
        } else {
            load_path(Path::new(path), true, &mut files).map_err(|(p, e)| format!("{p}: {e}"))?;
        }
    }
    Ok(files)
}

fn load_path(path: &Path, named: bool, files: &mut Vec<SourceFile>) -> Result<(), (String, String)> {
    let text = || path.to_string_lossy().into_owned();
    let fail = |e: io::Error| (text(), e.to_string());
    if fs::metadata(path).map_err(fail)?.is_dir() {
        let mut entries = fs::read_dir(path).map_err(fail)?.collect::<Result<Vec<_>, _>>().map_err(fail)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        let before = files.len();
        for entry in entries {
            load_path(&entry.path(), false, files)?;
        }
        if named && files.len() == before {
            return Err((text(), "the directory has no .yaml, .yml or .json file".into()));
        }
        return Ok(());
    }
    let manifest = path.extension().is_some_and(|e| ["yaml", "yml", "json"].iter().any(|m| e == *m));
    if named || manifest {
        files.push(SourceFile { path: text(), text: fs::read_to_string(path).map_err(fail)? });
    }
    Ok(())
}

/// Standard base64 with or without padding; white space is skipped.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0u32);
    for c in text.bytes().filter(|c| !c.is_ascii_whitespace() && *c != b'=') {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests;
