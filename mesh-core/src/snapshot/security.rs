//! Who may do what at the workload: the policies that apply to it, in order. Compiling them is not this crate's.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

use super::{Map, Provenance};
use crate::api::{AuthorizationPolicy, ContentHash, Object, RequestAuthentication};
use crate::identity::TrustDomains;

/// The policies of a workload. All its listeners for traffic to it have the same: ports are conditions of rules.
#[derive(Clone, Debug, Default)]
pub struct SecurityPlan {
    /// AuthorizationPolicies that apply, oldest first.
    pub authorization: Vec<Arc<Object<AuthorizationPolicy>>>,
    /// RequestAuthentications that apply, oldest first.
    pub authentication: Vec<Arc<Object<RequestAuthentication>>>,
    /// EgressPolicies that apply: what the workload may ask of others. Oldest first.
    pub egress: Vec<Arc<Object<AuthorizationPolicy>>>,
    /// Who the workload is, without `spiffe://`; `None`: it is not known.
    pub identity: Option<Arc<str>>,
    /// Trust domain and aliases of the mesh, by which principals in policies are read.
    pub trust_domains: TrustDomains,
    /// Clusters by the host and port under which rules name places of the mesh to fetch keys from.
    pub places: Map<(Arc<str>, u16), Arc<str>>,
    /// External authorizers that policies name and that can be asked.
    pub providers: Vec<Arc<ProviderPlan>>,
    /// Hash over all of it.
    pub hash: ContentHash,
}

/// Where an object was written does not count, as everywhere in a plan.
impl PartialEq for SecurityPlan {
    fn eq(&self, other: &Self) -> bool {
        let Self { authorization, authentication, egress, identity, trust_domains, places, providers, hash } = self;
        *hash == other.hash
            && same(authorization, &other.authorization)
            && same(authentication, &other.authentication)
            && same(egress, &other.egress)
            && *identity == other.identity
            && *trust_domains == other.trust_domains
            && *places == other.places
            && *providers == other.providers
    }
}

/// Whether two lists are of the same objects with the same content.
pub fn same<S>(a: &[Arc<Object<S>>], b: &[Arc<Object<S>>]) -> bool {
    let equal = |(a, b): (&Arc<Object<S>>, &Arc<Object<S>>)| Arc::ptr_eq(a, b) || (a.hash == b.hash && a.key == b.key);
    a.len() == b.len() && a.iter().zip(b).all(equal)
}

impl SecurityPlan {
    /// No policy applies: whoever gets here may do anything.
    pub fn is_empty(&self) -> bool {
        self.authorization.is_empty() && self.authentication.is_empty()
    }
}

/// An external authorizer that a policy of the workload names, and that can be asked.
#[derive(Clone, PartialEq, Debug)]
pub struct ProviderPlan {
    /// Its name.
    pub name: Arc<str>,
    /// The cluster that it is.
    pub cluster: Arc<str>,
    /// Its host, as requests name it.
    pub authority: Arc<str>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Requests go on when there is no answer.
    pub fail_open: bool,
    /// Status when there is no answer.
    pub status_on_error: StatusCode,
    /// Part of the body that it sees.
    pub body: Option<BodyPlan>,
    /// How it is asked.
    pub speaks: AuthorizerPlan,
    /// The provider.
    pub origin: Provenance,
}

/// Part of a body that an authorizer sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BodyPlan {
    /// Most bytes.
    pub max: usize,
    /// Of longer bodies the beginning is shown; else they are refused.
    pub allow_partial: bool,
    /// Over gRPC: as bytes, not as text.
    pub pack_as_bytes: bool,
}

/// How an authorizer is asked.
#[derive(Clone, PartialEq, Debug)]
pub enum AuthorizerPlan {
    /// By a request like the one that it is about.
    Http(HttpCheck),
    /// By `envoy.service.auth.v3`.
    Grpc,
}

/// What is asked over HTTP, and what of the answer is passed on.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct HttpCheck {
    /// Put before the path.
    pub path_prefix: Arc<str>,
    /// Headers that it sees beside host, length and `authorization`.
    pub include: Vec<NamePattern>,
    /// Headers that are added.
    pub added: Vec<(HeaderName, HeaderValue)>,
    /// Headers of the answer that go on to the application.
    pub upstream: Vec<NamePattern>,
    /// Headers of a refusal that go to the client; none: all.
    pub downstream_on_deny: Vec<NamePattern>,
    /// Headers of the answer that go to the client with the application's.
    pub downstream_on_allow: Vec<NamePattern>,
}

/// A name of a header, or a pattern with a star at one end; letter case does not matter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NamePattern {
    /// This name.
    Exact(Arc<str>),
    /// Names that begin so.
    Prefix(Arc<str>),
    /// Names that end so.
    Suffix(Arc<str>),
}

impl NamePattern {
    /// Reads `name`, `prefix*` or `*suffix`.
    pub fn parse(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        match (text.strip_prefix('*'), text.strip_suffix('*')) {
            (Some(suffix), _) => Self::Suffix(suffix.into()),
            (None, Some(prefix)) => Self::Prefix(prefix.into()),
            (None, None) => Self::Exact(text.into()),
        }
    }

    /// Whether it matches a name in lower case.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(own) => **own == *name,
            Self::Prefix(prefix) => name.starts_with(&**prefix),
            Self::Suffix(suffix) => name.ends_with(&**suffix),
        }
    }
}

impl std::fmt::Display for NamePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
        }
    }
}
