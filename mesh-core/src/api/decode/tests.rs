use serde_json::json;

use super::*;
use crate::api::{Sidecar, VirtualService};

fn vs(value: &Value) -> (Result<VirtualService, DecodeError>, Vec<Unknown>) {
    decode(value, "spec", true)
}

#[test]
fn errors_name_the_field_and_what_to_write() {
    let cases = [
        (json!({"hosts": "a"}), "spec.hosts", "a list"),
        (json!({"http": [{"route": [{"weight": "5"}]}]}), "spec.http[0].route[0].weight", "whole number (not quoted)"),
        (json!({"http": [{"name": 5}]}), "spec.http[0].name", "put it in quotes: \"5\""),
        (json!({"http": [{"timeout": "5"}]}), "spec.http[0].timeout", "1.5s"),
        (json!({"http": [{"match": [{"port": -1}]}]}), "spec.http[0].match[0].port", "from 0 to 4294967295"),
        (
            json!({"http": [{"match": [{"headers": {"x.y": null}}]}]}),
            "spec.http[0].match[0].headers[\"x.y\"]",
            "cannot be null",
        ),
        (json!({"http": [{"match": [{"uri": {"exact": 1}}]}]}), "spec.http[0].match[0].uri.exact", "quotes"),
        (
            json!({"http": [{"corsPolicy": {"unmatchedPreflights": "X"}}]}),
            "spec.http[0].corsPolicy.unmatchedPreflights",
            "FORWARD",
        ),
        (json!({"http": [null]}), "spec.http[0]", "empty"),
        (json!({"exportTo": [], "export_to": []}), "spec.export_to", "twice"),
    ];
    for (value, path, message) in cases {
        let error = vs(&value).0.unwrap_err();
        assert_eq!(error.path, path);
        assert!(error.message.contains(message), "{}", error.message);
    }
}

#[test]
fn null_is_absent_and_proto_names_are_read() {
    let (result, unknown) =
        vs(&json!({"hosts": null, "export_to": ["."], "http": [{"mirror_percent": 5, "timeout": null}]}));
    let spec = result.unwrap();
    assert_eq!((spec.export_to.len(), spec.http[0].mirror_percent, spec.http[0].timeout), (1, Some(5), None));
    assert!(unknown.is_empty());
}

#[test]
fn unknown_fields_are_collected() {
    let (result, unknown) = vs(&json!({"host": ["a"], "http": [{"rout": 1, "match": [{"uri": {"exakt": "a"}}]}]}));
    assert!(result.is_ok());
    let paths: Vec<_> = unknown.iter().map(|u| u.path.as_str()).collect();
    assert_eq!(paths, ["spec.host", "spec.http[0].match[0].uri.exakt", "spec.http[0].rout"]);
}

#[test]
fn enums_by_number() {
    let value = json!({"outboundTrafficPolicy": {"mode": 1}});
    let spec: Sidecar = decode(&value, "spec", false).0.unwrap();
    assert_eq!(spec.outbound_traffic_policy.unwrap().mode, crate::api::OutboundTrafficPolicyMode::AllowAny);
}

#[test]
fn irregular_names() {
    for (proto, json) in [
        ("consecutive_5xx_errors", "consecutive5xxErrors"),
        ("http1_max_pending_requests", "http1MaxPendingRequests"),
        ("http2_keep_alive", "http2KeepAlive"),
        ("mesh_mTLS", "meshMTLS"),
        ("ca_crl", "caCrl"),
    ] {
        assert_eq!(camel(proto), json);
    }
}
