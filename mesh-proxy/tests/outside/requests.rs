//! Requests for generated configurations.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use mesh_core::explain::{ExplainRequest, From};

use super::client::To;
use super::lab::{GATEWAY_PORTS, Lab, Who};
use super::rng::Rng;
use super::topology::vip;

/// A request, with who sends it and where the connection leads.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) who: Who,
    pub(crate) to: To,
    pub(crate) method: &'static str,
    /// Host and port that are connected to, as a URL names them.
    pub(crate) place: String,
    /// The `host` header; none: the place, in the request's absolute form.
    pub(crate) host: Option<String>,
    pub(crate) target: String,
    /// In order, `user-agent` and `x-do` among them.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// The port carries bytes: the log has a line for the connection, when it ends.
    pub(crate) bytes: bool,
    /// Its rule mirrors every request.
    pub(crate) copied: bool,
}

pub(crate) const PATHS: [&str; 20] = [
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/ab",
    "/api",
    "/api/v1",
    "/api/v2/x",
    "/A",
    "/A/B",
    "/x.y",
    "/x-y",
    "/item/42",
    "/item/42x",
    "/a/b/c",
    "/b",
    "/a/./b",
    "/a//b",
    "/a%2Fb/../c",
    "/%61",
];

/// Services that a sidecar's client dials: host, port, service.
const SERVICES: [(&str, u16, &str); 12] = [
    ("srv.shop.svc.cluster.local", 80, "srv"),
    ("srv.shop.svc.cluster.local", 80, "srv"),
    ("srv.shop", 80, "srv"),
    ("srv.shop.svc.cluster.local", 8081, "srv"),
    ("back.back.svc.cluster.local", 80, "back"),
    ("back.back", 80, "back"),
    ("side.shop.svc.cluster.local", 8080, "side"),
    ("dead.shop", 80, "dead"),
    ("auto.back.svc.cluster.local", 9000, "auto"),
    ("raw.back.svc.cluster.local", 9001, "raw"),
    ("rpc.other.svc.cluster.local", 80, "rpc"),
    ("ext.example.com", 80, "ext"),
];

const FOREIGN: [&str; 8] = [
    "a.example.com",
    "nobody.example.org",
    "x.shop.svc.cluster.local",
    "srv",
    "srv:80",
    "ext.example.com",
    "alias.shop.svc.cluster.local",
    "headless.shop",
];

/// One request; `number` names it.
pub(crate) fn ask(rng: &mut Rng, lab: &Lab, number: usize) -> Ask {
    let who = rng.pick(&[Who::Front, Who::Front, Who::Cron, Who::Gateway, Who::Gateway]);
    let mut target = rng.pick(&PATHS).to_owned();
    if rng.percent(35) {
        target += rng.pick(&["?k=a", "?k=ab&k=b", "?kk=b", "?k", "?K=a&k=", "?", "?k=%61", "?x=1&kk=ab"]);
    }
    let mut method = rng.pick(&["GET", "GET", "GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE"]);
    let (to, place, host) = if who == Who::Gateway {
        let port = rng.pick(&[80, 80, GATEWAY_PORTS[1], GATEWAY_PORTS[2]]);
        let host = host_of(rng, "srv.shop.svc.cluster.local");
        (To { door: lab.gateway(port), tunnel: None }, format!("gateway.example:{port}"), Some(host))
    } else {
        outbound(rng, lab, who)
    };
    let mut headers = vec![("user-agent", format!("pair/{number}"))];
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
    if rng.percent(18) {
        headers.push(("origin", rng.pick(&["http://a.example", "http://b.example", "null"]).to_owned()));
        if method == "OPTIONS" || rng.percent(40) {
            method = "OPTIONS";
            headers.push(("access-control-request-method", rng.pick(&["GET", "PUT"]).to_owned()));
            if rng.percent(40) {
                headers.push(("access-control-request-headers", "x-a,x-z".to_owned()));
            }
        }
    }
    let todo = rng.pick(&[
        "",
        "",
        "",
        "",
        "status=503",
        "status=500",
        "status=409",
        "status=429",
        "grpc=14",
        "grpc=13",
        "close",
    ]);
    if !todo.is_empty() {
        headers.push(("x-do", todo.to_owned()));
    } else if rng.percent(4) {
        headers.push(("x-hang", "1".to_owned()));
        headers.push(("x-do", "hang".to_owned()));
    }
    if method == "POST" || method == "PUT" {
        headers.push(("content-length", "4".to_owned()));
    }
    Ask { who, to, method, place, host, target, headers, bytes: false, copied: false }
}

/// The host, in one of its spellings, or a foreign one.
fn host_of(rng: &mut Rng, host: &str) -> String {
    match rng.below(10) {
        0..=3 => host.to_owned(),
        4 => format!("{host}:80"),
        5 => host.to_ascii_uppercase(),
        6 => format!("{host}."),
        _ => rng.pick(&FOREIGN).to_owned(),
    }
}

fn outbound(rng: &mut Rng, lab: &Lab, who: Who) -> (To, String, Option<String>) {
    let (host, port, service) = rng.pick(&SERVICES);
    let door = SocketAddr::new(lab.block.ip(if who == Who::Front { 1 } else { 2 }), 15001);
    if rng.percent(30) {
        let place = if port == 80 && rng.percent(70) { host.to_owned() } else { format!("{host}:{port}") };
        return (To { door, tunnel: None }, place, None);
    }
    let to = SocketAddr::new(lab.block.ip(vip(service)), port);
    (To { door, tunnel: Some(to) }, to.to_string(), Some(host_of(rng, host)))
}

impl Ask {
    pub(crate) fn agent(&self) -> &str {
        &self.headers[0].1
    }

    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| *n == name).map(|(_, v)| &**v)
    }

    /// What goes over the socket.
    pub(crate) fn raw(&self) -> String {
        let (target, host) = match &self.host {
            Some(host) => (self.target.clone(), host),
            None => (format!("http://{}{}", self.place, self.target), &self.place),
        };
        let mut text = format!("{} {target} HTTP/1.1\r\nhost: {host}\r\n", self.method);
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        if self.value("content-length").is_some() {
            text += "body";
        }
        text
    }

    /// The same for `explain`.
    pub(crate) fn question(&self) -> ExplainRequest {
        let mut headers = HeaderMap::new();
        if let Some(host) = &self.host {
            headers.insert(http::header::HOST, HeaderValue::try_from(host).unwrap());
        }
        for (name, value) in &self.headers {
            headers.append(HeaderName::from_static(name), HeaderValue::try_from(value).unwrap());
        }
        let from = match self.who {
            Who::Front => From::Workload("front.shop".into()),
            Who::Cron => From::Workload("cron.other".into()),
            Who::Side => From::Workload("side.shop".into()),
            Who::Gateway => From::Gateway("istio-ingressgateway.istio-system".into()),
        };
        let url = format!("http://{}{}", self.place, self.target);
        ExplainRequest { from, method: Method::try_from(self.method).unwrap(), url, headers, claims: None }
    }
}
