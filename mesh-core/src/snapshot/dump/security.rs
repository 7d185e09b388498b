//! The policies of a workload as JSON.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use crate::api::Object;
use crate::snapshot::{AuthorizerPlan, BodyPlan, HttpCheck, NamePattern, ProviderPlan, SecurityPlan};

pub(super) fn json(plan: &SecurityPlan) -> Value {
    let SecurityPlan { authorization, authentication, egress, identity, trust_domains, places, providers, hash } = plan;
    let mut places: Vec<_> = places.values().collect();
    places.sort();
    json!({
        "authorizationPolicies": objects(authorization),
        "requestAuthentications": objects(authentication),
        "egressPolicies": objects(egress),
        "identity": identity,
        "trustDomains": trust_domains.domains().collect::<Vec<_>>(),
        "keysFrom": places,
        "externalAuthorizers": providers.iter().map(|p| provider(p)).collect::<Vec<_>>(),
        "hash": hash,
    })
}

fn provider(plan: &ProviderPlan) -> Value {
    let ProviderPlan { name, cluster, authority, timeout, fail_open, status_on_error, body, speaks, origin } = plan;
    let names = |patterns: &[NamePattern]| patterns.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "name": name,
        "cluster": cluster,
        "authority": authority,
        "timeout": super::duration(Some(*timeout)),
        "failOpen": fail_open,
        "statusOnError": status_on_error.as_u16(),
        "body": body.as_ref().map(|BodyPlan { max, allow_partial, pack_as_bytes }| {
            json!({ "maxRequestBytes": max, "allowPartialMessage": allow_partial, "packAsBytes": pack_as_bytes })
        }),
        "http": match speaks {
            AuthorizerPlan::Grpc => Value::Null,
            AuthorizerPlan::Http(HttpCheck {
                path_prefix, include, added, upstream, downstream_on_deny, downstream_on_allow
            }) => json!({
                "pathPrefix": path_prefix,
                "includeRequestHeadersInCheck": names(include),
                "includeAdditionalHeadersInCheck": added.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(),
                "headersToUpstreamOnAllow": names(upstream),
                "headersToDownstreamOnDeny": names(downstream_on_deny),
                "headersToDownstreamOnAllow": names(downstream_on_allow),
            }),
        },
        "origin": super::provenance(origin),
    })
}

/// Keys that sign are nobody's to read, and those that only verify are long.
fn objects<S: Serialize>(all: &[Arc<Object<S>>]) -> Vec<Value> {
    let one = |o: &Arc<Object<S>>| {
        let mut spec = serde_json::to_value(&o.spec).unwrap_or_default();
        for rule in spec.get_mut("jwtRules").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(keys) = rule.get_mut("jwks") {
                *keys = Value::String(format!("{} bytes", keys.as_str().map_or(0, str::len)));
            }
        }
        json!({ "object": o.key.to_string(), "location": o.origin.location(""), "spec": spec })
    };
    all.iter().map(one).collect()
}
