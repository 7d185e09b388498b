//! Rules -> routes of one virtual host, for one client and port.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;

use super::account::fate;
use super::memo::{Notes, Planned, hash_debug};
use super::rate_limit::RouteLimit;
use super::virtual_service::Wrong;
use crate::api::{ContentHash, Key, MeshConfig, Object, Origin, ProxyConfig};
use crate::matching::{HeaderValueTemplate, PathIndex, RequestMatch, StringMatcher};
use crate::model::{
    Backend, PathRewrite, RedirectPort, RedirectTo, Route, Rule, RuleAction, RuleFilters, RuleMatch, RuleRedirect,
    StaticMatch,
};
use crate::report::{Fate, Outcome};
use crate::snapshot::{
    Action, CorsPlan, DirectResponse, FaultPlan, HeaderOps, MirrorPlan, Provenance, RateLimitPlan, RedirectPath,
    RedirectPlan, RetryPlan, Rewrite, RewritePath, RouteFilters, RouteHeaders, RoutePlan, Share, SomeOps, StatsPlan,
    VirtualHostPlan, WeightedCluster,
};
use crate::world::covers;

/// Who asks: what static conditions are decided on.
#[derive(Clone, Debug)]
pub(super) struct Client {
    /// Labels of the workload.
    pub(super) labels: BTreeMap<String, String>,
    /// Namespace of the workload.
    pub(super) namespace: Arc<str>,
    /// `mesh`, or the Gateways whose listener this is.
    pub(super) gateways: Vec<Arc<str>>,
}

impl Client {
    pub(super) fn hash(&self) -> ContentHash {
        hash_debug(self)
    }

    /// Why static conditions don't hold; `None` if they do.
    pub(super) fn misses(&self, only: &StaticMatch, port: u16) -> Option<String> {
        let StaticMatch { port: wanted, source_labels, source_namespace, gateways } = only;
        if let Some(wanted) = wanted.filter(|p| *p != port) {
            return Some(format!("it is for port {wanted}, and this listener's is {port}"));
        }
        if !gateways.is_empty() && !gateways.iter().any(|g| self.gateways.contains(g)) {
            return Some(format!("it is for other gateways than {}", self.gateways.join(", ")));
        }
        if !covers(source_labels, &self.labels) {
            return Some("the client's workload does not have its sourceLabels".into());
        }
        if !source_namespace.is_empty() && *source_namespace != self.namespace {
            return Some(format!("it is for clients in namespace {source_namespace}"));
        }
        None
    }
}

/// What a destination host is, as far as routes depend on it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Destination {
    /// Host of the cluster: another one for ExternalName services.
    pub(super) host: Arc<str>,
    /// The port, if the service has just one.
    pub(super) only_port: Option<u16>,
}

/// What applies where a rule says nothing.
#[derive(Clone, Debug)]
pub(super) struct RouteDefaults {
    pub(super) retry: Option<RetryPlan>,
    pub(super) retry_origin: Provenance,
    /// Of routes without a timeout.
    pub(super) timeout_origin: Provenance,
    pub(super) headers: RouteHeaders,
    /// Bytes of a body that are kept for retries.
    pub(super) replay: usize,
    /// Name and match of a route that nobody wrote.
    pub(super) plain: (Arc<str>, RequestMatch),
    /// From a sidecar to its application; `None`: no retries.
    pub(super) inbound: Option<(RetryPlan, Provenance)>,
    pub(super) hash: ContentHash,
}

impl RouteDefaults {
    /// `defaultHttpRetryPolicy`, else Istio's two retries.
    pub(super) fn of(mesh: &Object<MeshConfig>, config: &ProxyConfig) -> Self {
        let field = "spec.defaultHttpRetryPolicy";
        let mut ledger = super::account::Ledger::new(mesh);
        let read = |p| super::virtual_service::retry_plan(&mut ledger, field, p);
        let configured = mesh.spec.default_http_retry_policy.as_ref().map(read);
        let by_default = "two retries of what was certainly not processed, by default";
        let (retry, retry_origin) = match configured {
            Some(Ok(policy)) => (policy, Provenance::setting(mesh, field, by_default)),
            Some(Err(Wrong(..))) | None => (Some(RetryPlan::istio()), Provenance::default(by_default)),
        };
        let inbound = Self::inbound(mesh);
        let headers = super::mesh::route_headers(config);
        let replay = super::mesh::buffer_limit(config).map_or(RoutePlan::REPLAY, |limit| limit as usize);
        let hash =
            hash_debug(&(&retry, inbound.as_ref().map(|(plan, _)| plan), headers, replay)).with(retry_origin.hash());
        let hash = inbound.iter().fold(hash, |h, (_, origin)| h.with(origin.hash()));
        let timeout_origin = Provenance::default("no timeout, by default");
        let all = RequestMatch { uri: Some(StringMatcher::Prefix("/".into())), ..RequestMatch::default() };
        let plain = ("default".into(), all);
        Self { retry, retry_origin, timeout_origin, headers, replay, plain, inbound, hash }
    }

    /// `defaultInboundHttpRetryPolicy`: attempts, retryOn and backoff of it.
    fn inbound(mesh: &Object<MeshConfig>) -> Option<(RetryPlan, Provenance)> {
        let field = "spec.defaultInboundHttpRetryPolicy";
        let built_in = || {
            let rule = "two retries of what did not reach the application, by default";
            Some((RetryPlan::istio_inbound(), Provenance::default(rule)))
        };
        let Some(policy) = &mesh.spec.default_inbound_http_retry_policy else { return built_in() };
        let mut ledger = super::account::Ledger::new(mesh);
        match super::virtual_service::retry_plan(&mut ledger, field, policy) {
            Ok(plan) => plan.map(|p| {
                let on = if policy.retry_on.is_empty() { RetryPlan::istio_inbound().on } else { p.on };
                let plan =
                    RetryPlan { status_codes: p.status_codes, backoff: p.backoff, ..RetryPlan::of(p.attempts, on) };
                (plan, Provenance::setting(mesh, field, "Istio's default policy"))
            }),
            Err(Wrong(..)) => built_in(),
        }
    }
}

/// Everything that the routes of a virtual host depend on.
#[derive(Clone, Debug)]
pub(super) struct VirtualHostInput<'a> {
    pub(super) name: Arc<str>,
    pub(super) domains: Arc<[Arc<str>]>,
    pub(super) port: u16,
    pub(super) client: &'a Client,
    pub(super) client_hash: ContentHash,
    /// Rules, from one object for a sidecar, from several for a gateway. None: everything to `fallback`.
    pub(super) routes: Vec<&'a Arc<Route>>,
    /// Rules that match everything go after the others (gateways merge objects so).
    pub(super) catch_all_last: bool,
    /// Destinations of the rules by host.
    pub(super) destinations: BTreeMap<Arc<str>, Destination>,
    /// Action without rules.
    pub(super) fallback: Fallback,
    /// Rate limits of the rules.
    pub(super) limits: Vec<RouteLimit>,
    pub(super) defaults: &'a RouteDefaults,
    pub(super) origin: Written<'a>,
}

/// Where a virtual host was written; a remembered one does not need it in words.
#[derive(Clone, Debug)]
pub(super) enum Written<'a> {
    /// There.
    At(Provenance),
    /// In a field of an object.
    Field(&'a Key, &'a Origin, &'static str),
}

impl Written<'_> {
    fn in_words(&self) -> Provenance {
        match self {
            Self::At(origin) => origin.clone(),
            Self::Field(key, origin, field) => Provenance::field(key, origin, field),
        }
    }

    fn hash(&self) -> ContentHash {
        match self {
            Self::At(origin) => origin.hash(),
            Self::Field(key, _, field) => Provenance::hash_of(key, field),
        }
    }
}

/// What a virtual host without rules does.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Fallback {
    /// Answers 404: has no routes.
    Nothing,
    /// One route to a cluster, with default retries.
    Cluster(Arc<str>),
    /// One route to a cluster, with these retries.
    Plain(Arc<str>, Option<(RetryPlan, Provenance)>),
    /// Answers with a status.
    Status(StatusCode),
    /// Redirects to https (`httpsRedirect`), before any rule.
    Https,
}

impl Fallback {
    fn hash(&self) -> ContentHash {
        match self {
            Self::Nothing => ContentHash(0),
            Self::Cluster(name) => ContentHash(1).with_str(name),
            Self::Plain(name, retry) => ContentHash(2).with_str(name).with(hash_debug(retry)),
            Self::Status(status) => ContentHash(3).with(ContentHash(status.as_u16().into())),
            Self::Https => ContentHash(4),
        }
    }
}

impl VirtualHostInput<'_> {
    pub(super) fn hash(&self) -> ContentHash {
        let mut h = ContentHash::of(self.name.as_bytes()).with(ContentHash(self.port.into())).with(self.client_hash);
        for d in &*self.domains {
            h = h.with_str(d);
        }
        for r in &self.routes {
            h = h.with(r.hash).with_str(&r.key.namespace).with_str(&r.key.name);
        }
        for (host, Destination { host: target, only_port }) in &self.destinations {
            h = h.with_str(host).with_str(target).with(ContentHash(only_port.map_or(0, u64::from)));
        }
        h = self.limits.iter().fold(h, |h, l| h.with(l.hash()));
        let h = h.with(self.origin.hash()).with(self.defaults.hash);
        h.with(ContentHash(self.catch_all_last.into())).with(self.fallback.hash())
    }
}

pub(super) fn plan_virtual_host(input: &VirtualHostInput<'_>) -> Planned<Arc<VirtualHostPlan>> {
    let mut notes = Notes::default();
    let mut routes: Vec<Arc<RoutePlan>> = Vec::new();
    if input.fallback != Fallback::Https {
        let mut rules: Vec<&Arc<Rule>> = input.routes.iter().flat_map(|r| &r.http).collect();
        rules.sort_by_key(|r| std::cmp::Reverse(r.precedence));
        let mut taken: Option<Provenance> = None;
        for rule in rules {
            plan_rule(input, rule, &mut taken, &mut routes, &mut notes.fates);
        }
    }
    if input.catch_all_last {
        routes.sort_by_key(|r| r.matches.is_catch_all());
    }
    let origin = input.origin.in_words();
    if routes.is_empty() {
        routes.extend(fallback_route(input, &origin).map(Arc::new));
    }
    routes.shrink_to_fit();
    let (name, domains) = (input.name.clone(), input.domains.clone());
    let hash = routes.iter().fold(hash_debug(&(&name, &domains)), |h, r| h.with(r.hash));
    let paths = PathIndex::of(routes.iter().map(|r| &r.matches)).map(Box::new);
    let plan = VirtualHostPlan { name, domains, routes, paths, origin, hash };
    Planned::new(Arc::new(plan), notes)
}

/// The routes of a rule, up to the first that takes everything: what comes after that can't be reached.
fn plan_rule(
    input: &VirtualHostInput<'_>,
    rule: &Rule,
    taken: &mut Option<Provenance>,
    routes: &mut Vec<Arc<RoutePlan>>,
    fates: &mut Vec<Fate>,
) {
    // Gateways put catch-all routes last, so that none hides another object's rules.
    let same_object = |p: &Provenance| !input.catch_all_last || p.object == rule.origin.object;
    let by = |p: &Provenance| Outcome::Overridden { by: words(p) };
    if let Some(p) = taken.as_ref().filter(|p| same_object(p)) {
        fates.extend(fate(&rule.origin, by(p)));
        return;
    }
    if let RuleAction::Delegate(..) = rule.action {
        return;
    }
    let mut used = rule.matches.is_empty();
    if rule.matches.is_empty() {
        routes.push(Arc::new(route(input, rule, None)));
        *taken = Some(rule.origin.clone());
    }
    let mut miss = String::new();
    for m in &rule.matches {
        if let Some(p) = taken.as_ref().filter(|p| same_object(p)) {
            fates.extend(fate(&m.origin, by(p)));
            continue;
        }
        if let Some(why) = input.client.misses(&m.only, input.port) {
            fates.extend(fate(&m.origin, Outcome::Inert { because: why.as_str().into() }));
            miss = why;
            continue;
        }
        used = true;
        fates.extend(fate(&m.origin, Outcome::Consumed));
        routes.push(Arc::new(route(input, rule, Some(m))));
        if hides_the_rest(&m.request) {
            *taken = Some(m.origin.clone());
        }
    }
    let outcome = if used { Outcome::Consumed } else { Outcome::Inert { because: miss.into() } };
    fates.extend(fate(&rule.origin, outcome));
}

fn hides_the_rest(request: &RequestMatch) -> bool {
    request.is_catch_all()
}

fn words(p: &Provenance) -> Arc<str> {
    match &p.object {
        Some(key) => format!("{key} {}", p.field).into(),
        None => p.field.clone(),
    }
}

fn route(input: &VirtualHostInput<'_>, rule: &Rule, m: Option<&RuleMatch>) -> RoutePlan {
    let matches = m.map(|m| m.request.clone()).unwrap_or_default();
    let mut authority = rule.authority.clone();
    let (mut request_headers, mut response_headers) = (rule.request_headers.clone(), rule.response_headers.clone());
    let action = match &rule.action {
        RuleAction::Redirect(r) => Action::Redirect(redirect(r, &matches, input.port).into()),
        RuleAction::Direct(d) => Action::Direct(d.clone()),
        RuleAction::Forward(backends) => {
            let mut clusters = clusters(input, backends);
            // A single destination has no level of its own: its operations follow the rule's.
            if let [only] = &mut *clusters {
                request_headers = followed_by(request_headers, std::mem::take(&mut only.request_headers));
                response_headers = followed_by(response_headers, std::mem::take(&mut only.response_headers));
                authority = authority.or(only.authority.take());
            }
            Action::Forward(clusters)
        }
        RuleAction::Delegate(..) => Action::Forward(Vec::new()),
    };
    let forwards = matches!(action, Action::Forward(_));
    let (retry, retry_origin) = match &rule.retries {
        Some(r) => (r.value.clone(), r.origin.clone()),
        None => (input.defaults.retry.clone().filter(|_| forwards), input.defaults.retry_origin.clone()),
    };
    let (timeout, timeout_origin) = match &rule.timeout {
        Some(t) => (t.value, t.origin.clone()),
        None => (None, input.defaults.timeout_origin.clone()),
    };
    let path = rule.rewrite.as_ref().map(|r| match (r, matches.prefix_length()) {
        (PathRewrite::Uri(to), Some(length)) => RewritePath::Prefix(length, to.clone()),
        (PathRewrite::Uri(to), None) => RewritePath::Full(to.clone()),
        (PathRewrite::Regex(regex, to), _) => RewritePath::Regex(regex.clone(), to.clone()),
    });
    let rewrite = (path.is_some() || authority.is_some()).then(|| Box::new(Rewrite { path, authority }));
    let filters = filters(input, rule, m);
    with_hash(RoutePlan {
        name: match m.map(|m| &*m.name) {
            Some(name) if !name.is_empty() => format!("{}.{name}", rule.name).into(),
            _ => rule.name.clone(),
        },
        matches,
        action,
        request_headers,
        response_headers,
        rewrite,
        filters,
        headers: input.defaults.headers,
        timeout,
        retry,
        replay: input.defaults.replay,
        origin: m.map_or(&rule.origin, |m| &m.origin).clone(),
        timeout_origin,
        retry_origin,
        hash: ContentHash::default(),
    })
}

fn filters(input: &VirtualHostInput<'_>, rule: &Rule, m: Option<&RuleMatch>) -> RouteFilters {
    let RuleFilters { fault, cors, .. } = &rule.filters;
    let mirror = |(backend, share): (&Backend, Share)| MirrorPlan {
        cluster: weighted(backend, input.destinations.get(&backend.host), input.port).cluster,
        share,
        origin: backend.origin.clone(),
    };
    let prefix = m.map(|m| &m.stat_prefix).filter(|p| !p.is_empty());
    RouteFilters {
        rate_limits: rate_limits(input, Some(rule)),
        fault: fault.clone(),
        cors: cors.clone(),
        mirrors: rule.filters.all_mirrors().map(mirror).collect(),
        stats: prefix.map(|p| StatsPlan { virtual_host: input.name.clone(), prefix: p.clone() }),
    }
}

fn rate_limits(input: &VirtualHostInput<'_>, rule: Option<&Rule>) -> Vec<Arc<RateLimitPlan>> {
    input.limits.iter().filter(|l| l.covers(rule)).map(|l| l.plan.clone()).collect()
}

fn redirect(from: &RuleRedirect, matches: &RequestMatch, port: u16) -> RedirectPlan {
    let RuleRedirect { code, scheme, authority, port: redirect_port, path } = from;
    RedirectPlan {
        code: *code,
        scheme: scheme.clone(),
        authority: authority.clone(),
        port: match redirect_port {
            RedirectPort::Keep => None,
            RedirectPort::Explicit(p) => Some(*p),
            RedirectPort::Listener => Some(port),
        },
        path: path.as_ref().map(|p| match p {
            RedirectTo::Path(p) => RedirectPath::Full(p.clone()),
            RedirectTo::Prefix(p) => match matches.prefix_length() {
                Some(length) => RedirectPath::Prefix(length, p.clone()),
                None => RedirectPath::Full(p.clone()),
            },
        }),
    }
}

fn clusters(input: &VirtualHostInput<'_>, backends: &[Backend]) -> Vec<WeightedCluster> {
    let all = backends.iter().filter(|b| b.weight > 0);
    all.map(|b| weighted(b, input.destinations.get(&b.host), input.port)).collect()
}

/// A destination as a cluster name. Its port: as written, else the service's only one, else the listener's.
pub(super) fn weighted(backend: &Backend, destination: Option<&Destination>, port: u16) -> WeightedCluster {
    let Backend {
        origin,
        host,
        subset,
        port: own,
        weight,
        missing_status,
        request_headers,
        response_headers,
        authority,
    } = backend;
    let host = destination.map_or(host, |d| &d.host);
    let port = own.or(destination.and_then(|d| d.only_port)).unwrap_or(port);
    WeightedCluster {
        cluster: super::cluster::name(port, subset, host),
        missing_status: *missing_status,
        weight: *weight,
        request_headers: request_headers.clone(),
        response_headers: response_headers.clone(),
        authority: authority.clone(),
        origin: origin.clone(),
    }
}

/// Header operations of a rule, then of its only destination. They are one list for Envoy, which does all that sets before
/// all that adds: a later `set` replaces an earlier one, unless its value is empty, and nothing that is added.
fn followed_by(mut first: HeaderOps, mut then: HeaderOps) -> HeaderOps {
    if then.is_empty() {
        return first;
    }
    let SomeOps { remove, set, add } = std::mem::take(&mut *then);
    let always = |value: &HeaderValueTemplate| !matches!(value, HeaderValueTemplate::Parts(_));
    let replaced = |(name, _): &(_, HeaderValueTemplate)| set.iter().any(|(n, value)| n == name && always(value));
    first.set.retain(|op| !replaced(op));
    first.remove.extend(remove);
    first.set.extend(set);
    first.add.extend(add);
    first.set.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
    first.add.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
    first
}

fn fallback_route(input: &VirtualHostInput<'_>, origin: &Provenance) -> Option<RoutePlan> {
    let defaults = input.defaults;
    let one = |cluster: &Arc<str>| Action::Forward(vec![plain(cluster.clone(), origin.clone())]);
    let (action, retry, retry_origin) = match &input.fallback {
        Fallback::Nothing => return None,
        Fallback::Cluster(c) => (one(c), defaults.retry.clone(), defaults.retry_origin.clone()),
        Fallback::Plain(c, Some((retry, origin))) => (one(c), Some(retry.clone()), origin.clone()),
        Fallback::Plain(c, None) => (one(c), None, Provenance::default("this kind of traffic is not retried")),
        Fallback::Status(status) => (
            Action::Direct(DirectResponse { status: *status, body: bytes::Bytes::new() }),
            None,
            Provenance::default("nothing is forwarded"),
        ),
        Fallback::Https => (
            Action::Redirect(Box::new(RedirectPlan {
                code: StatusCode::MOVED_PERMANENTLY,
                scheme: Some("https".into()),
                authority: None,
                port: None,
                path: None,
            })),
            None,
            Provenance::default("nothing is forwarded"),
        ),
    };
    Some(with_hash(RoutePlan {
        name: match &input.fallback {
            Fallback::Https => "".into(),
            Fallback::Plain(..) | Fallback::Status(_) if &*input.name != "allow_any" && &*input.name != "block_all" => {
                defaults.plain.0.clone()
            }
            Fallback::Plain(..) | Fallback::Status(_) => input.name.clone(),
            Fallback::Cluster(_) | Fallback::Nothing => defaults.plain.0.clone(),
        },
        matches: defaults.plain.1.clone(),
        action,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        rewrite: None,
        filters: RouteFilters { rate_limits: rate_limits(input, None), ..RouteFilters::default() },
        headers: defaults.headers,
        timeout: None,
        retry,
        replay: defaults.replay,
        origin: origin.clone(),
        timeout_origin: defaults.timeout_origin.clone(),
        retry_origin,
        hash: ContentHash::default(),
    }))
}

/// A cluster that takes everything.
pub(super) fn plain(cluster: Arc<str>, origin: Provenance) -> WeightedCluster {
    WeightedCluster {
        cluster,
        missing_status: StatusCode::SERVICE_UNAVAILABLE,
        weight: 1,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        authority: None,
        origin,
    }
}

/// Hash over all of a route, and of which object and field each part is.
fn with_hash(mut plan: RoutePlan) -> RoutePlan {
    let RoutePlan {
        name,
        matches,
        action,
        request_headers,
        response_headers,
        rewrite,
        filters,
        headers,
        timeout,
        retry,
        replay,
        origin,
        timeout_origin,
        retry_origin,
        hash: _,
    } = &plan;
    let rewrite = (rewrite, headers, replay);
    let rest = (name, matches, request_headers, response_headers, rewrite, hash_filters(filters), timeout, retry);
    let action = match action {
        Action::Forward(clusters) => clusters.iter().map(hash_weighted).fold(ContentHash(1), ContentHash::with),
        Action::Redirect(r) => hash_debug(r),
        Action::Direct(d) => hash_debug(d),
    };
    let origins = [origin, timeout_origin, retry_origin];
    plan.hash = origins.iter().fold(hash_debug(&rest).with(action), |h, o| h.with(o.hash()));
    plan
}

/// Hash over all of a route's filters but where they were written.
fn hash_filters(filters: &RouteFilters) -> ContentHash {
    let RouteFilters { rate_limits, fault, cors, mirrors, stats } = filters;
    let limits: Vec<_> = rate_limits
        .iter()
        .map(|limit| {
            let RateLimitPlan { name, max_tokens, tokens_per_fill, fill_interval, status, headers, origin: _ } =
                &**limit;
            (name, max_tokens, tokens_per_fill, fill_interval, status, headers)
        })
        .collect();
    let fault = fault.as_deref().map(|FaultPlan { delay, abort, origin: _ }| (delay, abort));
    let cors = cors.as_deref().map(|cors| {
        let CorsPlan {
            allow_origins,
            allow_methods,
            allow_headers,
            expose_headers,
            max_age,
            allow_credentials,
            forward_unmatched,
            origin: _,
        } = cors;
        let values = (allow_methods, allow_headers, expose_headers);
        (allow_origins, values, max_age, allow_credentials, forward_unmatched)
    });
    let mirrors: Vec<_> = mirrors.iter().map(|MirrorPlan { cluster, share, origin: _ }| (cluster, share)).collect();
    hash_debug(&(limits, fault, cors, mirrors, stats))
}

pub(super) fn hash_weighted(cluster: &WeightedCluster) -> ContentHash {
    let WeightedCluster { cluster, missing_status, weight, request_headers, response_headers, authority, origin } =
        cluster;
    hash_debug(&(cluster, missing_status, weight, request_headers, response_headers, authority)).with(origin.hash())
}
