//! Whether what was seen is what `explain` said.

use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};

use mesh_core::explain::{Decided, Explanation, Hop, Outcome, Target};
use serde_json::Value;

use super::client::Reply;
use super::echo::{ANSWER, Before, Seen};
use super::expect::{Does, Expected, apply, first};
use super::handshake::{Server, accepts, shown_to};
use super::requests::Ask;
use super::secrets::Certificates;
use super::topology::{SIDE_APP, is_open};

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

const REQUEST_HEADERS: [&str; 6] = ["x-a", "x-b", "x-c", "x_d", "x-new", "x-mixed"];
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
        closed(&mut d, ask, observed);
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
fn closed(d: &mut Differences, ask: &Ask, observed: &Observed) {
    d.check("nothing reaches an upstream", 0, observed.seen.len());
    d.check("an answer", false, observed.reply.is_ok());
    if ask.closed == Some(true) {
        d.check("flags in the log", Some("NR"), observed.log.as_ref().and_then(|l| l["flags"].as_str()));
    }
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
    // What bytes ask for is the service's host.
    let accepted = accepts(target, target.cluster.value.rsplit('|').next(), expected.certificates);
    let Some(seen) = observed.seen.last() else {
        // A destination where nobody listens, or somebody else.
        d.check("an upstream is reached", refuses(&target.endpoints, ask) || !accepted, true);
        return;
    };
    d.check("upstreams are what they should be", true, accepted);
    d.check("endpoint", true, endpoint(&target.endpoints, ask, true).contains(&seen.at.to_string()));
    d.check("target", &*ask.target, &*seen.target);
    d.check("host", ask.host.as_deref(), Some(&*seen.host));
    for name in REQUEST_HEADERS {
        let sent: Vec<&str> = ask.headers.iter().filter(|(n, _)| *n == name).map(|(_, v)| &**v).collect();
        d.check(name, sent, seen.all(name));
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
        "the address that the client dialled" => ask.to.tunnel.map_or_else(|| ask.place.clone(), |t| t.to_string()),
        other => other.split(' ').next().unwrap_or_default().to_owned(),
    };
    let gets =
        |e: &&String| !first || !(e.contains(", gets nothing") || e.contains(", 0.0%") || e.contains(", priority "));
    said.iter().filter(gets).map(one).collect()
}

/// Nobody listens there, at none of the endpoints. What is no address is dialled by nobody.
fn refuses(said: &[String], ask: &Ask) -> bool {
    endpoint(said, ask, false).iter().all(|at| at.parse().map_or(true, |at| !is_open(at)))
}

fn forwarded(
    d: &mut Differences,
    ask: &Ask,
    expected: &Expected<'_>,
    (reply, observed, log): Seeing<'_>,
    depth: Depth,
) {
    let cluster = log["cluster"].as_str();
    let target = match cluster {
        Some(name) => expected.target(name),
        // Envoy's log has no name for a cluster that is not there.
        None => expected.hop.clusters.iter().find(|t| t.reply.as_ref().is_some_and(|r| r.flag == "NC")),
    };
    let all = || expected.hop.clusters.iter().map(|t| &*t.cluster.value).collect::<Vec<_>>();
    let Some(target) = target else {
        d.check("cluster", format!("one of {:?}", all()), format!("{cluster:?}"));
        return;
    };
    d.check("share", true, target.share > 0.0);
    if let Some(said) = &target.reply {
        d.check("nothing reaches an upstream", 0, observed.seen.len());
        answer(d, ask, said, (reply, log), expected.is_delayed());
        // Which of several that are not there was meant the log does not say.
        if cluster.is_some() || expected.hop.clusters.len() == 1 {
            response_headers(d, ask, expected, (&target.cluster.value, reply, Vec::new()));
        }
        return;
    }
    let cluster = &*target.cluster.value;
    // With several destinations the proxy before the application is told for one only.
    let inbound = expected.inbound.filter(|_| target.endpoints.iter().any(|e| e.ends_with(" side")));
    let http2 = observed.seen.last().is_some_and(|s| s.http2);
    let host = expected.host_for(ask, cluster);
    let authority = server_name(&host).unwrap_or_else(|| host.clone());
    let refused = refuses(&target.endpoints, ask) || !accepts(target, Some(&authority), expected.certificates);
    let said_behind = inbound.and_then(|hop| hop.reply.as_ref()?.status);
    let does = said_behind.map_or_else(|| Does::of(ask, refused, http2, inbound.is_some()), Does::Status);
    if said_behind.is_some() {
        d.check("nothing reaches the application", 0, observed.seen.len());
    } else if !refused {
        let again = if expected.retries.concern(does) { expected.retries.attempts } else { 0 };
        let outer = 1 + again;
        let inner = inbound.map_or(1, |_| 1 + behind_again(ask, expected, http2));
        match does {
            _ if ask.value("x-do") == Some("close") => {
                let most = outer * inner + quiet(ask, http2, inbound.is_some().then_some(outer));
                d.check("tries", true, (outer * inner..=most).contains(&observed.seen.len()))
            }
            // The time limit may be over before all tries were made.
            Does::Hangs => d.check("tries", true, (1..=outer).contains(&observed.seen.len())),
            _ => d.check("tries", outer * inner, observed.seen.len()),
        };
        let Some(seen) = observed.seen.last() else { return };
        if inbound.is_none() && does != Does::Hangs {
            let count = observed.seen.len().to_string();
            let made = !expected.makes("no x-envoy-attempt-count");
            d.check("number of the last try", made.then_some(&*count), seen.one("x-envoy-attempt-count"));
        }
        let protocol = target.policies.iter().find(|p| p.what == "protocol").map(|p| &*p.decided.value);
        // Our clients speak HTTP/1.1, which is what a cluster that follows them speaks, too.
        d.check("HTTP/2", protocol == Some("Http2"), if inbound.is_none() { http2 } else { protocol == Some("Http2") });
        if inbound.is_none() {
            // A later try is told what is left.
            let limits = [expected.retries.per_try, expected.timeout];
            let wait = limits.into_iter().flatten().min().map(|t| t.as_millis().to_string());
            let wait = wait.filter(|_| !expected.makes("no other x-envoy headers"));
            let told = observed.seen[0].one("x-envoy-expected-rq-timeout-ms");
            d.check("time limit that the upstream is told", wait.as_deref(), told);
        }
        upstream(d, ask, expected, (cluster, seen, inbound.is_some()));
        let host = log["host"].as_str().unwrap_or_default().to_owned();
        d.check("endpoint in the log", true, endpoint(&target.endpoints, ask, false).contains(&host));
        match inbound {
            Some(hop) => behind(d, hop, (observed.inbound.as_ref(), seen), depth),
            None => {
                d.check("endpoint", &*host, &*seen.at.to_string());
                let first = endpoint(&target.endpoints, ask, true);
                d.check("first endpoint", true, first.contains(&observed.seen[0].at.to_string()));
                dialled(d, target, (None, Some(&*seen.host)), &seen.before);
            }
        }
    }
    copies(d, expected, observed);
    outcome(d, ask, expected, does, (reply, log, observed.seen.len()));
    // The proxy before an application that closes answers itself, without those headers.
    let answered = said_behind.is_none()
        && matches!(does, Does::Answers | Does::Status(_) | Does::Grpc(_))
        && ask.value("x-do") != Some("close");
    let answer = ANSWER.iter().filter(|_| answered).map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    response_headers(d, ask, expected, (cluster, reply, answer));
}

/// Retries of the proxy before the application, for each request that it gets.
fn behind_again(ask: &Ask, expected: &Expected<'_>, http2: bool) -> usize {
    let concerns = expected.inbound_retries.concern(Does::of(ask, false, http2, false));
    if concerns { expected.inbound_retries.attempts } else { 0 }
}

/// Tries that no retry policy makes: a connection that had served before and closes without a byte of a response is
/// taken for one that was idle too long, and a request whose method may be repeated is sent once more, at most once for
/// each request that a proxy gets. What the pool had kept is not seen from outside; so there may be one more or not, and
/// then as many as were seen say what the body is. `inbound`: requests that the proxy before the application gets.
fn quiet(ask: &Ask, http2: bool, inbound: Option<usize>) -> usize {
    match (ask.method == "POST" || http2, inbound) {
        (true, _) => 0,
        (false, None) => 1,
        (false, Some(tries)) => tries,
    }
}

/// What goes on is copied, once whatever number of tries it takes; a mirror of none gets none.
fn copies(d: &mut Differences, expected: &Expected<'_>, observed: &Observed) {
    if observed.seen.is_empty() {
        return;
    }
    d.check("copies", usize::from(expected.is_copied()), observed.copies.len());
    let Some(copy) = observed.copies.first() else { return };
    let last = observed.seen.last().map(|s| (&*s.method, &*s.target, &*s.host));
    d.check("copy", last, Some((&*copy.method, &*copy.target, &*copy.host)));
    for name in REQUEST_HEADERS {
        d.check(name, observed.seen.last().map(|s| s.all(name)), Some(copy.all(name)));
    }
}

/// The request as it was changed.
fn upstream(
    d: &mut Differences,
    ask: &Ask,
    expected: &Expected<'_>,
    (cluster, seen, seen_behind): (&str, &Seen, bool),
) {
    d.check("method", ask.method, &*seen.method);
    d.check("path", expected.target_path(&ask.target), &*seen.target);
    let headers = expected.headers_for(ask, cluster);
    d.check("host", &*expected.host_for(ask, cluster), &*seen.host);
    let rewritten = expected.rewrites_host(cluster) && expected.makes("x-forwarded-host");
    d.check(
        "x-forwarded-host",
        rewritten.then(|| ask.host.as_ref().unwrap_or(&ask.place)).map(|h| &**h),
        seen.one("x-forwarded-host"),
    );
    let taken: Vec<&str> = expected.taken_behind().filter(|_| seen_behind).collect();
    for name in REQUEST_HEADERS.into_iter().filter(|n| !taken.contains(n)) {
        let lines: Vec<&str> = headers.iter().filter(|(n, _)| n == name).map(|(_, v)| &**v).collect();
        d.check(name, lines, seen.all(name));
    }
}

fn behind(d: &mut Differences, hop: &Hop, (log, seen): (Option<&Value>, &Seen), depth: Depth) {
    // In explicit mode an application has an address of its own, which stands for the loopback of its pod, too.
    let own = matches!(seen.at.ip(), IpAddr::V4(ip) if ip.octets()[3] == SIDE_APP);
    d.check("at the application's own address", true, own);
    let said = hop.clusters.first().and_then(|c| c.endpoints.first()).and_then(|e| e.rsplit_once("port "));
    d.check("port of the application", said.map(|(_, port)| port), Some(&*seen.at.port().to_string()));
    let Some(log) = log else {
        d.check("a log line of the server's proxy", true, false);
        return;
    };
    d.check("inbound route", hop.route.as_ref().map(|r| &*r.value), log["route"].as_str());
    d.check("inbound cluster", hop.clusters.first().map(|c| &*c.cluster.value), log["cluster"].as_str());
    if depth == Depth::Provenance {
        provenance(d, hop, log);
    }
}

/// Status, flags and body after the last try.
fn outcome(
    d: &mut Differences,
    ask: &Ask,
    expected: &Expected<'_>,
    does: Does,
    (reply, log, tries): (&Reply, &Value, usize),
) {
    let again = expected.retries.concern(does);
    let (status, flag, reason) = match does {
        Does::Answers | Does::Grpc(_) => (200, "", ""),
        Does::Status(code) => (code, "", ""),
        Does::Closes { http2: true } => (503, "UR", "remote reset"),
        Does::Closes { http2: false } => (503, "UC", "connection termination"),
        Does::Refuses => (503, "UF", "remote connection failure"),
        Does::Hangs => (504, "UT", ""),
    };
    d.check("status", status, reply.status);
    if does == Does::Hangs {
        // Which of the two limits ends it depends on the clock.
        d.check("flags in the log", true, flags(log).is_some_and(|f| f.ends_with("UT")));
        return;
    }
    let flag = [(expected.is_delayed(), "DI"), (again, "URX"), (!flag.is_empty(), flag)];
    let flag = flag.iter().filter(|(is, _)| *is).map(|(_, flag)| *flag).collect::<Vec<_>>().join(",");
    d.check("flags in the log", Some(&*flag).filter(|f| !f.is_empty()), flags(log));
    if !reason.is_empty() && ask.method != "HEAD" {
        let retried = if again || tries > 1 { "retried and the latest " } else { "" };
        let text =
            format!("upstream connect error or disconnect/reset before headers. {retried}reset reason: {reason}");
        d.check("body", &*text, &*reply.body);
    }
}

type Answer<'a> = (&'a str, &'a Reply, Vec<(String, String)>);

fn response_headers(d: &mut Differences, ask: &Ask, expected: &Expected<'_>, (cluster, reply, from): Answer<'_>) {
    // Values see the request as it went on, if it did.
    let went = match &expected.hop.reply {
        None => expected.headers_for(ask, cluster),
        Some(_) => ask.headers.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect(),
    };
    let value = |operator: &str, headers: &Vec<(String, String)>| {
        let argument = |kind: &str| operator.strip_prefix(kind).and_then(|n| n.strip_suffix(')'));
        match (argument("REQ("), argument("RESP("), operator) {
            (Some(name), ..) => first(&went, name),
            (_, Some(name), _) => first(headers, name),
            (.., "RESPONSE_CODE") => reply.status.to_string(),
            _ => panic!("operator {operator}"),
        }
    };
    let headers = apply(expected.operations("response", cluster), from, value);
    for name in RESPONSE_HEADERS {
        let lines: Vec<&str> = headers.iter().filter(|(n, _)| n == name).map(|(_, v)| &**v).collect();
        d.check(name, lines, reply.all(name));
    }
}
