//! Rules of VirtualServices.

use serde_json::{Map, Value, json};

use super::maybe;
use crate::rng::Rng;

#[path = "filters.rs"]
mod filters;

use filters::older;
pub(crate) use filters::{cors, fault, mirror};

const PATHS: [&str; 10] = ["/", "/a", "/a/", "/a/b", "/api", "/api/v1", "/A", "/x.y", "/item/42", "/a/b/c"];
const REGEXES: [&str; 8] = ["/a.*", "/api/v[12]", "/item/[0-9]+", ".*", "(?i)/a/b", "/a|/b", "/a/[^/]*", "/.{3}"];
pub(crate) const VALUES: [&str; 5] = ["a", "b", "ab", "", "A"];
const REQUEST_HEADERS: [&str; 5] = ["x-a", "x-b", "x-c", "x-new", "X-Mixed"];
const RESPONSE_HEADERS: [&str; 5] = ["x-u1", "x-u2", "x-u3", "x-more", "X-Mixed"];
/// Destinations; what is not a service is a missing cluster.
const DESTINATIONS: [(&str, &str, u16); 22] = [
    ("srv.shop.svc.cluster.local", "v1", 80),
    ("srv.shop.svc.cluster.local", "v2", 80),
    ("srv.shop.svc.cluster.local", "v3", 8081),
    ("srv.shop.svc.cluster.local", "all", 80),
    ("srv.shop.svc.cluster.local", "", 80),
    ("srv.shop.svc.cluster.local", "", 8081),
    ("srv.shop.svc.cluster.local", "", 0),
    ("srv.shop.svc.cluster.local", "missing", 80),
    ("srv", "v1", 80),
    ("srv", "", 0),
    ("back.back.svc.cluster.local", "v1", 0),
    ("back.back.svc.cluster.local", "v2", 80),
    ("back.back.svc.cluster.local", "", 0),
    ("back", "", 0),
    ("ext.example.com", "", 80),
    ("ext.example.com", "v2", 0),
    ("side.shop.svc.cluster.local", "", 8080),
    ("side.shop.svc.cluster.local", "", 0),
    ("dead.shop.svc.cluster.local", "", 80),
    ("empty.shop.svc.cluster.local", "", 0),
    ("rpc.other.svc.cluster.local", "", 80),
    ("alias.shop.svc.cluster.local", "", 80),
];

/// Some rules; a root's may delegate.
pub(super) fn http(rng: &mut Rng, root: bool) -> Value {
    let mut rules: Vec<Value> = Vec::new();
    if rng.percent(6) {
        rules.push(hanging(rng));
    }
    if rng.percent(15) {
        rules.push(page(rng));
    }
    for i in 0..1 + rng.below(4) {
        rules.push(rule(rng, root, i));
    }
    Value::Array(rules)
}

/// A rule for requests of a page: few others have an origin.
fn page(rng: &mut Rng) -> Value {
    json!({
        "name": "page",
        "match": [{"headers": {"origin": {}}}],
        "corsPolicy": cors(rng),
        "route": [{"destination": {"host": "srv.shop.svc.cluster.local", "port": {"number": 80}}}],
    })
}

/// A rule for requests that are never answered: time limits that are over soon.
pub(crate) fn hanging(rng: &mut Rng) -> Value {
    let mut rule = json!({
        "name": "hang",
        "match": [{"headers": {"x-hang": {"exact": "1"}}}],
        "route": [{"destination": {"host": "srv.shop.svc.cluster.local", "port": {"number": 80}}}],
    });
    match rng.below(3) {
        0 => rule["timeout"] = json!("0.12s"),
        1 => {
            rule["retries"] =
                json!({"attempts": 1, "perTryTimeout": "0.08s", "retryOn": "gateway-error", "backoff": "0.001s"})
        }
        _ => rule["retries"] = json!({"attempts": 2, "perTryTimeout": "0.08s", "backoff": "0.001s"}),
    }
    rule
}

fn rule(rng: &mut Rng, root: bool, index: usize) -> Value {
    let mut rule = json!({});
    maybe(rng, 50, &mut rule, "name", |r| json!(format!("{}-{index}", r.pick(&["rule", "Rule.x", "r"]))));
    if rng.percent(75) {
        let matches: Vec<Value> = (0..1 + rng.below(3)).map(|_| condition(rng)).collect();
        rule["match"] = Value::Array(matches);
    }
    match rng.below(100) {
        0..=9 => rule["redirect"] = redirect(rng, &rule),
        10..=18 => rule["directResponse"] = direct(rng),
        19..=26 if root => {
            rule["delegate"] =
                rng.pick(&[("del-1", "shop"), ("del-2", "back"), ("del-1", ""), ("none", "shop")]).into_delegate();
        }
        _ => {
            rule["route"] = route(rng);
            maybe(rng, 22, &mut rule, "rewrite", rewrite);
            maybe(rng, 25, &mut rule, "timeout", |r| json!(r.pick(&["61s", "75.5s", "90s", "1h"])));
            maybe(rng, 30, &mut rule, "retries", retries);
            maybe(rng, 12, &mut rule, "fault", fault);
            if rng.percent(9) {
                mirror(rng, &mut rule);
            }
        }
    }
    maybe(rng, 8, &mut rule, "corsPolicy", cors);
    // Of those that have any, so many.
    if ["corsPolicy", "fault", "mirrorPercentage"].iter().any(|f| rule.get(*f).is_some()) && rng.percent(40) {
        older(&mut rule);
    }
    if rng.percent(35) && rule.get("delegate").is_none() {
        let authority = rule["rewrite"].get("authority").is_some();
        rule["headers"] = headers(rng, !authority);
    }
    rule
}

trait IntoDelegate {
    fn into_delegate(self) -> Value;
}

impl IntoDelegate for (&str, &str) {
    fn into_delegate(self) -> Value {
        match self {
            (name, "") => json!({"name": name}),
            (name, namespace) => json!({"name": name, "namespace": namespace}),
        }
    }
}

fn text(rng: &mut Rng, exact: &[&str], regexes: &[&str]) -> Value {
    match rng.below(10) {
        0..=4 => json!({"exact": rng.pick(exact)}),
        5..=7 => json!({"prefix": rng.pick(exact)}),
        _ => json!({"regex": rng.pick(regexes)}),
    }
}

/// A value's condition; an empty prefix is not allowed.
fn value(rng: &mut Rng) -> Value {
    match rng.below(10) {
        0 => json!({}),
        1 => json!({"regex": "*"}),
        2..=5 => json!({"exact": rng.pick(&VALUES)}),
        6 | 7 => json!({"prefix": rng.pick(&["a", "b", "A"])}),
        _ => json!({"regex": rng.pick(&["a.*", "[ab]+", "a?", "b|ab"])}),
    }
}

fn values(rng: &mut Rng, names: &[&str]) -> Value {
    let names = rng.some(names, 2);
    Value::Object(names.into_iter().map(|n| (n.to_owned(), value(rng))).collect::<Map<_, _>>())
}

pub(crate) fn condition(rng: &mut Rng) -> Value {
    let mut m = json!({});
    maybe(rng, 65, &mut m, "uri", |r| match r.below(12) {
        0 => json!({"prefix": ""}),
        1 => json!({"prefix": "/"}),
        _ => text(r, &PATHS, &REGEXES),
    });
    maybe(rng, 15, &mut m, "ignoreUriCase", |r| json!(r.percent(80)));
    maybe(rng, 7, &mut m, "scheme", |r| text(r, &["http", "https"], &["https?"]));
    maybe(rng, 14, &mut m, "method", |r| text(r, &["GET", "POST", "P"], &["GET|PUT", "[A-Z]+"]));
    maybe(rng, 10, &mut m, "authority", |r| {
        text(r, &["srv", "srv.shop.svc.cluster.local", "a.example.com", "srv:80"], &["srv.*", ".*:80", "[a-z.]+"])
    });
    maybe(rng, 28, &mut m, "headers", |r| {
        let mut all = values(r, &["x-a", "x-b", "X-C"]);
        match r.below(14) {
            0 => all[":path"] = json!({"prefix": r.pick(&["/a", "/api"])}),
            1 => all[":method"] = json!({"exact": "GET"}),
            2 => all[":authority"] = text(r, &["srv", "a.example.com"], &["srv.*"]),
            3 => all["host"] = text(r, &["srv", "a.example.com"], &["srv.*"]),
            4 => all["x-forwarded-proto"] = json!({"exact": r.pick(&["http", "https"])}),
            5 => all["uri"] = json!({"exact": "/ignored"}),
            6 => all["x-request-id"] = json!({}),
            _ => {}
        }
        all
    });
    maybe(rng, 15, &mut m, "withoutHeaders", |r| values(r, &["x-a", "x-b", "x-c"]));
    maybe(rng, 15, &mut m, "queryParams", |r| values(r, &["k", "kk", "K"]));
    maybe(rng, 10, &mut m, "port", |r| json!(r.pick(&[80, 80, 8081, 9090, 8080, 9000])));
    maybe(rng, 10, &mut m, "sourceLabels", |r| match r.below(3) {
        0 => json!({"app": "front"}),
        1 => json!({"tier": r.pick(&["web", "batch"])}),
        _ => json!({"istio": "ingressgateway"}),
    });
    maybe(rng, 7, &mut m, "sourceNamespace", |r| json!(r.pick(&["shop", "other", "istio-system"])));
    maybe(rng, 7, &mut m, "gateways", |r| json!([r.pick(&["mesh", "shop/gw1", "istio-system/gw2"])]));
    maybe(rng, 4, &mut m, "statPrefix", |_| json!("counted"));
    maybe(rng, 20, &mut m, "name", |r| json!(r.pick(&["m", "other"])));
    m
}

fn route(rng: &mut Rng) -> Value {
    let destination = |rng: &mut Rng, (host, subset, port): (&str, &str, u16)| {
        let mut d = json!({"host": host});
        if !subset.is_empty() {
            d["subset"] = json!(subset);
        }
        if port != 0 {
            d["port"] = json!({"number": port});
        }
        let mut out = json!({"destination": d});
        maybe(rng, 22, &mut out, "headers", |r| headers(r, true));
        out
    };
    if rng.percent(60) {
        let to = rng.pick(&DESTINATIONS);
        return json!([destination(rng, to)]);
    }
    // One cluster twice would leave open whose header operations a request got.
    let mut chosen: Vec<(&'static str, &'static str, u16)> = Vec::new();
    for (host, subset, port) in rng.some(&DESTINATIONS, 3) {
        // `alias` stands for `back`.
        let service = |host: &'static str| host.split('.').next().map(|s| if s == "alias" { "back" } else { s });
        let same = |c: &&(&'static str, &str, u16)| service(c.0) == service(host) && c.1 == subset;
        if chosen.iter().find(same).is_none() {
            chosen.push((host, subset, port));
        }
    }
    let many = chosen.len() > 1;
    let mut out: Vec<Value> = chosen.into_iter().map(|c| destination(rng, c)).collect();
    let mut sum = 0;
    for one in out.iter_mut().filter(|_| many) {
        let weight = rng.pick(&[0, 1, 10, 30, 50, 90]);
        sum += weight;
        one["weight"] = json!(weight);
    }
    if many && sum == 0 {
        out[0]["weight"] = json!(7);
    }
    Value::Array(out)
}

pub(crate) fn rewrite(rng: &mut Rng) -> Value {
    let mut out = json!({});
    match rng.below(5) {
        0 | 1 => out["uri"] = json!(rng.pick(&["/", "/new", "/new/", "/q?z=1"])),
        2 | 3 => {
            let (from, to) = rng.pick(&[
                ("/([a-z]+)/(.*)", "/\\2/\\1"),
                ("a", "xx"),
                ("^/api(/?)(.*)", "/\\2"),
                ("[0-9]+", "<\\0>"),
            ]);
            out["uriRegexRewrite"] = json!({"match": from, "rewrite": to});
        }
        _ => {}
    }
    if rng.percent(30) || out == json!({}) {
        out["authority"] = json!(rng.pick(&["rewritten.example", "rewritten.example:81"]));
    }
    out
}

pub(crate) fn retries(rng: &mut Rng) -> Value {
    let attempts = rng.below(4);
    if attempts == 0 {
        return json!({"attempts": 0});
    }
    let mut out = json!({"attempts": attempts, "backoff": "0.001s"});
    maybe(rng, 70, &mut out, "retryOn", |r| {
        json!(r.pick(&[
            "5xx",
            "gateway-error",
            "reset",
            "503",
            "retriable-4xx",
            "connect-failure",
            "unavailable,cancelled",
            "internal,resource-exhausted,deadline-exceeded",
            "429,5xx",
            "refused-stream"
        ]))
    });
    maybe(rng, 30, &mut out, "perTryTimeout", |r| json!(r.pick(&["62s", "63.5s"])));
    maybe(rng, 15, &mut out, "retryIgnorePreviousHosts", |r| json!(r.percent(50)));
    maybe(rng, 10, &mut out, "retryRemoteLocalities", |r| json!(r.percent(50)));
    out
}

fn operations(rng: &mut Rng, names: &[&str], values: &[&str]) -> Value {
    let mut out = json!({});
    let pairs = |r: &mut Rng| {
        let names = r.some(names, 2);
        Value::Object(names.into_iter().map(|n| (n.to_owned(), json!(r.pick(values)))).collect())
    };
    maybe(rng, 55, &mut out, "set", pairs);
    maybe(rng, 45, &mut out, "add", pairs);
    maybe(rng, 30, &mut out, "remove", |r| json!(r.some(names, 2)));
    out
}

pub(crate) fn headers(rng: &mut Rng, may_set_host: bool) -> Value {
    let mut out = json!({});
    let request = ["v", "w", "%REQ(x-a)%", "<%REQ(x-b)%>", "100%%", "%REQ(x-a):1%", "%REQ(no-such)%"];
    let response = ["v", "w", "%RESP(x-u1)%", "<%REQ(x-a)%>", "%RESPONSE_CODE%", "100%%"];
    maybe(rng, 75, &mut out, "request", |r| operations(r, &REQUEST_HEADERS, &request));
    if may_set_host && rng.percent(10) {
        let field = rng.pick(&["set", "add"]);
        out["request"][field]["host"] = json!(rng.pick(&["set.example", "%REQ(x-a)%.example"]));
    }
    maybe(rng, 55, &mut out, "response", |r| operations(r, &RESPONSE_HEADERS, &response));
    out
}

pub(crate) fn redirect(rng: &mut Rng, rule: &Value) -> Value {
    let mut out = json!({});
    let prefixes = rule["match"].as_array().is_some_and(|all| all.iter().all(|m| m["uri"].get("prefix").is_some()));
    if prefixes && rng.percent(40) {
        out["prefixRewrite"] = json!(rng.pick(&["/p", "/"]));
    } else {
        maybe(rng, 50, &mut out, "uri", |r| json!(r.pick(&["/moved", "/moved?z=1", "/"])));
    }
    maybe(rng, 40, &mut out, "authority", |r| json!(r.pick(&["other.example", "other.example:8443"])));
    maybe(rng, 30, &mut out, "scheme", |r| json!(r.pick(&["http", "https"])));
    match rng.below(6) {
        0 => out["port"] = json!(rng.pick(&[80, 443, 8443])),
        1 => out["derivePort"] = json!(rng.pick(&["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"])),
        _ => {}
    }
    if out.get("uri").is_none() && out.get("authority").is_none() && out.get("prefixRewrite").is_none() {
        out["authority"] = json!("only.example");
    }
    maybe(rng, 50, &mut out, "redirectCode", |r| json!(r.pick(&[301, 302, 303, 307, 308])));
    out
}

pub(crate) fn direct(rng: &mut Rng) -> Value {
    let mut out = json!({"status": rng.pick(&[200, 201, 204, 302, 304, 404, 429, 500, 503])});
    maybe(rng, 60, &mut out, "body", |r| {
        if r.percent(70) { json!({"string": "direct body"}) } else { json!({"bytes": "Ynl0ZXM="}) }
    });
    out
}
