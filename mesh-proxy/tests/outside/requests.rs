//! Requests for generated configurations.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use mesh_core::explain::{Caller, ExplainRequest, From};
use mesh_core::snapshot::TlsVersion;

use super::client::{CLIENT, To};
use super::generate::Config;
use super::identities::CLIENTS;
use super::lab::{BOUND, GATEWAY_PORTS, Lab, PORT_TCP, PORTS_TLS, Who};
use super::rng::Rng;
use super::secrets::{CLIENT as HAS, CLIENT_NAME, Hello, REVOKED, STRANGER};
use super::topology::{CALLERS, NAMES, SIDE, SIDE_BYTES, vip};

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
    /// The connection is closed without an answer: whether the log has a line for it.
    pub(crate) closed: Option<bool>,
    /// It is HTTP/1.0: whether that is served.
    pub(crate) old: Option<bool>,
    /// Clusters whose server's proxy says something itself.
    pub(crate) answered_behind: Vec<String>,
}

/// What a client has to know of the mesh's settings.
#[derive(Clone, Copy)]
pub(crate) struct Manners {
    /// The gateway expects a PROXY header.
    pub(crate) proxy_header: bool,
    /// Connections that no listener takes are logged.
    pub(crate) listener_log: bool,
}

impl Manners {
    pub(crate) fn of(config: &Config) -> Self {
        let mesh = config.mesh();
        Self {
            proxy_header: mesh["defaultConfig"]["gatewayTopology"].get("proxyProtocol").is_some(),
            listener_log: mesh["disableEnvoyListenerLog"] != true,
        }
    }
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

/// Cipher suites of TLS 1.2 and curves that clients may have alone, and gateways.
pub(crate) const SUITES: [&str; 3] =
    ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"];
pub(crate) const CURVES: [&str; 3] = ["X25519", "P-256", "P-384"];

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

/// Hosts that know HTTP, by names that lead there without an address.
const HTTP_HOSTS: [&str; 11] = [
    "srv.shop.svc.cluster.local",
    "srv.shop",
    "srv",
    "back.back.svc.cluster.local",
    "back.back",
    "side.shop.svc.cluster.local",
    "dead.shop",
    "rpc.other.svc.cluster.local",
    "ext.example.com",
    "alias.shop.svc.cluster.local",
    "headless.shop",
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
    let lanes = [Who::Front, Who::Front, Who::Front, Who::Cron, Who::Cron, Who::Gateway, Who::Gateway, Who::Gateway];
    let who = if rng.percent(20) { Who::Side } else { rng.pick(&lanes) };
    let mut target = rng.pick(&PATHS).to_owned();
    if rng.percent(35) {
        target += rng.pick(&["?k=a", "?k=ab&k=b", "?kk=b", "?k", "?K=a&k=", "?", "?k=%61", "?x=1&kk=ab"]);
    }
    let mut method = rng.pick(&["GET", "GET", "GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE"]);
    let (to, place, host) = match (who, rng.percent(12)) {
        (Who::Gateway, true) => gateway_tls(rng, lab),
        (Who::Gateway, false) => gateway(rng, lab),
        (Who::Side, _) => direct(rng, lab),
        (_, true) => outbound_tls(rng, lab, who),
        (_, false) => outbound(rng, lab, who),
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
    if rng.percent(12) {
        headers.push(("x_d", "d".to_owned()));
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
    target = shown(rng, lab, target, &mut headers);
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
    Ask {
        who,
        to,
        method,
        place,
        host,
        target,
        headers,
        bytes: false,
        copied: false,
        closed: None,
        old: None,
        answered_behind: Vec::new(),
    }
}

/// Last byte of a client's address; an application's is its pod's.
pub(crate) fn own_address(rng: &mut Rng, who: Who) -> u8 {
    match who {
        Who::Front | Who::Member => 1,
        Who::Cron => 2,
        Who::Gateway | Who::Side => rng.pick(&CALLERS),
    }
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

/// Where a client connects to, as addresses and as a URL, and the host that it asks for.
pub(crate) type Way = (To, String, Option<String>);

fn gateway(rng: &mut Rng, lab: &Lab) -> Way {
    let host = Some(host_of(rng, "srv.shop.svc.cluster.local"));
    match rng.below(20) {
        0 => {
            let at = lab.block.ip(BOUND);
            (To::door(SocketAddr::new(at, 10_080)), format!("{at}:80"), host)
        }
        n => {
            let plain = [80, 80, GATEWAY_PORTS[1], GATEWAY_PORTS[2]];
            let port = if n < 3 { rng.pick(&[PORT_TCP, PORTS_TLS[0]]) } else { rng.pick(&plain) };
            (To::door(lab.gateway(port)), format!("gateway.example:{port}"), host)
        }
    }
}

pub(crate) fn gateway_tls(rng: &mut Rng, lab: &Lab) -> Way {
    let names = ["a.example.com", "a.example.com", "b.example.com", "srv.shop.svc.cluster.local", "nobody.example.org"];
    let name = rng.pick(&names);
    let port = if rng.percent(93) { rng.pick(&PORTS_TLS) } else { 80 };
    let host = if rng.percent(85) { name } else { rng.pick(&FOREIGN) };
    let to = To { tls: Some(hello(rng, name)), ..To::door(lab.gateway(port)) };
    (to, format!("{name}:{port}"), Some(host.to_owned()))
}

/// What a client can, and has.
fn hello(rng: &mut Rng, name: &str) -> Hello {
    let mut hello = Hello::to(name);
    hello.shows = rng.pick(&[Some(HAS), Some(HAS), Some(HAS), Some(STRANGER), Some(REVOKED), None]);
    match rng.below(6) {
        0 => hello.speaks.min = TlsVersion::V1_3,
        1 | 2 => {
            hello.speaks.max = TlsVersion::V1_2;
            hello.speaks.cipher_suites = [rng.pick(&SUITES).into()].into();
        }
        3 => hello.speaks.curves = [rng.pick(&CURVES).into()].into(),
        _ => {}
    }
    hello
}

/// What a client says of itself, true or not; gives the target, which may have a token in it.
fn shown(rng: &mut Rng, lab: &Lab, mut target: String, headers: &mut Vec<(&'static str, String)>) -> String {
    if rng.percent(18) {
        headers.push(("x-forwarded-for", rng.pick(&["203.0.113.9", "192.0.2.1, 203.0.113.9", "me"]).to_owned()));
    }
    if rng.percent(6) {
        headers.push(("x-forwarded-client-cert", "By=spiffe://a;URI=spiffe://cluster.local/ns/shop/sa/front".into()));
    }
    if rng.percent(6) {
        headers.push((rng.pick(&["x-jwt-sub", "x-jwt-claim", "x-jwt-payload"]), "alice".into()));
    }
    if rng.percent(55) {
        return target;
    }
    for _ in 0..if rng.percent(8) { 2 } else { 1 } {
        let token = lab.block.tokens.token(rng);
        match rng.below(10) {
            0..=4 => headers.push(("authorization", format!("Bearer {token}"))),
            5 => headers.push(("x-token", format!("{}{token}", rng.pick(&["Token ", "", "token "])))),
            6 => headers.push(("cookie", format!("a=b; session={token}"))),
            n => {
                let name = if n == 7 { "jwt" } else { "access_token" };
                target += &format!("{}{name}={token}", if target.contains('?') { "&" } else { "?" });
            }
        }
    }
    target
}

/// To a workload itself.
pub(crate) fn direct(rng: &mut Rng, lab: &Lab) -> Way {
    let port = if rng.percent(80) { lab.block.local } else { SIDE_BYTES };
    let name = "side.shop.svc.cluster.local";
    let mut to = To::door(SocketAddr::new(lab.block.ip(SIDE), port));
    match rng.below(20) {
        0..=9 => {
            (to.tls, to.identity) = (Some(Hello::to(name)), Some(rng.pick(&CLIENTS[..4])));
            if rng.percent(6) {
                to.identity = Some(CLIENTS[4]);
            }
        }
        10 | 11 => to.tls = Some(Hello::to(name)),
        _ => {}
    }
    (to, format!("{name}:{port}"), Some(host_of(rng, name)))
}

/// To a workload that ends TLS itself.
pub(crate) fn direct_tls(rng: &mut Rng, lab: &Lab) -> Way {
    let name = "side.shop.svc.cluster.local";
    let port = lab.block.local;
    let to = To { tls: Some(hello(rng, name)), ..To::door(SocketAddr::new(lab.block.ip(SIDE), port)) };
    (to, format!("{name}:{port}"), Some(name.to_owned()))
}

pub(crate) fn outbound_tls(rng: &mut Rng, lab: &Lab, who: Who) -> Way {
    let (name, port, service) = rng.pick(&[
        ("secure.back.svc.cluster.local", 443, "secure"),
        ("secure.back.svc.cluster.local", 443, "secure"),
        (NAMES[0], 443, "names"),
        (NAMES[1], 443, "names"),
        ("srv.shop.svc.cluster.local", 80, "srv"),
    ]);
    let tunnel = SocketAddr::new(lab.block.ip(vip(service)), port);
    let to = To { tunnel: Some(tunnel), tls: Some(Hello::to(name)), ..To::door(lab.door(who)) };
    (to, format!("{name}:{port}"), Some(name.to_owned()))
}

fn outbound(rng: &mut Rng, lab: &Lab, who: Who) -> Way {
    let (host, port, service) = rng.pick(&SERVICES);
    let door = To::door(lab.door(who));
    if rng.percent(30) {
        let place = if port == 80 && rng.percent(70) { host.to_owned() } else { format!("{host}:{port}") };
        return (door, place, None);
    }
    // Or a listener that says where it is.
    let last = if port == 80 && rng.percent(5) { BOUND } else { vip(service) };
    let to = SocketAddr::new(lab.block.ip(last), port);
    (To { tunnel: Some(to), ..door }, to.to_string(), Some(host_of(rng, host)))
}

impl Ask {
    /// It is the proxy that looks up where it goes.
    pub(crate) fn is_by_name(&self) -> bool {
        self.host.is_none() && self.place.parse::<SocketAddr>().is_err()
    }

    /// Has an application ask that has the mesh inside instead of its sidecar. `by_name`: where that is possible, in plain
    /// HTTP, it calls the host instead of a connection's address.
    pub(crate) fn ask_member(&mut self, lab: &Lab, by_name: bool) {
        if self.who != Who::Front {
            return;
        }
        self.who = Who::Member;
        self.to.door = lab.door(Who::Member);
        let name = |host: &String| by_name && HTTP_HOSTS.contains(&&**host);
        let place = match (&self.host, self.to.tunnel) {
            (Some(host), Some(to)) if name(host) && to.port() == 80 => Some(host.clone()),
            (Some(host), Some(to)) if name(host) => Some(format!("{host}:{}", to.port())),
            _ => None,
        };
        if let Some(place) = place.filter(|_| self.to.tls.is_none()) {
            (self.to.tunnel, self.place, self.host) = (None, place, None);
        }
        // A call has no version.
        self.old = self.old.filter(|_| self.to.tunnel.is_some());
    }

    /// Takes another way.
    pub(crate) fn go(&mut self, (to, place, host): Way) {
        (self.to, self.place, self.host) = (to, place, host);
    }

    /// The header has this one value.
    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        self.remove(name);
        self.headers.push((name, value.to_owned()));
    }

    /// The header is not there.
    pub(crate) fn remove(&mut self, name: &str) {
        self.headers.retain(|(n, _)| *n != name);
    }

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
        let version = if self.old.is_some() { "HTTP/1.0" } else { "HTTP/1.1" };
        let mut text = format!("{} {target} {version}\r\nhost: {host}\r\n", self.method);
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        if self.value("content-length").is_some() {
            text += "body";
        }
        text
    }

    fn caller(&self) -> Caller {
        let client = self.to.proxy_header.then(|| CLIENT.parse().unwrap());
        // What it shows where it is asked for a certificate.
        let own = self.to.tls.as_ref().and_then(|hello| hello.shows);
        let outside = matches!(self.who, Who::Gateway | Who::Side);
        Caller {
            address: client.or(self.to.from).filter(|_| outside),
            through: self.to.from.filter(|_| client.is_some()),
            name: self.to.identity.or(own.map(|_| CLIENT_NAME)).filter(|_| outside).map(Into::into),
        }
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
            Who::Front | Who::Member => From::Workload("front.shop".into()),
            Who::Cron => From::Workload("cron.other".into()),
            Who::Side => From::Direct("side.shop".into()),
            Who::Gateway => From::Gateway("istio-ingressgateway.istio-system".into()),
        };
        // What is inside the mesh's own TLS is HTTP as it is.
        let scheme = if self.to.tls.is_some() && self.to.identity.is_none() { "https" } else { "http" };
        let url = format!("{scheme}://{}{}", self.place, self.target);
        ExplainRequest {
            from,
            method: Method::try_from(self.method).unwrap(),
            url,
            headers,
            claims: None,
            caller: self.caller(),
        }
    }
}
