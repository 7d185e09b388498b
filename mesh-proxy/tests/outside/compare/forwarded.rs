//! Whether requests that go on do so as `explain` said.

use std::net::IpAddr;

use mesh_core::explain::Hop;
use serde_json::Value;

use super::{
    CLIENT_CERT, Depth, Differences, Observed, REQUEST_HEADERS, RESPONSE_HEADERS, Seeing, answer, dialled, endpoint,
    flags, is_among, provenance, refuses, server_name,
};
use crate::client::Reply;
use crate::echo::{ANSWER, Seen};
use crate::expect::{Does, Expected, Lines, Retries, apply, first, of_request, operations_of};
use crate::handshake::accepts;
use crate::lab::Who;
use crate::requests::Ask;
use crate::secured::{self, without_certificates};
use crate::services::CHECKED;
use crate::topology::SIDE_APP;

pub(super) fn forwarded(
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
    let inbound = expected.inbound(cluster);
    let http2 = observed.seen.last().is_some_and(|s| s.http2);
    let host = expected.host_for(ask, cluster);
    let authority = server_name(&host).unwrap_or_else(|| host.clone());
    let refused = refuses(&target.endpoints, ask) || !accepts(target, Some(&authority), expected.certificates);
    let said_behind = inbound.and_then(|hop| secured::answer(hop, ask));
    let does = match &said_behind {
        None => Does::of(ask, refused, http2, inbound.is_some()),
        Some(said) => said.status.map_or(Does::Closes { http2: false }, Does::Status),
    };
    if let Some(said) = &said_behind {
        if said.status.is_some() {
            super::refused(d, ask, said, (reply, observed.inbound.as_ref()));
        }
        d.check("nothing reaches the application", 0, observed.seen.len());
    } else if !refused {
        let again = if expected.retries.concern(does) { expected.retries.attempts } else { 0 };
        let outer = 1 + again;
        let inner = inbound.map_or(1, |hop| 1 + behind_again(ask, hop, http2));
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
        // The proxy before an application tells it no number.
        if inbound.is_none() && does != Does::Hangs && ask.who != Who::Side {
            let count = observed.seen.len().to_string();
            let made = !expected.makes("no x-envoy-attempt-count");
            d.check("number of the last try", made.then_some(&*count), seen.one("x-envoy-attempt-count"));
        }
        let protocol = target.policies.iter().find(|p| p.what == "protocol").map(|p| &*p.decided.value);
        // Our clients speak HTTP/1.1, which is what a cluster that follows them speaks, too.
        d.check("HTTP/2", protocol == Some("Http2"), if inbound.is_none() { http2 } else { protocol == Some("Http2") });
        if inbound.is_none() {
            time_limit(d, expected, &observed.seen[0]);
        }
        upstream(d, ask, expected, (cluster, seen, inbound));
        let host = log["host"].as_str().unwrap_or_default().to_owned();
        d.check("endpoint in the log", true, is_among(&endpoint(&target.endpoints, ask, false), &host));
        match inbound {
            Some(hop) => behind(d, hop, (observed.inbound.as_ref(), seen), depth),
            None => {
                d.check("endpoint", &*host, &*seen.at.to_string());
                let first = endpoint(&target.endpoints, ask, true);
                d.check("first endpoint", true, is_among(&first, &observed.seen[0].at.to_string()));
                dialled(d, target, (None, Some(&*seen.host)), &seen.before);
            }
        }
    }
    copies(d, expected, observed, inbound);
    outcome(d, ask, expected, does, (reply, log, observed.seen.len()));
    // The proxy before an application that closes answers itself, without those headers.
    let answered = said_behind.is_none()
        && matches!(does, Does::Answers | Does::Status(_) | Does::Grpc(_))
        && ask.value("x-do") != Some("close");
    let answer = ANSWER.iter().filter(|_| answered).map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    response_headers(d, ask, expected, (cluster, reply, answer));
}

/// What the first try's upstream is told; a later one is told what is left.
fn time_limit(d: &mut Differences, expected: &Expected<'_>, first: &Seen) {
    let limits = [expected.retries.per_try, expected.timeout];
    let wait = limits.into_iter().flatten().min().map(|t| t.as_millis().to_string());
    let wait = wait.filter(|_| !expected.makes("no other x-envoy headers"));
    let told = first.one("x-envoy-expected-rq-timeout-ms");
    d.check("time limit that the upstream is told", wait.as_deref(), told);
}

/// Retries of the proxy before the application, for each request that it gets.
fn behind_again(ask: &Ask, hop: &Hop, http2: bool) -> usize {
    let retries = Retries::of(hop);
    if retries.concern(Does::of(ask, false, http2, false)) { retries.attempts } else { 0 }
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
fn copies(d: &mut Differences, expected: &Expected<'_>, observed: &Observed, inbound: Option<&Hop>) {
    if observed.seen.is_empty() {
        return;
    }
    d.check("copies", usize::from(expected.is_copied()), observed.copies.len());
    let Some(copy) = observed.copies.first() else { return };
    let last = observed.seen.last().map(|s| (&*s.method, &*s.host));
    d.check("copy", last, Some((&*copy.method, &*copy.host)));
    // What the proxy before the application does is nothing to the copy.
    let changes: Vec<&String> = inbound.into_iter().flat_map(|hop| &hop.changes).collect();
    if !changes.iter().any(|c| c.starts_with("path ")) {
        d.check("path of the copy", observed.seen.last().map(|s| &*s.target), Some(&*copy.target));
    }
    let own = |name: &str| name == CHECKED || changes.iter().any(|c| c.starts_with(&format!("request header {name} ")));
    for name in REQUEST_HEADERS.into_iter().filter(|n| !own(n)) {
        d.check(name, observed.seen.last().map(|s| s.all(name)), Some(copy.all(name)));
    }
}

/// The request as it was changed.
fn upstream(
    d: &mut Differences,
    ask: &Ask,
    expected: &Expected<'_>,
    (cluster, seen, inbound): (&str, &Seen, Option<&Hop>),
) {
    d.check("method", ask.method, &*seen.method);
    let taken_out = |hop: &Hop| {
        let mut all = hop.changes.iter();
        all.find_map(|c| Some(c.strip_prefix("path without its token is ")?.to_owned()))
    };
    let path = inbound.and_then(taken_out).unwrap_or_else(|| expected.target_path(&ask.target).to_owned());
    d.check("path", path, &*seen.target);
    let headers = expected.headers_for(ask, cluster);
    d.check("host", &*expected.host_for(ask, cluster), &*seen.host);
    let rewritten = expected.rewrites_host(cluster) && expected.makes("x-forwarded-host");
    d.check(
        "x-forwarded-host",
        rewritten.then(|| ask.host.as_ref().unwrap_or(&ask.place)).map(|h| &**h),
        seen.one("x-forwarded-host"),
    );
    let headers = match inbound {
        Some(hop) => apply([Vec::new(), operations_of(hop)], headers, of_request),
        None => headers,
    };
    let checked = secured::is_marked([Some(expected.hop), inbound].into_iter().flatten());
    for name in REQUEST_HEADERS {
        let lines: Vec<&str> = headers.iter().filter(|(n, _)| n == name).map(|(_, v)| &**v).collect();
        if name == CHECKED {
            if let Some(marked) = checked {
                d.check(name, if marked { vec!["yes"] } else { Vec::new() }, seen.all(name));
            }
            continue;
        }
        if name == CLIENT_CERT {
            let known = |lines: Vec<&str>| lines.into_iter().map(without_certificates).collect::<Vec<_>>();
            d.check(name, known(lines), known(seen.all(name)));
            continue;
        }
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

/// A request's headers as values of its response read them: as it went on, if it did.
fn read_by_response(ask: &Ask, expected: &Expected<'_>, cluster: &str) -> Lines {
    match &expected.hop.reply {
        None => expected.headers_for(ask, cluster),
        Some(_) => ask.headers.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect(),
    }
}

pub(super) fn response_headers(
    d: &mut Differences,
    ask: &Ask,
    expected: &Expected<'_>,
    (cluster, reply, from): Answer<'_>,
) {
    let went = read_by_response(ask, expected, cluster);
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
