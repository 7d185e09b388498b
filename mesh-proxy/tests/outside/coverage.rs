//! Which fields the generated configurations set, held against docs/fields.md.

use std::collections::BTreeSet;

use serde_json::Value;

use super::explained::Recorded;

const PAGE: &str = include_str!("../../../docs/fields.md");

/// Fields in force that no configuration sets, `Kind path`, and how many there are in force.
pub(crate) fn unset(recorded: &[Recorded]) -> (Vec<String>, usize) {
    let mut set: BTreeSet<String> = BTreeSet::new();
    for doc in recorded.iter().flat_map(|r| r.config.documents()) {
        let kind = doc["kind"].as_str().unwrap_or_default();
        match doc["data"]["mesh"].as_str() {
            Some(mesh) => leaves(&mesh_core::yaml::documents(mesh).0.remove(0).value, "MeshConfig ".into(), &mut set),
            None => leaves(&doc["spec"], format!("{kind} "), &mut set),
        }
    }
    let (mut kind, mut wanted) = ("", Vec::new());
    for line in PAGE.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            kind = name;
        }
        let mut cells = line.split(" | ");
        let (field, since) = (cells.next().unwrap_or_default(), cells.next().unwrap_or("–"));
        // ProxyConfig is part of MeshConfig here, and WorkloadGroup of nothing that a proxy sees.
        if let Some(field) = field.strip_prefix("| ").filter(|_| since.starts_with('0') && kind != "ProxyConfig") {
            wanted.push(format!("{kind} {field}"));
        }
    }
    let all = wanted.len();
    wanted.retain(|field| !set.iter().any(|s| matches(field, s)));
    (wanted, all)
}

fn matches(field: &str, set: &str) -> bool {
    let (mut field, mut set) = (field.split('.'), set.split('.'));
    loop {
        match (field.next(), set.next()) {
            (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (a, b) if a == b => {}
            _ => return false,
        }
    }
}

fn leaves(value: &Value, at: String, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (name, child) in map {
                let dot = if at.ends_with(' ') { "" } else { "." };
                // A name with dots is one name.
                leaves(child, format!("{at}{dot}{}", name.replace('.', "_")), out);
            }
        }
        Value::Array(items) => items.iter().for_each(|child| leaves(child, format!("{at}[]"), out)),
        _ => drop(out.insert(at)),
    }
}
