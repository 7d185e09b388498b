//! Who may ask what, by certificates and tokens.

use serde_json::{Value, json};

use super::{aged, maybe};
use crate::lab::{Block, GATEWAY_PORTS};
use crate::rng::Rng;
use crate::services::KEYS;
use crate::tokens::{INLINE, REMOTE};
use crate::topology::{CALLERS, SIDE_BYTES};

/// Some policies, or none.
pub(super) fn policies(rng: &mut Rng, block: &Block) -> Vec<Value> {
    let mut out = Vec::new();
    if rng.percent(50) {
        out.extend(peer_authentications(rng, block));
    }
    if rng.percent(50) {
        out.extend(request_authentications(rng, block));
    }
    if rng.percent(60) {
        for i in 0..1 + rng.below(3) {
            out.push(authorization(rng, block, i));
        }
    }
    if rng.percent(30) {
        out.push(egress(rng, block));
    }
    out
}

fn object(group: &str, kind: &str, namespace: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": group,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    })
}

const SECURITY: &str = "security.istio.io/v1";
const MODES: [&str; 5] = ["STRICT", "STRICT", "PERMISSIVE", "DISABLE", "UNSET"];

fn peer_authentications(rng: &mut Rng, block: &Block) -> Vec<Value> {
    let mut out = Vec::new();
    for (namespace, percent) in [("istio-system", 40), ("back", 10), ("other", 10), ("shop", 50)] {
        if rng.percent(percent) {
            let policy = json!({"mtls": {"mode": rng.pick(&MODES)}});
            let policy = object(SECURITY, "PeerAuthentication", namespace, "default", policy);
            out.push(aged(rng, policy));
        }
    }
    for (namespace, percent) in [("shop", 45), ("istio-system", 8)] {
        if !rng.percent(percent) {
            continue;
        }
        let app = rng.pick(&["side", "side", "srv"]);
        let mut spec = json!({"selector": {"matchLabels": {"app": app}}});
        maybe(rng, 70, &mut spec, "mtls", |r| json!({"mode": r.pick(&MODES)}));
        maybe(rng, 60, &mut spec, "portLevelMtls", |r| {
            let port = r.pick(&[block.local, block.local, SIDE_BYTES]);
            json!({port.to_string(): {"mode": r.pick(&MODES)}})
        });
        let policy = object(SECURITY, "PeerAuthentication", namespace, "own", spec);
        out.push(aged(rng, policy));
    }
    out
}

/// External authorizers, among the mesh's settings.
pub(super) fn authorizers(rng: &mut Rng) -> Value {
    let mut web = json!({"service": "check.other.svc.cluster.local", "port": 80, "timeout": "30s"});
    maybe(rng, 50, &mut web, "headersToUpstreamOnAllow", |_| json!(["x-checked"]));
    let call = json!({"service": "check.other.svc.cluster.local", "port": 81, "timeout": "30s"});
    json!([{"name": "web-check", "envoyExtAuthzHttp": web}, {"name": "call-check", "envoyExtAuthzGrpc": call}])
}

/// Where policies are and whom they select.
fn scope(rng: &mut Rng) -> (&'static str, Option<Value>) {
    let labels = |name: &str, value: &str| Some(json!({"matchLabels": {name: value}}));
    match rng.below(10) {
        0..=4 => ("shop", labels("app", "side")),
        5 => ("shop", None),
        6 => ("istio-system", labels("istio", "ingressgateway")),
        7 => ("istio-system", labels("app", "side")),
        8 => ("istio-system", None),
        _ => (rng.pick(&["back", "other", "shop"]), labels("app", "srv")),
    }
}

fn request_authentications(rng: &mut Rng, block: &Block) -> Vec<Value> {
    let mut out = Vec::new();
    for i in 0..1 + rng.below(2) {
        let (namespace, selector) = scope(rng);
        let rules: Vec<Value> = (0..1 + rng.below(2)).map(|n| jwt_rule(rng, block, n)).collect();
        let mut spec = json!({"jwtRules": rules});
        spec["selector"] = selector.unwrap_or_default();
        if spec["selector"].is_null() {
            spec.as_object_mut().unwrap().remove("selector");
        }
        let policy = object(SECURITY, "RequestAuthentication", namespace, &format!("users-{i}"), spec);
        out.push(aged(rng, policy));
    }
    out
}

fn jwt_rule(rng: &mut Rng, block: &Block, number: usize) -> Value {
    let remote = if number == 0 { rng.percent(25) } else { true };
    let mut rule = json!({"issuer": if remote { REMOTE } else { INLINE }});
    match remote {
        true => rule["jwksUri"] = json!(KEYS),
        false => rule["jwks"] = json!(block.tokens.inline_keys()),
    }
    maybe(rng, 25, &mut rule, "audiences", |r| json!([r.pick(&["web", "http://web", "nobody"])]));
    match rng.below(8) {
        0 => rule["fromHeaders"] = json!([{"name": "x-token", "prefix": "Token "}]),
        1 => {
            rule["fromHeaders"] =
                json!([{"name": "x-token", "prefix": ""}, {"name": "authorization", "prefix": "Bearer "}])
        }
        2 => rule["fromParams"] = json!(["jwt"]),
        3 => rule["fromCookies"] = json!(["session"]),
        _ => {}
    }
    maybe(rng, 30, &mut rule, "outputPayloadToHeader", |_| json!("x-jwt-payload"));
    maybe(rng, 40, &mut rule, "outputClaimToHeaders", |r| {
        let claim = r.pick(&["groups", "deep.inner", "level", "role", "nothing"]);
        json!([{"header": "x-jwt-sub", "claim": "sub"}, {"header": "x-jwt-claim", "claim": claim}])
    });
    maybe(rng, 40, &mut rule, "forwardOriginalToken", |r| json!(r.percent(80)));
    maybe(rng, 15, &mut rule, "timeout", |_| json!("20s"));
    maybe(rng, 25, &mut rule, "spaceDelimitedClaims", |_| json!(["words"]));
    maybe(rng, 20, &mut rule, "presence", |r| json!(r.pick(&["REQUIRED", "OPTIONAL"])));
    rule
}

fn authorization(rng: &mut Rng, block: &Block, index: usize) -> Value {
    let (namespace, selector) = scope(rng);
    let action = rng.pick(&["ALLOW", "ALLOW", "ALLOW", "DENY", "DENY", "AUDIT", "CUSTOM", ""]);
    let mut spec = json!({});
    if let Some(selector) = selector {
        spec["selector"] = selector;
    }
    if !action.is_empty() {
        spec["action"] = json!(action);
    }
    if action == "CUSTOM" {
        spec["provider"] = json!({"name": rng.pick(&["web-check", "web-check", "call-check", "nobody"])});
    }
    let allows = action == "ALLOW" || action.is_empty();
    if !(allows && rng.percent(6)) {
        let mut rules: Vec<Value> =
            (0..1 + rng.below(2)).map(|_| rule(rng, block, action == "CUSTOM", allows)).collect();
        if allows && rng.percent(50) {
            rules.push(json!({"to": [{"operation": {"methods": ["GET", "P*", "HEAD"]}}]}));
        }
        if rng.percent(4) {
            rules.push(json!({}));
        }
        spec["rules"] = Value::Array(rules);
    }
    let mut policy = object(SECURITY, "AuthorizationPolicy", namespace, &format!("who-{index}"), spec);
    if rng.percent(6) {
        policy["metadata"]["annotations"] = json!({"istio.io/dry-run": "true"});
    }
    aged(rng, policy)
}

/// A part of a rule: a field, values that it may have, and whether external authorizers may be asked by it.
type Field = (&'static str, Vec<Value>, bool);

fn sources(block: &Block) -> Vec<Field> {
    let caller = |i: usize| block.ip(CALLERS[i]).to_string();
    let networks = vec![
        json!([caller(0)]),
        json!([format!("{}/32", caller(1)), "10.0.0.0/8"]),
        json!(["127.0.0.0/8"]),
        json!(["203.0.113.0/24"]),
    ];
    let remote = vec![
        json!(["203.0.113.0/24"]),
        json!([caller(0), "198.51.100.7"]),
        json!(["192.0.2.1"]),
        json!(["127.0.0.0/8", "203.0.113.9"]),
    ];
    vec![
        (
            "principals",
            vec![
                json!(["cluster.local/ns/shop/sa/front"]),
                json!(["*"]),
                json!(["cluster.local/ns/shop/*"]),
                json!(["*/sa/cron", "nobody"]),
                json!(["old.example/ns/other/sa/cron"]),
                json!(["spiffe://cluster.local/ns/shop/sa/front"]),
                json!(["cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account"]),
            ],
            false,
        ),
        ("namespaces", vec![json!(["shop"]), json!(["o*r", "istio-system"]), json!(["back"])], false),
        ("serviceAccounts", vec![json!(["front"]), json!(["other/cron"]), json!(["shop/front", "back/back"])], false),
        ("trustDomains", vec![json!(["cluster.local"]), json!(["old*"]), json!(["*.local"])], false),
        (
            "requestPrincipals",
            vec![
                json!(["*"]),
                json!([format!("{INLINE}/alice")]),
                json!([format!("{INLINE}/*")]),
                json!(["*/bob"]),
                json!([format!("{REMOTE}/alice")]),
            ],
            false,
        ),
        ("ipBlocks", networks, true),
        ("remoteIpBlocks", remote, true),
    ]
}

fn operations(block: &Block) -> Vec<Field> {
    vec![
        (
            "hosts",
            vec![
                json!(["side.shop.svc.cluster.local", "side.shop.svc.cluster.local:*"]),
                json!(["*.Example.com"]),
                json!(["side*", "srv*"]),
                json!(["*"]),
            ],
            true,
        ),
        (
            "ports",
            vec![
                json!([block.local.to_string()]),
                json!([SIDE_BYTES.to_string(), "80"]),
                json!([GATEWAY_PORTS[1].to_string()]),
                json!([block.local.to_string(), SIDE_BYTES.to_string()]),
            ],
            true,
        ),
        ("methods", vec![json!(["GET"]), json!(["P*", "HEAD"]), json!(["get"]), json!(["*"])], true),
        (
            "paths",
            vec![
                json!(["/a*"]),
                json!(["/"]),
                json!(["*/b", "/x.y"]),
                json!(["/api/{*}"]),
                json!(["/a/{**}"]),
                json!(["/item/{*}", "/A"]),
            ],
            true,
        ),
    ]
}

fn conditions(block: &Block) -> Vec<Field> {
    let caller = block.ip(CALLERS[0]).to_string();
    vec![
        ("request.headers[x-a]", vec![json!(["a"]), json!(["*"]), json!(["a*", "zz"])], true),
        ("request.headers[X-B]", vec![json!(["*b"])], true),
        ("source.ip", vec![json!([caller]), json!(["127.0.0.0/8"])], true),
        ("remote.ip", vec![json!(["203.0.113.9", "198.51.100.0/24"])], true),
        ("source.namespace", vec![json!(["shop"])], false),
        ("source.principal", vec![json!(["*/sa/front"]), json!(["*"])], false),
        ("source.serviceAccount", vec![json!(["shop/front"])], false),
        ("source.trustDomain", vec![json!(["cluster.local"])], false),
        ("request.auth.principal", vec![json!([format!("{INLINE}/alice")]), json!(["*"])], false),
        ("request.auth.audiences", vec![json!(["web"])], false),
        ("request.auth.presenter", vec![json!(["app"])], false),
        ("request.auth.claims[groups]", vec![json!(["admin"]), json!(["d*"])], false),
        ("request.auth.claims[scope]", vec![json!(["read"])], false),
        ("request.auth.claims[words]", vec![json!(["b"])], false),
        ("request.auth.claims[deep][inner]", vec![json!(["x*"])], false),
        ("request.auth.claims[level]", vec![json!(["1"])], false),
        ("destination.port", vec![json!([block.local.to_string()]), json!([SIDE_BYTES.to_string(), "80"])], true),
        ("destination.ip", vec![json!([block.ip(31).to_string()]), json!(["192.0.2.0/24"])], true),
        ("connection.sni", vec![json!(["*.shop.svc.cluster.local"]), json!(["a.example.com"]), json!(["*"])], true),
    ]
}

fn one_of(rng: &mut Rng, from: &[Field], custom: bool) -> (&'static str, Value) {
    loop {
        let (name, values, external) = &from[rng.below(from.len())];
        if *external || !custom {
            return (name, values[rng.below(values.len())].clone());
        }
    }
}

/// An object with one or two of these fields, each as it is or negated.
fn fields(rng: &mut Rng, from: &[Field], custom: bool) -> Value {
    let mut out = json!({});
    for _ in 0..1 + rng.below(2) {
        let (name, values) = one_of(rng, from, custom);
        let accounts = name.to_lowercase().contains("serviceaccounts");
        // Accounts say already what the others would.
        let has = |o: &Value, word: &str| o.as_object().unwrap().keys().any(|k| k.to_lowercase().contains(word));
        if (accounts && out != json!({})) || has(&out, "serviceaccounts") {
            continue;
        }
        let negated = format!("not{}{}", name[..1].to_uppercase(), &name[1..]);
        out[if rng.percent(33) { &negated } else { name }] = values;
    }
    out
}

fn rule(rng: &mut Rng, block: &Block, custom: bool, allows: bool) -> Value {
    let mut rule = json!({});
    let kinds = 1 + rng.below(7);
    if kinds & 1 > 0 {
        let many = 1 + rng.below(2);
        rule["from"] = (0..many).map(|_| json!({"source": fields(rng, &sources(block), custom)})).collect();
    }
    if kinds & 2 > 0 {
        let many = 1 + rng.below(2);
        rule["to"] = (0..many).map(|_| json!({"operation": fields(rng, &operations(block), custom)})).collect();
    }
    if kinds & 4 > 0 {
        let (key, values) = one_of(rng, &conditions(block), custom);
        let field = if rng.percent(if allows { 25 } else { 40 }) { "notValues" } else { "values" };
        rule["when"] = json!([{"key": key, field: values}]);
    }
    rule
}

/// What the own application may ask of others.
fn egress(rng: &mut Rng, block: &Block) -> Value {
    let hosts = ["srv.shop.svc.cluster.local*", "*.example.com", "back*", "one.tls.example", "SIDE.shop*"];
    let mut rules = Vec::new();
    for _ in 0..1 + rng.below(2) {
        let mut rule = rule(rng, block, false, false);
        if rng.percent(30) {
            let mut operation = json!({});
            operation[rng.pick(&["hosts", "hosts", "notHosts"])] = json!([rng.pick(&hosts)]);
            maybe(rng, 30, &mut operation, "ports", |r| json!([r.pick(&["80", "443", "8081"])]));
            rule["to"] = json!([{"operation": operation}]);
        }
        rules.push(rule);
    }
    let mut spec = json!({"action": rng.pick(&["ALLOW", "DENY", "DENY"]), "rules": rules});
    if spec["action"] == "ALLOW" {
        let all = json!({"to": [{"operation": {"methods": ["GET", "POST", "HEAD"]}}]});
        spec["rules"].as_array_mut().unwrap().push(all);
    }
    let namespace = rng.pick(&["shop", "other", "istio-system"]);
    maybe(rng, 30, &mut spec, "selector", |r| json!({"matchLabels": {"app": r.pick(&["front", "cron"])}}));
    let policy = object("policy.mesh.local/v1", "EgressPolicy", namespace, "out", spec);
    aged(rng, policy)
}
