//! What a rule does before and beside forwarding.

use serde_json::{Value, json};

use crate::generate::maybe;
use crate::rng::Rng;

/// Faults that always happen, or never.
pub(crate) fn fault(rng: &mut Rng) -> Value {
    let mut out = json!({});
    maybe(rng, 40, &mut out, "delay", |r| {
        let mut delay = json!({"fixedDelay": r.pick(&["0.002s", "0.004s"])});
        maybe(r, 80, &mut delay, "percentage", |r| json!({"value": r.pick(&[100, 100, 0])}));
        delay
    });
    if rng.percent(75) || out == json!({}) {
        let mut abort = match rng.below(4) {
            0 => json!({"grpcStatus": rng.pick(&["UNAVAILABLE", "NOT_FOUND"])}),
            _ => json!({"httpStatus": rng.pick(&[400, 404, 418, 500, 503])}),
        };
        maybe(rng, 90, &mut abort, "percentage", |r| json!({"value": r.pick(&[100, 100, 100, 0])}));
        out["abort"] = abort;
    }
    out
}

/// Origins that a policy may allow are those that requests have.
pub(crate) fn cors(rng: &mut Rng) -> Value {
    let mut out = json!({});
    maybe(rng, 90, &mut out, "allowOrigins", |r| match r.below(5) {
        0 => json!([{"exact": "*"}]),
        1 => json!([{"prefix": "http://a."}]),
        2 => json!([{"regex": "https?://[ab].example"}]),
        3 => json!([{"exact": "http://nobody.example"}, {"exact": "http://a.example"}]),
        _ => json!([{"exact": "http://a.example"}]),
    });
    maybe(rng, 60, &mut out, "allowMethods", |r| match r.below(4) {
        0 => json!(["*"]),
        1 => json!(["PUT"]),
        _ => json!(["GET", "POST"]),
    });
    maybe(rng, 50, &mut out, "allowHeaders", |r| if r.percent(30) { json!(["*"]) } else { json!(["x-a", "x-b"]) });
    maybe(rng, 40, &mut out, "exposeHeaders", |_| json!(["x-u1", "x-u2"]));
    maybe(rng, 40, &mut out, "maxAge", |r| json!(r.pick(&["60s", "86400s"])));
    maybe(rng, 50, &mut out, "allowCredentials", |r| json!(r.percent(70)));
    maybe(rng, 50, &mut out, "unmatchedPreflights", |r| json!(r.pick(&["FORWARD", "IGNORE", "UNSPECIFIED"])));
    out
}

/// Copies of every request, or of none, to a service that gets nothing else.
pub(crate) fn mirror(rng: &mut Rng, rule: &mut Value) {
    let mut to = json!({"host": "copies.example.com", "port": {"number": 80}});
    maybe(rng, 40, &mut to, "subset", |_| json!("one"));
    match rng.below(4) {
        0 => rule["mirror"] = to,
        1 => {
            rule["mirror"] = to;
            rule["mirrorPercentage"] = json!({"value": rng.pick(&[100, 0])});
        }
        2 => rule["mirrors"] = json!([{"destination": to}]),
        _ => rule["mirrors"] = json!([{"destination": to, "percentage": {"value": rng.pick(&[100, 0])}}]),
    }
}

/// Says the same with fields that newer ones stand for.
pub(crate) fn older(rule: &mut Value) {
    let whole = |share: &Value| share["value"].as_u64().map(Value::from);
    if let Some(cors) = rule.get_mut("corsPolicy").and_then(Value::as_object_mut) {
        let origins = cors.get("allowOrigins").and_then(Value::as_array);
        let exact: Option<Vec<Value>> = origins.and_then(|all| all.iter().map(|o| o.get("exact").cloned()).collect());
        if let Some(exact) = exact {
            cors.remove("allowOrigins");
            cors.insert("allowOrigin".to_owned(), Value::Array(exact));
        }
    }
    if let Some(delay) = rule.pointer_mut("/fault/delay").and_then(Value::as_object_mut)
        && let Some(share) = delay.get("percentage").and_then(whole)
    {
        delay.remove("percentage");
        delay.insert("percent".to_owned(), share);
    }
    if let Some(rule) = rule.as_object_mut()
        && let Some(share) = rule.get("mirrorPercentage").and_then(whole)
    {
        rule.remove("mirrorPercentage");
        rule.insert("mirrorPercent".to_owned(), share);
    }
}
