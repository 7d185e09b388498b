//! Routes: which request goes where, and what happens to it on the way.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode};

use super::{Map, Provenance, RouteFilters, RouteHeaders};
use crate::api::ContentHash;
use crate::matching::{HeaderValueTemplate, PathIndex, Regex, RequestFacts, RequestMatch};

/// Virtual hosts of one listener, by host.
#[derive(Clone, PartialEq, Debug)]
pub struct RouteTable {
    /// Name of the route configuration (`9080`, `http.80`).
    pub name: Arc<str>,
    /// The virtual hosts.
    pub hosts: Vec<Arc<VirtualHostPlan>>,
    /// Which of them takes which domain.
    pub domains: Arc<Domains>,
    /// Hash over all of it.
    pub hash: ContentHash,
}

/// Places of virtual hosts in [`RouteTable::hosts`] by domain; the same while only their routes change.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Domains {
    /// Exact hosts, lower case, without port.
    pub exact: Map<Arc<str>, usize>,
    /// `*.suffix` patterns as (`.suffix`, host), longest first.
    pub suffix: Vec<(Arc<str>, usize)>,
    /// `prefix*` patterns as (`prefix`, host), longest first.
    pub prefix: Vec<(Arc<str>, usize)>,
    /// `*`.
    pub any: Option<usize>,
}

/// Routes of one host.
#[derive(Clone, PartialEq, Debug)]
pub struct VirtualHostPlan {
    /// `reviews.default.svc.cluster.local:9080`, `allow_any`, `block_all`.
    pub name: Arc<str>,
    /// Domains it answers to.
    pub domains: Arc<[Arc<str>]>,
    /// Routes in order of evaluation.
    pub routes: Vec<Arc<RoutePlan>>,
    /// What finds the route of a path among many; `None`: there are few.
    pub paths: Option<Box<PathIndex>>,
    /// Which object made it.
    pub origin: Provenance,
    /// Hash over all of it.
    pub hash: ContentHash,
}

/// One match with its action: an entry of `http[].match[]`, or a default route.
#[derive(Clone, PartialEq, Debug)]
pub struct RoutePlan {
    /// Route name for logs: `default`, or the user's, with `.` and the match's name.
    pub name: Arc<str>,
    /// Which requests.
    pub matches: RequestMatch,
    /// What happens.
    pub action: Action,
    /// Route-level request header operations (for one destination: followed by the destination's).
    pub request_headers: HeaderOps,
    /// Route-level response header operations.
    pub response_headers: HeaderOps,
    /// Path and authority rewrite.
    pub rewrite: Option<Box<Rewrite>>,
    /// Fault, CORS, mirrors and what else most routes don't have.
    pub filters: RouteFilters,
    /// Headers that the proxy makes.
    pub headers: RouteHeaders,
    /// Whole-request timeout; `None`: none.
    pub timeout: Option<Duration>,
    /// `None`: no retries.
    pub retry: Option<RetryPlan>,
    /// Bytes of a request's body that are kept to send it again: `connectionSettings.perConnectionBufferLimitBytes`.
    pub replay: usize,
    /// The rule.
    pub origin: Provenance,
    /// Where the timeout comes from.
    pub timeout_origin: Provenance,
    /// Where the retry policy comes from.
    pub retry_origin: Provenance,
    /// Hash over all of it.
    pub hash: ContentHash,
}

/// What a route does with a request.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// Forward to one of these clusters, chosen by weight.
    Forward(Vec<WeightedCluster>),
    /// Answer with a redirect.
    Redirect(Box<RedirectPlan>),
    /// Answer directly.
    Direct(DirectResponse),
}

/// A destination with its share. Weight-0 destinations are not in plans.
#[derive(Clone, PartialEq, Debug)]
pub struct WeightedCluster {
    /// Name of the cluster in [`super::Snapshot::clusters`].
    pub cluster: Arc<str>,
    /// Status of the answer when there is no such cluster (`NC`): 503, or 500 by the rules of Gateway API.
    pub missing_status: StatusCode,
    /// Share, relative to the sum.
    pub weight: u32,
    /// Request header operations of this destination (only with several destinations; evaluated before the route's).
    pub request_headers: HeaderOps,
    /// Response header operations of this destination.
    pub response_headers: HeaderOps,
    /// Authority rewrite of this destination.
    pub authority: Option<HeaderValueTemplate>,
    /// The destination in the user's object.
    pub origin: Provenance,
}

/// Header operations of one level. Most levels have none, which takes next to no room.
#[derive(Clone, Default)]
pub struct HeaderOps(Option<Box<SomeOps>>);

/// Header operations: removals first, then `set`, then `add`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct SomeOps {
    /// Names to remove.
    pub remove: Vec<HeaderName>,
    /// Overwrite or add, sorted by name.
    pub set: Vec<(HeaderName, HeaderValueTemplate)>,
    /// Append a further line, sorted by name.
    pub add: Vec<(HeaderName, HeaderValueTemplate)>,
}

static NO_OPS: SomeOps = SomeOps { remove: Vec::new(), set: Vec::new(), add: Vec::new() };

impl SomeOps {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

impl From<SomeOps> for HeaderOps {
    fn from(ops: SomeOps) -> Self {
        Self((!ops.is_empty()).then(|| Box::new(ops)))
    }
}

impl std::ops::Deref for HeaderOps {
    type Target = SomeOps;

    fn deref(&self) -> &SomeOps {
        self.0.as_deref().unwrap_or(&NO_OPS)
    }
}

impl std::ops::DerefMut for HeaderOps {
    fn deref_mut(&mut self) -> &mut SomeOps {
        self.0.get_or_insert_default()
    }
}

impl PartialEq for HeaderOps {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl fmt::Debug for HeaderOps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Change of path and authority before forwarding.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Rewrite {
    /// New path.
    pub path: Option<RewritePath>,
    /// New authority.
    pub authority: Option<HeaderValueTemplate>,
}

/// How a path is rewritten; the query stays.
#[derive(Clone, PartialEq, Debug)]
pub enum RewritePath {
    /// Replace the matched prefix of this many bytes.
    Prefix(usize, Arc<str>),
    /// Replace the whole path.
    Full(Arc<str>),
    /// Replace every match; `\1`..`\9` and `\0` in the replacement are already in the regex crate's form.
    Regex(Regex, Arc<str>),
}

/// A redirect.
#[derive(Clone, PartialEq, Debug)]
pub struct RedirectPlan {
    /// 301, 302, 303, 307 or 308.
    pub code: StatusCode,
    /// New scheme.
    pub scheme: Option<Arc<str>>,
    /// New host; replaces host and port.
    pub authority: Option<Arc<str>>,
    /// Explicit port.
    pub port: Option<u16>,
    /// New path.
    pub path: Option<RedirectPath>,
}

/// How a redirect changes the path.
#[derive(Clone, PartialEq, Debug)]
pub enum RedirectPath {
    /// Replace the whole path; one with `?` drops the request's query.
    Full(Arc<str>),
    /// Replace the matched prefix of this many bytes.
    Prefix(usize, Arc<str>),
}

/// An answer made by the proxy.
#[derive(Clone, PartialEq, Debug)]
pub struct DirectResponse {
    /// Status.
    pub status: StatusCode,
    /// Body; empty: none.
    pub body: bytes::Bytes,
}

/// Conditions of `retryOn`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one documented token of retryOn")]
pub struct RetryOn {
    /// `5xx`.
    pub server_error: bool,
    /// `gateway-error`.
    pub gateway_error: bool,
    /// `reset`.
    pub reset: bool,
    /// `reset-before-request`.
    pub reset_before_request: bool,
    /// `connect-failure`.
    pub connect_failure: bool,
    /// `refused-stream`.
    pub refused_stream: bool,
    /// `retriable-4xx`.
    pub retriable_4xx: bool,
    /// `envoy-ratelimited`.
    pub ratelimited: bool,
    /// `cancelled` (gRPC 1).
    pub cancelled: bool,
    /// `deadline-exceeded` (gRPC 4).
    pub deadline_exceeded: bool,
    /// `resource-exhausted` (gRPC 8).
    pub resource_exhausted: bool,
    /// `internal` (gRPC 13).
    pub internal: bool,
    /// `unavailable` (gRPC 14).
    pub unavailable: bool,
}

impl fmt::Display for RetryOn {
    /// The tokens as `retryOn` writes them, comma-joined.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = [
            (self.connect_failure, "connect-failure"),
            (self.refused_stream, "refused-stream"),
            (self.unavailable, "unavailable"),
            (self.cancelled, "cancelled"),
            (self.server_error, "5xx"),
            (self.gateway_error, "gateway-error"),
            (self.reset, "reset"),
            (self.reset_before_request, "reset-before-request"),
            (self.retriable_4xx, "retriable-4xx"),
            (self.ratelimited, "envoy-ratelimited"),
            (self.deadline_exceeded, "deadline-exceeded"),
            (self.resource_exhausted, "resource-exhausted"),
            (self.internal, "internal"),
        ];
        let on: Vec<_> = tokens.iter().filter(|(on, _)| *on).map(|(_, token)| *token).collect();
        f.write_str(&on.join(","))
    }
}

/// A retry policy.
#[derive(Clone, PartialEq, Debug)]
pub struct RetryPlan {
    /// Retries after the first try.
    pub attempts: u32,
    /// Timeout of each try.
    pub per_try_timeout: Option<Duration>,
    /// Conditions.
    pub on: RetryOn,
    /// Further statuses to retry.
    pub status_codes: BTreeSet<u16>,
    /// Base of the exponential back-off; the cap is ten times it.
    pub backoff: Duration,
    /// `retryRemoteLocalities`: after two tries at one priority of localities, go on to others.
    pub remote_localities: bool,
    /// `retryIgnorePreviousHosts`: avoid endpoints that were tried. `None`: yes, unless the request's hash chooses the
    /// endpoint.
    pub ignore_previous_hosts: Option<bool>,
}

impl RoutePlan {
    /// Envoy's buffer limit, where nothing says another one: 1 MiB.
    pub const REPLAY: usize = 1 << 20;
}

impl RetryPlan {
    /// Istio's policy for requests without one: twice what was certainly not processed, and gRPC's `unavailable` and
    /// `cancelled`.
    pub fn istio() -> Self {
        let on = RetryOn {
            connect_failure: true,
            refused_stream: true,
            unavailable: true,
            cancelled: true,
            ..RetryOn::default()
        };
        Self::of(2, on)
    }

    /// Istio's policy from a sidecar to its application: what did not reach it, twice.
    pub fn istio_inbound() -> Self {
        Self::of(2, RetryOn { reset_before_request: true, ..RetryOn::default() })
    }

    /// So many retries on these conditions, the rest as by default.
    pub fn of(attempts: u32, on: RetryOn) -> Self {
        Self {
            attempts,
            per_try_timeout: None,
            on,
            status_codes: BTreeSet::new(),
            backoff: Duration::from_millis(25),
            remote_localities: false,
            ignore_previous_hosts: None,
        }
    }
}

impl fmt::Display for RetryPlan {
    /// `2 on 5xx,503, 1s for each try, back-off from 25ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut on = Some(self.on.to_string()).filter(|on| !on.is_empty()).into_iter().collect::<Vec<_>>();
        on.extend(self.status_codes.iter().map(ToString::to_string));
        write!(f, "{} on {}", self.attempts, if on.is_empty() { "nothing".to_owned() } else { on.join(",") })?;
        if let Some(limit) = self.per_try_timeout {
            write!(f, ", {limit:?} for each try")?;
        }
        write!(f, ", back-off from {:?}", self.backoff)?;
        if self.remote_localities {
            f.write_str(", in other localities too")?;
        }
        match self.ignore_previous_hosts {
            Some(false) => f.write_str(", also at endpoints that were tried"),
            Some(true) | None => Ok(()),
        }
    }
}

/// What `decide_route` found.
#[derive(Clone, Copy, Debug)]
pub struct RouteDecision<'a> {
    /// The virtual host that took the request.
    pub virtual_host: Option<&'a Arc<VirtualHostPlan>>,
    /// Its place in the table.
    pub place: Option<usize>,
    /// Index of the route in it.
    pub index: Option<usize>,
}

impl VirtualHostPlan {
    /// The first route that takes a request.
    pub fn first(&self, facts: &RequestFacts<'_>) -> Option<usize> {
        let takes = |route: &Arc<RoutePlan>| route.matches.check(facts).is_ok();
        match &self.paths {
            Some(paths) => paths.first(facts.path, |i| self.routes.get(i).is_some_and(takes)),
            None => self.routes.iter().position(takes),
        }
    }
}

impl<'a> RouteDecision<'a> {
    /// The route, if one matched.
    pub fn route(&self) -> Option<&'a Arc<RoutePlan>> {
        self.virtual_host?.routes.get(self.index?)
    }
}
