//! One field of a rule, compiled: an attribute and the values that it may have.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::RandomState;
use globset::{Glob, GlobSet, GlobSetBuilder};
use mesh_core::matching::{Cidr, HeaderKey, PathTemplate, PolicyAttribute};

use super::ips::IpSet;
use super::strings::{Pattern, StringSet};
use super::values::{self, Attribute};
use crate::{Peer, PolicyInput};

/// A condition: some value of an attribute is in a set, or none is.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    pub(super) attribute: Attribute,
    pub(super) test: Test,
    /// `notX`.
    pub(super) negated: bool,
    /// Where it was written.
    pub(super) place: Place,
}

/// Where a condition was written in its rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// `from[i].source.FIELD`.
    From(u16, &'static str),
    /// `to[i].operation.FIELD`.
    To(u16, &'static str),
    /// `when[i].FIELD`.
    When(u16, &'static str),
}

/// The set.
#[derive(Clone, Debug)]
pub(super) enum Test {
    Strings(StringSet),
    /// Names without stars, and patterns that may have them anywhere.
    Namespaces(StringSet, GlobSet),
    Paths(StringSet, Box<[PathTemplate]>),
    /// Header values: `*` takes an empty one, too.
    Header(StringSet),
    RequestPrincipals(RequestPrincipals),
    Ips(IpSet),
    Ports(Box<[u16]>),
}

/// `issuer/subject` pairs.
#[derive(Clone, Default, Debug)]
pub(super) struct RequestPrincipals {
    /// Subjects by issuer.
    exact: HashMap<Box<[u8]>, StringSet, RandomState>,
    others: Vec<(Pattern, Pattern)>,
}

/// Issuer and subject of a value of `requestPrincipals`: it is split at its last slash.
pub(super) fn request_principal(value: &str) -> (Pattern, Pattern) {
    if value == "*" {
        return (Pattern::Any, Pattern::Any);
    }
    match value.rsplit_once('/') {
        Some((issuer, subject)) => (Pattern::parse(issuer), Pattern::parse(subject)),
        None if value.starts_with('*') => (Pattern::Any, Pattern::parse(value)),
        None if value.ends_with('*') => (Pattern::parse(value), Pattern::Any),
        None => (Pattern::parse(value), Pattern::Exact(Box::default())),
    }
}

impl RequestPrincipals {
    fn of(values: &[String]) -> Self {
        let mut all = Self::default();
        for value in values {
            match request_principal(value) {
                (Pattern::Exact(issuer), subject) => {
                    all.exact.entry(issuer).or_default().entry(subject);
                }
                pair => all.others.push(pair),
            }
        }
        all
    }

    fn contains(&self, issuer: &[u8], subject: &[u8]) -> bool {
        self.exact.get(issuer).is_some_and(|s| s.contains(subject))
            || self.others.iter().any(|(i, s)| i.matches(issuer) && s.matches(subject))
    }
}

impl Test {
    /// The set of a field's values.
    ///
    /// # Errors
    /// A value that can't be one of this attribute.
    pub(super) fn new(attribute: &Attribute, values: &[String], namespace: &str) -> Result<Self, String> {
        let strings = || StringSet::of(values.iter().map(|v| Pattern::parse(v)));
        Ok(match attribute {
            Attribute::SourceIp | Attribute::RemoteIp | Attribute::DestinationIp => {
                let networks = values.iter().map(|v| Cidr::parse(v)).collect::<Result<Vec<_>, _>>()?;
                Self::Ips(IpSet::of(&networks))
            }
            Attribute::Port => {
                let port = |v: &String| v.parse::<u16>().map_err(|_| format!("{v:?} is not a port"));
                let mut ports = values.iter().map(port).collect::<Result<Vec<_>, _>>()?;
                ports.sort_unstable();
                Self::Ports(ports.into())
            }
            Attribute::Namespace => {
                let (globs, names): (Vec<_>, Vec<_>) = values.iter().partition(|v| v.contains(['*', '/']));
                let mut set = GlobSetBuilder::new();
                for value in globs {
                    set.add(namespace_glob(value).map_err(|e| e.to_string())?);
                }
                let exact = names.iter().map(|v| Pattern::Exact(v.as_bytes().into()));
                Self::Namespaces(StringSet::of(exact), set.build().map_err(|e| e.to_string())?)
            }
            Attribute::ServiceAccount => {
                Self::Strings(StringSet::of(values.iter().map(|v| Pattern::Exact(account(v, namespace)))))
            }
            Attribute::Host | Attribute::AnyHost => {
                Self::Strings(StringSet::of(values.iter().map(|v| Pattern::parse(&v.to_ascii_lowercase()))))
            }
            Attribute::Path | Attribute::AnyPath | Attribute::EveryPath => {
                let (templates, plain): (Vec<_>, Vec<_>) = values.iter().partition(|v| PathTemplate::is_template(v));
                let templates = templates.iter().map(|v| PathTemplate::parse(v)).collect::<Result<_, _>>()?;
                Self::Paths(StringSet::of(plain.iter().map(|v| Pattern::parse(v))), templates)
            }
            Attribute::RequestPrincipal => Self::RequestPrincipals(RequestPrincipals::of(values)),
            Attribute::Header(HeaderKey::Name(_)) => Self::Header(strings()),
            Attribute::Principal
            | Attribute::TrustDomain
            | Attribute::Sni
            | Attribute::Method
            | Attribute::Header(_)
            | Attribute::Claim(_)
            | Attribute::Metadata => Self::Strings(strings()),
        })
    }

    fn has(&self, attribute: &Attribute, input: &PolicyInput<'_>) -> bool {
        match self {
            Self::Strings(set) => match (attribute, input.peer) {
                // Other names are no principals that a policy could spell.
                (Attribute::Principal, Peer::Other(name)) => set.has_any() && !name.is_empty(),
                _ => values::strings(attribute, input, &mut |v| set.contains(v)),
            },
            Self::Namespaces(set, globs) => values::after_ns(input, &mut |rest| {
                let name = rest.split_once('/').map(|(name, _)| name);
                name.is_some_and(|n| set.contains(n.as_bytes())) || (!globs.is_empty() && globs.is_match(rest))
            }),
            Self::Paths(set, templates) => {
                let has = |v: &[u8]| {
                    set.contains(v)
                        || std::str::from_utf8(v).is_ok_and(|path| templates.iter().any(|t| t.matches(path)))
                };
                match attribute {
                    // One that is not among them is enough.
                    Attribute::EveryPath => {
                        input.request.is_some() && !values::strings(attribute, input, &mut |v| !has(v))
                    }
                    _ => values::strings(attribute, input, &mut |v| has(v)),
                }
            }
            Self::Header(set) => {
                values::strings(attribute, input, &mut |v| (v.is_empty() && set.has_any()) || set.contains(v))
            }
            Self::RequestPrincipals(set) => {
                values::issuer_and_subject(input).is_some_and(|(i, s)| set.contains(i.as_bytes(), s.as_bytes()))
            }
            Self::Ips(set) => set.contains(address(attribute, input)),
            Self::Ports(ports) => ports.binary_search(&input.destination_port).is_ok(),
        }
    }
}

/// A pattern for what follows `/ns/`: a star is any text, slashes too, and everything else is just itself.
fn namespace_glob(value: &str) -> Result<Glob, globset::Error> {
    let mut pattern = String::new();
    for (i, part) in value.split('*').enumerate() {
        // Two stars in a row would have a meaning of their own.
        if i > 0 && !pattern.ends_with('*') {
            pattern.push('*');
        }
        pattern.push_str(&globset::escape(part));
    }
    Glob::new(&(pattern + "/*"))
}

/// `namespace/sa/name` of a service account as policies write it.
pub(super) fn account(written: &str, namespace: &str) -> Box<[u8]> {
    let (namespace, name) = written.split_once('/').unwrap_or((namespace, written));
    format!("{namespace}/sa/{name}").into_bytes().into()
}

pub(super) fn address(attribute: &Attribute, input: &PolicyInput<'_>) -> IpAddr {
    match attribute {
        Attribute::RemoteIp => input.remote_ip,
        Attribute::DestinationIp => input.destination_ip,
        _ => input.source_ip,
    }
}

impl Condition {
    pub(super) fn holds(&self, input: &PolicyInput<'_>) -> bool {
        self.test.has(&self.attribute, input) != self.negated
    }
}

impl From<PolicyAttribute> for Attribute {
    fn from(attribute: PolicyAttribute) -> Self {
        match attribute {
            PolicyAttribute::RequestHeader(key) => Self::Header(key),
            PolicyAttribute::SourceIp => Self::SourceIp,
            PolicyAttribute::RemoteIp => Self::RemoteIp,
            PolicyAttribute::SourceNamespace => Self::Namespace,
            PolicyAttribute::SourcePrincipal => Self::Principal,
            PolicyAttribute::SourceServiceAccount => Self::ServiceAccount,
            PolicyAttribute::SourceTrustDomain => Self::TrustDomain,
            PolicyAttribute::RequestPrincipal => Self::RequestPrincipal,
            PolicyAttribute::Audiences => Self::Claim(["aud".into()].into()),
            PolicyAttribute::Presenter => Self::Claim(["azp".into()].into()),
            PolicyAttribute::Claim(path) => Self::Claim(path),
            PolicyAttribute::DestinationIp => Self::DestinationIp,
            PolicyAttribute::DestinationPort => Self::Port,
            PolicyAttribute::Sni => Self::Sni,
            PolicyAttribute::Metadata => Self::Metadata,
        }
    }
}
