//! Routes as every front end writes them: VirtualService now, HTTPRoute and Ingress later convert to these; only these
//! are compiled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::RuleFilters;
use crate::api::{ContentHash, Key, Origin};
use crate::matching::{Cidr, HeaderValueTemplate, HostPattern, Regex, RequestMatch};
use crate::snapshot::{DirectResponse, HeaderOps, Provenance, RetryPlan};

/// A value with where it was written.
#[derive(Clone, PartialEq, Debug)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub origin: Provenance,
}

/// Rules for some hosts, from one object.
#[derive(Clone, PartialEq, Debug)]
pub struct Route {
    /// The object.
    pub key: Key,
    /// Where it was written.
    pub origin: Origin,
    /// Content hash of the object; with delegates, of those, too.
    pub hash: ContentHash,
    /// Objects that it took rules from.
    pub includes: Vec<Key>,
    /// Hosts, in the order of the object. None: rules for others to include.
    pub hosts: Vec<HostPattern>,
    /// `mesh` or `namespace/name` of gateways.
    pub gateways: Vec<Arc<str>>,
    /// `exportTo` as written; empty: the mesh's default.
    pub export_to: Vec<Arc<str>>,
    /// HTTP rules.
    pub http: Vec<Arc<Rule>>,
    /// TLS rules, by server name.
    pub tls: Vec<L4Route>,
    /// TCP rules.
    pub tcp: Vec<L4Route>,
}

/// An HTTP rule.
#[derive(Clone, PartialEq, Debug)]
pub struct Rule {
    /// The object and field.
    pub origin: Provenance,
    /// Name for logs.
    pub name: Arc<str>,
    /// Rules of higher precedence are tried first; equal ones in order of writing. A VirtualService gives all of its
    /// rules the same.
    pub precedence: i32,
    /// Any of these; none: every request.
    pub matches: Vec<RuleMatch>,
    /// What happens.
    pub action: RuleAction,
    /// Path rewrite.
    pub rewrite: Option<PathRewrite>,
    /// Authority rewrite.
    pub authority: Option<HeaderValueTemplate>,
    /// Fault, CORS, mirrors.
    pub filters: RuleFilters,
    /// Timeout; the inner `None` is "no timeout", said explicitly.
    pub timeout: Option<Sourced<Option<Duration>>>,
    /// Retries; the inner `None` is "no retries", said explicitly.
    pub retries: Option<Sourced<Option<RetryPlan>>>,
    /// Request header operations.
    pub request_headers: HeaderOps,
    /// Response header operations.
    pub response_headers: HeaderOps,
}

/// One alternative of a rule's conditions.
#[derive(Clone, PartialEq, Debug)]
pub struct RuleMatch {
    /// The object and field.
    pub origin: Provenance,
    /// Appended to the rule's name.
    pub name: Arc<str>,
    /// Conditions on the request.
    pub request: RequestMatch,
    /// Conditions that are decided when the plan is made.
    pub only: StaticMatch,
    /// Prefix of own counters (`statPrefix`); empty: none.
    pub stat_prefix: Arc<str>,
}

/// Conditions on the client and the listener.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct StaticMatch {
    /// Port of the listener.
    pub port: Option<u16>,
    /// Labels of the client's workload.
    pub source_labels: BTreeMap<String, String>,
    /// Namespace of the client's workload; empty: any.
    pub source_namespace: Arc<str>,
    /// Gateways instead of the route's; empty: the route's.
    pub gateways: Vec<Arc<str>>,
}

/// What a rule does.
#[derive(Clone, PartialEq, Debug)]
pub enum RuleAction {
    /// Forward, by weight.
    Forward(Vec<Backend>),
    /// Redirect.
    Redirect(RuleRedirect),
    /// Answer.
    Direct(DirectResponse),
    /// Take the rules of another route: namespace, name.
    Delegate(Arc<str>, Arc<str>),
}

/// A destination.
#[derive(Clone, PartialEq, Debug)]
pub struct Backend {
    /// The object and field.
    pub origin: Provenance,
    /// Complete host name.
    pub host: Arc<str>,
    /// Subset; empty: all.
    pub subset: Arc<str>,
    /// Port; `None`: the only one of the service, else the listener's.
    pub port: Option<u16>,
    /// Share; 0 is never chosen beside others.
    pub weight: u32,
    /// Status of the answer if the destination does not exist: 503, or 500 by the rules of Gateway API.
    pub missing_status: StatusCode,
    /// Request header operations of this destination.
    pub request_headers: HeaderOps,
    /// Response header operations of this destination.
    pub response_headers: HeaderOps,
    /// Authority rewrite of this destination.
    pub authority: Option<HeaderValueTemplate>,
}

/// A redirect before the match it belongs to is known.
#[derive(Clone, PartialEq, Debug)]
pub struct RuleRedirect {
    /// Status.
    pub code: StatusCode,
    /// Scheme.
    pub scheme: Option<Arc<str>>,
    /// Authority.
    pub authority: Option<Arc<str>>,
    /// Port.
    pub port: RedirectPort,
    /// Path.
    pub path: Option<RedirectTo>,
}

/// Port of a redirect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RedirectPort {
    /// The request's, unless it is the default of another scheme.
    Keep,
    /// This one.
    Explicit(u16),
    /// The listener's.
    Listener,
}

/// Path of a redirect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RedirectTo {
    /// The whole path.
    Path(Arc<str>),
    /// The matched prefix.
    Prefix(Arc<str>),
}

/// A path rewrite before the match it belongs to is known.
#[derive(Clone, PartialEq, Debug)]
pub enum PathRewrite {
    /// The matched prefix, or the whole path of an exact or regex match.
    Uri(Arc<str>),
    /// Every match of the expression.
    Regex(Regex, Arc<str>),
}

/// A TLS or TCP rule.
#[derive(Clone, PartialEq, Debug)]
pub struct L4Route {
    /// The object and field.
    pub origin: Provenance,
    /// Any of these; none: every connection.
    pub matches: Vec<L4Match>,
    /// Destinations by weight.
    pub backends: Vec<Backend>,
}

/// One alternative of an L4 rule's conditions.
#[derive(Clone, PartialEq, Debug)]
pub struct L4Match {
    /// The object and field.
    pub origin: Provenance,
    /// Server names; empty: TLS or not.
    pub sni: Vec<HostPattern>,
    /// Destination networks; empty: all.
    pub destination_subnets: Vec<Cidr>,
    /// Conditions that are decided when the plan is made.
    pub only: StaticMatch,
}
