//! Whether what was seen is what `explain` said.

#[path = "compare/forwarded.rs"]
mod forwarded;

use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};

use mesh_core::explain::{Decided, Explanation, Hop, Outcome, Target};
use serde_json::Value;

use self::forwarded::{forwarded, response_headers};
use super::client::Reply;
use super::echo::{Before, Seen};
use super::expect::Expected;
use super::handshake::{Server, accepts, shown_to};
use super::lab::Who;
use super::requests::Ask;
use super::secrets::Certificates;
use super::secured;
use super::services::CHECKED;
use super::topology::is_open;

/// What came of a request.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    /// `Err`: what went wrong with the connection.
    pub(crate) reply: Result<Reply, std::io::ErrorKind>,
    /// The certificate that the server showed.
    pub(crate) certificate: Option<&'static str>,
    /// Tries that reached an upstream.
    pub(crate) seen: Vec<Seen>,
    /// Copies for a mirror.
    pub(crate) copies: Vec<Seen>,
    /// Access log line of the first proxy.
    pub(crate) log: Option<Value>,
    /// Access log line of the proxy before the application.
    pub(crate) inbound: Option<Value>,
}

/// How much is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Depth {
    /// Behaviour.
    Behaviour,
    /// And that the log names the same configuration, object, field and file.
    Provenance,
}

const CLIENT_CERT: &str = "x-forwarded-client-cert";
const REQUEST_HEADERS: [&str; 14] = [
    "x-a",
    "x-b",
    "x-c",
    "x_d",
    "x-new",
    "x-mixed",
    "authorization",
    "cookie",
    "x-token",
    "x-jwt-sub",
    "x-jwt-claim",
    "x-jwt-payload",
    CHECKED,
    CLIENT_CERT,
];
const RESPONSE_HEADERS: [&str; 11] = [
    "x-u1",
    "x-u2",
    "x-u3",
    "x-more",
    "x-mixed",
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-max-age",
    "access-control-expose-headers",
];

/// Collects differences.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn check<A: PartialEq<B> + Debug, B: Debug>(&mut self, what: &str, said: A, seen: B) -> bool {
        let same = said == seen;
        if !same {
            self.0.push(format!("{what}: explain says {said:?}, seen is {seen:?}"));
        }
        same
    }
}

/// Differences in words; none if all is as `explain` says.
pub(crate) fn differences(
    ask: &Ask,
    explanation: &Explanation,
    observed: &Observed,
    depth: Depth,
    certificates: &Certificates,
) -> Vec<String> {
    let expected = Expected::of(explanation, certificates);
    let mut d = Differences::default();
    if matches!(observed.reply, Err(std::io::ErrorKind::TimedOut)) {
        d.0.push("neither an answer nor an end came in time".to_owned());
        return d.0;
    }
    let refused = matches!(observed.reply, Err(std::io::ErrorKind::ConnectionRefused));
    let hop = expected.hop;
    if hop.listener.is_none() {
        d.check("connection refused", true, refused);
        return d.0;
    }
    if expected.is_closed() || !expected.welcomes(ask) {
        closed(&mut d, ask, &expected, observed);
        return d.0;
    }
    if let (Some(server), Some(shown)) = (Server::of(hop), observed.certificate) {
        d.check("certificate", true, server.shows(shown));
    }
    if ask.old == Some(false) {
        d.check("nothing reaches an upstream", 0, observed.seen.len());
        d.check("status", Some(426), observed.reply.as_ref().ok().map(|r| r.status));
        return d.0;
    }
    if expected.is_tcp() {
        tcp(&mut d, ask, &expected, observed);
        return d.0;
    }
    let reply = match &observed.reply {
        Ok(reply) => reply,
        Err(kind) => {
            d.check("an answer", None, Some(*kind));
            return d.0;
        }
    };
    let Some(log) = &observed.log else {
        d.check("a log line", true, false);
        return d.0;
    };
    if secured::is_refused_by_others(hop, ask) {
        let said = secured::answer(hop, ask).expect("invariant: it is refused");
        self::refused(&mut d, ask, &said, (reply, Some(log)));
        d.check("nothing reaches an upstream", 0, observed.seen.len());
        return d.0;
    }
    let name = hop.route.as_ref().map(|r| &*r.value).filter(|r| !r.is_empty());
    d.check("route in the log", name, log["route"].as_str());
    d.check("status in the log", u64::from(reply.status), log["code"].as_u64().unwrap_or_default());
    if depth == Depth::Provenance {
        provenance(&mut d, hop, log);
    }
    match &hop.reply {
        Some(said) => local(&mut d, ask, &expected, said, (reply, observed, log)),
        None => forwarded(&mut d, ask, &expected, (reply, observed, log), depth),
    }
    d.0
}

fn provenance(d: &mut Differences, hop: &Hop, log: &Value) {
    d.check("configuration in the log", Some(&*hop.explain_config_hash), log["config"].as_str());
    // The line may differ: a proxy does not hear of an object that only moved in its file.
    let file = |o: &str| o.rsplit_once(".yaml:").map_or(o, |(o, _)| o).to_owned();
    let said = hop.route.as_ref().map(|r| file(&origin(r)));
    d.check("origin in the log", said, log["origin"].as_str().map(file));
}

fn origin(from: &Decided) -> String {
    let parts = [from.object.as_deref(), Some(&*from.field), from.location.as_deref()];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Nobody answers.
fn closed(d: &mut Differences, ask: &Ask, expected: &Expected<'_>, observed: &Observed) {
    d.check("nothing reaches an upstream", 0, observed.seen.len());
    d.check("an answer", false, observed.reply.is_ok());
    let log = |field: &str| observed.log.as_ref().and_then(|l| l[field].as_str());
    match explanation_of(expected).filter(|_| expected.is_closed() && expected.welcomes(ask)) {
        Some(details) => _ = d.check("details in the log", Some(details), log("ended")),
        None if ask.closed == Some(true) => _ = d.check("flags in the log", Some("NR"), log("flags")),
        None => {}
    }
}

fn explanation_of<'e>(expected: &Expected<'e>) -> Option<&'e str> {
    expected.hop.reply.as_ref().and_then(secured::details)
}

/// A proxy refuses a request, of which it writes a line.
fn refused(d: &mut Differences, ask: &Ask, said: &secured::Answer, (reply, log): (&Reply, Option<&Value>)) {
    d.check("status", said.status, Some(reply.status));
    if ask.method != "HEAD" {
        d.check("body", &*said.body, &*reply.body);
    }
    let Some(log) = log else {
        d.check("a log line of the proxy that refuses", true, false);
        return;
    };
    if let Some(details) = &said.details {
        d.check("details in the log", Some(&**details), log["details"].as_str());
    }
    d.check("flags in the log of the proxy that refuses", Some(&*said.flag).filter(|f| !f.is_empty()), flags(log));
}

/// Bytes go through as they are.
fn tcp(d: &mut Differences, ask: &Ask, expected: &Expected<'_>, observed: &Observed) {
    let cluster = observed.log.as_ref().and_then(|l| l["cluster"].as_str());
    let all = &expected.hop.clusters;
    // Envoy's log has no name for a cluster that is not there.
    let missing = || all.iter().find(|t| t.reply.as_ref().is_some_and(|r| r.flag == "NC"));
    let Some(target) = cluster.map_or_else(missing, |name| expected.target(name)) else {
        let all: Vec<&str> = all.iter().map(|t| &*t.cluster.value).collect();
        d.check("cluster", format!("one of {all:?}"), format!("{cluster:?}"));
        return;
    };
    if let Some(said) = &target.reply {
        d.check("nothing reaches an upstream", 0, observed.seen.len());
        d.check("an answer", false, observed.reply.is_ok());
        let flags = observed.log.as_ref().and_then(|l| l["flags"].as_str());
        d.check("flags in the log", Some(&*said.flag), flags);
        return;
    }
    let inbound = expected.inbound(&target.cluster.value);
    if let Some(said) = inbound.and_then(|hop| secured::answer(hop, ask)) {
        d.check("nothing reaches an upstream", 0, observed.seen.len());
        d.check("an answer", false, observed.reply.is_ok());
        if let Some(details) = &said.details {
            let log = observed.inbound.as_ref();
            d.check("details in the server's log", Some(&**details), log.and_then(|l| l["ended"].as_str()));
        }
        return;
    }
    // What bytes ask for is the service's host.
    let accepted = accepts(target, target.cluster.value.rsplit('|').next(), expected.certificates);
    let Some(seen) = observed.seen.last() else {
        // A destination where nobody listens, or somebody else.
        d.check("an upstream is reached", refuses(&target.endpoints, ask) || !accepted, true);
        return;
    };
    d.check("upstreams are what they should be", true, accepted);
    let endpoints = inbound.map_or(&target.endpoints, |hop| &hop.clusters[0].endpoints);
    d.check("endpoint", true, is_among(&endpoint(endpoints, ask, true), &seen.at.to_string()));
    d.check("target", &*ask.target, &*seen.target);
    d.check("host", ask.host.as_deref(), Some(&*seen.host));
    for name in REQUEST_HEADERS {
        let sent: Vec<&str> = ask.headers.iter().filter(|(n, _)| *n == name).map(|(_, v)| &**v).collect();
        d.check(name, sent, seen.all(name));
    }
    if inbound.is_some() {
        return;
    }
    let passed_on = ask.to.tls.as_ref().map(|hello| &*hello.name).filter(|_| expected.hop.tls.is_none());
    dialled(d, target, (passed_on, None), &seen.before);
}

/// What comes on a connection before requests. `name`: what a client asks for by TLS that is passed on; `authority`:
/// what a request asks for.
fn dialled(d: &mut Differences, target: &Target, (name, authority): (Option<&str>, Option<&str>), seen: &Before) {
    let policy = |what: &str| target.policies.iter().find(|p| p.what == what).map(|p| &*p.decided.value);
    d.check("PROXY header", policy("proxyProtocol"), seen.proxy_header);
    d.check("tunnel", policy("tunnel").and_then(|t| t.strip_prefix("CONNECT ")), seen.tunnel.as_deref());
    let Some(tls) = policy("tls") else {
        d.check("TLS", name, seen.tls.as_ref().map(|name| name.as_deref().unwrap_or("no name")));
        return;
    };
    let inside = seen.inside.as_ref().map(|name| name.as_deref().unwrap_or("no name"));
    d.check("TLS inside of TLS", name, inside);
    d.check("the certificate that the upstream is shown", shown_to(target), seen.shown);
    let said = tls.split(", ").find_map(|part| part.strip_prefix("sni: "));
    let asked = seen.tls.as_ref().map(|name| name.as_ref().map(|n| n.to_ascii_lowercase()));
    match (said, authority.map(server_name)) {
        // An authority need not be one.
        (Some("the authority"), None | Some(None)) | (None, _) => d.check("TLS", true, asked.is_some()),
        (Some("the authority"), Some(name)) => d.check("server name", Some(name), asked),
        (Some(said), _) => d.check("server name", Some(Some(said.to_owned())), asked),
    };
}

/// An authority as a server's name (RFC 6066, 3): without port, and without the dot at its end; no address.
fn server_name(authority: &str) -> Option<String> {
    let name =
        authority.rsplit_once(':').map_or(authority, |(host, _)| host).trim_end_matches('.').to_ascii_lowercase();
    let is_name = name.split('.').all(|label| !label.is_empty()) && name.parse::<IpAddr>().is_err();
    is_name.then_some(name)
}

type Seeing<'a> = (&'a Reply, &'a Observed, &'a Value);

/// The proxy answers itself.
fn local(d: &mut Differences, ask: &Ask, expected: &Expected<'_>, said: &Outcome, (reply, observed, log): Seeing<'_>) {
    d.check("nothing reaches an upstream", 0, observed.seen.len());
    let delayed = expected.is_delayed() && (said.flag == "FI" || said.text.starts_with("preflight"));
    answer(d, ask, said, (reply, log), delayed);
    d.check(
        "location",
        said.text.strip_prefix("redirect to "),
        reply.one("location").filter(|_| said.text.starts_with("redirect to ")),
    );
    // The destination that would have been called is chosen already; which of several that are not there, the log does
    // not say.
    let (cluster, clusters) = (log["cluster"].as_str(), &expected.hop.clusters);
    if expected.hop.route.is_some() && (cluster.is_some() || clusters.len() < 2) {
        let only = clusters.first().map(|t| &*t.cluster.value);
        response_headers(d, ask, expected, (cluster.or(only).unwrap_or_default(), reply, Vec::new()));
    }
}

fn answer(d: &mut Differences, ask: &Ask, said: &Outcome, (reply, log): (&Reply, &Value), delayed: bool) {
    d.check("status", said.status, Some(reply.status));
    let flag = match (delayed, &*said.flag) {
        (true, "") => "DI".to_owned(),
        (true, flag) => format!("DI,{flag}"),
        (false, flag) => flag.to_owned(),
    };
    d.check("flags in the log", Some(&*flag).filter(|f| !f.is_empty()), flags(log));
    if let Some(details) = secured::details(said) {
        d.check("details in the log", Some(details), log["details"].as_str());
    }
    if ask.method != "HEAD" && reply.status != 204 && reply.status != 304 {
        d.check("body", &*said.body, &*reply.body);
    }
}

fn flags(log: &Value) -> Option<&str> {
    log["flags"].as_str().filter(|f| *f != "-")
}

/// Addresses of endpoints; `first`: those that a first try may go to.
fn endpoint(said: &[String], ask: &Ask, first: bool) -> Vec<String> {
    let one = |e: &String| match e.as_str() {
        // The host never has a port of its own.
        named if named.starts_with("the host that the request names") => {
            let dialled = ask.to.tunnel.expect("invariant: only those who dial are asked about this");
            let host = ask.host.as_ref().filter(|_| !ask.bytes).and_then(|h| h.parse().ok());
            SocketAddr::new(host.unwrap_or(dialled.ip()), dialled.port()).to_string()
        }
        "the address that the client dialled" if ask.who == Who::Side => format!("*:{}", ask.to.door.port()),
        "the address that the client dialled" => ask.to.tunnel.map_or_else(|| ask.place.clone(), |t| t.to_string()),
        // Where an application is, is not said, but by whom it was told.
        other if other.starts_with("the application") => {
            let port = other.rsplit(' ').next().unwrap_or_default();
            format!("*:{port}")
        }
        other => other.split(' ').next().unwrap_or_default().to_owned(),
    };
    let gets =
        |e: &&String| !first || !(e.contains(", gets nothing") || e.contains(", 0.0%") || e.contains(", priority "));
    said.iter().filter(gets).map(one).collect()
}

fn is_among(all: &[String], at: &str) -> bool {
    let port = at.rsplit_once(':').map_or("", |(_, port)| port);
    all.iter().any(|one| one == at || *one == format!("*:{port}"))
}

/// Nobody listens there, at none of the endpoints; what is neither an address nor an application's is dialled by nobody.
fn refuses(said: &[String], ask: &Ask) -> bool {
    let all = endpoint(said, ask, false);
    all.iter().all(|at| !at.starts_with('*') && at.parse().map_or(true, |at| !is_open(at)))
}
