//! Requests that are about something that a configuration says: of all others few would meet what is rare.

use std::collections::BTreeMap;

use serde_json::Value;

use super::client::To;
use super::generate::Config;
use super::lab::{GATEWAY_PORTS, Lab, Who};
use super::requests::{Ask, Manners, Way, ask, direct_tls, gateway_tls, outbound_tls, own_address};
use super::rng::Rng;
use super::topology::{OUTSIDE, vip};

/// A word of a configuration, and what makes a request be about it.
type Concern = (&'static str, fn(&mut Rng, &Lab, &mut Ask));

const CONCERNS: [Concern; 19] = [
    ("egressProxy", |r, lab, ask| unknown(r, lab, ask, "nobody.example.net")),
    ("REGISTRY_ONLY", |r, lab, ask| unknown(r, lab, ask, "nobody.example.net")),
    ("ALLOW_ANY_DYNAMIC_DNS", |r, lab, ask| {
        let at = lab.block.ip(r.pick(&OUTSIDE)).to_string();
        unknown(r, lab, ask, &at);
    }),
    ("unmatchedPreflights", |r, lab, ask| {
        plain(r, lab, ask);
        page(r, ask, "http://b.example", true);
    }),
    ("allowCredentials", |r, lab, ask| {
        plain(r, lab, ask);
        let preflight = r.percent(50);
        page(r, ask, "http://a.example", preflight);
    }),
    ("destinationSubnets", bytes),
    ("tcp", bytes),
    ("sniHosts", |r, lab, ask| {
        sidecar(r, ask);
        ask.go(outbound_tls(r, lab, ask.who));
    }),
    ("\"ingress\"", |r, lab, ask| {
        ask.who = Who::Side;
        ask.go(direct_tls(r, lab));
    }),
    ("credentialName", to_gateway_tls),
    ("serverCertificate", to_gateway_tls),
    ("httpHeadersWithUnderscoresAction", |_, _, ask| ask.set("x_d", "d")),
    ("httpPathWithEscapedSlashesAction", |_, _, ask| ask.target = "/a%2Fb/../c".to_owned()),
    ("attemptCount", |_, _, ask| ask.remove("x-do")),
    ("discoverySelectors", |r, lab, ask| dial(r, lab, ask, ("back.back.svc.cluster.local", 80, "back"))),
    ("trafficPolicy", plain),
    ("rootNamespace", plain),
    ("subjectAltNames", |r, lab, ask| {
        sidecar(r, ask);
        ask.go((To::door(lab.door(ask.who)), r.pick(&["a.example.com", "b.example.com"]).to_owned(), None));
    }),
    ("ISTIO_META_HTTP10", |r, lab, ask| {
        plain(r, lab, ask);
        ask.old = Some(false);
    }),
];

/// Makes requests, and knows what they were about.
#[derive(Default)]
pub(crate) struct Asker {
    met: BTreeMap<&'static str, usize>,
    number: usize,
}

impl Asker {
    /// The next request for a configuration: about what requests were about least so far, about a rule, or about nothing.
    pub(crate) fn next(&mut self, rng: &mut Rng, lab: &Lab, config: &Config, manners: Manners, name: usize) -> Ask {
        let mut ask = ask(rng, lab, name);
        self.number += 1;
        match (self.number % 10, config.card) {
            (0, Some(card)) => rng.named("card", |rng| (card.ask)(rng, lab, &mut ask)),
            (0..4, _) => {
                let text = config.text();
                let says = |(word, _): &&Concern| text.contains(word);
                let met = |(word, _): &&Concern| self.met.get(word).copied().unwrap_or_default();
                if let Some((word, make)) = CONCERNS.iter().filter(says).min_by_key(met) {
                    *self.met.entry(word).or_default() += 1;
                    rng.named(word, |rng| make(rng, lab, &mut ask));
                }
            }
            (4..7, _) => aim(rng, lab, config, &mut ask),
            _ => {}
        }
        ask.to.from = Some(lab.block.ip(own_address(rng, ask.who)));
        ask.to.proxy_header = ask.who == Who::Gateway && manners.proxy_header;
        ask
    }
}

pub(crate) fn sidecar(rng: &mut Rng, ask: &mut Ask) {
    ask.who = rng.pick(&[Who::Front, Who::Front, Who::Cron]);
}

/// From a sidecar's client to a service, as whose name it is known.
pub(crate) fn dial(rng: &mut Rng, lab: &Lab, ask: &mut Ask, (host, port, service): (&str, u16, &str)) {
    sidecar(rng, ask);
    let to = std::net::SocketAddr::new(lab.block.ip(vip(service)), port);
    ask.go((To { tunnel: Some(to), ..To::door(lab.door(ask.who)) }, to.to_string(), Some(host.to_owned())));
}

/// A host that is no service, behind a port of one.
fn unknown(rng: &mut Rng, lab: &Lab, ask: &mut Ask, host: &str) {
    dial(rng, lab, ask, (host, 8081, "srv"));
}

/// The service that most rules are about.
fn plain(rng: &mut Rng, lab: &Lab, ask: &mut Ask) {
    let host = "srv.shop.svc.cluster.local";
    match rng.percent(30) {
        true => {
            ask.who = Who::Gateway;
            let port = rng.pick(&GATEWAY_PORTS);
            ask.go((To::door(lab.gateway(port)), format!("gateway.example:{port}"), Some(host.to_owned())));
        }
        false => dial(rng, lab, ask, (host, 80, "srv")),
    }
}

fn bytes(rng: &mut Rng, lab: &Lab, ask: &mut Ask) {
    dial(rng, lab, ask, ("raw.back.svc.cluster.local", 9001, "raw"));
}

fn to_gateway_tls(rng: &mut Rng, lab: &Lab, ask: &mut Ask) {
    ask.who = Who::Gateway;
    ask.go(gateway_tls(rng, lab));
}

/// What a page of another origin asks.
pub(crate) fn page(rng: &mut Rng, ask: &mut Ask, origin: &str, preflight: bool) {
    ask.set("origin", origin);
    ask.remove("access-control-request-method");
    ask.method = "GET";
    ask.remove("content-length");
    if preflight {
        ask.method = "OPTIONS";
        ask.set("access-control-request-method", rng.pick(&["GET", "PUT"]));
    }
}

/// Makes a request be what a rule is about.
fn aim(rng: &mut Rng, lab: &Lab, config: &Config, ask: &mut Ask) {
    let rules: Vec<(&Value, &Value)> = config
        .made
        .iter()
        .filter(|d| d["kind"] == "VirtualService" && d["spec"]["hosts"].is_array())
        .flat_map(|d| d["spec"]["http"].as_array().into_iter().flatten().map(move |rule| (&d["spec"], rule)))
        .collect();
    if rules.is_empty() {
        return;
    }
    let (spec, rule) = rules[rng.below(rules.len())];
    let matches = rule["match"].as_array().filter(|all| !all.is_empty());
    let condition = matches.map_or(&Value::Null, |all| &all[rng.below(all.len())]);
    towards(rng, lab, spec, condition, ask);
    if let Some(path) = example(rng, &condition["uri"]).filter(|p| p.starts_with('/')) {
        ask.target = path;
        if condition["ignoreUriCase"] == true && rng.percent(60) {
            ask.target = ask.target.to_ascii_uppercase();
        }
    }
    if let Some((method, _)) =
        example(rng, &condition["method"]).and_then(|m| Some((METHODS.iter().find(|k| **k == m)?, m)))
    {
        ask.method = method;
    }
    for name in ["x-a", "x-b", "x-c"] {
        if let Some(value) = condition["headers"].get(name).and_then(|c| example(rng, c)) {
            ask.set(name, &value);
        }
        if condition["withoutHeaders"].get(name).is_some() && rng.percent(70) {
            ask.remove(name);
        }
    }
    if let Some(query) = condition["queryParams"].as_object() {
        let pairs: Vec<String> =
            query.iter().map(|(name, c)| format!("{name}={}", example(rng, c).unwrap_or_default())).collect();
        ask.target = format!("{}?{}", ask.target.split('?').next().unwrap_or_default(), pairs.join("&"));
    }
    if rule.get("corsPolicy").is_some() {
        let (origin, preflight) = (rng.pick(&["http://a.example", "http://b.example", "null"]), rng.percent(50));
        page(rng, ask, origin, preflight);
    }
    if rule.get("retries").is_some() {
        ask.set("x-do", rng.pick(&["status=503", "status=500", "close", "grpc=14"]));
    }
}

const METHODS: [&str; 3] = ["GET", "POST", "PUT"];

/// Through a proxy, to a port and with a host that rules of a VirtualService are for.
fn towards(rng: &mut Rng, lab: &Lab, spec: &Value, condition: &Value, ask: &mut Ask) {
    let hosts = spec["hosts"].as_array().expect("invariant: only roots are aimed at");
    let host = hosts[rng.below(hosts.len())].as_str().unwrap_or_default();
    let host = match host.strip_prefix('*') {
        Some("") => "srv.shop.svc.cluster.local".to_owned(),
        Some(suffix) => format!("a{suffix}"),
        None => host.to_owned(),
    };
    let gateways: Vec<&str> = spec["gateways"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let of_mesh = gateways.is_empty() || gateways.contains(&"mesh");
    if !of_mesh || (gateways.len() > 1 && rng.percent(50)) {
        ask.who = Who::Gateway;
        let port = condition["port"].as_u64().and_then(|p| u16::try_from(p).ok());
        let port = port.filter(|p| GATEWAY_PORTS.contains(p)).unwrap_or_else(|| rng.pick(&GATEWAY_PORTS));
        let way: Way = (To::door(lab.gateway(port)), format!("gateway.example:{port}"), Some(host));
        return ask.go(way);
    }
    let service = host.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let at = match &*service {
        "back" => (80, "back"),
        "side" => (8080, "side"),
        "auto" => (9000, "auto"),
        "rpc" => (80, "rpc"),
        "ext" => (80, "ext"),
        _ if condition["port"] == 8081 => (8081, "srv"),
        _ => (80, "srv"),
    };
    dial(rng, lab, ask, (&host, at.0, at.1));
}

/// Text that a condition asks for, or nearly.
fn example(rng: &mut Rng, condition: &Value) -> Option<String> {
    let text = |kind: &str| condition.get(kind).and_then(Value::as_str).map(str::to_owned);
    if let Some(exact) = text("exact") {
        return Some(exact);
    }
    if let Some(prefix) = text("prefix") {
        return Some(prefix + rng.pick(&["", "", "/x", "b"]));
    }
    let found = match &*text("regex")? {
        "/a.*" | "/a/[^/]*" => "/a/b",
        "/api/v[12]" => rng.pick(&["/api/v1", "/api/v1/x"]),
        "/item/[0-9]+" => rng.pick(&["/item/42", "/item/42x"]),
        "(?i)/a/b" => "/A/b",
        "/a|/b" => rng.pick(&["/b", "/ab"]),
        "/.{3}" => "/x.y",
        "a.*" | "[ab]+" => rng.pick(&["ab", "xab"]),
        "GET|PUT" => "PUT",
        _ => "a",
    };
    Some(found.to_owned())
}
