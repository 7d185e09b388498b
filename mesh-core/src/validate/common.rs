//! Rules that several kinds share: names, hosts, ports, durations, labels, visibility, destinations.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::net::IpAddr;

use super::Check;
use crate::api::{Destination, Duration, LabelSelector, Percent, PolicyTargetReference, PortSelector};
use crate::matching::Cidr;
use crate::yaml::{child, item};

/// A DNS label as Istio checks it: letters of either case, digits and inner dashes, at most 63.
pub(super) fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63 && edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|b| inner(*b))
}

fn domain_labels(name: &str, labels: &[&str]) -> Result<(), String> {
    let count = labels.len();
    for (i, label) in labels.iter().enumerate() {
        // A final dot is allowed.
        if label.is_empty() && i + 1 == count && i > 0 {
            continue;
        }
        if !is_label(label) {
            return Err(format!("domain name {name:?} invalid (label {label:?} invalid)"));
        }
    }
    let last = labels.iter().rev().find(|l| !l.is_empty()).copied().unwrap_or_default();
    if !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("domain name {name:?} invalid (top level domain {last:?} cannot be all-numeric)"));
    }
    Ok(())
}

fn domain_length(name: &str) -> Result<(), String> {
    match name.len() {
        0 => Err("empty domain name not allowed".to_owned()),
        1..=255 => Ok(()),
        _ => Err(format!("domain name {name:?} too long (max 255)")),
    }
}

/// A fully qualified name without wildcard.
pub(super) fn fqdn(name: &str) -> Result<(), String> {
    domain_length(name)?;
    domain_labels(name, &name.split('.').collect::<Vec<_>>())
}

/// A name whose first label may be `*` or begin with `*`.
pub(super) fn wildcard_domain(name: &str) -> Result<(), String> {
    domain_length(name)?;
    if name == "*" {
        return Ok(());
    }
    let (first, rest) = name.split_once('.').map_or((name, None), |(first, rest)| (first, Some(rest)));
    let Some(after) = first.strip_prefix('*') else {
        return fqdn(name);
    };
    if !after.is_empty() && !is_label(after.strip_prefix('-').unwrap_or(after)) {
        return Err(format!("domain name {name:?} invalid (label {first:?} invalid)"));
    }
    rest.map_or(Ok(()), |rest| domain_labels(name, &rest.split('.').collect::<Vec<_>>()))
}

/// `*` and `*.suffix` are the only wildcards that mean the same everywhere.
pub(super) fn is_partial_wildcard(name: &str) -> bool {
    name.len() > 1 && name.starts_with('*') && !name.starts_with("*.")
}

pub(super) fn port(number: u32) -> Result<(), String> {
    match number {
        1..=65535 => Ok(()),
        _ => Err(format!("port number {number} must be in the range 1..65535")),
    }
}

/// An address, or a range of addresses.
pub(super) fn subnet(text: &str) -> Result<(), String> {
    if text.parse::<IpAddr>().is_ok() || (text.contains('/') && Cidr::parse(text).is_ok()) {
        return Ok(());
    }
    Err(format!("{text} is not a valid IP address or CIDR block"))
}

/// A duration of at least a millisecond, in whole milliseconds.
pub(super) fn duration(check: &mut Check<'_>, field: &str, value: Option<Duration>) {
    let Some(Duration(d)) = value else {
        return;
    };
    if d.as_millis() == 0 {
        check.error(field, format!("{field}: Invalid value: {}: duration must be greater than 1ms", Duration(d)));
    } else if d.subsec_nanos() % 1_000_000 != 0 {
        check.error(field, "only durations to ms precision are supported");
    }
}

/// 0 or at least a millionth part.
pub(super) fn percent(check: &mut Check<'_>, field: &str, value: Option<Percent>) {
    if let Some(Percent { value }) = value
        && value != 0.0
        && !(0.0001..=100.0).contains(&value)
    {
        check.error(field, format!("percentage {value} is neither 0.0, nor in range [0.0001, 100.0]"));
    }
}

pub(super) fn not_negative(check: &mut Check<'_>, field: &str, what: &str, value: i32) {
    if value < 0 {
        check.error(field, format!("{what} must be positive, but is {value}"));
    }
}

/// Keys and values of labels as Kubernetes has them.
pub(super) fn labels(check: &mut Check<'_>, field: &str, labels: &BTreeMap<String, String>) {
    for (key, value) in labels {
        let path = child(field, key);
        let (prefix, name) = key.rsplit_once('/').map_or((None, key.as_str()), |(prefix, name)| (Some(prefix), name));
        if key.is_empty() {
            check.error(&path, "key must not be empty");
        } else if !is_label_text(name) || name.is_empty() || prefix.is_some_and(|p| fqdn(p).is_err()) {
            check.error(&path, format!("invalid tag key: {key:?}"));
        }
        if !is_label_text(value) {
            check.error(&path, format!("invalid tag value: {value:?}"));
        }
    }
}

/// Letters, digits, and inside `-`, `_` and `.`; at most 63; may be empty.
fn is_label_text(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.iter().all(|b| inner(*b))
        && bytes.first().is_none_or(u8::is_ascii_alphanumeric)
        && bytes.last().is_none_or(u8::is_ascii_alphanumeric)
}

/// A selector has no wildcards and short values.
pub(super) fn selector(check: &mut Check<'_>, field: &str, labels: &BTreeMap<String, String>, wildcard: [&str; 2]) {
    for (key, value) in labels {
        let path = child(field, key);
        if key.is_empty() {
            check.error(&path, "key must not be empty");
        }
        if key.contains('*') {
            check.error(&path, format!("{field}: Invalid value: {key}: {}", wildcard[0]));
        }
        if value.contains('*') {
            check.error(&path, format!("{field}: Invalid value: {value}: {}", wildcard[1]));
        }
        if value.len() > 63 {
            check.invalid(&path, value, "may not be longer than 63");
        }
    }
}

/// The rules of `exportTo`; `service_entry` also allows `~`.
pub(super) fn export_to(check: &mut Check<'_>, values: &[String], namespace: &str, service_entry: bool) {
    let field = "spec.exportTo";
    let mut seen = HashSet::new();
    for (i, value) in values.iter().enumerate() {
        let path = item(field, i);
        if !seen.insert(value.as_str()) {
            check.error(&path, format!("duplicate entries in exportTo for entry {value}"));
            continue;
        }
        match value.as_str() {
            "*" | "." => {}
            "~" if service_entry => {}
            name if is_label(name) => {}
            _ => check.error(&path, format!("exportTo entry {value:?} must be *, . or the name of a namespace")),
        }
    }
    let has = |v: &str| seen.contains(v);
    if has(".") && has(namespace) {
        check.error(field, format!("duplicate entries in exportTo: entries {namespace} and ."));
    }
    if has("*") && seen.len() > 1 {
        check.error(field, "cannot have both public (*) and non-public exportTo values for a resource");
    }
    if has("~") && seen.len() > 1 {
        check.error(field, "cannot export service entry to no one (~) and someone");
    }
}

/// A destination's host, subset and port.
pub(super) fn destination(check: &mut Check<'_>, field: &str, value: &Option<Destination>) {
    let Some(Destination { host, subset, port }) = value else {
        return check.required(field);
    };
    let path = child(field, "host");
    match host.as_str() {
        "" => check.required(&path),
        "*" => check.error(&path, format!("invalid destination host {host}")),
        _ => check.ok(&path, wildcard_domain(host)),
    }
    if !subset.is_empty() && !is_label(subset) {
        check.error(&child(field, "subset"), format!("subset name is invalid: {subset:?}"));
    }
    port_selector(check, &child(field, "port"), port.as_ref());
}

pub(super) fn port_selector(check: &mut Check<'_>, field: &str, value: Option<&PortSelector>) {
    if let Some(PortSelector { number }) = value {
        check.ok(&child(field, "number"), port(*number));
    }
}

/// Weights of destinations: none below zero, and a sum if there are several.
pub(super) fn weights(check: &mut Check<'_>, field: &str, weights: &[i32]) {
    for (i, weight) in weights.iter().enumerate() {
        if *weight < 0 {
            check.error(&child(&item(field, i), "weight"), format!("weight {weight} < 0"));
        }
    }
    let total: i64 = weights.iter().map(|w| i64::from(*w)).sum();
    if weights.len() > 1 && total == 0 {
        check.error_fix(field, "total destination weight = 0", "give the destinations weights");
    }
}

/// The selector of a security policy.
pub(super) fn policy_selector(check: &mut Check<'_>, value: Option<&LabelSelector>) {
    if let Some(LabelSelector { match_labels }) = value {
        let wildcard = ["wildcard not allowed in label key match", "wildcard not allowed in label value match"];
        selector(check, "spec.selector.matchLabels", match_labels, wildcard);
    }
}

/// Most `targetRefs` of a policy.
const MAX_TARGETS: usize = 16;

/// What a security policy is attached to: a selector or targets.
pub(super) fn attachment(
    check: &mut Check<'_>,
    selector: Option<&LabelSelector>,
    target: Option<&PolicyTargetReference>,
    targets: &[PolicyTargetReference],
) {
    let given = [selector.is_some(), target.is_some(), !targets.is_empty()];
    if given.iter().filter(|g| **g).count() > 1 {
        check.error_fix("spec", "only one of targetRefs or selector can be set", "make two objects of it");
    }
    policy_selector(check, selector);
    if targets.len() > MAX_TARGETS {
        check.error("spec.targetRefs", format!("spec.targetRefs in body should have at most {MAX_TARGETS} items"));
    }
    if let Some(target) = target {
        target_reference(check, "spec.targetRef", target);
    }
    for (i, target) in targets.iter().enumerate() {
        target_reference(check, &item("spec.targetRefs", i), target);
    }
}

fn target_reference(check: &mut Check<'_>, at: &str, target: &PolicyTargetReference) {
    let PolicyTargetReference { group, kind, name, namespace } = target;
    let labels = |text: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        text.split('.').all(|l| is_label(l) && l.bytes().all(inner))
    };
    let field = child(at, "group");
    if !group.is_empty() && (!labels(group) || group.len() > 253) {
        let pattern = "^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
        check.error(&field, format!("{field} in body should match '{pattern}'"));
    }
    let field = child(at, "kind");
    check.text(&field, kind);
    let is_name = is_label(kind) && kind.starts_with(|c: char| c.is_ascii_alphabetic());
    if !(kind.is_empty() || is_name) {
        check.error(&field, format!("{field} in body should match '^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$'"));
    }
    check.text(&child(at, "name"), name);
    let supported = [
        ("", "Service"),
        ("networking.istio.io", "ServiceEntry"),
        ("gateway.networking.k8s.io", "Gateway"),
        ("gateway.networking.k8s.io", "GatewayClass"),
    ];
    if !kind.is_empty() && !name.is_empty() && !supported.contains(&(group.as_str(), kind.as_str())) {
        let known = "Service, ServiceEntry, Gateway, GatewayClass";
        check.warn(
            at,
            format!("a policy can't be attached to {kind:?} of group {group:?}; it has no effect (known are {known})"),
        );
    }
    if !namespace.is_empty() {
        let field = child(at, "namespace");
        check.error_fix(&field, "cross namespace referencing is not currently supported", "leave namespace out");
    }
}
