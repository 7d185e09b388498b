//! What is wrong with who may do what.

use serde_json::{Value, json};

use super::{Mutant, every, leave_out, rename, set, settings};

pub(super) const MUTANTS: [Mutant; 30] = [
    ("DENY is not looked at", |d| acts(d, "DENY", "AUDIT")),
    ("ALLOW is not looked at", |d| allows(d, |d| d["spec"]["action"] = json!("AUDIT"))),
    ("ALLOW without rules allows everything", |d| allows(d, without_rules)),
    ("authorizers are not asked", |d| acts(d, "CUSTOM", "AUDIT")),
    ("AUDIT refuses", |d| acts(d, "AUDIT", "DENY")),
    ("what is only tried is enforced", |d| leave_out(&mut d["metadata"], "annotations")),
    ("of two rules the first counts", |d| of(d, "AuthorizationPolicy", |d| first_only(&mut d["spec"], "rules"))),
    ("nobody is looked at", |d| authorization(d, "from")),
    ("nothing that is wanted is looked at", |d| authorization(d, "to")),
    ("conditions are not looked at", |d| authorization(d, "when")),
    ("what is negated is not looked at", |d| of(d, "AuthorizationPolicy", |d| every(d, &without_negated))),
    ("notValues are values", |d| every(d, &|o| rename(o, "notValues", "values"))),
    ("principals are not looked at", |d| authorization(d, "principals")),
    ("namespaces are not looked at", |d| authorization(d, "namespaces")),
    ("every user is welcome", |d| every(d, &|o| set(o, "requestPrincipals", json!(["*"])))),
    ("peers are clients", |d| every(d, &|o| rename(o, "ipBlocks", "remoteIpBlocks"))),
    ("clients are peers", |d| every(d, &|o| rename(o, "remoteIpBlocks", "ipBlocks"))),
    ("methods are not looked at", |d| authorization(d, "methods")),
    ("policies select everybody", |d| of(d, "AuthorizationPolicy", |d| leave_out(&mut d["spec"], "selector"))),
    ("policies of the root namespace are its own", |d| moved(d, "istio-system", "back")),
    ("policies of a namespace are another's", |d| moved(d, "shop", "back")),
    ("STRICT takes plaintext", |d| modes(d, "STRICT", "PERMISSIVE")),
    ("PERMISSIVE takes no plaintext", |d| modes(d, "PERMISSIVE", "STRICT")),
    ("nothing is DISABLEd", |d| modes(d, "DISABLE", "PERMISSIVE")),
    ("ports have no mode of their own", |d| {
        of(d, "PeerAuthentication", |d| leave_out(&mut d["spec"], "portLevelMtls"))
    }),
    ("audiences are not compared", |d| tokens(d, "audiences")),
    ("issuers are not compared", |d| {
        of(d, "RequestAuthentication", |d| every(d, &|o| set(o, "issuer", json!("issuer-x"))))
    }),
    ("tokens stay", |d| of(d, "RequestAuthentication", |d| every(d, &forwarded))),
    ("claims don't become headers", |d| tokens(d, "outputClaimToHeaders")),
    ("other names of the trust domain are strangers'", |d| settings(d, "trustDomainAliases", json!([]))),
];

/// Does something to objects of a kind.
fn of(doc: &mut Value, kind: &str, change: impl FnOnce(&mut Value)) {
    if doc["kind"] == kind {
        change(doc);
    }
}

fn acts(doc: &mut Value, from: &str, to: &str) {
    of(doc, "AuthorizationPolicy", |d| {
        if d["spec"]["action"] == from {
            d["spec"]["action"] = json!(to);
            leave_out(&mut d["spec"], "provider");
        }
    });
}

fn allows(doc: &mut Value, change: impl FnOnce(&mut Value)) {
    of(doc, "AuthorizationPolicy", |d| {
        if d["spec"].get("action").is_none_or(|a| a == "ALLOW") {
            change(d);
        }
    });
}

fn without_rules(doc: &mut Value) {
    if doc["spec"].get("rules").is_none() {
        doc["spec"]["rules"] = json!([{}]);
    }
}

fn first_only(object: &mut Value, name: &str) {
    if let Some(list) = object.get_mut(name).and_then(Value::as_array_mut) {
        list.truncate(1);
    }
}

fn without_negated(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        map.retain(|name, _| !name.starts_with("not"));
    }
}

/// Leaves something out of AuthorizationPolicies.
fn authorization(doc: &mut Value, name: &str) {
    of(doc, "AuthorizationPolicy", |d| every(&mut d["spec"], &|o| leave_out(o, name)));
}

/// Leaves something out of RequestAuthentications.
fn tokens(doc: &mut Value, name: &str) {
    of(doc, "RequestAuthentication", |d| every(&mut d["spec"], &|o| leave_out(o, name)));
}

fn forwarded(object: &mut Value) {
    if object.get("issuer").is_some() {
        object["forwardOriginalToken"] = json!(true);
    }
}

fn moved(doc: &mut Value, from: &str, to: &str) {
    of(doc, "AuthorizationPolicy", |d| {
        if d["metadata"]["namespace"] == from {
            d["metadata"]["namespace"] = json!(to);
        }
    });
}

fn modes(doc: &mut Value, from: &str, to: &str) {
    of(doc, "PeerAuthentication", |d| {
        every(d, &|o| {
            if o.get("mode").is_some_and(|m| m == from) {
                o["mode"] = json!(to);
            }
        });
    });
}
