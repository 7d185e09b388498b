//! Simulation for tests: YAML and a request in, what happens out; no sockets.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Compiled, compile};
use crate::convert::{Addresses, Options, inputs};
use crate::decide::{
    ConnDecision, ConnFacts, Detected, Inside, apply_redirect, decide_connection, decide_route, is_misdirected,
    pick_weighted, rewrite_path,
};
use crate::matching::RequestFacts;
use crate::snapshot::{
    Action, HttpPlan, ListenerPlan, ProxyId, ProxyKind, RoutePlan, RouteTable, Snapshot, TlsServer, TlsThen,
    WeightedCluster,
};
use crate::world::World;

/// Three services with a workload each, in two namespaces; `b` has two versions.
pub(crate) const BASE: &str = include_str!("sim/base.yaml");

pub(crate) struct Sim {
    pub(crate) world: World,
}

impl Sim {
    /// The base and some more objects.
    pub(crate) fn of(yaml: &str) -> Self {
        Self::bare(&format!("{BASE}\n---\n{yaml}"))
    }

    pub(crate) fn bare(yaml: &str) -> Self {
        let (resources, reports) = crate::yaml::read("sim.yaml", yaml);
        assert!(reports.iter().all(|r| r.level < crate::report::Level::Error), "{reports:#?}");
        let inputs = inputs(&resources, &Options::default(), &mut Addresses::default());
        Self { world: inputs.world }
    }

    pub(crate) fn id(&self, name: &str) -> ProxyId {
        let found = self.world.workloads().iter().find(|w| *w.workload_name == *name || w.name.starts_with(name));
        let workload = found.unwrap_or_else(|| panic!("no workload {name}"));
        let gateway = workload.labels.get("istio").is_some_and(|l| l.contains("gateway"));
        let kind = if gateway { ProxyKind::Gateway } else { ProxyKind::Sidecar };
        ProxyId::of(kind, workload)
    }

    pub(crate) fn compile(&self, name: &str) -> Compiled {
        compile(&self.world, &self.id(name), None)
    }

    /// What happens to a request that workload `name` makes (or gets, if it is a gateway).
    pub(crate) fn request(&self, name: &str, request: &str) -> String {
        outcome(&self.compile(name).snapshot, &Request::parse(request))
    }

    pub(crate) fn vip(&self, host: &str) -> std::net::IpAddr {
        self.world.services_of_host(host)[0].addresses[0]
    }
}

/// `METHOD URL [name: value]…`, e.g. `GET http://b:8080/x?y=1 [end-user: me]`.
pub(crate) struct Request {
    method: http::Method,
    pub(crate) scheme: String,
    pub(crate) authority: String,
    path: String,
    query: Option<String>,
    pub(crate) headers: http::HeaderMap,
}

impl Request {
    pub(crate) fn parse(text: &str) -> Self {
        let (line, headers) = text.split_once(" [").unwrap_or((text, ""));
        let (method, url) = line.split_once(' ').unwrap_or(("GET", line));
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let (authority, target) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (path, query) = match target.split_once('?') {
            Some((p, q)) => (p, Some(q.to_owned())),
            None => (target, None),
        };
        let mut map = http::HeaderMap::new();
        for header in headers.trim_end_matches(']').split("] [").filter(|h| !h.is_empty()) {
            let (name, value) = header.split_once(": ").unwrap_or((header.trim_end_matches(':'), ""));
            map.append(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
        Self {
            method: method.parse().unwrap(),
            scheme: scheme.into(),
            authority: authority.into(),
            path: if path.is_empty() { "/".into() } else { path.into() },
            query,
            headers: map,
        }
    }

    pub(crate) fn facts(&self) -> RequestFacts<'_> {
        RequestFacts {
            method: &self.method,
            scheme: &self.scheme,
            authority: &self.authority,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            claims: None,
        }
    }

    fn port(&self) -> u16 {
        self.authority.rsplit_once(':').and_then(|(_, p)| p.parse().ok()).unwrap_or(80)
    }
}

pub(crate) fn outcome(snapshot: &Snapshot, request: &Request) -> String {
    let listener = match snapshot.proxy.id.kind {
        ProxyKind::Sidecar => {
            let host = crate::matching::host_without_port(&request.authority);
            let ip = snapshot.names.get(host).and_then(|n| n.addresses.first().copied());
            snapshot.outbound(ip.or(host.parse().ok()), request.port())
        }
        ProxyKind::Gateway => match snapshot.gateway(request.port()) {
            Some(listener) => listener,
            None => return "refused".into(),
        },
    };
    // `[sni: name]` asks for another name than the authority's.
    let sni = request
        .headers
        .get("sni")
        .and_then(|v| v.to_str().ok())
        .map_or_else(|| crate::matching::host_without_port(&request.authority).to_owned(), str::to_owned);
    let detected = match request.scheme == "https" {
        true => Detected::Tls { sni: (sni != "-").then(|| sni.into()), alpn: vec!["h2".into()] },
        false => Detected::Http1,
    };
    let facts = ConnFacts { detected: Some(detected), ..ConnFacts::default() };
    match decide_connection(listener, &facts) {
        ConnDecision::Http(http) => route_outcome(&http.routes, request),
        ConnDecision::Terminate(server) => terminated(server, |http| match is_misdirected(http, &request.authority) {
            true => "421".into(),
            false => route_outcome(&http.routes, request),
        }),
        ConnDecision::Mutual(_, Inside::Http(http)) => format!("mtls {}", route_outcome(&http.routes, request)),
        ConnDecision::Mutual(_, Inside::Tcp(plan)) => format!("mtls tcp {}", shares(&plan.clusters)),
        ConnDecision::Tcp(plan) => format!("tcp {}", shares(&plan.clusters)),
        ConnDecision::NeedBytes => "need bytes".into(),
        ConnDecision::Close(why) => format!("closed {why}"),
    }
}

fn terminated(server: &TlsServer, http: impl FnOnce(&HttpPlan) -> String) -> String {
    match &server.then {
        TlsThen::Http(plan) => http(plan),
        TlsThen::Tcp(plan) => format!("tls tcp {}", shares(&plan.clusters)),
    }
}

pub(crate) fn route_outcome(table: &RouteTable, request: &Request) -> String {
    let facts = request.facts();
    let Some(route) = decide_route(table, &facts).route() else { return "404".into() };
    match &route.action {
        Action::Redirect(r) => format!("{} {}", r.code.as_u16(), apply_redirect(r, &facts)),
        Action::Direct(d) => format!("{} {:?}", d.status.as_u16(), String::from_utf8_lossy(&d.body)),
        Action::Forward(clusters) => {
            let path = route.rewrite.as_ref().and_then(|r| r.path.as_ref());
            let path = path.map(|p| format!(" path {}", rewrite_path(p, facts.path, facts.query)));
            format!("{}{}", shares(clusters), path.unwrap_or_default())
        }
    }
}

/// `cluster` or `cluster*weight,…`.
pub(crate) fn shares(clusters: &[WeightedCluster]) -> String {
    match clusters {
        [only] => {
            pick_weighted(clusters, 0).map_or(String::new(), |c| short(&c.cluster)).to_owned()
                + if only.weight == 1 { "" } else { "?" }
        }
        all => all.iter().map(|c| format!("{}*{}", short(&c.cluster), c.weight)).collect::<Vec<_>>().join(","),
    }
}

/// Cluster names without the usual domain.
fn short(name: &str) -> String {
    name.trim_start_matches("outbound|").replace(".svc.cluster.local", "")
}

/// What a TCP connection to an address leads to, with what its first bytes are.
pub(crate) fn connection(snapshot: &Snapshot, to: SocketAddr, detected: Option<Detected>) -> String {
    decided(snapshot.outbound(Some(to.ip()), to.port()), ConnFacts { original_dst: Some(to), peer: None, detected })
}

/// The same, to a port of the application.
pub(crate) fn inbound(snapshot: &Snapshot, port: u16, detected: Option<Detected>) -> String {
    decided(snapshot.inbound(port), ConnFacts { detected, ..ConnFacts::default() })
}

fn decided(listener: &Arc<ListenerPlan>, facts: ConnFacts) -> String {
    match decide_connection(listener, &facts) {
        ConnDecision::Http(h) => format!("http {}", h.routes.name),
        ConnDecision::Terminate(server) => terminated(server, |http| format!("http {}", http.routes.name)),
        ConnDecision::Mutual(_, Inside::Http(h)) => format!("mtls http {}", h.routes.name),
        ConnDecision::Mutual(_, Inside::Tcp(t)) => format!("mtls {}", shares(&t.clusters)),
        ConnDecision::Tcp(t) => shares(&t.clusters),
        ConnDecision::NeedBytes => "need bytes".into(),
        ConnDecision::Close(why) => format!("closed {why}"),
    }
}

/// The route of a request.
pub(crate) fn route(snapshot: &Snapshot, request: &str) -> Arc<RoutePlan> {
    let request = Request::parse(request);
    let listener = match snapshot.proxy.id.kind {
        ProxyKind::Sidecar => snapshot.outbound(None, request.port()),
        ProxyKind::Gateway => snapshot.gateway(request.port()).expect("a listener"),
    };
    let http = listener.http.as_ref().expect("an HTTP listener");
    decide_route(&http.routes, &request.facts()).route().expect("a route").clone()
}
