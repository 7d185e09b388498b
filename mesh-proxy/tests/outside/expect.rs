//! What `explain` says, as something to compare with.

use std::time::Duration;

use mesh_core::explain::{Explanation, Hop, Target};

use super::handshake::Server;
use super::requests::Ask;
use super::secrets::Certificates;

/// What the chosen upstream does with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Does {
    Answers,
    Status(u16),
    Grpc(u8),
    Closes { http2: bool },
    Refuses,
    Hangs,
}

impl Does {
    pub(crate) fn of(ask: &Ask, refuses: bool, http2: bool, behind_proxy: bool) -> Self {
        if refuses {
            return Self::Refuses;
        }
        match ask.value("x-do").unwrap_or_default() {
            // The proxy before the application answers with a status of its own.
            "close" if behind_proxy => Self::Status(503),
            "close" => Self::Closes { http2 },
            "hang" => Self::Hangs,
            text => match text.split_once('=') {
                Some(("status", code)) => Self::Status(code.parse().unwrap()),
                Some(("grpc", code)) => Self::Grpc(code.parse().unwrap()),
                _ => Self::Answers,
            },
        }
    }
}

/// A retry policy in `explain`'s words.
#[derive(Clone, Default, Debug)]
pub(crate) struct Retries {
    pub(crate) attempts: usize,
    pub(crate) on: Vec<String>,
    pub(crate) per_try: Option<Duration>,
}

impl Retries {
    fn read(text: &str) -> Self {
        let Some((attempts, rest)) = text.split_once(" on ") else { return Self::default() };
        let mut parts = rest.split(", ");
        Self {
            attempts: attempts.parse().unwrap(),
            on: parts.next().unwrap_or_default().split(',').map(str::to_owned).collect(),
            per_try: parts.find_map(|p| p.strip_suffix(" for each try")).map(duration),
        }
    }

    pub(crate) fn of(hop: &Hop) -> Self {
        hop.retries.as_ref().map(|r| Self::read(&r.value)).unwrap_or_default()
    }

    fn has(&self, tokens: &[&str]) -> bool {
        tokens.iter().any(|t| self.on.iter().any(|o| o == t))
    }

    /// Whether what an upstream does is tried again.
    pub(crate) fn concern(&self, does: Does) -> bool {
        let reset = ["5xx", "gateway-error", "reset"];
        self.attempts > 0
            && match does {
                Does::Answers => false,
                Does::Status(code) => {
                    self.has(&[&code.to_string()])
                        || ((500..600).contains(&code) && self.has(&["5xx"]))
                        || ((502..505).contains(&code) && self.has(&["gateway-error"]))
                        || (code == 409 && self.has(&["retriable-4xx"]))
                }
                Does::Grpc(14) => self.has(&["unavailable"]),
                Does::Grpc(13) => self.has(&["internal"]),
                Does::Grpc(_) => false,
                Does::Closes { .. } | Does::Hangs => self.has(&reset),
                Does::Refuses => self.has(&reset) || self.has(&["connect-failure", "reset-before-request"]),
            }
    }
}

/// The last proxy before the upstream, as far as it concerns one destination.
pub(crate) struct Expected<'e> {
    pub(crate) hop: &'e Hop,
    /// Those before applications, in the order of the destinations' shares.
    behind: &'e [Hop],
    pub(crate) timeout: Option<Duration>,
    pub(crate) retries: Retries,
    pub(crate) certificates: &'e Certificates,
}

impl<'e> Expected<'e> {
    pub(crate) fn of(explanation: &'e Explanation, certificates: &'e Certificates) -> Self {
        let hop = &explanation.hops[0];
        let timeout = hop.timeout.as_ref().filter(|t| t.value != "none").map(|t| duration(&t.value));
        Self { hop, behind: &explanation.hops[1..], timeout, retries: Retries::of(hop), certificates }
    }

    /// The client's handshake succeeds, if there is one.
    pub(crate) fn welcomes(&self, ask: &Ask) -> bool {
        let server = Server::of(self.hop);
        // A workload wants to meet one of the mesh.
        if server.is_some() && ask.to.identity.is_some() {
            return false;
        }
        server.zip(ask.to.tls.as_ref()).is_none_or(|(s, hello)| s.welcomes(hello, self.certificates.pins()))
    }

    /// The proxy before the application that a cluster leads to.
    pub(crate) fn inbound(&self, cluster: &str) -> Option<&'e Hop> {
        let mut all: Vec<&Target> = self.hop.clusters.iter().filter(|t| is_behind(t)).collect();
        all.sort_by(|a, b| b.share.total_cmp(&a.share));
        self.behind.get(all.iter().position(|t| t.cluster.value == cluster)?)
    }

    /// The connection ends without an answer.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_refused()
            || self.hop.reply.as_ref().is_some_and(|r| r.text.starts_with("the connection is reset"))
            || self.hop.reply.as_ref().is_some_and(|r| r.text.starts_with("TLS on a listener of plain HTTP"))
    }

    /// No listener takes the connection.
    pub(crate) fn is_refused(&self) -> bool {
        self.hop.reply.as_ref().is_some_and(|r| r.text.starts_with("the connection is closed"))
    }

    /// Headers that proxies make are said to be other ones than usual.
    pub(crate) fn makes(&self, what: &str) -> bool {
        self.policy("proxyHeaders").any(|p| p.split(", ").any(|p| p == what))
    }

    /// Bytes, not HTTP.
    pub(crate) fn is_tcp(&self) -> bool {
        self.hop.route.as_ref().is_some_and(|r| r.value == "bytes")
    }

    fn policy(&self, what: &str) -> impl Iterator<Item = &str> {
        self.hop.policies.iter().filter(move |p| p.what == what).map(|p| &*p.decided.value)
    }

    /// Every request is delayed on purpose.
    pub(crate) fn is_delayed(&self) -> bool {
        self.policy("fault").any(|f| f.starts_with("100% delayed"))
    }

    /// Every request that goes on is copied.
    pub(crate) fn is_copied(&self) -> bool {
        self.policy("mirror").any(|m| m.starts_with("100% to "))
    }

    /// A request that is not answered ends soon.
    pub(crate) fn ends_soon(&self) -> bool {
        let soon = |t: Option<Duration>| t.is_some_and(|t| t < Duration::from_secs(1));
        soon(self.timeout) || soon(self.retries.per_try)
    }

    /// A destination by the name of its cluster.
    pub(crate) fn target(&self, cluster: &str) -> Option<&'e Target> {
        self.hop.clusters.iter().find(|t| t.cluster.value == cluster)
    }

    /// Path and query as the upstream gets them.
    pub(crate) fn target_path<'a>(&'a self, sent: &'a str) -> &'a str {
        let said = |what: &str| self.hop.changes.iter().find_map(|c| c.strip_prefix(what));
        said("path becomes ")
            .or_else(|| said("path without its token is "))
            .or_else(|| said("path is normalized to "))
            .unwrap_or(sent)
    }

    /// A new host, from the destination or the rule.
    pub(crate) fn host(&self, cluster: &str) -> Option<&'e str> {
        let said = |what: &str| self.hop.changes.iter().find_map(|c| c.strip_prefix(what));
        said(&format!("{cluster} Host becomes ")).or_else(|| said("Host becomes "))
    }

    /// The request's headers as an upstream gets them.
    pub(crate) fn headers_for(&self, ask: &Ask, cluster: &str) -> Lines {
        let sent: Lines = ask.headers.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect();
        apply(self.operations("request", cluster), sent, of_request)
    }

    /// The host that an upstream is asked for.
    pub(crate) fn host_for(&self, ask: &Ask, cluster: &str) -> String {
        let headers = self.headers_for(ask, cluster);
        let new = self.host(cluster).and_then(|template| render(template, |operator| of_request(operator, &headers)));
        new.unwrap_or_else(|| ask.host.as_ref().unwrap_or(&ask.place).clone())
    }

    /// The rule has a new host. Of one that a destination among several has, upstreams are not told what it was before.
    pub(crate) fn rewrites_host(&self, cluster: &str) -> bool {
        let said = |what: &str| self.hop.changes.iter().any(|c| c.starts_with(what));
        said("Host becomes ") && !said(&format!("{cluster} Host becomes "))
    }

    /// Header operations of a side (`request`, `response`): the destination's, then the rule's.
    pub(crate) fn operations(&self, side: &str, cluster: &str) -> [Vec<Operation>; 2] {
        let read = |before: String| {
            let lines = self.hop.changes.iter().filter_map(|c| c.strip_prefix(before.as_str()));
            lines.filter_map(Operation::read).collect()
        };
        [read(format!("{cluster} {side} header ")), read(format!("{side} header "))]
    }
}

/// What `REQ(name)` stands for.
pub(crate) fn of_request(operator: &str, headers: &Lines) -> String {
    let name = operator.strip_prefix("REQ(").and_then(|n| n.strip_suffix(')'));
    first(headers, name.unwrap_or_else(|| panic!("operator {operator}")))
}

/// There is a proxy before the application.
pub(crate) fn is_behind(target: &Target) -> bool {
    target.reply.is_none() && target.endpoints.iter().any(|e| e.ends_with(" side"))
}

/// What a proxy does to a request's headers.
pub(crate) fn operations_of(hop: &Hop) -> Vec<Operation> {
    hop.changes.iter().filter_map(|c| Operation::read(c.strip_prefix("request header ")?)).collect()
}

/// A header operation in `explain`'s words.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Remove(String),
    Set(String, String),
    Add(String, String),
}

impl Operation {
    fn read(text: &str) -> Option<Self> {
        let (name, what) = text.split_once(' ')?;
        let name = name.to_owned();
        if what == "is removed" {
            return Some(Self::Remove(name));
        }
        if let Some(value) = what.strip_prefix("is set to ") {
            return Some(Self::Set(name, value.to_owned()));
        }
        let value = what.strip_prefix("gets ")?.strip_suffix(" added")?;
        Some(Self::Add(name, value.to_owned()))
    }
}

pub(crate) type Lines = Vec<(String, String)>;

/// Applies operations level by level. `value` resolves an operator (`REQ(x-a)`) on the headers after
/// the removals of a level.
pub(crate) fn apply(levels: [Vec<Operation>; 2], mut headers: Lines, value: impl Fn(&str, &Lines) -> String) -> Lines {
    for operations in levels {
        for operation in &operations {
            if let Operation::Remove(name) = operation {
                headers.retain(|(n, _)| n != name);
            }
        }
        let before = headers.clone();
        let render = |template: &str| render(template, |operator| value(operator, &before));
        for operation in operations {
            match operation {
                Operation::Remove(_) => {}
                Operation::Set(name, template) => {
                    if let Some(value) = render(&template) {
                        headers.retain(|(n, _)| *n != name);
                        headers.push((name, value));
                    }
                }
                Operation::Add(name, template) => headers.extend(render(&template).map(|v| (name, v))),
            }
        }
    }
    headers
}

/// A value with its operators resolved; none if it comes out empty. Only CORS says of a header that it is empty.
pub(crate) fn render(template: &str, value: impl Fn(&str) -> String) -> Option<String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((text, after)) = rest.split_once('%') {
        out += text;
        let Some((operator, after)) = after.split_once('%') else { panic!("{template}") };
        rest = after;
        if operator.is_empty() {
            out.push('%');
            continue;
        }
        match operator.rsplit_once("):") {
            Some((name, length)) => {
                let all = value(&format!("{name})"));
                out.extend(all.chars().take(length.parse().unwrap()));
            }
            None => out += &value(operator),
        }
    }
    out += rest;
    (template.is_empty() || !out.is_empty()).then_some(out)
}

/// The first line of a header.
pub(crate) fn first(headers: &Lines, name: &str) -> String {
    headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).unwrap_or_default()
}

/// A duration as Rust prints it.
fn duration(text: &str) -> Duration {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').unwrap_or_else(|| panic!("{text} is no duration")), 1.0),
    };
    Duration::from_secs_f64(number.parse::<f64>().unwrap() * unit)
}
