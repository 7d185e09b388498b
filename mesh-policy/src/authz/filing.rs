//! Under which values a rule can be filed.

use std::sync::Arc;

use mesh_core::matching::{Cidr, HeaderKey, PathTemplate};

use super::condition::{account, request_principal};
use super::set::{Filing, Value};
use super::strings::Pattern;
use super::values::Attribute;

/// The filing of a condition that is not negated; `None` where a value stands for too much.
pub(super) fn filing(attribute: &Attribute, values: &[String], namespace: &str) -> Option<Filing> {
    let texts = |make: &dyn Fn(&str) -> Option<Pattern>| {
        let all: Option<Vec<_>> = values.iter().map(|v| make(v).and_then(specific)).collect();
        Some((attribute.clone(), all?))
    };
    match attribute {
        Attribute::SourceIp | Attribute::RemoteIp | Attribute::DestinationIp => {
            let networks = values.iter().map(|v| Cidr::parse(v).ok().filter(|n| n.length > 0).map(Value::Network));
            Some((attribute.clone(), networks.collect::<Option<_>>()?))
        }
        Attribute::Port => {
            let ports = values.iter().map(|v| v.parse().ok().map(Value::Port));
            Some((attribute.clone(), ports.collect::<Option<_>>()?))
        }
        Attribute::Namespace => texts(&|v| (!v.contains(['*', '/'])).then(|| Pattern::Exact(v.as_bytes().into()))),
        Attribute::ServiceAccount => texts(&|v| Some(Pattern::Exact(account(v, namespace)))),
        Attribute::Host | Attribute::AnyHost => texts(&|v| Some(Pattern::parse(&v.to_ascii_lowercase()))),
        Attribute::Path | Attribute::AnyPath | Attribute::EveryPath => texts(&|v| match PathTemplate::is_template(v) {
            true => Some(Pattern::Prefix(PathTemplate::parse(v).ok()?.prefix().into_bytes().into())),
            false => Some(Pattern::parse(v)),
        }),
        Attribute::RequestPrincipal => {
            let pairs: Vec<_> = values.iter().map(|v| request_principal(v)).collect();
            let claim = |name: &str| Attribute::Claim([Arc::from(name)].into());
            let subjects: Option<Vec<_>> = pairs.iter().map(|(_, s)| specific(s.clone())).collect();
            let issuers = || pairs.iter().map(|(i, _)| specific(i.clone())).collect::<Option<Vec<_>>>();
            subjects.map(|s| (claim("sub"), s)).or_else(|| issuers().map(|i| (claim("iss"), i)))
        }
        // An empty value of a header is something, too.
        Attribute::Header(HeaderKey::Name(_))
        | Attribute::Header(_)
        | Attribute::Principal
        | Attribute::TrustDomain
        | Attribute::Sni
        | Attribute::Method
        | Attribute::Claim(_) => texts(&|v| Some(Pattern::parse(v))),
        Attribute::Metadata => None,
    }
}

/// A pattern that leaves something out.
fn specific(pattern: Pattern) -> Option<Value> {
    match &pattern {
        Pattern::Any => None,
        Pattern::Prefix(text) if text.is_empty() || **text == *b"/" => None,
        Pattern::Exact(_) | Pattern::Prefix(_) | Pattern::Suffix(_) => Some(Value::Text(pattern)),
    }
}
