//! What others get to see of the libraries names the types of few other crates, so that an upgrade of ours is none of theirs.
//!
//! ```text
//! public-api target/doc/mesh_core.json …
//! ```
//!
//! Reads what rustdoc writes as JSON, and looks at everything public that can be named: signatures, fields, bounds,
//! re-exports, and implementations of others' traits. Ends with 1 when a type of another crate is among them.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that says what it found")]
#![allow(clippy::disallowed_methods, reason = "a program of its own")]

use std::collections::BTreeSet;
use std::error::Error;
use std::process::ExitCode;

use serde::Deserialize;
use serde_json::Value;

/// Whose types may be anywhere. `serde` is three crates: claims of tokens and documents are JSON.
const ALLOWED: [&str; 19] = [
    "alloc",
    "bytes",
    "core",
    "http",
    "http_body",
    "hyper",
    "mesh_core",
    "mesh_policy",
    "mesh_proxy",
    "mesh_tls",
    "rustls_pki_types",
    "serde",
    "serde_core",
    "serde_json",
    "std",
    "tokio",
    "tower",
    "tower_layer",
    "tower_service",
];

/// Other crates' types in some places: the crate, where, and why.
const EXCEPTIONS: [(&str, &str, &str); 7] = [
    ("pin_project_lite", "mesh_", "what its macro writes into `Unpin`; nobody can name it"),
    ("foldhash", "mesh_core::snapshot::Map", "the hasher of the plan's maps, named by nobody"),
    ("schemars", "mesh_core::api", "JSON schemas of the resources, behind the feature `schema`"),
    ("clap_builder", "mesh_proxy::run", "the command line of our programs, behind the feature `bin`"),
    ("hyper_util", "mesh_proxy::MeshStream", "lets hyper-util's client keep our connections"),
    ("prost", "mesh_proxy::", "messages of the two protocols between proxies and the control plane"),
    ("tonic", "mesh_proxy::", "the same protocols' transport"),
];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let (mut found, mut files) = (BTreeSet::new(), 0);
    for file in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&file).map_err(|e| format!("{file}: {e}"))?;
        let mut reader = serde_json::Deserializer::from_str(&text);
        reader.disable_recursion_limit(); // of 128: stacks are nested types
        let docs = Value::deserialize(&mut reader).map_err(|e| format!("{file}: {e}"))?;
        let mut looking = Looking { docs: &docs, seen: BTreeSet::new(), found: &mut found };
        looking.item(&docs["root"], "");
        if looking.seen.len() < 10 {
            return Err(format!("{file}: not the form of JSON that this program reads").into());
        }
        files += 1;
    }
    let unused =
        EXCEPTIONS.iter().filter(|(krate, at, _)| !found.iter().any(|f| f.krate == *krate && f.at.starts_with(at)));
    let wrong: Vec<_> = found.iter().filter(|f| !f.is_excepted()).collect();
    wrong.iter().for_each(|Foreign { name, at, .. }| eprintln!("{at}: the type {name} of another crate"));
    let unused: Vec<_> = unused.collect();
    unused.iter().for_each(|(krate, at, _)| eprintln!("{krate} in {at} is an exception that nothing needs any more"));
    println!("{files} libraries, {} foreign types outside the list, {} exceptions", wrong.len(), EXCEPTIONS.len());
    Ok(if wrong.is_empty() && unused.is_empty() && files > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A type of another crate in a public place.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Foreign {
    krate: String,
    name: String,
    at: String,
}

impl Foreign {
    fn is_excepted(&self) -> bool {
        EXCEPTIONS.iter().any(|(krate, at, _)| self.krate == *krate && self.at.starts_with(at))
    }
}

/// Through one library.
struct Looking<'a> {
    docs: &'a Value,
    seen: BTreeSet<String>,
    found: &'a mut BTreeSet<Foreign>,
}

impl<'a> Looking<'a> {
    fn item(&mut self, id: &Value, parent: &str) {
        let item = &self.docs["index"][id.to_string()];
        let public = item["visibility"] == "public" || item["visibility"] == "default";
        if !public || !self.seen.insert(id.to_string()) {
            return;
        }
        let Some((kind, inner)) = item["inner"].as_object().and_then(|o| o.iter().next()) else { return };
        let name = item["name"].as_str().unwrap_or(kind);
        let at = if parent.is_empty() { name.to_owned() } else { format!("{parent}::{name}") };
        match kind.as_str() {
            "module" => self.items(&inner["items"], &at),
            "use" if self.docs["index"].get(inner["id"].to_string()).is_some() => self.item(&inner["id"], parent),
            "use" => self.named(&inner["id"], &at),
            "struct" | "enum" | "union" | "variant" | "trait" => {
                self.types(&inner["generics"], &at);
                self.types(&inner["bounds"], &at);
                let parts =
                    [&inner["kind"]["plain"]["fields"], &inner["kind"]["tuple"], &inner["kind"]["struct"]["fields"]];
                let lists = parts.into_iter().chain([&inner["fields"], &inner["variants"], &inner["items"]]);
                lists.for_each(|list| self.items(list, &at));
                self.implementations(&inner["impls"], &at);
            }
            _ => self.types(inner, &at),
        }
    }

    fn items(&mut self, list: &Value, at: &str) {
        list.as_array().into_iter().flatten().for_each(|id| self.item(id, at));
    }

    fn implementations(&mut self, list: &'a Value, at: &str) {
        for id in list.as_array().into_iter().flatten() {
            let body = &self.docs["index"][id.to_string()]["inner"]["impl"];
            // What holds for every type says nothing of this one.
            if body["is_synthetic"] == false && body["blanket_impl"].is_null() {
                self.types(&body["trait"], at);
                self.types(&body["generics"], at);
                self.items(&body["items"], at);
            }
        }
    }

    /// All types and traits that are named somewhere in a signature.
    fn types(&mut self, signature: &Value, at: &str) {
        match signature {
            Value::Object(parts) => {
                if let (Some(id), Some(_), Some(_)) = (parts.get("id"), parts.get("path"), parts.get("args")) {
                    self.named(id, at);
                }
                parts.values().for_each(|part| self.types(part, at));
            }
            Value::Array(parts) => parts.iter().for_each(|part| self.types(part, at)),
            _ => {}
        }
    }

    fn named(&mut self, id: &Value, at: &str) {
        let of = &self.docs["paths"][id.to_string()];
        let Some(path) = of["path"].as_array() else { return };
        let krate = self.docs["external_crates"][of["crate_id"].to_string()]["name"].as_str().unwrap_or_default();
        // Without a name it is the library itself.
        if !krate.is_empty() && !ALLOWED.contains(&krate) {
            let name = path.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("::");
            self.found.insert(Foreign { krate: krate.to_owned(), name, at: at.to_owned() });
        }
    }
}
