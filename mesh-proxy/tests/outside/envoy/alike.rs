//! Whether two answers are alike.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::Echo;
use super::translate::Side;
use crate::client::Reply;
use crate::echo::Seen;
use crate::requests::Ask;
use crate::topology::COPIES;

/// What came of a request to one of the two.
pub(super) struct Answer {
    reply: Result<Reply, std::io::ErrorKind>,
    /// Tries that reached an upstream.
    seen: Vec<Seen>,
    /// Copies of it.
    copies: Vec<Seen>,
    log: Value,
}

impl Answer {
    pub(super) async fn of(
        reply: Result<Reply, std::io::ErrorKind>,
        log: Option<Value>,
        echo: &Echo,
        ask: &Ask,
    ) -> Self {
        let log = log.unwrap_or_default();
        let is_copy = |s: &Seen| matches!(s.at.ip(), std::net::IpAddr::V4(ip) if ip.octets()[3] == COPIES);
        // A copy is on its way when the answer is here.
        let mirrored = log["route"].as_str().is_some_and(|r| r.contains("copied"));
        let mut seen = echo.take(ask.agent());
        while mirrored && seen.iter().any(|s| !is_copy(s)) && !seen.iter().any(is_copy) {
            let more = echo.next(ask.agent()).await;
            if more.is_empty() {
                break;
            }
            seen.extend(more);
        }
        let (copies, seen) = seen.into_iter().partition(is_copy);
        Self { reply, seen, copies, log }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reply {
            Ok(reply) => writeln!(f, "{} {:?} {:?}", reply.status, reply.headers, reply.body)?,
            Err(kind) => writeln!(f, "{kind:?}")?,
        }
        for seen in self.seen.iter().chain(&self.copies) {
            writeln!(f, "  {} {} {} {:?}", seen.at, seen.method, seen.target, seen.headers)?;
        }
        write!(f, "  {}", self.log)
    }
}

/// Differences, and reasons for those that are on purpose.
pub(super) fn differences(ask: &Ask, side: Side, ours: &Answer, theirs: &Answer) -> (Vec<String>, Vec<&'static str>) {
    let (mut out, mut purposes) = (Vec::new(), Vec::new());
    let mut check = |what: &str, ours: String, theirs: String| {
        if ours != theirs {
            out.push(format!("{what}: ours is {ours}, Envoy's is {theirs}"));
        }
    };
    let (Ok(our), Ok(their)) = (&ours.reply, &theirs.reply) else {
        check("connection", format!("{:?}", ours.reply.is_ok()), format!("{:?}", theirs.reply.is_ok()));
        return (out, purposes);
    };
    check("status", our.status.to_string(), their.status.to_string());
    for field in ["route", "code", "flags", "details"] {
        check(&format!("{field} in the log"), ours.log[field].to_string(), theirs.log[field].to_string());
    }
    // An answer after a time limit may come between two tries or in one.
    let hangs = ask.value("x-do") == Some("hang");
    if !hangs {
        check("tries", ours.seen.len().to_string(), theirs.seen.len().to_string());
        // A body that no destination read.
        match ours.seen.is_empty() && ask.value("content-length").is_some() && ours.copies.is_empty() {
            true => purposes.extend((!theirs.copies.is_empty()).then_some("R4")),
            false => check("copies", ours.copies.len().to_string(), theirs.copies.len().to_string()),
        }
    }
    let (mut h, mut t) = (response(our), response(their));
    on_purpose(ask, (ours, our, &mut h), (their, &mut t), &mut purposes);
    compare("response header", &h, &t, &mut check);
    // Rows J2: no body where none can be.
    if our.status != 204 && our.status != 304 {
        check("body", format!("{:?}", our.body), format!("{:?}", their.body));
    }
    let last = |a: &Answer| a.seen.last().cloned();
    let pairs =
        [("request", last(ours), last(theirs)), ("copy", ours.copies.first().cloned(), theirs.copies.first().cloned())];
    for (what, our, their) in pairs {
        let (Some(our), Some(their)) = (our, their) else { continue };
        check(&format!("upstream of the {what}"), our.at.to_string(), their.at.to_string());
        check(&format!("method of the {what}"), our.method.clone(), their.method.clone());
        let target = encoded(&their.target);
        if target != their.target {
            purposes.push("K9");
        }
        check(&format!("path of the {what}"), our.target.clone(), target);
        check(&format!("host of the {what}"), our.host.clone(), their.host.clone());
        if !hangs {
            let tries = ours.seen.len();
            let (our, their) = (upstream(&our, side, tries), upstream(&their, side, tries));
            compare(&format!("{what} header"), &our, &their, &mut check);
        }
    }
    (out, purposes)
}

type Headers = BTreeMap<String, Vec<String>>;

fn compare(what: &str, ours: &Headers, theirs: &Headers, check: &mut impl FnMut(&str, String, String)) {
    let none = Vec::new();
    for name in ours.keys().chain(theirs.keys().filter(|n| !ours.contains_key(*n))) {
        let [our, their] = [ours, theirs].map(|h| h.get(name).unwrap_or(&none));
        check(&format!("{what} {name}"), format!("{our:?}"), format!("{their:?}"));
    }
}

fn collected(headers: &[(String, String)], value: impl Fn(&str, &str) -> Option<String>) -> Headers {
    let mut out = Headers::new();
    for (name, text) in headers {
        if let Some(text) = value(name, text) {
            out.entry(name.clone()).or_default().push(text);
        }
    }
    out
}

/// Times are not compared, only that they are told.
fn response(reply: &Reply) -> Headers {
    collected(&reply.headers, |name, value| match name {
        "date" | "x-envoy-upstream-service-time" => Some("a time".into()),
        _ => Some(value.into()),
    })
}

/// What no path can have, as we send it.
fn encoded(target: &str) -> String {
    target.replace('<', "%3C").replace('>', "%3E")
}

fn upstream(seen: &Seen, side: Side, tries: usize) -> Headers {
    collected(&seen.headers, |name, value| match name {
        "x-request-id" => Some(format!("{} characters", value.len())),
        // A later try is told what is left.
        "x-envoy-expected-rq-timeout-ms" | "grpc-timeout" if tries > 1 => Some("what is left".into()),
        // A client on the loopback interface has the node's own address in Envoy's words, and its own in ours.
        "x-forwarded-for" | "x-envoy-external-address" if side == Side::Gateway || value.split('.').count() == 4 => {
            Some(format!("{} addresses", value.split(',').count()))
        }
        _ => Some(value.into()),
    })
}

/// Takes out what differs for a reason that docs/envoy-differences.md has under this row.
fn on_purpose(
    ask: &Ask,
    (answer, our, ours): (&Answer, &Reply, &mut Headers),
    (their, theirs): (&Reply, &mut Headers),
    purposes: &mut Vec<&'static str>,
) {
    let closes = ours.contains_key("connection");
    let grpc = our.one("content-type") == Some("application/grpc");
    let (ours_now, theirs_now) = (&ours.clone(), &theirs.clone());
    let mut leave_out = |row: &'static str, names: &[&str]| {
        if names.iter().any(|n| ours.get(*n) != theirs.get(*n)) {
            purposes.push(row);
        }
        for name in names {
            ours.remove(*name);
            theirs.remove(*name);
        }
    };
    if ask.method == "HEAD" && theirs_is_empty_head(their) {
        leave_out("A2", &["transfer-encoding", "content-length"]);
    }
    let with_body = ask.value("content-length").is_some();
    if with_body && answer.seen.is_empty() && closes {
        leave_out("A", &["connection"]);
    }
    if our.status == 400 && answer.log["details"] == "fault_filter_abort" {
        leave_out("F1", &["connection"]);
    }
    let direct = answer.log["details"] == "direct_response";
    // The only authority with a port that is generated.
    let twice = theirs_now.get("location").is_some_and(|l| l.iter().any(|l| l.contains("other.example:8443")));
    if direct && twice {
        leave_out("J8", &["location"]);
    }
    // A usual port, of this scheme or, where Istio can't know which it is, of the other one.
    let usual = |l: &String| l.replacen(":443/", "/", 1).replacen(":80/", "/", 1);
    let locations = |h: &Headers| h.get("location").map(|l| l.iter().map(usual).collect::<Vec<_>>());
    if direct && locations(ours_now) == locations(theirs_now) {
        leave_out("J12", &["location"]);
    }
    if direct && grpc {
        leave_out("J2", &["grpc-message"]);
    }
    // Without a destination Envoy's values see the request as it came.
    if answer.log["details"] == "cluster_not_found" {
        leave_out("A", &["x-more", "x-mixed", "x-u1", "x-u2", "x-u3"]);
    }
    // The status in a header value of an answer that no upstream made.
    let own = answer.log["details"] != "via_upstream";
    let known = |name: &&str| own && says(ours_now, name, 3) && says(theirs_now, name, 1);
    let told: Vec<&str> = ["x-u1", "x-u2", "x-u3", "x-more", "x-mixed"].into_iter().filter(known).collect();
    leave_out("L4", &told);
    if our.status == 204 || our.status == 304 {
        leave_out("J2", &["content-length", "content-type"]);
    }
}

/// A header has a number of so many digits.
fn says(headers: &Headers, name: &str, digits: usize) -> bool {
    let number = |line: &String| line.len() == digits && line.bytes().all(|b| b.is_ascii_digit());
    headers.get(name).is_some_and(|lines| lines.iter().any(number))
}

fn theirs_is_empty_head(their: &Reply) -> bool {
    their.one("transfer-encoding") == Some("chunked")
}
