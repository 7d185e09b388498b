//! Request cases: a request, and what must become of it. They are decided by the same plan as in the proxy.
//!
//! A case expects as much as it says; what a proxy can't know (the answer of an application) it can't expect.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};

use super::{Caller, Decided, ExplainRequest, Explainer, Explanation, From, Hop, Policy};
use crate::api::{Key, Origin, Source};
use crate::snapshot::Provenance;
use crate::world::World;

/// One case.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Case {
    /// Name; unique names make reports readable, but are not needed.
    pub name: String,
    /// Workload that sends it.
    #[serde(default)]
    pub from: Option<String>,
    /// Gateway that a client outside sends it to.
    #[serde(default)]
    pub gateway: Option<String>,
    /// The request.
    pub request: CaseRequest,
    /// What must become of it.
    pub expect: Expect,
}

/// The request of a case.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CaseRequest {
    /// Method; default GET.
    pub method: Option<String>,
    /// URL; or `host` and `path`.
    pub url: Option<String>,
    /// Host, with a port if it is not 80.
    pub host: Option<String>,
    /// Path with query; default `/`.
    pub path: Option<String>,
    /// Headers.
    pub headers: BTreeMap<String, String>,
}

/// Expectations; each is checked if it is written.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Expect {
    /// Name of the rule (with `.` and the match's name).
    pub route: Option<String>,
    /// `namespace/name` of the VirtualService whose rule decides; `none`: none does.
    pub virtual_service: Option<String>,
    /// Host of every destination, short or in full.
    pub host: Option<String>,
    /// Subset of every destination.
    pub subset: Option<String>,
    /// Cluster of every destination.
    pub cluster: Option<String>,
    /// All destinations with their shares.
    pub destinations: Option<Vec<Destination>>,
    /// Status of an answer that a proxy makes itself.
    pub status: Option<u16>,
    /// Response flag of such an answer.
    pub flag: Option<String>,
    /// An application gets the request (true), or a proxy answers (false).
    pub forwarded: Option<bool>,
    /// Location of a redirect.
    pub redirect: Option<String>,
    /// Path with query that the destination sees.
    pub path: Option<String>,
    /// Host that the destination sees.
    pub authority: Option<String>,
    /// Request headers that rules set or add; null: removed.
    pub headers: BTreeMap<String, Option<String>>,
    /// The same for the response.
    pub response_headers: BTreeMap<String, Option<String>>,
    /// Timeout of the whole request; `none`.
    pub timeout: Option<String>,
    /// Retries after the first try.
    pub retries: Option<u32>,
    /// Words in the description of the injected fault; `none`.
    pub fault: Option<String>,
    /// Words in the description of the mirror; `none`.
    pub mirror: Option<String>,
    /// Words in the description of any other policy of the route or the clusters, by its name in `explain`; `none`.
    pub policies: BTreeMap<String, String>,
}

/// A destination of a weighted rule.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Destination {
    /// Host, short or in full.
    pub host: Option<String>,
    /// Subset.
    pub subset: Option<String>,
    /// Percent of the requests.
    pub share: Option<f64>,
}

/// What became of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What does not hold; empty: the case passes.
    pub failures: Vec<String>,
    /// The rules that decided, by object and field.
    pub reached: Vec<(String, String)>,
}

impl Case {
    /// Decides the request and compares.
    pub fn run(&self, explainer: &Explainer<'_>) -> Verdict {
        match self.question().and_then(|q| explainer.explain(&q)) {
            Err(e) => Verdict { failures: vec![e], reached: Vec::new() },
            Ok(explanation) => Verdict { failures: self.expect.check(&explanation), reached: reached(&explanation) },
        }
    }

    /// The request as `explain` takes it.
    ///
    /// # Errors
    /// Something in it makes no sense; the text says what to write.
    pub fn question(&self) -> Result<ExplainRequest, String> {
        let from = match (&self.from, &self.gateway) {
            (Some(workload), None) => From::Workload(workload.clone()),
            (None, Some(gateway)) => From::Gateway(gateway.clone()),
            _ => return Err("write either from: WORKLOAD or gateway: NAME".into()),
        };
        let r = &self.request;
        let path = r.path.as_deref().unwrap_or("/");
        let url = match (&r.url, &r.host) {
            (Some(url), None) if r.path.is_none() => url.clone(),
            (None, Some(host)) if path.starts_with('/') => format!("http://{host}{path}"),
            (None, Some(_)) => return Err(format!("request.path: {path:?} does not begin with /")),
            _ => return Err("write either request.url, or request.host and request.path".into()),
        };
        let method = r.method.as_deref().unwrap_or("GET");
        let method = Method::from_str(method).map_err(|_| format!("request.method: {method:?} is no HTTP method"))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &r.headers {
            let wrong = || format!("request.headers: {name:?}: {value:?} is no header");
            let header = HeaderName::try_from(name.as_str()).map_err(|_| wrong())?;
            headers.append(header, HeaderValue::try_from(value.as_str()).map_err(|_| wrong())?);
        }
        if self.expect == Expect::default() {
            return Err("expect is empty: write what must become of the request".into());
        }
        Ok(ExplainRequest { from, method, url, headers, claims: None, caller: Caller::default() })
    }
}

/// The first hop decides; the later ones are the inbound sides of the destinations.
fn first(e: &Explanation) -> &Hop {
    e.hops.first().expect("invariant: an explanation has at least the hop at which it starts")
}

fn reached(e: &Explanation) -> Vec<(String, String)> {
    let rules = e.hops.iter().filter_map(|h| h.route.as_ref());
    rules.filter_map(|r| Some((r.object.clone()?, r.field.clone()))).collect()
}

/// Collects what does not hold.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn differs(&mut self, what: &str, wanted: &str, got: &str, by: Option<&Decided>) {
        let by = by.map_or(String::new(), |d| match (&d.object, &d.location) {
            (Some(o), Some(l)) => format!(" ({o} {}, {l})", d.field),
            (Some(o), None) => format!(" ({o} {})", d.field),
            (None, _) => format!(" ({})", d.field),
        });
        self.0.push(format!("{what}: expected {wanted}, got {got}{by}"));
    }

    fn same(&mut self, what: &str, wanted: Option<&str>, got: &str, by: Option<&Decided>) {
        if let Some(wanted) = wanted.filter(|w| *w != got) {
            self.differs(what, wanted, got, by);
        }
    }
}

impl Expect {
    /// What does not hold.
    pub fn check(&self, e: &Explanation) -> Vec<String> {
        let mut found = Findings::default();
        let hop = first(e);
        let route = hop.route.as_ref();
        let text = |d: Option<&Decided>| d.map_or("none".to_owned(), |d| d.value.clone());
        found.same("route", self.route.as_deref(), &text(route), route);
        let object = route.and_then(|r| r.object.as_deref()).and_then(|o| o.strip_prefix("VirtualService "));
        found.same("virtualService", self.virtual_service.as_deref(), object.unwrap_or("none"), route);
        self.answer(&mut found, e);
        self.destinations(&mut found, hop);
        self.changes(&mut found, hop);
        if let Some(wanted) = &self.timeout {
            let got = text(hop.timeout.as_ref());
            let time = |t: &str| crate::api::Duration::from_str(t).ok();
            if *wanted != got && (time(wanted).is_none() || time(wanted) != time(&got)) {
                found.differs("timeout", wanted, &got, hop.timeout.as_ref());
            }
        }
        if let Some(wanted) = self.retries {
            let got = text(hop.retries.as_ref());
            let number = got.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
            if wanted != number {
                found.differs("retries", &wanted.to_string(), &got, hop.retries.as_ref());
            }
        }
        let own = [("fault", &self.fault), ("mirror", &self.mirror)];
        let own = own.into_iter().filter_map(|(what, wanted)| Some((what, wanted.as_deref()?)));
        for (what, wanted) in own.chain(self.policies.iter().map(|(k, v)| (k.as_str(), v.as_str()))) {
            policy(&mut found, hop, what, wanted);
        }
        found.0
    }

    fn answer(&self, found: &mut Findings, e: &Explanation) {
        let got = e.outcome.status.map_or_else(|| e.outcome.text.clone(), |s| s.to_string());
        let wanted = self.status.map(|s| s.to_string());
        found.same("status", wanted.as_deref(), &got, None);
        found.same("flag", self.flag.as_deref(), &e.outcome.flag, None);
        let replied = e.hops.iter().any(|h| h.reply.is_some()) || e.outcome.status.is_some();
        if let Some(wanted) = self.forwarded.filter(|w| *w == replied) {
            let wanted = if wanted { "an application to get it" } else { "a proxy to answer" };
            found.differs("forwarded", wanted, &e.outcome.to_string(), None);
        }
        if let Some(wanted) = &self.redirect {
            let got = e.outcome.text.strip_prefix("redirect to ").unwrap_or("none");
            found.same("redirect", Some(wanted), got, first(e).route.as_ref());
        }
    }

    fn destinations(&self, found: &mut Findings, hop: &Hop) {
        if hop.clusters.is_empty() {
            let any = [&self.host, &self.subset, &self.cluster].into_iter().flatten().next();
            if any.is_some() || self.destinations.is_some() {
                found.0.push("the request goes to no destination".into());
            }
            return;
        }
        for c in &hop.clusters {
            let name = Name::of(&c.cluster.value);
            if let Some(wanted) = self.host.as_deref().filter(|w| !name.is_host(w)) {
                found.differs("host", wanted, name.host, Some(&c.cluster));
            }
            let subset = if name.subset.is_empty() { "none" } else { name.subset };
            found.same("subset", self.subset.as_deref(), subset, Some(&c.cluster));
            found.same("cluster", self.cluster.as_deref(), &c.cluster.value, Some(&c.cluster));
        }
        let Some(wanted) = &self.destinations else { return };
        let mut left: Vec<_> = hop.clusters.iter().collect();
        for d in wanted {
            let is = |c: &&&super::Target| {
                let name = Name::of(&c.cluster.value);
                d.host.as_deref().is_none_or(|h| name.is_host(h))
                    && d.subset.as_deref().is_none_or(|s| s == name.subset)
                    // Shares are printed with one digit, and written so.
                    && d.share.is_none_or(|s| (s - c.share).abs() < 0.06)
            };
            match left.iter().position(|c| is(&c)) {
                Some(i) => {
                    left.remove(i);
                }
                None => found.0.push(format!("destinations: there is none with {d}")),
            }
        }
        for c in left {
            let text = format!("destinations: not expected: {:.1}% {}", c.share, c.cluster);
            found.0.push(text);
        }
    }

    fn changes(&self, found: &mut Findings, hop: &Hop) {
        let becomes = |what: &str| {
            let prefix = format!("{what} becomes ");
            hop.changes.iter().find_map(|c| c.strip_prefix(&prefix)).unwrap_or("unchanged")
        };
        found.same("path", self.path.as_deref(), becomes("path"), hop.route.as_ref());
        found.same("authority", self.authority.as_deref(), becomes("Host"), hop.route.as_ref());
        for (of, headers) in [("request", &self.headers), ("response", &self.response_headers)] {
            for (name, value) in headers {
                let name = name.to_ascii_lowercase();
                let forms = match value {
                    None => vec![format!("{of} header {name} is removed")],
                    Some(v) => {
                        vec![format!("{of} header {name} is set to {v}"), format!("{of} header {name} gets {v} added")]
                    }
                };
                let has = |c: &String| forms.iter().any(|f| c == f || c.ends_with(&format!(" {f}")));
                if !hop.changes.iter().any(has) {
                    let changes = if hop.changes.is_empty() { "nothing".into() } else { hop.changes.join(", ") };
                    found.0.push(format!("{of} headers: expected {}, but the rule changes {changes}", forms[0]));
                }
            }
        }
    }
}

fn policy(found: &mut Findings, hop: &Hop, what: &str, wanted: &str) {
    let all = hop.policies.iter().chain(hop.clusters.iter().flat_map(|c| &c.policies));
    let of: Vec<&Policy> = all.filter(|p| p.what == what || p.what.starts_with(what)).collect();
    match (wanted, of.first()) {
        ("none", None) => {}
        ("none", Some(p)) => found.differs(what, "none", &p.decided.value, Some(&p.decided)),
        (_, None) => found.differs(what, wanted, "none", hop.route.as_ref()),
        (_, Some(p)) => {
            if !of.iter().any(|p| p.decided.value.contains(wanted)) {
                found.differs(what, wanted, &p.decided.value, Some(&p.decided));
            }
        }
    }
}

/// The parts of `outbound|9080|v1|reviews.default.svc.cluster.local`.
struct Name<'a> {
    subset: &'a str,
    host: &'a str,
}

impl<'a> Name<'a> {
    fn of(cluster: &'a str) -> Self {
        let mut parts = cluster.split('|');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(_), Some(_), Some(subset), Some(host)) => Self { subset, host },
            _ => Self { subset: "", host: cluster },
        }
    }

    /// In full, or its first labels.
    fn is_host(&self, wanted: &str) -> bool {
        self.host.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, subset, share } = self;
        let parts = [
            host.as_ref().map(|h| format!("host {h}")),
            subset.as_ref().map(|s| format!("subset {s}")),
            share.map(|s| format!("share {s}%")),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// Rules of VirtualServices, and which of them no case has reached.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Coverage {
    /// All rules.
    pub rules: usize,
    /// Rules that decided a case.
    pub reached: usize,
    /// The others.
    pub unreached: Vec<Decided>,
}

/// Which rules the cases reached, by object and field as in [`Verdict::reached`].
pub fn coverage(world: &World, reached: &BTreeSet<(String, String)>) -> Coverage {
    let mut all: Vec<(&Key, &Origin, String, String)> = Vec::new();
    for o in world.virtual_services().iter().filter(|o| !matches!(o.origin.source, Source::Generated(_))) {
        let lists = [
            ("http", o.spec.http.iter().map(|r| r.name.clone()).collect::<Vec<_>>()),
            ("tls", vec![String::new(); o.spec.tls.len()]),
            ("tcp", vec![String::new(); o.spec.tcp.len()]),
        ];
        for (list, names) in lists {
            let rules = names.into_iter().enumerate();
            all.extend(rules.map(|(i, name)| (&o.key, &o.origin, format!("spec.{list}[{i}]"), name)));
        }
    }
    let is = |key: &Key, field: &str| {
        reached.iter().any(|(object, at)| {
            let rest = at.strip_prefix(field);
            *object == key.to_string() && rest.is_some_and(|r| r.is_empty() || r.starts_with('.'))
        })
    };
    let rules = all.len();
    let missed = all.into_iter().filter(|(key, _, field, _)| !is(key, field));
    let decided = |(key, origin, field, name): (&Key, &Origin, String, String)| {
        Decided::new(name, &Provenance::field(key, origin, &field))
    };
    let unreached: Vec<Decided> = missed.map(decided).collect();
    Coverage { rules, reached: rules - unreached.len(), unreached }
}

#[cfg(test)]
mod tests;
