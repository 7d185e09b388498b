//! Why a request goes where it goes: every hop with the object, field, file and line that decides.
//!
//! There is no second matcher here: each hop is compiled by [`crate::compile`] and decided by [`crate::decide`], as in
//! the proxy. What an application would answer is not known, so the trace ends where a proxy hands the request to one.

mod balancing;
pub mod cases;
mod config;
mod filters;
mod hop;
mod miss;
mod policies;
mod security;
mod seen;
mod settings;
mod text;
mod words;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, Method, Uri};
use serde::Serialize;

pub use config::{EffectiveConfig, Item, effective};
pub use policies::Policy;
pub use security::{Case, Judge, Judgement, Refused, Said};

use crate::compile::{Compiled, compile};
use crate::decide::Detected;
use crate::matching::Claims;
use crate::model::Workload;
use crate::snapshot::{Map, Provenance, ProxyId, ProxyKind, Snapshot};
use crate::world::{World, covers};

/// Where a request starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum From {
    /// A Deployment or Pod: `NAME[.NAMESPACE]`, also `deploy/NAME`.
    Workload(String),
    /// A client outside, at a gateway: name of its workload, or of a Gateway object; `NAME[.NAMESPACE]`.
    Gateway(String),
    /// A client without a proxy, which dials this workload itself, at the port of the URL.
    Direct(String),
}

/// What is known of the client of a gateway, or of a workload that it dials itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Caller {
    /// Its address; `None`: not known, so that no network has it.
    pub address: Option<IpAddr>,
    /// Who passes it on with a PROXY header, which says the address; `None`: nobody.
    pub through: Option<IpAddr>,
    /// Name in its certificate: a SPIFFE id, or a host. `None`: it shows none. Whoever shows a SPIFFE id to a workload speaks the
    /// mesh's own TLS.
    pub name: Option<Arc<str>>,
}

/// A request to explain.
#[derive(Clone, Debug)]
pub struct ExplainRequest {
    /// Where it starts.
    pub from: From,
    /// Method.
    pub method: Method,
    /// URL; `http` without a port is 80, `https` 443.
    pub url: String,
    /// Headers; `host` replaces the URL's host for routing.
    pub headers: HeaderMap,
    /// Claims of the user's token, for rules of gateways that ask for them.
    pub claims: Option<Claims>,
    /// The client, where it is none of the mesh's workloads.
    pub caller: Caller,
}

/// The way of a request.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// `GET http://productpage:9080/`.
    pub request: String,
    /// Proxies in order. After a weighted choice there is one server hop for each destination.
    pub hops: Vec<Hop>,
    /// What the client gets.
    pub outcome: Outcome,
}

/// One proxy on the way.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hop {
    /// `sidecar outbound`, `sidecar inbound` or `gateway`.
    pub place: &'static str,
    /// Pod, `name.namespace`.
    pub proxy: String,
    /// [`Snapshot::hash`] of the configuration that decides.
    pub explain_config_hash: String,
    /// What the host name stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<Decided>,
    /// TLS that is ended here: the server that the server name chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Decided>,
    /// Virtual host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_host: Option<Decided>,
    /// Rule, with its name for logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Decided>,
    /// Header operations and rewrites, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// Whole-request timeout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Decided>,
    /// Retries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<Decided>,
    /// What else the route does: faults, mirrors, limits, …
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<Policy>,
    /// Destinations with their shares.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<Target>,
    /// The rule that came nearest, and why it does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub miss: Option<NearMiss>,
    /// The answer, if this proxy makes one itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<Outcome>,
}

/// A decision with where it comes from.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decided {
    /// The value.
    pub value: String,
    /// `Kind namespace/name`; absent for a default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Field, or the default's rule in words.
    pub field: String,
    /// `file:line`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

impl Decided {
    fn new(value: impl Into<String>, from: &Provenance) -> Self {
        Self {
            value: value.into(),
            object: from.object.as_ref().map(ToString::to_string),
            field: from.field.to_string(),
            location: from.location.as_ref().map(ToString::to_string),
        }
    }
}

/// A destination.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Cluster.
    pub cluster: Decided,
    /// Share of the requests in percent.
    pub share: f64,
    /// Balancer and the DestinationRule that says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balancer: Option<Decided>,
    /// What else the cluster does: connect timeout, limits, ejection, TLS, …
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<Policy>,
    /// Candidates: `address pod`.
    pub endpoints: Vec<String>,
    /// How they are spoken to: mutual TLS with whom, or plaintext and why. One, unless they differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transport: Vec<Decided>,
    /// Why nothing can be sent there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<Outcome>,
}

/// Why no rule took the request.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NearMiss {
    /// The nearest rule or host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<Decided>,
    /// What does not hold.
    pub why: Vec<String>,
    /// What to write instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// What the client gets.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Status, if a proxy answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Envoy's response flag; empty: none.
    pub flag: String,
    /// Body of the proxy's answer.
    pub body: String,
    /// In words.
    pub text: String,
}

/// Explains a request.
///
/// # Errors
/// The start or the URL make no sense; the text says what to write.
pub fn explain(world: &World, request: &ExplainRequest) -> Result<Explanation, String> {
    Explainer::new(world).explain(request)
}

/// The plans of proxies by workload and kind.
type Plans = Map<(Arc<str>, ProxyKind), Arc<Compiled>>;

/// Explains many requests in one World: each proxy's plan is compiled once.
pub struct Explainer<'w> {
    world: &'w World,
    compiled: Mutex<Plans>,
    judge: Option<Arc<dyn Judge>>,
    towards: Option<Arc<str>>,
}

impl<'w> Explainer<'w> {
    /// In this World.
    pub fn new(world: &'w World) -> Self {
        Self { world, compiled: Mutex::default(), judge: None, towards: None }
    }

    /// Of a destination's endpoints, that of this workload (by uid) is the one that gets the request.
    #[must_use]
    pub fn towards(mut self, workload: Arc<str>) -> Self {
        self.towards = Some(workload);
        self
    }

    /// With somebody who can ask security policies. Without, it is only said that there are some.
    #[must_use]
    pub fn judged_by(mut self, judge: Arc<dyn Judge>) -> Self {
        self.judge = Some(judge);
        self
    }

    /// Explains a request.
    ///
    /// # Errors
    /// The start or the URL make no sense; the text says what to write.
    pub fn explain(&self, request: &ExplainRequest) -> Result<Explanation, String> {
        let url = Url::parse(&request.url)?;
        let (id, place) = start(self.world, &request.from)?;
        if matches!(request.from, From::Direct(_)) {
            return self.direct(request, &url, id);
        }
        let compiled = self.compiled(&id);
        let mut explanation = Explanation {
            request: format!("{} {}", request.method, request.url),
            hops: Vec::new(),
            outcome: Outcome { status: None, flag: String::new(), body: String::new(), text: String::new() },
        };
        let client = self.proxy(&compiled.snapshot, &id, place);
        let (hop, next) = client.request(request, &url);
        explanation.outcome = outcome(&hop);
        explanation.hops.push(hop);
        for next in next {
            if let Some((hop, outcome)) = self.server(&id, &next) {
                explanation.hops.push(hop);
                if explanation.outcome.status.is_none() {
                    explanation.outcome = outcome;
                }
            }
        }
        Ok(explanation)
    }

    fn proxy<'a>(&'a self, snapshot: &'a Snapshot, id: &'a ProxyId, place: &'static str) -> hop::Proxy<'a> {
        hop::Proxy {
            world: self.world,
            snapshot,
            id,
            place,
            judge: self.judge.as_deref(),
            towards: self.towards.as_deref(),
        }
    }

    fn compiled(&self, id: &ProxyId) -> Arc<Compiled> {
        // What is in the map is whole, whoever panicked meanwhile.
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = compiled.entry((id.workload.clone(), id.kind));
        entry.or_insert_with(|| Arc::new(compile(self.world, id, None))).clone()
    }

    /// A client that dials a workload itself.
    fn direct(&self, request: &ExplainRequest, url: &Url, id: ProxyId) -> Result<Explanation, String> {
        let workload = self.world.workload(&id.workload).expect("invariant: it was just found");
        if !has_proxy(workload) {
            return Err(format!("{}.{} has no proxy: nothing is decided there", id.name, id.namespace));
        }
        let caller = &request.caller;
        let mutual = caller.name.as_ref().is_some_and(|n| n.starts_with("spiffe://"));
        let sni = url.server_name().filter(|_| mutual || url.https);
        let at =
            std::net::SocketAddr::new(id.addresses.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED.into()), url.port);
        let compiled = self.compiled(&id);
        let arrives = hop::Arrives { at, request, url, mutual, sni };
        let peer = security::Peer::outside(caller);
        let (hop, _) = self.proxy(&compiled.snapshot, &id, "sidecar inbound").inbound(&arrives, &peer);
        let outcome = hop.reply.clone().unwrap_or_else(to_the_application);
        Ok(Explanation { request: format!("{} {}", request.method, request.url), hops: vec![hop], outcome })
    }

    /// The inbound side of an endpoint; none for one without a proxy.
    fn server(&self, client: &ProxyId, next: &hop::Next) -> Option<(Hop, Outcome)> {
        let workload = &next.endpoint.workload;
        if !has_proxy(workload) {
            return None;
        }
        let id = ProxyId::of(ProxyKind::Sidecar, workload);
        let compiled = self.compiled(&id);
        let trust_domain = compiled.snapshot.security.trust_domains.own();
        let client = self.world.workload(&client.workload);
        let peer = security::Peer::proxy(client.map(|w| &**w), trust_domain, next.mutual);
        let (hop, _) = self.proxy(&compiled.snapshot, &id, "sidecar inbound").inbound(&next.arrives(), &peer);
        let outcome = hop.reply.clone().unwrap_or_else(to_the_application);
        Some((hop, outcome))
    }
}

fn has_proxy(workload: &Workload) -> bool {
    let inject = "sidecar.istio.io/inject";
    let out = workload.labels.get(inject).or_else(|| workload.annotations.get(inject)).is_some_and(|v| v == "false");
    !out && &*workload.workload_kind != "workloadentry"
}

fn to_the_application() -> Outcome {
    let text = "forwarded to the application, which answers".into();
    Outcome { status: None, flag: String::new(), body: String::new(), text }
}

fn outcome(hop: &Hop) -> Outcome {
    let reached: f64 = hop.clusters.iter().filter(|c| c.reply.is_none()).map(|c| c.share).sum();
    let failed = hop.clusters.iter().filter_map(|c| c.reply.as_ref()).next();
    match (&hop.reply, failed) {
        (Some(reply), _) => reply.clone(),
        (None, Some(reply)) if reached <= 0.0 => reply.clone(),
        (None, failed) => {
            let but = failed.map_or(String::new(), |f| format!("; {:.1}% fail: {}", 100.0 - reached, f.text));
            let fault = hop.policies.iter().find(|p| p.what == "fault");
            let fault = fault.map_or(String::new(), |f| format!("; fault injection: {}", f.decided.value));
            let text = format!("forwarded{but}{fault}");
            Outcome { status: None, flag: String::new(), body: String::new(), text }
        }
    }
}

fn start(world: &World, from: &From) -> Result<(ProxyId, &'static str), String> {
    let split = |text: &str| {
        let name = text.rsplit('/').next().unwrap_or(text).to_owned();
        match name.split_once('.') {
            Some((n, ns)) => (n.to_owned(), Some(ns.to_owned())),
            None => (name, None),
        }
    };
    let find = |text: &str| {
        let (name, namespace) = split(text);
        let here = |w: &&Arc<Workload>| namespace.as_ref().is_none_or(|n| **n == *w.namespace);
        let named = |w: &&Arc<Workload>| *w.workload_name == *name || *w.name == *name;
        world.workloads().iter().filter(here).find(named).cloned()
    };
    match from {
        From::Workload(text) | From::Direct(text) => match find(text) {
            Some(w) => Ok((ProxyId::of(ProxyKind::Sidecar, &w), "sidecar outbound")),
            None => Err(format!("there is no workload {text}; there are {}", names(world))),
        },
        From::Gateway(text) => {
            let (name, namespace) = split(text);
            let object = world
                .gateways()
                .iter()
                .find(|g| *g.key.name == *name && namespace.as_ref().is_none_or(|n| **n == *g.key.namespace));
            let of_object = || {
                let selector = &object?.spec.selector;
                world.workloads().iter().find(|w| covers(selector, &w.labels)).cloned()
            };
            match find(text).or_else(of_object) {
                Some(w) => Ok((ProxyId::of(ProxyKind::Gateway, &w), "gateway")),
                None => Err(format!("there is no gateway {text}; workloads are {}", names(world))),
            }
        }
    }
}

fn names(world: &World) -> String {
    let all: std::collections::BTreeSet<String> =
        world.workloads().iter().map(|w| format!("{}.{}", w.workload_name, w.namespace)).collect();
    if all.is_empty() { "none".into() } else { all.into_iter().collect::<Vec<_>>().join(", ") }
}

/// The parts of a URL that matter.
#[derive(Clone, Debug)]
struct Url {
    https: bool,
    host: String,
    port: u16,
    authority: String,
    target: String,
}

impl Url {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("--url {text}: {why}; write for example http://productpage:9080/productpage");
        let uri: Uri = text.parse().map_err(|e| wrong(&format!("{e}")))?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("the scheme must be http or https")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("there is no host"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        Ok(Self {
            https,
            host: host.to_ascii_lowercase(),
            port: authority.port_u16().unwrap_or(if https { 443 } else { 80 }),
            authority: authority.as_str().rsplit('@').next().unwrap_or_default().to_owned(),
            target: uri.path_and_query().map_or("/", |p| p.as_str()).to_owned(),
        })
    }

    /// An address is no server name.
    fn server_name(&self) -> Option<Arc<str>> {
        self.host.parse::<IpAddr>().is_err().then(|| self.host.as_str().into())
    }

    fn detected(&self) -> Detected {
        match self.https {
            false => Detected::Http1,
            true => Detected::Tls { sni: self.server_name(), alpn: vec!["http/1.1".into()] },
        }
    }

    /// The address of the host, and what it stands for.
    fn resolve(&self, snapshot: &Snapshot) -> (Option<IpAddr>, String) {
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return (Some(ip), format!("{ip} is an address"));
        }
        match snapshot.names.get(&*self.host) {
            Some(e) => {
                let all: Vec<String> = e.addresses.iter().map(ToString::to_string).collect();
                (e.addresses.first().copied(), format!("{} is {} at {}", self.host, e.hostname, all.join(", ")))
            }
            None => (None, format!("{} is no name of the mesh; ordinary DNS resolves it", self.host)),
        }
    }
}

#[cfg(test)]
mod tests;
