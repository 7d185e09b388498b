//! The values that a request or connection has for an attribute. Nothing is allocated for usual requests.

use std::sync::Arc;

use mesh_core::matching::{Claims, HeaderKey};
use serde_json::Value;

use crate::PolicyInput;

/// What conditions look at.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Attribute {
    Principal,
    Namespace,
    ServiceAccount,
    TrustDomain,
    RequestPrincipal,
    SourceIp,
    RemoteIp,
    DestinationIp,
    Port,
    Sni,
    Method,
    /// `:authority` in lower case.
    Host,
    /// The same, and without the dots at the end of its name, which mean nothing: who is to be kept from a host must not
    /// get there by another spelling.
    AnyHost,
    /// Without query.
    Path,
    /// The same, and as servers read it that take `;` and what follows in a segment for parameters: either of them.
    AnyPath,
    /// Both of them.
    EveryPath,
    Header(HeaderKey),
    /// A text, or the texts in a list. Audiences are `aud`, the presenter is `azp`.
    Claim(Arc<[Arc<str>]>),
    /// What other filters leave behind, which is nothing.
    Metadata,
}

impl Attribute {
    /// Its name in policies.
    pub(super) fn name(&self) -> String {
        let name = match self {
            Self::Principal => "source.principal",
            Self::Namespace => "source.namespace",
            Self::ServiceAccount => "source.serviceAccount",
            Self::TrustDomain => "source.trustDomain",
            Self::RequestPrincipal => "request.auth.principal",
            Self::SourceIp => "source.ip",
            Self::RemoteIp => "remote.ip",
            Self::DestinationIp => "destination.ip",
            Self::Port => "destination.port",
            Self::Sni => "connection.sni",
            Self::Method => "method",
            Self::Host | Self::AnyHost => "host",
            Self::Path | Self::AnyPath | Self::EveryPath => "path",
            Self::Header(HeaderKey::Name(name)) => return format!("request.headers[{name}]"),
            Self::Header(HeaderKey::Method) => "request.headers[:method]",
            Self::Header(HeaderKey::Scheme) => "request.headers[:scheme]",
            Self::Header(HeaderKey::Authority) => "request.headers[:authority]",
            Self::Header(HeaderKey::Path) => "request.headers[:path]",
            Self::Claim(path) => {
                let names: String = path.iter().map(|n| format!("[{n}]")).collect();
                return format!("request.auth.claims{names}");
            }
            Self::Metadata => "metadata of a filter",
        };
        name.to_owned()
    }
}

/// Calls for each value until the answer is yes.
pub(super) fn strings(attribute: &Attribute, input: &PolicyInput<'_>, f: &mut impl FnMut(&[u8]) -> bool) -> bool {
    match attribute {
        Attribute::Principal => input.peer.spiffe().is_some_and(|p| f(p.as_bytes())),
        Attribute::Namespace => {
            after_ns(input, &mut |rest| rest.split_once('/').is_some_and(|(name, _)| f(name.as_bytes())))
        }
        Attribute::ServiceAccount => {
            let id = input.peer.spiffe().and_then(|id| id.split_once('/'));
            let account = id.and_then(|(_, rest)| rest.strip_prefix("ns/")).filter(|a| is_account(a));
            account.is_some_and(|a| f(a.as_bytes()))
        }
        Attribute::TrustDomain => {
            input.peer.spiffe().and_then(|id| id.split_once('/')).is_some_and(|(domain, _)| f(domain.as_bytes()))
        }
        Attribute::Sni => !input.sni.is_empty() && f(input.sni.as_bytes()),
        Attribute::Method => input.request.is_some_and(|r| f(r.method.as_str().as_bytes())),
        Attribute::Host => input.request.is_some_and(|r| lower(r.authority, f)),
        Attribute::AnyHost => input.request.is_some_and(|r| {
            let mut both =
                |host: &[u8]| f(host) || relative(host).is_some_and(|[name, port]| joined([name, port, b""], f));
            lower(r.authority, &mut both)
        }),
        Attribute::Path => input.request.is_some_and(|r| f(path(r.path).as_bytes())),
        Attribute::AnyPath | Attribute::EveryPath => input.request.is_some_and(|r| {
            let path = path(r.path);
            f(path.as_bytes()) || (path.contains(';') && f(without_parameters(path).as_bytes()))
        }),
        Attribute::Header(key) => header(key, input, f),
        Attribute::Claim(path) => claims(input).and_then(|c| c.get(path)).is_some_and(|v| texts(v, f)),
        Attribute::RequestPrincipal
        | Attribute::SourceIp
        | Attribute::RemoteIp
        | Attribute::DestinationIp
        | Attribute::Port
        | Attribute::Metadata => false,
    }
}

/// `namespace/sa/name` and nothing more.
fn is_account(text: &str) -> bool {
    let mut parts = text.split('/');
    let whole = |p: Option<&str>| p.is_some_and(|p| !p.is_empty());
    whole(parts.next()) && parts.next() == Some("sa") && whole(parts.next()) && parts.next().is_none()
}

/// Name and port of an authority that has more than them: dots at the end of its name, or a user before it (`user@`), which
/// whoever takes it apart as a URL leaves out; `None`: it has not.
fn relative(authority: &[u8]) -> Option<[&[u8]; 2]> {
    let user = authority.iter().rposition(|b| *b == b'@').map_or(0, |at| at + 1);
    let host = &authority[user..];
    let digits = |at: &usize| host[at + 1..].iter().all(u8::is_ascii_digit);
    let port = host.iter().rposition(|b| *b == b':').filter(digits).unwrap_or(host.len());
    let (name, port) = host.split_at(port);
    let end = name.iter().rposition(|b| *b != b'.').map_or(0, |last| last + 1);
    (end < name.len() || user > 0).then_some([&name[..end], port])
}

/// Paths have neither query nor fragment here, whatever their source.
fn path(path: &str) -> &str {
    path.split(['?', '#']).next().unwrap_or_default()
}

/// As servlets see it: without parameters, and with dots resolved that these have hidden.
fn without_parameters(path: &str) -> String {
    let (mut kept, mut folder) = (Vec::new(), false);
    for segment in path.split('/') {
        let name = segment.split(';').next().unwrap_or_default();
        folder = matches!(name, "" | "." | "..");
        match name {
            "" | "." => {}
            ".." => drop(kept.pop()),
            name => kept.push(name),
        }
    }
    let end = if folder && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", kept.join("/"))
}

fn claims<'a>(input: &PolicyInput<'a>) -> Option<&'a Claims> {
    input.request.and_then(|r| r.claims)
}

/// What follows `/ns/` in the peer's identity, at each place where that is. There are several in a namespace called `ns`.
pub(super) fn after_ns(input: &PolicyInput<'_>, f: &mut impl FnMut(&str) -> bool) -> bool {
    let Some(id) = input.peer.spiffe() else { return false };
    // The slashes of `spiffe://` come right before the identity.
    if id.strip_prefix("ns/").is_some_and(&mut *f) {
        return true;
    }
    (0..id.len()).any(|at| id.as_bytes()[at..].starts_with(b"/ns/") && f(&id[at + 4..]))
}

/// `iss` and `sub` of the request's token.
pub(super) fn issuer_and_subject<'a>(input: &PolicyInput<'a>) -> Option<(&'a str, &'a str)> {
    let claims = claims(input)?;
    Some((claims.text("iss")?, claims.text("sub")?))
}

fn texts(value: &Value, f: &mut impl FnMut(&[u8]) -> bool) -> bool {
    match value {
        Value::String(text) => f(text.as_bytes()),
        Value::Array(list) => list.iter().filter_map(Value::as_str).any(|t| f(t.as_bytes())),
        _ => false,
    }
}

fn header(key: &HeaderKey, input: &PolicyInput<'_>, f: &mut impl FnMut(&[u8]) -> bool) -> bool {
    let Some(request) = input.request else { return false };
    match key {
        HeaderKey::Name(name) => request.headers.get_all(name).iter().any(|v| f(v.as_bytes())),
        HeaderKey::Method => f(request.method.as_str().as_bytes()),
        HeaderKey::Scheme => f(request.scheme.as_bytes()),
        HeaderKey::Authority => f(request.authority.as_bytes()),
        HeaderKey::Path => match request.query {
            None => f(request.path.as_bytes()),
            Some(query) => joined([request.path.as_bytes(), b"?", query.as_bytes()], f),
        },
    }
}

/// Room for a text that has to be made; longer ones, which no usual client sends, are allocated.
const ROOM: usize = 1024;

fn joined<T>(parts: [&[u8]; 3], f: &mut impl FnMut(&[u8]) -> T) -> T {
    let length = parts.iter().map(|p| p.len()).sum::<usize>();
    if length > ROOM {
        return f(&parts.concat());
    }
    let mut buffer = [0; ROOM];
    let mut at = 0;
    for part in parts {
        buffer[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    f(&buffer[..length])
}

fn lower<T>(text: &str, f: &mut impl FnMut(&[u8]) -> T) -> T {
    if !text.bytes().any(|b| b.is_ascii_uppercase()) {
        return f(text.as_bytes());
    }
    if text.len() > ROOM {
        return f(text.to_ascii_lowercase().as_bytes());
    }
    let mut buffer = [0; ROOM];
    let buffer = &mut buffer[..text.len()];
    buffer.copy_from_slice(text.as_bytes());
    buffer.make_ascii_lowercase();
    f(buffer)
}
