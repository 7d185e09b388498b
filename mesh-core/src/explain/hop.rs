//! One proxy: its listener, route and clusters.

use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::security::{self, Asked, Peer};
use super::{
    Caller, Decided, ExplainRequest, Hop, Judge, Judgement, Outcome, Target, Url, balancing, filters, miss, policies,
    seen, words,
};
use crate::decide::{
    ConnDecision, ConnFacts, Detected, Inside, apply_redirect, decide_connection, decide_route, is_misdirected,
    nearest_miss,
};
use crate::endpoints::endpoints;
use crate::error::ErrorKind;
use crate::matching::{Claims, RequestFacts};
use crate::snapshot::{
    Action, ClusterPlan, DirectResponse, DownstreamTls, Endpoint, EndpointSource, HttpPlan, ListenerPlan, MtlsMode,
    PeerNames, Provenance, ProxyId, ProxyKind, RoutePlan, Snapshot, Sni, TcpPlan, TlsThen, UpstreamTls,
    WeightedCluster,
};
use crate::world::World;

/// An endpoint that a request goes on to, and what the request is by then.
pub(super) struct Next {
    pub(super) endpoint: Endpoint,
    pub(super) request: ExplainRequest,
    pub(super) url: Url,
    /// It goes inside the mesh's own TLS: the client shows there who it is.
    pub(super) mutual: bool,
    /// Server name that it asks for by TLS.
    sni: Option<Arc<str>>,
}

impl Next {
    /// Bytes go on as they came.
    fn unchanged(endpoint: Endpoint, request: &ExplainRequest, url: &Url, tls: Option<&UpstreamTls>) -> Self {
        let sni = tls.map_or_else(|| url.server_name().filter(|_| url.https), |tls| Some(server_name(tls, url)));
        Self { endpoint, request: request.clone(), url: url.clone(), mutual: is_mesh(tls), sni }
    }

    pub(super) fn arrives(&self) -> Arrives<'_> {
        let Self { endpoint, request, url, mutual, sni } = self;
        // Behind a unix socket there is no proxy that could be asked.
        let at = endpoint.address.ip().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
        Arrives { at, request, url, mutual: *mutual, sni: sni.clone() }
    }
}

/// What comes to a workload, and where.
pub(super) struct Arrives<'a> {
    pub(super) at: SocketAddr,
    pub(super) request: &'a ExplainRequest,
    pub(super) url: &'a Url,
    /// Inside the mesh's own TLS.
    pub(super) mutual: bool,
    pub(super) sni: Option<Arc<str>>,
}

fn is_mesh(tls: Option<&UpstreamTls>) -> bool {
    tls.is_some_and(UpstreamTls::is_mesh)
}

fn server_name(tls: &UpstreamTls, url: &Url) -> Arc<str> {
    match &tls.sni {
        Sni::Name(name) => name.clone(),
        Sni::Host(_) => url.host.as_str().into(),
    }
}

/// A proxy that is asked.
pub(super) struct Proxy<'a> {
    pub(super) world: &'a World,
    pub(super) snapshot: &'a Snapshot,
    pub(super) id: &'a ProxyId,
    pub(super) place: &'static str,
    pub(super) judge: Option<&'a dyn Judge>,
    /// Uid of the workload whose endpoint is meant, of several.
    pub(super) towards: Option<&'a str>,
}

/// How a request comes to a listener.
#[derive(Clone, Copy)]
struct Arrival<'a> {
    listener: &'a ListenerPlan,
    /// Who sends it, as far as it is believed.
    peer: &'a Peer,
    /// What it dials.
    local: SocketAddr,
    /// TLS that ends here.
    tls: Option<&'a DownstreamTls>,
}

impl Proxy<'_> {
    fn hop(&self) -> Hop {
        Hop {
            place: self.place,
            proxy: format!("{}.{}", self.id.name, self.id.namespace),
            explain_config_hash: self.snapshot.hash.to_string(),
            ..Hop::default()
        }
    }

    /// The first hop: out of a workload, or into a gateway. Returns one endpoint of each destination, largest share
    /// first.
    pub(super) fn request(&self, request: &ExplainRequest, url: &Url) -> (Hop, Vec<Next>) {
        let mut hop = self.hop();
        if self.id.kind == ProxyKind::Gateway {
            // The local mesh has the gateway's 80 and 443 at these ports of the host.
            let inner = match url.port {
                8080 => 80,
                8443 => 443,
                other => other,
            };
            // A server that says where it listens is reached there only.
            let bound = url.host.parse().ok().and_then(|ip| self.snapshot.gateway_at(Some(ip), url.port));
            let open = || self.snapshot.gateway(url.port).or_else(|| self.snapshot.gateway(inner));
            let listener = bound.or_else(open);
            let Some(listener) = listener else {
                let text = format!("connection refused: no server of a Gateway of this workload has port {inner}");
                hop.reply = Some(Outcome { status: None, flag: String::new(), body: String::new(), text });
                return (hop, Vec::new());
            };
            let local = self.own_address(listener.key.port);
            // The address in the URL is the one that is dialled; a name leads to the gateway's own.
            let original_dst = Some(SocketAddr::new(url.host.parse().unwrap_or(local.ip()), url.port));
            let facts = ConnFacts { original_dst, detected: Some(url.detected()), ..ConnFacts::default() };
            let peer = &Peer::outside(&request.caller);
            return self.through(hop, Arrival { listener, peer, local, tls: None }, &facts, request, url);
        }
        let (ip, name) = url.resolve(self.snapshot);
        hop.name = Some(name);
        let listener = self.snapshot.outbound(ip, url.port);
        let facts = ConnFacts {
            original_dst: ip.map(|ip| SocketAddr::new(ip, url.port)),
            detected: Some(url.detected()),
            ..ConnFacts::default()
        };
        let local = SocketAddr::new(ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), url.port);
        // The own application, which shows no certificate.
        let own = Caller { address: self.id.addresses.first().copied(), ..Caller::default() };
        let peer = &Peer::outside(&own);
        self.through(hop, Arrival { listener, peer, local, tls: None }, &facts, request, url)
    }

    fn own_address(&self, port: u16) -> SocketAddr {
        let ip = self.id.addresses.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        SocketAddr::new(ip, port)
    }

    /// The last hop: into a workload.
    pub(super) fn inbound(&self, arrives: &Arrives<'_>, peer: &Peer) -> (Hop, Vec<Next>) {
        let Arrives { at: local, request, url, mutual, sni } = arrives;
        let listener = self.snapshot.inbound(local.port());
        let first = match (mutual, url.https) {
            (false, false) => url.detected(),
            (false, true) => Detected::Tls { sni: sni.clone(), alpn: vec!["http/1.1".into()] },
            (true, https) => {
                let protocol = if https { "istio" } else { "istio-http/1.1" };
                Detected::Tls { sni: sni.clone(), alpn: vec![protocol.into(), "istio".into()] }
            }
        };
        let facts = ConnFacts { original_dst: Some(*local), detected: Some(first), ..ConnFacts::default() };
        self.through(self.hop(), Arrival { listener, peer, local: *local, tls: None }, &facts, request, url)
    }

    fn through(
        &self,
        mut hop: Hop,
        arrival: Arrival<'_>,
        facts: &ConnFacts,
        request: &ExplainRequest,
        url: &Url,
    ) -> (Hop, Vec<Next>) {
        let listener = arrival.listener;
        let asked = match &facts.detected {
            Some(Detected::Tls { sni: Some(sni), .. }) => &**sni,
            _ => "",
        };
        hop.listener = Some(Decided::new(&*listener.name, &listener.origin));
        match decide_connection(listener, facts) {
            ConnDecision::NeedBytes => unreachable!("invariant: the first bytes are given"),
            ConnDecision::Http(http) if matches!(facts.detected, Some(Detected::Tls { .. })) => {
                let text = "TLS on a listener of plain HTTP is answered 400, or closed";
                hop.reply = Some(reply(ErrorKind::DownstreamProtocol, text));
                let _ = http;
                (hop, Vec::new())
            }
            ConnDecision::Http(http) => self.http(hop, arrival, (http, asked), request, url),
            ConnDecision::Terminate(server) => {
                hop.tls = Some(Decided::new(format!("{}: {}", server.name, server.tls), &server.tls.origin));
                let peer = &arrival.peer.shown_to(&server.tls);
                let arrival = Arrival { peer, tls: Some(&server.tls), ..arrival };
                match &server.then {
                    TlsThen::Http(http) => self.http(hop, arrival, (http, asked), request, url),
                    TlsThen::Tcp(plan) => self.bytes(hop, arrival, (plan, asked), request, url),
                }
            }
            ConnDecision::Mutual(tls, inside) => {
                let mode = listener.mesh.as_ref().map(|m| (m.mode.to_string(), &m.origin));
                let (mode, origin) = mode.expect("invariant: only the mesh's own TLS is mutual");
                hop.tls = Some(Decided::new(format!("mutual TLS of the mesh, {mode}"), origin));
                if let Some(why) = arrival.peer.unwelcome(tls) {
                    let text = format!("the connection is closed: the TLS handshake fails, for {why}");
                    hop.reply = Some(Outcome { status: None, flag: String::new(), body: String::new(), text });
                    return (hop, Vec::new());
                }
                let arrival = Arrival { tls: Some(tls), ..arrival };
                match inside {
                    Inside::Http(http) => self.http(hop, arrival, (http, asked), request, url),
                    Inside::Tcp(plan) => self.bytes(hop, arrival, (plan, asked), request, url),
                }
            }
            ConnDecision::Tcp(plan) => {
                // Whatever TLS there is goes through: nobody is known by it.
                let peer = &arrival.peer.anonymous();
                self.bytes(hop, Arrival { peer, ..arrival }, (plan, asked), request, url)
            }
            ConnDecision::Close(why) => {
                let refused = listener.mesh.as_ref().filter(|m| m.mode != MtlsMode::Disable);
                hop.tls = refused.map(|m| Decided::new(format!("mutual TLS of the mesh, {}", m.mode), &m.origin));
                let text = match &refused {
                    Some(m) if m.mode == MtlsMode::Strict => {
                        format!("the connection is reset: the port takes mutual TLS only ({why})")
                    }
                    _ => format!("the connection is closed: {why}"),
                };
                hop.reply = Some(Outcome { status: None, flag: "NR".into(), body: String::new(), text });
                (hop, Vec::new())
            }
        }
    }

    fn bytes(
        &self,
        mut hop: Hop,
        arrival: Arrival<'_>,
        (plan, sni): (&TcpPlan, &str),
        request: &ExplainRequest,
        url: &Url,
    ) -> (Hop, Vec<Next>) {
        let asked = Asked { request: None, scheme: "", sni, remote: arrival.peer.address() };
        if self.judged(arrival, &asked, None, &mut hop).is_none() {
            return (hop, Vec::new());
        }
        hop.route = Some(Decided::new("bytes", &plan.origin));
        let next = self.targets(&mut hop, &plan.clusters).into_iter();
        let going_on = |(i, e): (usize, Endpoint)| {
            let tls = self.tls_with(&plan.clusters[i], &e).map(|t| &**t);
            Next::unchanged(e, request, url, tls)
        };
        let next = next.map(going_on).collect();
        (hop, next)
    }

    /// What security policies say; `None`: it goes no further.
    fn judged(
        &self,
        arrival: Arrival<'_>,
        asked: &Asked<'_>,
        claims: Option<&Claims>,
        hop: &mut Hop,
    ) -> Option<Judgement> {
        let Arrival { listener, peer, local, tls: _ } = arrival;
        security::ask(self.judge, (self.snapshot, listener), (peer, local), asked, claims, hop)
    }

    /// TLS with an endpoint of a destination.
    fn tls_with(&self, to: &WeightedCluster, endpoint: &Endpoint) -> Option<&Arc<UpstreamTls>> {
        self.snapshot.clusters.get(&to.cluster)?.tls_with(&endpoint.mesh)
    }

    fn http(
        &self,
        mut hop: Hop,
        arrival: Arrival<'_>,
        (http, sni): (&HttpPlan, &str),
        request: &ExplainRequest,
        url: &Url,
    ) -> (Hop, Vec<Next>) {
        let mut target = match seen::target(http, &request.headers, &url.target) {
            Ok(target) => target,
            Err(refusal) => {
                hop.reply = Some(refusal);
                return (hop, Vec::new());
            }
        };
        if target != url.target {
            hop.changes.push(format!("path is normalized to {target}"));
        }
        let own = self.snapshot.security.identity.as_deref();
        let tls = arrival.tls.map(|tls| arrival.peer.tls(Some((tls, own))));
        let from = seen::Origin { tls: tls.as_ref(), peer: arrival.peer.address(), own: self.own_address(0).ip() };
        let remote = seen::remote(http, &request.headers).unwrap_or(from.peer);
        let mut headers = seen::headers(http, &request.headers, url, &from);
        hop.changes.extend(seen::client_cert(&request.headers, &headers));
        let asked = security::request(&request.method, &target, &headers, &url.authority);
        let asked = Asked { request: asked.as_ref(), scheme: seen::scheme(&headers), sni, remote };
        let Some(judgement) = self.judged(arrival, &asked, request.claims.as_ref(), &mut hop) else {
            return (hop, Vec::new());
        };
        // Tokens that are taken out, and headers that get their claims.
        if let Some(request) = judgement.request {
            let without = request.uri().to_string();
            if without != target {
                hop.changes.push(format!("path without its token is {without}"));
            }
            hop.changes.extend(seen::differences(&headers, request.headers()));
            target = without.into();
            headers = Cow::Owned(request.into_parts().0.headers);
        }
        let (path, query) = target.split_once('?').map_or((&*target, None), |(p, q)| (p, Some(q)));
        let authority = headers.get(http::header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
        let facts = RequestFacts {
            method: &request.method,
            scheme: seen::scheme(&headers),
            authority,
            path,
            query,
            headers: &headers,
            claims: judgement.claims.as_ref().or(request.claims.as_ref()),
        };
        let decision = decide_route(&http.routes, &facts);
        hop.virtual_host = decision.virtual_host.map(|v| Decided::new(&*v.name, &v.origin));
        let Some(route) = decision.route() else {
            self.unrouted(&mut hop, http, &facts);
            return (hop, Vec::new());
        };
        hop.route = Some(Decided::new(&*route.name, &route.origin));
        hop.changes.extend(seen::dropped(http, &request.headers));
        decided(&mut hop, route, &facts);
        match &route.action {
            Action::Forward(clusters) => {
                hop.timeout = Some(words::timeout(route));
                hop.retries = Some(words::retries(route));
                let next = self.targets(&mut hop, clusters);
                // What is always aborted reaches nobody.
                if hop.reply.is_some() {
                    return (hop, Vec::new());
                }
                let going_on = |(destination, endpoint): (usize, Endpoint)| {
                    let tls = self.tls_with(&clusters[destination], &endpoint).map(|t| &**t);
                    // The mesh's own TLS ends at the server's sidecar.
                    let mutual = is_mesh(tls);
                    let url = Url { https: tls.is_some() && !mutual, target: target.to_string(), ..url.clone() };
                    let (request, url) = seen::passed_on(route, destination, request, &headers, &url);
                    let sni = tls.map(|tls| server_name(tls, &url));
                    Next { endpoint, request, url, mutual, sni }
                };
                (hop, next.into_iter().map(going_on).collect())
            }
            Action::Redirect(_) | Action::Direct(_) if hop.reply.is_some() => (hop, Vec::new()),
            Action::Redirect(plan) => {
                let text = format!("redirect to {}", apply_redirect(plan, &facts));
                let status = Some(plan.code.as_u16());
                hop.reply = Some(Outcome { status, flag: String::new(), body: String::new(), text });
                (hop, Vec::new())
            }
            Action::Direct(plan) => {
                hop.reply = Some(direct(plan, decision.virtual_host.map(|v| &*v.name)));
                (hop, Vec::new())
            }
        }
    }

    /// Why no route takes a request.
    fn unrouted(&self, hop: &mut Hop, http: &HttpPlan, facts: &RequestFacts<'_>) {
        if is_misdirected(http, facts.authority) {
            let text = "the host is another server's of this port: the client has to open a connection for it";
            hop.reply = Some(Outcome { status: Some(421), ..reply(ErrorKind::NoRoute, text) });
            return;
        }
        let nearest = nearest_miss(&http.routes, facts);
        hop.miss = nearest.map(|m| miss::words(self.world, self.id, &http.routes, &m, facts));
        hop.reply = Some(reply(ErrorKind::NoRoute, "no route takes the request"));
    }

    /// Puts the destinations into the hop. Gives one endpoint of each with the destination's index, largest share first.
    fn targets(&self, hop: &mut Hop, clusters: &[WeightedCluster]) -> Vec<(usize, Endpoint)> {
        let total: f64 = clusters.iter().map(|c| f64::from(c.weight)).sum();
        let mut by_share: Vec<(f64, (usize, Endpoint))> = Vec::new();
        for (index, c) in clusters.iter().enumerate() {
            let share = if clusters.len() == 1 { 100.0 } else { f64::from(c.weight) * 100.0 / total.max(1.0) };
            let (target, endpoint) = self.target(c, share);
            hop.clusters.push(target);
            by_share.extend(endpoint.map(|e| (share, (index, e))));
        }
        by_share.sort_by(|a, b| b.0.total_cmp(&a.0));
        by_share.into_iter().map(|(_, next)| next).collect()
    }

    fn target(&self, c: &WeightedCluster, share: f64) -> (Target, Option<Endpoint>) {
        let mut target = Target {
            cluster: Decided::new(&*c.cluster, &c.origin),
            share,
            balancer: None,
            policies: Vec::new(),
            endpoints: Vec::new(),
            transport: Vec::new(),
            reply: None,
        };
        let Some(plan) = self.snapshot.clusters.get(&c.cluster) else {
            let subset = c.cluster.split('|').nth(2).unwrap_or_default();
            let text = match subset {
                "" => "the destination is unknown here".to_owned(),
                s => format!("no DestinationRule has subset {s} for this host, or the host is unknown"),
            };
            let mut reply = reply(ErrorKind::NoCluster, &text);
            reply.status = Some(c.missing_status.as_u16());
            target.reply = Some(reply);
            return (target, None);
        };
        target.policies = policies::of_cluster(plan);
        match &plan.source {
            EndpointSource::Service { .. } => {
                target.balancer = Some(Decided::new(balancing::balancer(plan.balancer), &plan.policy_origin));
                let all = endpoints(self.world, plan);
                let usable = balancing::endpoints(plan, &all);
                target.endpoints = usable.iter().map(|u| u.text.clone()).collect();
                target.transport = usable.iter().map(|u| transport(self.world, plan, &u.endpoint)).collect();
                target.transport.dedup();
                if !usable.iter().any(|u| u.gets) {
                    let text = match (all.len(), usable.len()) {
                        (0, _) => "no instance has the labels and port".to_owned(),
                        (n, 0) => format!("none of {n} instances is ready"),
                        (..) => "every instance that is ready is where distribute sends nothing".to_owned(),
                    };
                    target.reply = Some(reply(ErrorKind::NoHealthyUpstream, &text));
                }
                let meant = usable.iter().position(|u| Some(&*u.endpoint.workload.uid) == self.towards);
                let meant = meant.or_else(|| usable.iter().position(|u| u.gets));
                (target, meant.and_then(|i| usable.into_iter().nth(i)).map(|u| u.endpoint))
            }
            EndpointSource::LocalApp { port, ip } => {
                let at = ip.map_or(String::new(), |ip| format!(" at {ip}"));
                target.endpoints = vec![format!("the application{at}, port {port}")];
                (target, None)
            }
            EndpointSource::LocalSocket(path) => {
                target.endpoints = vec![format!("the application at the unix socket {path}")];
                (target, None)
            }
            EndpointSource::BlackHole => {
                target.reply = Some(reply(ErrorKind::NoHealthyUpstream, "what is sent here fails on purpose"));
                (target, None)
            }
            EndpointSource::Dns { names, .. } => {
                target.balancer = Some(Decided::new(format!("{:?}", plan.balancer), &plan.policy_origin));
                target.endpoints = names.iter().map(|n| format!("{}:{} by DNS", n.host, n.port)).collect();
                (target, None)
            }
            EndpointSource::DynamicDns { port } => {
                let port = port.map_or(UNNAMED.to_owned(), |p| format!("port {p}"));
                target.endpoints = vec![format!("the host that the request names, by DNS, {port}")];
                (target, None)
            }
            EndpointSource::OriginalDst { port } => {
                let port = port.map_or(String::new(), |p| format!(", with port {p}"));
                target.endpoints = vec![format!("the address that the client dialled{port}")];
                (target, None)
            }
            EndpointSource::LocalOriginalDst => {
                target.endpoints = vec!["the address that the client dialled".to_owned()];
                (target, None)
            }
        }
    }
}

/// Port of a host that is looked up, and what there is without one.
const UNNAMED: &str = "the client's port; if it names none the address that the client dialled";

/// What a route does beside going somewhere, and its own answer, if it always has one.
fn decided(hop: &mut Hop, route: &Arc<RoutePlan>, facts: &RequestFacts<'_>) {
    let cors = filters::decided(route, facts.method, facts.headers);
    hop.policies.extend(policies::of_route(route));
    hop.reply = filters::reply(route, cors.as_ref());
    // A preflight is answered before the rule changes anything; an injected abort has the rule's response headers.
    let changes = words::changes(route, facts.path, facts.query).into_iter();
    match &hop.reply {
        None => hop.changes.extend(changes),
        Some(reply) if reply.flag.is_empty() => {}
        Some(_) => hop.changes.extend(changes.filter(|c| c.contains("response header "))),
    }
    hop.changes.extend(filters::changes(cors.as_ref(), hop.reply.as_ref()));
}

/// How an endpoint is spoken to, and who says so.
fn transport(world: &World, plan: &ClusterPlan, endpoint: &Endpoint) -> Decided {
    let server = || match &endpoint.mesh.identities[..] {
        [] => "any workload of the mesh".to_owned(),
        names => names.join(" or "),
    };
    let takes = || match endpoint.address.ip() {
        Some(at) => crate::peer::takes_mtls(world, &endpoint.workload, at.port()).1,
        None => Provenance::default("there is no proxy in front of a unix socket"),
    };
    match (plan.tls_with(&endpoint.mesh), &plan.auto_tls) {
        (Some(tls), auto) if tls.is_mesh() => {
            let who = match &tls.names {
                PeerNames::OneOf(names) => names.join(" or "),
                _ => server(),
            };
            let origin = if auto.is_some() { takes() } else { tls.origin.clone() };
            Decided::new(format!("mutual TLS with {who}"), &origin)
        }
        (Some(tls), _) => Decided::new(format!("TLS, {}", tls.mode), &tls.origin),
        (None, Some(_)) => Decided::new("plaintext", &takes()),
        (None, None) => Decided::new("plaintext", &plan.tls_origin),
    }
}

fn reply(kind: ErrorKind, text: &str) -> Outcome {
    let row = kind.row();
    let (flag, body) = (row.flag.to_owned(), row.body.to_owned());
    Outcome { status: Some(row.status.as_u16()), flag, body, text: text.to_owned() }
}

/// An answer of the proxy's own.
fn direct(plan: &DirectResponse, virtual_host: Option<&str>) -> Outcome {
    let body = String::from_utf8_lossy(&plan.body).into_owned();
    let text = match virtual_host {
        Some("block_all") => "unknown host, and outboundTrafficPolicy is REGISTRY_ONLY",
        _ => "the proxy answers itself",
    };
    Outcome { status: Some(plan.status.as_u16()), flag: String::new(), body, text: text.to_owned() }
}
