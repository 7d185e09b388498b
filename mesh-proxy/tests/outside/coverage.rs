//! Which fields the generated configurations set, held against docs/fields.md.

use std::collections::BTreeSet;

use serde_json::Value;

use super::explained::Recorded;

const PAGE: &str = include_str!("../../../docs/fields.md");

/// Fields in force that the configurations don't set, with the reason.
const NOT_SET: [(&str, &str); 0] = [];

/// Fields in force, and what is wrong with the configurations.
#[derive(Debug)]
pub(crate) struct Coverage {
    pub(crate) in_force: usize,
    /// No configuration sets them, and no reason says why.
    pub(crate) missing: Vec<String>,
    /// They have a reason, but are set, or not in force.
    pub(crate) set_after_all: Vec<&'static str>,
}

impl Coverage {
    pub(crate) fn of(recorded: &[Recorded]) -> Self {
        let set = set(recorded);
        let wanted = in_force();
        let is_set = |field: &str| set.iter().any(|s| matches(field, s));
        let excused = |field: &str| NOT_SET.iter().any(|(f, _)| *f == field);
        let missing = wanted.iter().filter(|f| !is_set(f) && !excused(f)).cloned().collect();
        let needless = |f: &&str| is_set(f) || !wanted.iter().any(|w| w == f);
        let set_after_all = NOT_SET.iter().map(|(f, _)| *f).filter(needless).collect();
        Self { in_force: wanted.len(), missing, set_after_all }
    }

    /// For people.
    pub(crate) fn words(&self) -> String {
        let reasons: String = NOT_SET.iter().map(|(field, why)| format!("\n  {field}: {why}")).collect();
        let set = self.in_force - NOT_SET.len() - self.missing.len();
        let not = if reasons.is_empty() { "" } else { "; not:" };
        format!("{set} of {} fields in force are set{not}{reasons}", self.in_force)
    }
}

/// Fields that some configuration sets, `Kind path`.
fn set(recorded: &[Recorded]) -> BTreeSet<String> {
    let mut set = BTreeSet::new();
    let mut of_text = |kind: &str, text: &Value| {
        let documents = text.as_str().map(|text| mesh_core::yaml::documents(text).0);
        for document in documents.into_iter().flatten() {
            leaves(&document.value, format!("{kind} "), &mut set);
        }
    };
    let documents: Vec<Value> = recorded.iter().flat_map(|r| r.config.documents()).collect();
    for doc in &documents {
        of_text("MeshConfig", &doc["data"]["mesh"]);
        of_text("ProxyConfig", &doc["metadata"]["annotations"]["proxy.istio.io/config"]);
    }
    for doc in &documents {
        leaves(&doc["spec"], format!("{} ", doc["kind"].as_str().unwrap_or_default()), &mut set);
    }
    set
}

/// What docs/fields.md shows to be in force: by a mutation, by the account, or because something overrides it.
fn in_force() -> Vec<String> {
    let (mut kind, mut wanted) = ("", Vec::new());
    for line in PAGE.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            kind = name;
        }
        let mut cells = line.trim_end_matches(" |").split(" | ");
        let [Some(field), Some(since), Some(fate)] = [cells.next(), cells.next(), cells.next()] else { continue };
        if let Some(field) = field.strip_prefix("| ").filter(|_| since.starts_with('0') || fate == "can be overridden")
        {
            wanted.push(format!("{kind} {field}"));
        }
    }
    wanted
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
        Value::Object(map) if map.is_empty() => drop(out.insert(at)),
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
