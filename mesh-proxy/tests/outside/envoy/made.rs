//! VirtualServices of which each request has one outcome, and requests for them.

use serde_json::{Value, json};

use crate::client::To;
use crate::generate::{maybe, object, rules};
use crate::lab::{Lab, Who};
use crate::requests::{Ask, PATHS};
use crate::rng::Rng;
use crate::topology::vip;

use super::translate::Side;

/// Destinations with one endpoint, or none.
const DESTINATIONS: [(&str, &str, u16); 14] = [
    ("srv.shop.svc.cluster.local", "v1", 80),
    ("srv.shop.svc.cluster.local", "v2", 0),
    ("srv.shop.svc.cluster.local", "v3", 8081),
    ("srv", "v1", 0),
    ("srv", "v2", 8081),
    ("srv.shop.svc.cluster.local", "missing", 80),
    ("back.back.svc.cluster.local", "v1", 0),
    ("back.back.svc.cluster.local", "v2", 80),
    ("ext.example.com", "v1", 0),
    ("ext.example.com", "v2", 80),
    ("dead", "", 0),
    ("empty.shop.svc.cluster.local", "", 80),
    ("rpc.other.svc.cluster.local", "", 80),
    ("nothing.example.org", "", 80),
];

/// The service that the sidecar's client dials.
const HOST: &str = "srv.shop.svc.cluster.local";

/// A VirtualService for both sides, with the domains that it gives a side.
pub(super) fn virtual_service(rng: &mut Rng) -> Value {
    let hosts = rng.pick(&[HOST, HOST, "a.example.com", "*.example.com"]);
    let mut hosts = vec![hosts];
    if hosts[0] != HOST {
        hosts.push(HOST);
    }
    let mut list: Vec<Value> = Vec::new();
    if rng.percent(8) {
        let mut rule = rules::hanging(rng);
        rule["route"] = json!([destination(("srv", "v1", 80))]);
        list.push(rule);
    }
    for i in 0..1 + rng.below(4) {
        list.push(rule(rng, i));
    }
    let spec = json!({"hosts": hosts, "gateways": ["mesh", "shop/gw1"], "http": list});
    object("VirtualService", "shop", "made", spec)
}

fn destination((host, subset, port): (&str, &str, u16)) -> Value {
    let mut d = json!({"host": host});
    if !subset.is_empty() {
        d["subset"] = json!(subset);
    }
    if port != 0 {
        d["port"] = json!({"number": port});
    }
    json!({"destination": d})
}

fn rule(rng: &mut Rng, index: usize) -> Value {
    let mut rule = json!({});
    maybe(rng, 60, &mut rule, "name", |r| json!(format!("{}-{index}", r.pick(&["rule", "Rule.x", "r"]))));
    if rng.percent(75) {
        rule["match"] = (0..1 + rng.below(3)).map(|_| rules::condition(rng)).collect();
    }
    match rng.below(100) {
        0..=11 => rule["redirect"] = rules::redirect(rng, &rule),
        12..=20 => rule["directResponse"] = rules::direct(rng),
        _ => {
            rule["route"] = route(rng);
            maybe(rng, 25, &mut rule, "rewrite", rules::rewrite);
            maybe(rng, 25, &mut rule, "timeout", |r| json!(r.pick(&["61s", "75.5s", "90s", "1h"])));
            maybe(rng, 30, &mut rule, "retries", rules::retries);
            maybe(rng, 12, &mut rule, "fault", rules::fault);
            if rng.percent(10) {
                rules::mirror(rng, &mut rule);
                let none =
                    [&rule["mirrorPercentage"], &rule["mirrors"][0]["percentage"]].iter().any(|p| p["value"] == 0);
                rule["name"] = json!(if none { "mirror" } else { "copied" });
            }
        }
    }
    maybe(rng, 18, &mut rule, "corsPolicy", rules::cors);
    if rng.percent(40) {
        let authority = rule["rewrite"].get("authority").is_some();
        rule["headers"] = headers(rng, !authority);
    }
    rule
}

/// A new Host is a literal in Istio's configuration of Envoy, whatever it looks like.
fn headers(rng: &mut Rng, may_set_host: bool) -> Value {
    let mut out = rules::headers(rng, may_set_host);
    for field in ["set", "add"] {
        if let Some(host) = out.pointer_mut(&format!("/request/{field}/host")) {
            *host = json!("set.example");
        }
    }
    out
}

fn route(rng: &mut Rng) -> Value {
    let one = |rng: &mut Rng| {
        let mut out = destination(rng.pick(&DESTINATIONS));
        maybe(rng, 25, &mut out, "headers", |r| headers(r, true));
        out
    };
    match rng.below(10) {
        0..=5 => json!([one(rng)]),
        // All of the weight is on one of them.
        6 | 7 => {
            let (mut first, mut second) = (one(rng), one(rng));
            let weights = rng.pick(&[(100, 0), (0, 100), (0, 1)]);
            (first["weight"], second["weight"]) = (json!(weights.0), json!(weights.1));
            json!([first, second])
        }
        // Two names of one destination, so that it does not matter which one is chosen.
        _ => {
            let headers = headers(rng, true);
            let mut both = [destination((HOST, "v1", 80)), destination((HOST, "again", 80))];
            for (one, weight) in both.iter_mut().zip([rng.pick(&[1, 30, 100]), rng.pick(&[1, 70])]) {
                one["headers"] = headers.clone();
                one["weight"] = json!(weight);
            }
            json!(both)
        }
    }
}

/// Domains of the virtual host that a VirtualService has on a side.
pub(super) fn domains(virtual_service: &Value, side: Side, lab: &Lab) -> Vec<String> {
    let hosts = virtual_service["spec"]["hosts"].as_array().into_iter().flatten().filter_map(Value::as_str);
    match side {
        Side::Gateway => hosts.map(str::to_owned).collect(),
        // For a host that is no service, too; names that are short for the client's namespace.
        Side::Sidecar => {
            let mut out: Vec<String> = hosts.map(str::to_owned).collect();
            out.extend(["srv", "srv.shop", "srv.shop.svc", "srv.shop.svc.cluster.local."].map(str::to_owned));
            out.push(lab.block.ip(vip("srv")).to_string());
            out
        }
    }
}

/// A request; `number` names it.
pub(super) fn ask(rng: &mut Rng, lab: &Lab, side: Side, number: usize) -> Ask {
    let mut target = rng.pick(&PATHS).to_owned();
    if rng.percent(35) {
        target += rng.pick(&["?k=a", "?k=ab&k=b", "?kk=b", "?k", "?K=a&k=", "?", "?k=%61", "?x=1&kk=ab"]);
    }
    let mut method = rng.pick(&["GET", "GET", "GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE"]);
    let mut headers = vec![("user-agent", format!("alike/{number}"))];
    for name in ["x-a", "x-b", "x-c"] {
        if rng.percent(45) {
            headers.push((name, rng.pick(&["a", "b", "ab", "A", "", "zz"]).to_owned()));
        }
        if rng.percent(6) {
            headers.push((name, rng.pick(&["a", "b"]).to_owned()));
        }
    }
    if rng.percent(8) {
        headers.push(("x-forwarded-proto", rng.pick(&["http", "https"]).to_owned()));
    }
    if rng.percent(25) {
        headers.push(("origin", rng.pick(&["http://a.example", "http://b.example", "null"]).to_owned()));
        if rng.percent(50) {
            method = "OPTIONS";
            headers.push(("access-control-request-method", rng.pick(&["GET", "PUT"]).to_owned()));
            if rng.percent(40) {
                headers.push(("access-control-request-headers", "x-a,x-z".to_owned()));
            }
        }
    }
    if rng.percent(8) {
        method = "POST";
        headers.push(("content-type", rng.pick(&["application/grpc", "application/grpc+proto"]).to_owned()));
        if rng.percent(30) {
            headers.push(("grpc-timeout", rng.pick(&["9S", "1H", "500000u"]).to_owned()));
        }
    }
    let todo = rng.pick(&["", "", "", "status=503", "status=500", "status=409", "status=429", "grpc=14", "grpc=13"]);
    if !todo.is_empty() {
        headers.push(("x-do", todo.to_owned()));
    } else if rng.percent(10) {
        headers.push(("x-hang", "1".to_owned()));
        headers.push(("x-do", "hang".to_owned()));
    }
    if method == "POST" || method == "PUT" {
        headers.push(("content-length", "4".to_owned()));
    }
    let (who, to, host) = match side {
        Side::Gateway => {
            let host =
                rng.pick(&[HOST, HOST, "a.example.com", "b.a.example.com", "nobody.example.org", "SRV.shop.svc"]);
            (Who::Gateway, To::door(lab.gateway(80)), host)
        }
        Side::Sidecar => {
            let tunnel = std::net::SocketAddr::new(lab.block.ip(vip("srv")), 80);
            let door = std::net::SocketAddr::new(lab.block.ip(1), 15001);
            let host = rng.pick(&[HOST, "srv", "srv.shop", "SRV.shop.svc", "srv.shop.svc.cluster.local."]);
            (Who::Front, To { tunnel: Some(tunnel), ..To::door(door) }, host)
        }
    };
    let host = if rng.percent(15) { format!("{host}:80") } else { host.to_owned() };
    Ask {
        who,
        to,
        method,
        place: "srv.shop:80".into(),
        host: Some(host),
        target,
        headers,
        bytes: false,
        copied: false,
        closed: None,
        old: None,
        answered_behind: Vec::new(),
    }
}
