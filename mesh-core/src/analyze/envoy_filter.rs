//! EnvoyFilters: operations that have no effect, or another one than it seems. No proxy of ours reads the kind; it is
//! checked for those who bring it along.

use serde_json::Value;

use super::index::Index;
use super::messages::{ADDED_IN_VAIN, RELATIVE, RELATIVE_VERSION, REMOVED_IN_VAIN, REPLACED_IN_VAIN};
use crate::report::Report;

const RELATIVE_TEXT: &str = "This EnvoyFilter does not have a priority and has a relative patch operation set which can cause the EnvoyFilter not to be applied. Using the INSERT_FIRST of ADD option or setting the priority may help in ensuring the EnvoyFilter is applied correctly.";
const RELATIVE_VERSION_TEXT: &str = "This EnvoyFilter does not have a priority and has a relative patch operation (NSTERT_BEFORE/AFTER, REPLACE, MERGE, DELETE) and proxyVersion set which can cause the EnvoyFilter not to be applied during an upgrade. Using the INSERT_FIRST or ADD option or setting the priority may help in ensuring the EnvoyFilter is applied correctly.";
const REPLACE_TEXT: &str = "The REPLACE operation is only valid for HTTP_FILTER and NETWORK_FILTER.";
const ADD_TEXT: &str = "The ADD operation will be ignored when applyTo is set to ROUTE_CONFIGURATION, or HTTP_ROUTE.";
const REMOVE_TEXT: &str =
    "The REMOVE operation will be ignored when applyTo is set to ROUTE_CONFIGURATION, or HTTP_ROUTE.";

/// Operations of all patches.
pub(super) fn patches(index: &Index<'_>) -> Vec<Report> {
    let mut found: Vec<Report> = Vec::new();
    // Names that earlier patches, of any object, gave for some versions of the proxy only.
    let mut versioned: Vec<&str> = Vec::new();
    for o in index.documents("EnvoyFilter") {
        let text =
            |v: &'_ Value, pointer: &str| v.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let has_priority = o.spec.pointer("/spec/priority").and_then(Value::as_i64).is_some_and(|p| p != 0);
        let patches = o.spec.pointer("/spec/configPatches").and_then(Value::as_array).into_iter().flatten();
        let mut own: Vec<Report> = Vec::new();
        for (i, p) in patches.enumerate() {
            let Some(patch) = p.get("patch").filter(|v| !v.is_null()) else { break };
            let (to, name) = (text(p, "/applyTo"), filter_name(p, patch));
            let routes = matches!(&*to, "ROUTE_CONFIGURATION" | "HTTP_ROUTE");
            let filters = matches!(&*to, "HTTP_FILTER" | "NETWORK_FILTER" | "VIRTUAL_HOST");
            let relative = match versioned.contains(&name) {
                _ if has_priority => None,
                true => Some((RELATIVE_VERSION, RELATIVE_VERSION_TEXT, "write priority: 10, for example")),
                false => Some((RELATIVE, RELATIVE_TEXT, "write priority: 10, for example")),
            };
            let said = match (&*text(patch, "/operation"), routes) {
                ("ADD", true) => Some((ADDED_IN_VAIN, ADD_TEXT, "write operation: INSERT_FIRST or MERGE")),
                ("REMOVE", true) => Some((REMOVED_IN_VAIN, REMOVE_TEXT, "remove what made the route instead")),
                ("REPLACE", _) if !filters => Some((REPLACED_IN_VAIN, REPLACE_TEXT, "write operation: MERGE")),
                ("REMOVE" | "REPLACE" | "INSERT_BEFORE" | "INSERT_AFTER", _) => relative,
                _ => None,
            };
            if let Some((code, message, fix)) = said {
                let field = format!("spec.configPatches[{i}]");
                own.push(code.report((&o.key, &o.origin), &field, message).fix(fix));
            }
            if !text(p, "/match/proxy/proxyVersion").is_empty() {
                versioned.push(name);
            }
        }
        // Once an object and code is enough.
        own.sort_by(|a, b| (&a.code, a.span).cmp(&(&b.code, b.span)));
        own.dedup_by(|a, b| a.code == b.code);
        found.extend(own);
    }
    found
}

/// What a patch is known by: the name in its value, else the filter that it looks for.
fn filter_name<'v>(p: &'v Value, patch: &'v Value) -> &'v str {
    let Some(value) = patch.get("value").filter(|v| v.is_object()) else { return "" };
    let own = value.get("name").and_then(Value::as_str);
    own.or_else(|| p.pointer("/match/listener/filterChain/filter/name")?.as_str()).unwrap_or_default()
}
