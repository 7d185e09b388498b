//! Decisions: what a listener does with a connection and which route takes a request. Pure functions of the plan; the
//! proxy acts on what they say, `explain` prints it.

mod arrival;
mod cors;
mod fault;
mod path;
mod redirect;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub use arrival::{Arrival, PortProtocol, decide_arrival, is_mesh_protocol};
pub use cors::{CorsDecision, decide_cors};
pub use fault::{FaultDecision, decide_fault};
pub use path::{BadPath, SlashDecision, decide_slashes, normalize_target, rewrite_path};
pub use redirect::apply_redirect;

use crate::matching::{HostPattern, Miss, RequestFacts};
use crate::snapshot::{
    Action, DownstreamTls, HttpPlan, L4Rule, ListenerPlan, MeshTls, MtlsMode, RouteDecision, RoutePlan, RouteTable,
    TcpPlan, TlsServer, VirtualHostPlan, WeightedCluster,
};

/// What the first bytes of a connection are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Detected {
    /// An HTTP/1.1 request line.
    Http1,
    /// HTTP/2's preface.
    Http2,
    /// A TLS ClientHello.
    Tls {
        /// Server name, if the client sent one; any case.
        sni: Option<Arc<str>>,
        /// Application protocols that it offers.
        alpn: Vec<Arc<str>>,
    },
    /// Something else; also when the server spoke first, or the detection timeout passed.
    Other,
}

/// What is known about a connection.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConnFacts {
    /// Where the client wanted to go, before it was captured.
    pub original_dst: Option<SocketAddr>,
    /// Who it comes from.
    pub peer: Option<IpAddr>,
    /// First bytes, once they are known.
    pub detected: Option<Detected>,
}

/// What to do with a connection.
#[derive(Clone, Copy, Debug)]
pub enum ConnDecision<'a> {
    /// Look at the first bytes, then ask again. To know what happens if the server speaks first, ask with
    /// [`Detected::Other`].
    NeedBytes,
    /// Serve HTTP.
    Http(&'a Arc<HttpPlan>),
    /// End TLS, then do what the server says.
    Terminate(&'a TlsServer),
    /// End the mesh's own TLS, then serve what is inside.
    Mutual(&'a Arc<DownstreamTls>, Inside<'a>),
    /// Forward bytes.
    Tcp(&'a Arc<TcpPlan>),
    /// Close it, for this reason (flag `NR`).
    Close(&'static str),
}

/// What is inside the mesh's own TLS.
#[derive(Clone, Copy, Debug)]
pub enum Inside<'a> {
    /// HTTP.
    Http(&'a Arc<HttpPlan>),
    /// Bytes.
    Tcp(&'a Arc<TcpPlan>),
}

/// Whether it makes a difference for a listener that the first bytes are HTTP; if not, all that counts is whether they
/// begin TLS.
pub fn looks_for_http(listener: &ListenerPlan) -> bool {
    let sniffs = |m: &MeshTls| m.mode != MtlsMode::Strict && PortProtocol::of(listener) == PortProtocol::Auto;
    listener.mesh.as_ref().map_or(listener.http.is_some(), sniffs)
}

/// Whether only a ClientHello can do anything with a listener: whoever sends nothing has no use for the connection.
pub fn waits_for_hello(listener: &ListenerPlan) -> bool {
    let ends = || listener.http.is_none() && listener.fallback.is_none() && !listener.tls.is_empty();
    listener.mesh.as_ref().map_or_else(ends, |m| m.mode == MtlsMode::Strict)
}

/// Decides a connection to the own application, which the mesh's own TLS may protect.
fn decide_inbound<'a>(listener: &'a ListenerPlan, mesh: &'a MeshTls, facts: &ConnFacts) -> ConnDecision<'a> {
    const NO_CHAIN: ConnDecision<'static> = ConnDecision::Close("filter_chain_not_found");
    let port = PortProtocol::of(listener);
    let first = match &facts.detected {
        Some(first) => first,
        None if mesh.mode == MtlsMode::Disable && port != PortProtocol::Auto => &Detected::Other,
        None => return ConnDecision::NeedBytes,
    };
    let (http, tcp) = (listener.http.as_ref(), listener.fallback.as_ref());
    let plain_http = |http| ConnDecision::Http(http);
    let plain_tcp = |tcp| ConnDecision::Tcp(tcp);
    let chain = match decide_arrival(mesh.mode, port, first) {
        Arrival::MtlsHttp => http.map(|h| ConnDecision::Mutual(&mesh.tls, Inside::Http(h))),
        Arrival::MtlsTcp => tcp.map(|t| ConnDecision::Mutual(&mesh.tls, Inside::Tcp(t))),
        Arrival::Http => http.map(plain_http),
        Arrival::Tcp => tcp.map(plain_tcp),
        Arrival::Refuse => None,
    };
    chain.unwrap_or(NO_CHAIN)
}

/// Decides a connection. Asks for bytes only if they make a difference.
pub fn decide_connection<'a>(listener: &'a ListenerPlan, facts: &ConnFacts) -> ConnDecision<'a> {
    if let Some(mesh) = &listener.mesh {
        return decide_inbound(listener, mesh, facts);
    }
    let ip = facts.original_dst.map(|a| a.ip());
    let here = |rule: &&L4Rule| {
        let nets = &rule.destination_subnets;
        nets.is_empty() || ip.is_some_and(|ip| nets.iter().any(|n| n.contains(ip)))
    };
    if !listener.detect {
        if let Some(http) = &listener.http {
            return ConnDecision::Http(http);
        }
    } else if facts.detected.is_none()
        && (listener.http.is_some()
            || !listener.tls.is_empty()
            || listener.l4.iter().find(here).is_some_and(|r| !r.sni.is_empty()))
    {
        return ConnDecision::NeedBytes;
    }
    if let (Some(http), Some(Detected::Http1 | Detected::Http2)) = (&listener.http, &facts.detected) {
        return ConnDecision::Http(http);
    }
    let detected = facts.detected.as_ref();
    let tcp = listener.l4.iter().filter(here).find(|r| sni_holds(&r.sni, detected) && alpn_holds(&r.alpn, detected));
    let ends = listener.tls.iter().filter_map(|s| Some((most_specific(&s.sni, detected)?, s)));
    if let Some((name, server)) = ends.min_by(|(a, _), (b, _)| a.more_specific(b)) {
        let other = tcp.and_then(|r| most_specific(&r.sni, detected));
        if other.is_none_or(|other| name.more_specific(other).is_le()) {
            return ConnDecision::Terminate(server);
        }
    }
    match tcp.map(|r| &r.plan).or(listener.fallback.as_ref()) {
        Some(plan) => ConnDecision::Tcp(plan),
        None => ConnDecision::Close("filter_chain_not_found"),
    }
}

fn sni_holds(patterns: &[HostPattern], detected: Option<&Detected>) -> bool {
    patterns.is_empty() || most_specific(patterns, detected).is_some()
}

/// The narrowest pattern that takes the client's server name; `*` takes clients that send none.
fn most_specific<'p>(patterns: &'p [HostPattern], detected: Option<&Detected>) -> Option<&'p HostPattern> {
    let Some(Detected::Tls { sni, .. }) = detected else { return None };
    let sni = sni.as_ref().map(|s| s.to_ascii_lowercase());
    let holds = |p: &&HostPattern| match &sni {
        Some(name) => p.matches(name),
        None => **p == HostPattern::Any,
    };
    patterns.iter().filter(holds).min_by(|a, b| a.more_specific(b))
}

fn alpn_holds(wanted: &[Arc<str>], detected: Option<&Detected>) -> bool {
    wanted.is_empty() || matches!(detected, Some(Detected::Tls { alpn, .. }) if alpn.iter().any(|p| wanted.contains(p)))
}

/// Decides a request: its virtual host by authority, then the first route in it that matches.
pub fn decide_route<'a>(table: &'a RouteTable, facts: &RequestFacts<'_>) -> RouteDecision<'a> {
    let place = table.domains.lookup(facts.authority);
    let virtual_host = place.and_then(|p| table.hosts.get(p));
    let index = virtual_host.and_then(|v| v.first(facts));
    RouteDecision { virtual_host, place, index }
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Index of the virtual host.
    pub host: usize,
    /// Index of the route in it.
    pub route: usize,
    /// Index among the route's destinations; 0 for redirects and direct responses.
    pub destination: usize,
    /// The route.
    pub plan: Arc<RoutePlan>,
}

/// Decides a request ([`decide_route`]), and the destination by weight, from 64 random bits if there are several. `None`: no
/// route takes it.
pub fn choose(table: &RouteTable, facts: &RequestFacts<'_>, random: impl FnOnce() -> u64) -> Option<Choice> {
    let decision = decide_route(table, facts);
    let plan = Arc::clone(decision.route()?);
    let destination = match &plan.action {
        Action::Forward(clusters) if clusters.len() > 1 => {
            let chosen = pick_weighted(clusters, random())?;
            clusters.iter().position(|c| std::ptr::eq(c, chosen))?
        }
        Action::Forward(_) | Action::Redirect(_) | Action::Direct(_) => 0,
    };
    Some(Choice { host: decision.place?, route: decision.index?, destination, plan })
}

/// Whether a request that no route of the plan takes came on the connection of another server: it is answered 421, so that
/// the client opens one of its own.
pub fn is_misdirected(http: &HttpPlan, authority: &str) -> bool {
    let host = || crate::matching::host_without_port(authority).trim_end_matches('.').to_ascii_lowercase();
    // A host without routes is another server's that asks more of its clients.
    !http.elsewhere.is_empty() && http.routes.lookup(authority).is_none_or(|v| v.routes.is_empty()) && {
        let host = host();
        http.elsewhere.iter().any(|p| p.matches(&host))
    }
}

/// Picks a destination by weight from 64 random bits. `None` only if there is no destination.
pub fn pick_weighted(clusters: &[WeightedCluster], random: u64) -> Option<&WeightedCluster> {
    if let [only] = clusters {
        return Some(only);
    }
    let total: u64 = clusters.iter().map(|c| u64::from(c.weight)).sum();
    // Multiply-shift maps the random bits evenly to 0..total without a division.
    let mut at = ((u128::from(random) * u128::from(total)) >> 64) as u64;
    clusters.iter().find(|c| {
        let weight = u64::from(c.weight);
        let hit = at < weight;
        at = at.saturating_sub(weight);
        hit
    })
}

/// The rule that a request came closest to, and why it missed it.
#[derive(Clone, Debug)]
pub enum NearestMiss<'a> {
    /// No virtual host takes the authority; this one's domain is the most alike, if any is.
    Host {
        /// The virtual host.
        nearest: Option<&'a Arc<VirtualHostPlan>>,
        /// Its domain.
        domain: Option<&'a Arc<str>>,
    },
    /// The virtual host has no route for the request; this one fails the fewest conditions.
    Route {
        /// The virtual host.
        virtual_host: &'a Arc<VirtualHostPlan>,
        /// The route; `None` if the virtual host has none.
        nearest: Option<&'a Arc<RoutePlan>>,
        /// What it fails.
        misses: Vec<Miss>,
    },
}

/// Why a request has no route; `None` if it has one.
pub fn nearest_miss<'a>(table: &'a RouteTable, facts: &RequestFacts<'_>) -> Option<NearestMiss<'a>> {
    let decision = decide_route(table, facts);
    if decision.index.is_some() {
        return None;
    }
    let Some(virtual_host) = decision.virtual_host else {
        let (nearest, domain) = nearest_host(table, facts.authority).unzip();
        return Some(NearestMiss::Host { nearest, domain });
    };
    let misses = |r: &'a Arc<RoutePlan>| (r, r.matches.misses(facts));
    let nearest = virtual_host.routes.iter().map(misses).min_by_key(|(_, m)| m.len());
    let (nearest, misses) = nearest.map_or((None, Vec::new()), |(r, m)| (Some(r), m));
    Some(NearestMiss::Route { virtual_host, nearest, misses })
}

/// The domain that shares the longest start with the authority (at least its first label): the short name for a fully
/// qualified one, or the other way round.
fn nearest_host<'a>(table: &'a RouteTable, authority: &str) -> Option<(&'a Arc<VirtualHostPlan>, &'a Arc<str>)> {
    let host = crate::matching::host_without_port(authority).to_ascii_lowercase();
    let first = host.split('.').next().unwrap_or_default();
    let common = |d: &str| d.bytes().zip(host.bytes()).take_while(|(a, b)| a == b).count();
    let all = table.virtual_hosts().flat_map(|v| v.domains.iter().map(move |d| (v, d)));
    all.filter(|(_, d)| !first.is_empty() && d.split('.').next() == Some(first))
        .max_by(|(_, a), (_, b)| common(a).cmp(&common(b)).then_with(|| b.cmp(a)))
}

#[cfg(test)]
mod tests;
