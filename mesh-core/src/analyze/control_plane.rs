//! Webhooks that lead to a control plane outside of the cluster.

use std::net::IpAddr;

use serde_json::Value;

use super::index::Index;
use super::messages::{CONTROL_PLANE_ADDRESS, INVALID_CONTROL_PLANE};
use crate::api::Object;
use crate::report::Report;

/// Their addresses. Whether a name can be resolved is not asked: analysis does no I/O.
pub(super) fn addresses(index: &Index<'_>) -> Vec<Report> {
    let validates =
        |o: &&Object<Value>| &*o.key.name == "istiod-default-validator" || o.key.name.starts_with("istio-validator");
    let validating = index.documents("ValidatingWebhookConfiguration").filter(validates);
    let injects = |o: &&Object<Value>| o.key.name.starts_with("istio-sidecar-injector");
    let mutating = index.documents("MutatingWebhookConfiguration").filter(injects);
    let mut found = Vec::new();
    for o in validating.chain(mutating) {
        for (i, hook) in o.spec.get("webhooks").and_then(Value::as_array).into_iter().flatten().enumerate() {
            let name = hook.get("name").and_then(Value::as_str).unwrap_or_default();
            let url = hook.pointer("/clientConfig/url").and_then(Value::as_str);
            let service = hook.pointer("/clientConfig/service").is_some_and(|s| !s.is_null());
            let field = format!("webhooks[{i}].clientConfig.url");
            let subject = (&o.key, &o.origin);
            let to = "to reach the ingress gateway on the external control plane cluster";
            let invalid = |url: &str, why: &str| {
                let text = format!(
                    "The hostname ({url}) that was provided for the webhook ({name}) {to} {why}. Traffic may not flow properly."
                );
                INVALID_CONTROL_PLANE
                    .report(subject, &field, text)
                    .fix("write https://HOST:15017/… with a name that DNS knows")
            };
            found.extend(match url.map(|url| (url, host(url))) {
                None if service => None,
                None => Some(invalid("", "is blank")),
                Some((url, None)) => Some(invalid(url, "was provided in an invalid format")),
                Some((url, Some(host))) => host.parse::<IpAddr>().is_ok().then(|| {
                    let text = format!(
                        "The address ({url}) that was provided for the webhook ({name}) {to} is an IP address. This is not recommended for a production environment."
                    );
                    CONTROL_PLANE_ADDRESS.report(subject, &field, text).fix("write a host name")
                }),
            });
        }
    }
    found
}

/// Host of a URL, without brackets.
fn host(url: &str) -> Option<String> {
    let uri: http::Uri = url.parse().ok()?;
    let host = uri.host().filter(|h| !h.is_empty())?;
    uri.scheme()?;
    Some(host.trim_start_matches('[').trim_end_matches(']').to_owned())
}
