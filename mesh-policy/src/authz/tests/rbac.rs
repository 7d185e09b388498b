//! An evaluator of the RBAC configuration that Istio derives from policies, for comparison only.

use mesh_core::matching::{Cidr, Regex};
use serde_json::Value;

use super::Facts;

/// The first policy, by name, of a set of rules that matches.
pub(super) fn first(rules: &Value, facts: &Facts) -> Option<String> {
    let policies = rules.get("policies").and_then(Value::as_object)?;
    let mut names: Vec<&String> = policies.keys().collect();
    names.sort();
    let matches = |name: &&&String| {
        let policy = &policies[**name];
        let any = |list: &str| policy[list].as_array().unwrap().iter().any(|rule| holds(rule, facts));
        any("permissions") && any("principals")
    };
    names.iter().find(matches).map(|n| (*n).clone())
}

fn holds(rule: &Value, facts: &Facts) -> bool {
    let (kind, value) = rule.as_object().unwrap().iter().next().unwrap();
    let all = |list: &str| value[list].as_array().unwrap().iter().all(|r| holds(r, facts));
    let any = |list: &str| value[list].as_array().unwrap().iter().any(|r| holds(r, facts));
    match kind.as_str() {
        "any" => true,
        "andRules" => all("rules"),
        "andIds" => all("ids"),
        "orRules" => any("rules"),
        "orIds" => any("ids"),
        "notRule" | "notId" => !holds(value, facts),
        "authenticated" => facts.peer.as_ref().is_some_and(|p| text(&value["principalName"], &format!("spiffe://{p}"))),
        "directRemoteIp" => network(value, &facts.source_ip),
        "remoteIp" => network(value, &facts.remote_ip),
        "destinationIp" => network(value, &facts.destination_ip),
        "destinationPort" => value.as_u64() == Some(facts.port.into()),
        "requestedServerName" => text(value, &facts.sni),
        "urlPath" => text(&value["path"], &facts.path),
        "uriTemplate" => template(value["typedConfig"]["pathTemplate"].as_str().unwrap(), &facts.path),
        "header" => header(value, facts),
        "metadata" => metadata(value, facts),
        other => panic!("what is {other}?"),
    }
}

fn text(matcher: &Value, value: &str) -> bool {
    let fold = |t: &str| if matcher["ignoreCase"] == true { t.to_lowercase() } else { t.to_owned() };
    let value = fold(value);
    let of = |kind: &str| matcher[kind].as_str().map(fold);
    if let Some(exact) = of("exact") {
        return value == exact;
    }
    if let Some(prefix) = of("prefix") {
        return value.starts_with(&prefix);
    }
    if let Some(suffix) = of("suffix") {
        return value.ends_with(&suffix);
    }
    let regex = matcher["safeRegex"]["regex"].as_str().unwrap_or_else(|| panic!("{matcher}"));
    Regex::full(regex).unwrap().is_match(&value)
}

fn network(value: &Value, address: &str) -> bool {
    let network = format!("{}/{}", value["addressPrefix"].as_str().unwrap(), value["prefixLen"]);
    Cidr::parse(&network).unwrap().contains(address.parse().unwrap())
}

fn template(template: &str, path: &str) -> bool {
    let class = "-a-zA-Z0-9._~%!$&'()+,;:@=";
    let segments = template.split('/').map(|s| match s {
        "*" => format!("[{class}]+"),
        "**" => format!("[{class}/]*"),
        literal => literal.to_owned(),
    });
    Regex::full(&segments.collect::<Vec<_>>().join("/")).unwrap().is_match(path)
}

fn header(value: &Value, facts: &Facts) -> bool {
    let name = value["name"].as_str().unwrap();
    let matches = |line: &str| value["presentMatch"] == true || text(&value["stringMatch"], line);
    match name {
        ":method" => matches(facts.method.as_str()),
        ":authority" => matches(&facts.authority),
        _ => facts.headers.get_all(name).iter().any(|v| matches(v.to_str().unwrap())),
    }
}

fn metadata(value: &Value, facts: &Facts) -> bool {
    if value["filter"] != "envoy.filters.http.jwt_authn" {
        return false;
    }
    let keys: Vec<&str> = value["path"].as_array().unwrap().iter().map(|k| k["key"].as_str().unwrap()).collect();
    let claims = facts.claims.as_ref().map(|c| Value::Object(c.as_map().clone()));
    let found = keys[1..].iter().try_fold(claims.as_ref(), |v, k| Some(v?.get(*k))).flatten();
    let one = |matcher: &Value, v: &Value| v.as_str().is_some_and(|v| text(&matcher["stringMatch"], v));
    match (found, value["value"].get("listMatch"), value["value"].get("orMatch")) {
        (None, _, _) => false,
        (Some(v), Some(list), _) => v.as_array().is_some_and(|l| l.iter().any(|v| one(&list["oneOf"], v))),
        (Some(v), None, None) => one(&value["value"], v),
        (Some(_), None, Some(or)) => panic!("{or}"),
    }
}
