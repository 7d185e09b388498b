//! Every field has a fate, and what is said to be consumed makes a difference.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::api::{
    AuthorizationPolicy, ContentHash, DestinationRule, Gateway, LocalRateLimit, MeshConfig, Object,
    RequestAuthentication, Sidecar, VirtualService,
};
use crate::compile::sim::Sim;
use crate::compile::{Compiled, compile};
use crate::report::Outcome;
use crate::world::Change;

/// A value with every field of a schema present, and not at its default.
pub(super) fn populate(schema: &Value, defs: &Value, field: &str) -> Value {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        let name = name.rsplit('/').next().unwrap();
        return populate(&defs[name], defs, field);
    }
    for list in ["anyOf", "oneOf"] {
        if let Some(options) = schema.get(list).and_then(Value::as_array) {
            let usable = |o: &&Value| o.get("type") != Some(&json!("null"));
            let consts: Vec<&Value> = options.iter().filter_map(|o| o.get("const")).collect();
            return match consts.last() {
                Some(last) => (*last).clone(),
                None => populate(options.iter().find(usable).unwrap(), defs, field),
            };
        }
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.iter().rfind(|v| !v.is_null()).unwrap().clone();
    }
    let kind = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds[0].as_str().unwrap_or("string"),
        Some(Value::String(kind)) => kind,
        _ => "any",
    };
    match kind {
        "object" => {
            let mut out = Map::new();
            for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                out.insert(name.clone(), populate(inner, defs, name));
            }
            if let Some(inner) = schema.get("additionalProperties").filter(|a| a.is_object()) {
                out.insert("x-key".into(), populate(inner, defs, field));
            }
            Value::Object(out)
        }
        "array" => match schema.get("items") {
            Some(items) => json!([populate(items, defs, field)]),
            None => json!(["x"]),
        },
        "boolean" => json!(true),
        "integer" => json!(match field {
            "redirectCode" => 302,
            "status" => 200,
            "httpStatus" => 418,
            "percent" | "mirrorPercent" => 8,
            _ => 8080,
        }),
        "number" => json!(1.5),
        "string" => text(field),
        _ => json!({"any": "thing"}),
    }
}

fn text(field: &str) -> Value {
    let duration = ["timeout", "perTryTimeout", "backoff", "interval", "duration", "ttl", "time", "maxAge"];
    let is_duration = duration.iter().any(|d| field == *d || field.ends_with(&d[..1].to_uppercase().add_rest(d)))
        || ["Delay", "Timeout", "Duration", "Secs", "Rate", "Interval", "EjectionTime"]
            .iter()
            .any(|e| field.ends_with(e));
    json!(match field {
        _ if is_duration => "3s",
        "host" | "hosts" => "b.ns.svc.cluster.local",
        "gateways" => "mesh",
        "retryOn" => "5xx",
        "grpcStatus" => "UNAVAILABLE",
        "allowMethods" => "GET",
        "destinationSubnets" => "10.0.0.0/8",
        "bytes" => "eHg=",
        "protocol" => "HTTP",
        "defaultEndpoint" => "127.0.0.1:7070",
        "bind" => "127.0.0.5",
        "exportTo" => "*",
        _ => "x",
    })
}

trait AddRest {
    fn add_rest(&self, word: &str) -> String;
}

impl AddRest for String {
    fn add_rest(&self, word: &str) -> String {
        format!("{self}{}", &word[1..])
    }
}

fn schema<S: schemars::JsonSchema>() -> Value {
    let schema = schemars::schema_for!(S).to_value();
    populate(&schema, &schema["$defs"], "")
}

fn object<S: DeserializeOwned>(kind: &str, namespace: &str, spec: &Value) -> Object<S> {
    let group = match kind {
        "MeshConfig" => "mesh",
        "LocalRateLimit" => "policy.mesh.local",
        _ => "networking.istio.io",
    };
    crate::fixtures::object(group, kind, namespace, "all", spec.clone())
}

fn assert_accounted<S: Serialize>(compiled: &Compiled, object: &Object<S>, what: &str) {
    let leaves = compiled.account.leaves(object);
    assert!(leaves.len() > 3, "{what}: the object has fields");
    let missing: Vec<_> = leaves.iter().filter(|l| l.outcome.is_none()).map(|l| &l.field).collect();
    assert!(missing.is_empty(), "{what}: fields without a fate: {missing:#?}");
}

#[test]
fn every_field_of_a_virtual_service_has_a_fate() {
    let full = schema::<VirtualService>();
    for keep in ["route", "redirect", "directResponse", "delegate"] {
        let mut spec = full.clone();
        for drop in ["redirect", "directResponse", "delegate"].into_iter().filter(|d| *d != keep) {
            spec["http"][0].as_object_mut().unwrap().remove(drop);
        }
        for (name, workload) in [("applies", "b.ns.svc.cluster.local"), ("does not", "unknown.example.com")] {
            spec["hosts"] = json!([workload]);
            let o = Arc::new(object::<VirtualService>("VirtualService", "ns", &spec));
            let sim = Sim::of("");
            let world = sim.world.with([Change::VirtualService(o.clone())]);
            for proxy in ["a-1", "gw-1"] {
                let compiled = compile(&world, &sim.id(proxy), None);
                assert!(!compiled.reports().any(|r| r.object == o.key), "{:?}", compiled.reports().collect::<Vec<_>>());
                assert_accounted(&compiled, &o, &format!("{keep}, {name}, {proxy}"));
            }
        }
    }
}

#[test]
fn every_field_of_a_destination_rule_has_a_fate() {
    let o = Arc::new(object::<DestinationRule>("DestinationRule", "ns", &schema::<DestinationRule>()));
    let mut open = (*o).clone();
    open.spec.workload_selector = None;
    for o in [o, Arc::new(open)] {
        let sim = Sim::of("");
        let world = sim.world.with([Change::DestinationRule(o.clone())]);
        for proxy in ["a-1", "gw-1"] {
            assert_accounted(&compile(&world, &sim.id(proxy), None), &o, proxy);
        }
    }
}

#[test]
fn every_field_of_a_gateway_sidecar_and_the_mesh_has_a_fate() {
    let sim = Sim::of("");
    let mut spec = schema::<Gateway>();
    spec["selector"] = json!({"istio": "ingressgateway"});
    for protocol in ["HTTP", "TCP", "HTTPS"] {
        spec["servers"][0]["port"]["protocol"] = json!(protocol);
        let o = Arc::new(object::<Gateway>("Gateway", "ns", &spec));
        let world = sim.world.with([Change::Gateway(o.clone())]);
        for proxy in ["a-1", "gw-1"] {
            assert_accounted(&compile(&world, &sim.id(proxy), None), &o, &format!("{proxy} {protocol}"));
        }
    }
    let mut spec = schema::<Sidecar>();
    spec["workloadSelector"]["labels"] = json!({"app": "a"});
    spec["egress"][0]["hosts"] = json!(["*/*"]);
    let o = Arc::new(object::<Sidecar>("Sidecar", "ns", &spec));
    let world = sim.world.with([Change::Sidecar(o.clone())]);
    for proxy in ["a-1", "gw-1", "b-1"] {
        assert_accounted(&compile(&world, &sim.id(proxy), None), &o, proxy);
    }
    let o = Arc::new(object::<MeshConfig>("MeshConfig", "istio-system", &schema::<MeshConfig>()));
    let world = sim.world.with([Change::Mesh(Some(o.clone()))]);
    for proxy in ["a-1", "gw-1"] {
        assert_accounted(&compile(&world, &sim.id(proxy), None), &o, proxy);
    }
}

#[test]
fn every_field_of_a_rate_limit_has_a_fate_and_makes_a_difference() {
    let bucket = json!({"maxTokens": 5, "tokensPerFill": 2, "fillInterval": "3s"});
    let mut full = schema::<LocalRateLimit>();
    full["tokenBucket"] = bucket.clone();
    let selected = json!({"selector": {"matchLabels": {"app": "a"}}, "tokenBucket": bucket, "statusCode": 404,
        "responseHeaders": true});
    let target = json!({"group": "networking.istio.io", "kind": "VirtualService", "name": "v", "sectionName": "r"});
    let targeted = json!({"targetRefs": [target], "tokenBucket": bucket, "statusCode": 404});
    let vs = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, namespace: ns}\nspec:\n  \
              hosts: [b]\n  http: [{name: r, route: [{destination: {host: b}}]}]";
    for spec in [full, selected.clone(), targeted.clone()] {
        let o = Arc::new(object::<LocalRateLimit>("LocalRateLimit", "ns", &spec));
        let sim = Sim::of(vs);
        let world = sim.world.with([Change::LocalRateLimit(o.clone())]);
        for proxy in ["a-1", "gw-1"] {
            assert_accounted(&compile(&world, &sim.id(proxy), None), &o, proxy);
        }
    }
    for spec in [selected, targeted] {
        flip_consumed(vs, "a-1", "LocalRateLimit", "ns", &spec, Change::LocalRateLimit);
    }
}

#[test]
fn every_field_of_a_security_policy_has_a_fate_and_makes_a_difference() {
    let own = |mut spec: Value| {
        spec["selector"] = json!({"matchLabels": {"app": "a"}});
        for targets in ["targetRef", "targetRefs"] {
            spec.as_object_mut().unwrap().remove(targets);
        }
        spec
    };
    let (authz, tokens) = (schema::<AuthorizationPolicy>(), schema::<RequestAuthentication>());
    for (spec, proxy) in [(authz.clone(), "a-1"), (own(authz.clone()), "a-1"), (own(authz.clone()), "b-1")] {
        let o = Arc::new(object::<AuthorizationPolicy>("AuthorizationPolicy", "ns", &spec));
        let sim = Sim::of("");
        let world = sim.world.with([Change::AuthorizationPolicy(o.clone())]);
        assert_accounted(&compile(&world, &sim.id(proxy), None), &o, proxy);
    }
    for (spec, proxy) in [(tokens.clone(), "a-1"), (own(tokens.clone()), "a-1"), (own(tokens.clone()), "c-1")] {
        let o = Arc::new(object::<RequestAuthentication>("RequestAuthentication", "ns", &spec));
        let sim = Sim::of("");
        let world = sim.world.with([Change::RequestAuthentication(o.clone())]);
        assert_accounted(&compile(&world, &sim.id(proxy), None), &o, proxy);
    }
    let sources = |name: &str| {
        own(json!({"action": "DENY", "rules": [{
            "from": [{"source": {name: ["x", "y"]}}],
            "to": [{"operation": {"methods": ["GET"]}}],
        }]}))
    };
    for name in ["principals", "notNamespaces", "ipBlocks", "requestPrincipals", "serviceAccounts"] {
        flip_consumed("", "a-1", "AuthorizationPolicy", "ns", &sources(name), Change::AuthorizationPolicy);
    }
    flip_consumed("", "a-1", "AuthorizationPolicy", "ns", &own(authz.clone()), Change::AuthorizationPolicy);
    let mut egress = own(authz.clone());
    egress.as_object_mut().unwrap().remove("provider");
    egress["action"] = json!("DENY");
    flip_consumed("", "a-1", "EgressPolicy", "ns", &egress, Change::EgressPolicy);
    flip_consumed("", "a-1", "RequestAuthentication", "ns", &own(tokens), Change::RequestAuthentication);
}

/// Another value of the same type, and of the same form where the form matters.
pub(super) fn flip(path: &str, value: &Value) -> Value {
    let other = |pairs: &[(&str, &str)], text: &str| {
        pairs
            .iter()
            .find_map(|(a, b)| {
                if text == *a {
                    Some(*b)
                } else if text == *b {
                    Some(*a)
                } else {
                    None
                }
            })
            .map(String::from)
    };
    match value {
        Value::Bool(b) => json!(!b),
        Value::Number(n) => match path.rsplit('.').next() {
            Some("redirectCode") => json!(307),
            Some("status" | "statusCode") => json!(405),
            _ => json!(n.as_f64().unwrap() as i64 + 1),
        },
        Value::String(s) => {
            let known = [
                ("ROUND_ROBIN", "RANDOM"),
                ("FROM_REQUEST_PORT", "FROM_PROTOCOL_DEFAULT"),
                ("REGISTRY_ONLY", "ALLOW_ANY"),
                ("UPGRADE", "DO_NOT_UPGRADE"),
                ("HTTP", "TCP"),
                ("UNAVAILABLE", "INTERNAL"),
                ("IGNORE", "FORWARD"),
                ("JSON", "TEXT"),
                ("MERGE_SLASHES", "NONE"),
                ("5xx", "reset"),
                ("http", "https"),
                ("127.0.0.1:7070", "127.0.0.1:7071"),
                ("*", "elsewhere"),
                ("10.0.0.0/8", "11.0.0.0/8"),
                ("eHg=", "eHk="),
                ("./*", "other/*"),
                ("SIMPLE", "ISTIO_MUTUAL"),
                ("MUTUAL", "SIMPLE"),
                ("OPTIONAL_MUTUAL", "MUTUAL"),
                ("V2", "V1"),
                ("TLSV1_2", "TLSV1_3"),
                ("HTTPS", "TLS"),
                ("CONNECT", "POST"),
                ("127.0.0.1", "127.0.0.2"),
                ("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"),
                ("P-256", "P-384"),
                ("127.0.0.5", "127.0.0.6"),
                ("PASSTHROUGH", "LOCALHOST"),
                ("SANITIZE", "ALWAYS_FORWARD_ONLY"),
                ("EDGE", "UNSPECIFIED"),
                ("DROP_HEADER", "REJECT_REQUEST"),
                ("KEEP_UNCHANGED", "REJECT_REQUEST"),
                ("CUSTOM", "DENY"),
                ("REQUIRED", "OPTIONAL"),
            ];
            match other(&known, s).filter(|_| !path.ends_with("captureMode")) {
                None if path.ends_with("captureMode") => json!("DEFAULT"),
                Some(o) => json!(o),
                None if s.ends_with('s') && s.starts_with(|c: char| c.is_ascii_digit()) => json!("77s"),
                None => json!(format!("{s}x")),
            }
        }
        other => other.clone(),
    }
}

/// Sets each consumed leaf of an object to something else and compiles: the plan must be another one.
pub(super) fn flip_consumed<S>(
    yaml: &str,
    proxy: &str,
    kind: &str,
    namespace: &str,
    spec: &Value,
    make: fn(Arc<Object<S>>) -> Change,
) where
    S: Serialize + DeserializeOwned,
{
    let sim = Sim::of(yaml);
    let plan = |spec: &Value| -> (ContentHash, Compiled, Arc<Object<S>>) {
        let o = Arc::new(object::<S>(kind, namespace, spec));
        let compiled = compile(&sim.world.with([make(o.clone())]), &sim.id(proxy), None);
        (compiled.snapshot.hash, compiled, o)
    };
    let (before, compiled, object) = plan(spec);
    let mut consumed = 0;
    for leaf in compiled.account.leaves(&object) {
        assert!(leaf.outcome.is_some(), "{}", leaf.field);
        if leaf.outcome != Some(Outcome::Consumed) {
            continue;
        }
        let pointer = leaf.field.trim_start_matches("spec").replace(['.', '['], "/").replace([']'], "");
        let mut other = spec.clone();
        let Some(value) = other.pointer_mut(&pointer) else { panic!("{pointer} of {spec}") };
        if value.is_object() || value.is_array() {
            continue;
        }
        *value = flip(&leaf.field, value);
        consumed += 1;
        assert_ne!(
            before,
            plan(&other).0,
            "{kind} {}: consumed, but {value} is the same plan",
            leaf.field,
            value = other.pointer(&pointer).unwrap()
        );
    }
    assert!(consumed > 3, "{kind}: {consumed} consumed");
}

/// An object in which every field that a proxy consumes makes a difference.
pub(super) struct Sample {
    /// Objects beside it.
    pub(super) yaml: String,
    /// Whose plan is looked at.
    pub(super) proxy: &'static str,
    /// Its kind.
    pub(super) kind: &'static str,
    /// Its namespace.
    pub(super) namespace: &'static str,
    /// Its spec.
    pub(super) spec: Value,
}

/// All of them.
pub(super) fn samples() -> Vec<Sample> {
    let mut all = virtual_services();
    all.extend(others());
    all.extend(balancing());
    all.extend(super::tls::samples());
    all
}

fn sample(yaml: &str, proxy: &'static str, kind: &'static str, namespace: &'static str, spec: Value) -> Sample {
    Sample { yaml: yaml.to_owned(), proxy, kind, namespace, spec }
}

/// Each sample, by its kind.
pub(super) fn flip_samples(samples: Vec<Sample>) {
    for Sample { yaml, proxy, kind, namespace, spec } in samples {
        match kind {
            "VirtualService" => flip_consumed(&yaml, proxy, kind, namespace, &spec, Change::VirtualService),
            "DestinationRule" => flip_consumed(&yaml, proxy, kind, namespace, &spec, Change::DestinationRule),
            "Gateway" => flip_consumed(&yaml, proxy, kind, namespace, &spec, Change::Gateway),
            "Sidecar" => flip_consumed(&yaml, proxy, kind, namespace, &spec, Change::Sidecar),
            _ => flip_consumed(&yaml, proxy, kind, namespace, &spec, |o| Change::Mesh(Some(o))),
        }
    }
}

#[test]
fn consumed_fields_of_a_virtual_service_make_a_difference() {
    flip_samples(virtual_services());
}

#[test]
fn consumed_fields_of_other_kinds_make_a_difference() {
    flip_samples(others());
}

#[test]
fn consumed_fields_of_balancing_make_a_difference() {
    flip_samples(balancing());
}

fn virtual_services() -> Vec<Sample> {
    let mut all = Vec::new();
    let rules = [
        json!({
            "name": "n",
            "match": [{
                "name": "m", "uri": {"prefix": "/P"}, "ignoreUriCase": true, "scheme": {"exact": "http"},
                "method": {"regex": "GET|PUT"}, "authority": {"prefix": "b"}, "headers": {"h1": {"exact": "v"}},
                "withoutHeaders": {"h2": {"prefix": "v"}}, "queryParams": {"q": {"exact": "v"}}, "port": 8080,
                "sourceLabels": {"tier": "web"}, "sourceNamespace": "ns"
            }],
            "route": [
                {"destination": {"host": "b", "subset": "v1", "port": {"number": 8080}}, "weight": 1,
                 "headers": {"request": {"set": {"a": "b"}, "add": {"c": "d"}, "remove": ["e"]}}},
                {"destination": {"host": "a"}, "weight": 2, "headers": {"response": {"set": {"host2": "y"}}}}
            ],
            "timeout": "3s", "retries": {"attempts": 3, "perTryTimeout": "2s", "retryOn": "5xx", "backoff": "4s",
                "retryRemoteLocalities": true, "retryIgnorePreviousHosts": false},
            "rewrite": {"uri": "/new", "authority": "host.example"},
            "headers": {"request": {"set": {"r": "s"}}, "response": {"add": {"t": "u"}, "remove": ["w"]}}
        }),
        json!({"match": [{"gateways": ["mesh"], "uri": {"exact": "/x"}}],
               "rewrite": {"uriRegexRewrite": {"match": "a", "rewrite": "b"}}, "route": [{"destination": {"host": "b"}}]}),
        json!({"match": [{"uri": {"prefix": "/x"}}], "redirect": {"uri": "/u", "authority": "h", "port": 81, "scheme": "http", "redirectCode": 302}}),
        json!({"match": [{"uri": {"prefix": "/x"}}], "redirect": {"prefixRewrite": "/u", "derivePort": "FROM_REQUEST_PORT"}}),
        json!({"directResponse": {"status": 503, "body": {"string": "x"}}}),
        json!({
            "match": [{"uri": {"prefix": "/p"}, "statPrefix": "s"}], "route": [{"destination": {"host": "b"}}],
            "fault": {"delay": {"fixedDelay": "3s", "percentage": {"value": 30}},
                      "abort": {"httpStatus": 418, "percentage": {"value": 40}}},
            "corsPolicy": {"allowOrigins": [{"exact": "http://x"}], "allowMethods": ["GET"], "allowHeaders": ["x-a"],
                           "exposeHeaders": ["x-b"], "maxAge": "3s", "allowCredentials": true,
                           "unmatchedPreflights": "IGNORE"},
            "mirror": {"host": "b", "subset": "v1", "port": {"number": 8080}}, "mirrorPercentage": {"value": 20}
        }),
        json!({
            "route": [{"destination": {"host": "b"}}], "mirror": {"host": "a"}, "mirrorPercent": 20,
            "fault": {"delay": {"fixedDelay": "3s", "percent": 30},
                      "abort": {"grpcStatus": "UNAVAILABLE", "percentage": {"value": 40}}},
            "corsPolicy": {"allowOrigin": ["http://x"]}
        }),
        json!({"route": [{"destination": {"host": "b"}}],
               "mirrors": [{"destination": {"host": "b", "subset": "v1"}, "percentage": {"value": 20}}]}),
        json!({"directResponse": {"status": 503, "body": {"bytes": "eHg="}}}),
    ];
    for rule in rules {
        let spec = json!({"hosts": ["b"], "gateways": ["mesh"], "exportTo": ["*"], "http": [rule]});
        all.push(sample("", "a-1", "VirtualService", "ns", spec));
    }
    let to = json!([
        {"destination": {"host": "b", "port": {"number": 8080}, "subset": "v1"}, "weight": 1},
        {"destination": {"host": "b", "port": {"number": 8080}}, "weight": 2}
    ]);
    let spec = json!({"hosts": ["c"],
        "tcp": [{"match": [{"destinationSubnets": ["10.0.0.0/8"], "port": 9000, "sourceNamespace": "other",
                            "sourceLabels": {"app": "c"}}], "route": to}],
        "tls": [{"match": [{"sniHosts": ["c.other.svc.cluster.local"], "destinationSubnets": ["10.0.0.0/8"], "port": 9443,
                            "sourceNamespace": "other", "sourceLabels": {"app": "c"}}], "route": to}]});
    all.push(sample("", "c-1", "VirtualService", "other", spec));
    let inner = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: inner, namespace: ns}\nspec: {http: [{directResponse: {status: 418}}]}\n";
    let spec = json!({"hosts": ["b"], "gateways": ["mesh"], "http": [
        {"name": "n", "match": [{"uri": {"prefix": "/a"}}], "delegate": {"name": "inner", "namespace": "ns"}}]});
    all.push(sample(inner, "a-1", "VirtualService", "ns", spec));
    all
}

fn others() -> Vec<Sample> {
    let mut all = Vec::new();
    let pool = json!({
        "tcp": {"maxConnections": 1, "connectTimeout": "3s", "maxConnectionDuration": "4s", "idleTimeout": "5s",
                "tcpKeepalive": {"probes": 1, "time": "3s", "interval": "4s"}},
        "http": {"http1MaxPendingRequests": 1, "http2MaxRequests": 2, "maxRequestsPerConnection": 3, "maxRetries": 4,
                 "h2UpgradePolicy": "UPGRADE", "maxConcurrentStreams": 5,
                 "http2KeepAlive": {"interval": "3s", "timeout": "4s"}}
    });
    let policy = json!({"loadBalancer": {"simple": "ROUND_ROBIN"}, "connectionPool": pool});
    let mut by_port = policy.clone();
    by_port["port"] = json!({"number": 8080});
    let subset = json!({"name": "v1", "labels": {"version": "v1"}, "trafficPolicy": policy});
    let specs = [
        json!({"host": "b", "trafficPolicy": policy, "exportTo": ["*"], "subsets": [subset]}),
        json!({"host": "b", "trafficPolicy": {"portLevelSettings": [by_port]}, "workloadSelector": {"matchLabels": {"app": "a"}}}),
        json!({"host": "b", "trafficPolicy": {
            "connectionPool": {"http": {"useClientProtocol": true, "idleTimeout": "3s"}, "tcp": {"maxConnections": 3}},
            "retryBudget": {"percent": 10, "minRetryConcurrency": 2, "budgetInterval": "1s"}}}),
    ];
    for spec in specs {
        // Exported to nobody else, it still applies to its own namespace: seen from there only the other fields count.
        let mut spec = spec;
        spec.as_object_mut().unwrap().remove("exportTo");
        all.push(sample("", "a-1", "DestinationRule", "ns", spec));
    }
    let route =
        super::vs("name: v, namespace: ns", "'*.example.com'", "b").replace("spec:\n", "spec:\n  gateways: [all]\n");
    let spec = json!({"selector": {"istio": "ingressgateway"}, "servers": [
        {"port": {"number": 80, "protocol": "HTTP"}, "hosts": ["*.a.example.com"], "tls": {"httpsRedirect": true}}]});
    all.push(sample(&route, "gw-1", "Gateway", "ns", spec));
    let spec = json!({
        "workloadSelector": {"labels": {"app": "a"}},
        "ingress": [
            {"port": {"number": 9000, "protocol": "HTTP"}, "defaultEndpoint": "127.0.0.1:7070"},
            {"port": {"number": 9001, "protocol": "HTTP"}, "connectionPool": {"tcp": {"maxConnections": 1}}}
        ],
        "inboundConnectionPool": {"http": {"http2MaxRequests": 2, "maxRequestsPerConnection": 1}},
        "egress": [
            {"port": {"number": 8080, "protocol": "HTTP"}, "bind": "127.0.0.5", "captureMode": "NONE", "hosts": ["./*"]},
            {"hosts": ["./*"]}
        ],
        "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}
    });
    all.push(sample("", "a-1", "Sidecar", "ns", spec));
    let spec = json!({"outboundTrafficPolicy": {"mode": "ALLOW_ANY", "egressProxy": {"host": "b.ns.svc.cluster.local", "subset": "v1", "port": {"number": 8080}}},
        "workloadSelector": {"labels": {"app": "a"}}});
    all.push(sample("", "a-1", "Sidecar", "ns", spec));
    let spec = json!({
        "accessLogFile": "/dev/stdout", "accessLogFormat": "x", "accessLogEncoding": "JSON",
        "protocolDetectionTimeout": "3s", "connectTimeout": "3s", "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
        "pathNormalization": {"normalization": "MERGE_SLASHES"}, "defaultHttpRetryPolicy": {"attempts": 5, "retryOn": "5xx"},
        "proxyListenPort": 16001, "proxyInboundListenPort": 16006, "proxyHttpPort": 3128,
        "inboundTrafficPolicy": {"mode": "LOCALHOST"}, "disableEnvoyListenerLog": true,
        "defaultInboundHttpRetryPolicy": {"attempts": 5, "retryOn": "5xx", "backoff": "1s"},
        "defaultTrafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 1, "connectTimeout": "1s"}, "http": {"maxRetries": 1}}},
        "tcpKeepalive": {"probes": 1, "time": "1s", "interval": "1s"}, "h2UpgradePolicy": "UPGRADE",
        "defaultConfig": {"drainDuration": "3s", "terminationDrainDuration": "3s", "proxyHeaders": {
            "server": {"value": "s"}, "requestId": {"disabled": true}, "attemptCount": {"disabled": true},
            "envoyDebugHeaders": {"disabled": true}, "forwardedClientCert": "SANITIZE",
            "preserveHttp1HeaderCase": true, "xForwardedHost": {"enabled": true}, "xForwardedPort": {"enabled": true}},
            "proxyMetadata": {"ISTIO_META_HTTP10": "1", "ISTIO_META_HTTP_PROXY_PORT": "3129"},
            "connectionSettings": {"httpRequestHeadersTimeout": "3s", "httpIdleTimeout": "3s", "httpDrainTimeout": "3s",
                "httpMaxConnectionDuration": "3s", "httpRequestTimeout": "3s", "httpStreamIdleTimeout": "3s",
                "httpMaxStreamDuration": "3s", "perConnectionBufferLimitBytes": 3, "http2MaxConcurrentStreams": 7,
                "http2InitialStreamWindowSize": 70000, "http2InitialConnectionWindowSize": 80000,
                "httpHeadersWithUnderscoresAction": "DROP_HEADER", "httpPathWithEscapedSlashesAction": "REJECT_REQUEST"}}
    });
    // accessLogFile only says that there is a log.
    let mut spec = spec;
    spec.as_object_mut().unwrap().remove("accessLogFile");
    all.push(sample("", "a-1", "MeshConfig", "istio-system", spec));
    all
}

/// A client in a known place, and a service of its own with an instance elsewhere.
const PLACED: &str = "apiVersion: v1
kind: Pod
metadata: {name: d-1, namespace: ns, labels: {app: d, version: v1, istio-locality: r1.z1.s1}}
spec: {containers: [{name: main, image: d}]}
---
apiVersion: v1
kind: Pod
metadata: {name: d-2, namespace: ns, labels: {app: d, istio-locality: r1.z2}}
spec: {containers: [{name: main, image: d}]}
---
apiVersion: v1
kind: Service
metadata: {name: d, namespace: ns}
spec: {selector: {app: d}, ports: [{name: http, port: 80}]}
";

fn balancing() -> Vec<Sample> {
    let mut all = Vec::new();
    let outlier = json!({
        "consecutive5xxErrors": 7, "consecutiveGatewayErrors": 3, "splitExternalLocalOriginErrors": true,
        "consecutiveLocalOriginFailures": 2, "interval": "3s", "baseEjectionTime": "3s", "maxEjectionPercent": 50,
        "minHealthPercent": 40, "outlierDetectionHttpErrorCodes": [429, 503]
    });
    let hash = |key: &str, value: Value| json!({"consistentHash": {key: value, "ringHash": {"minimumRingSize": 99}}});
    let locality = |setting: Value| json!({"simple": "ROUND_ROBIN", "localityLbSetting": setting});
    let cookie = json!({"name": "c", "path": "/p", "ttl": "3s", "attributes": [{"name": "SameSite", "value": "Lax"}]});
    let failover = json!([{"from": "r1", "to": "r2"}]);
    let balancers = [
        json!({"simple": "ROUND_ROBIN", "warmup": {"duration": "3s", "minimumPercent": 20, "aggression": 2}}),
        json!({"simple": "ROUND_ROBIN", "warmupDurationSecs": "3s", "localityLbSetting": {"enabled": true}}),
        hash("httpHeaderName", json!("x-user")),
        hash("httpCookie", cookie),
        hash("useSourceIp", json!(true)),
        hash("httpQueryParameterName", json!("q")),
        json!({"consistentHash": {"useSourceIp": true, "maglev": {"tableSize": 101}}}),
        json!({"consistentHash": {"useSourceIp": true, "minimumRingSize": 55}}),
        locality(json!({"enabled": true, "distribute": [{"from": "r1", "to": {"r1": 80, "r2": 20}}]})),
        locality(json!({"enabled": true, "failover": failover})),
        locality(json!({"failoverPriority": ["version=v9", "tier"], "failover": failover})),
        json!({"zoneAwareLbSetting": {"enabled": true, "failover": failover, "minClusterSize": 3}}),
        json!({"zoneAwareLbSetting": {"enabled": true, "failoverPriority": ["version", "tier"]}}),
    ];
    let discovery = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: 'defaultConfig: {proxyMetadata: {ISTIO_META_ENABLE_SELF_DISCOVERY: \"true\"}}'}\n";
    for balancer in balancers {
        let spec = json!({"host": "b", "trafficPolicy": {"loadBalancer": balancer, "outlierDetection": outlier}});
        all.push(sample(&format!("{PLACED}{discovery}"), "d-1", "DestinationRule", "ns", spec));
    }
    let spec = json!({
        "localityLbSetting": {"enabled": true, "failover": failover}, "connectTimeout": "3s",
        "defaultTrafficPolicy": {"outlierDetection": outlier}
    });
    all.push(sample(PLACED, "d-1", "MeshConfig", "istio-system", spec));
    let spec = json!({
        "zoneAwareLbSetting": {"enabled": true, "failover": failover, "minClusterSize": 3}, "connectTimeout": "3s",
        "defaultConfig": {"proxyMetadata": {"ISTIO_META_ENABLE_SELF_DISCOVERY": "true"}}
    });
    all.push(sample(PLACED, "d-1", "MeshConfig", "istio-system", spec));
    for setting in [
        json!({"enabled": true, "distribute": [{"from": "r1", "to": {"r1": 80, "r2": 20}}]}),
        json!({"failoverPriority": ["version=v9", "tier"], "failover": failover}),
    ] {
        let spec = json!({"localityLbSetting": setting, "connectTimeout": "3s", "defaultTrafficPolicy": {"outlierDetection": outlier}});
        all.push(sample(PLACED, "d-1", "MeshConfig", "istio-system", spec));
    }
    let spec = json!({
        "zoneAwareLbSetting": {"enabled": true, "failoverPriority": ["version", "tier"]}, "connectTimeout": "3s",
        "caCertificates": [{"pem": "-----BEGIN CERTIFICATE-----", "trustDomains": ["td2"], "certSigners": ["s"]}],
        "meshMTLS": {"minProtocolVersion": "TLSV1_2", "cipherSuites": ["ECDHE-RSA-AES128-GCM-SHA256"]},
        "defaultConfig": {"proxyMetadata": {"ISTIO_META_ENABLE_SELF_DISCOVERY": "true"}, "caCertificatesPem": ["c"]}
    });
    all.push(sample(PLACED, "d-1", "MeshConfig", "istio-system", spec));
    all
}
