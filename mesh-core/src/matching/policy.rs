//! What security policies match on: the names of their attributes, and templates of paths.

use std::sync::Arc;

use http::HeaderName;

/// An attribute that a condition of an AuthorizationPolicy can name.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum PolicyAttribute {
    /// `request.headers[NAME]`.
    RequestHeader(HeaderKey),
    /// `source.ip`: the TCP peer.
    SourceIp,
    /// `remote.ip`: the client.
    RemoteIp,
    /// `source.namespace`.
    SourceNamespace,
    /// `source.principal`.
    SourcePrincipal,
    /// `source.serviceAccount`.
    SourceServiceAccount,
    /// `source.trustDomain`.
    SourceTrustDomain,
    /// `request.auth.principal`.
    RequestPrincipal,
    /// `request.auth.audiences`.
    Audiences,
    /// `request.auth.presenter`.
    Presenter,
    /// `request.auth.claims[A][B]`: names from the outside in.
    Claim(Arc<[Arc<str>]>),
    /// `destination.ip`.
    DestinationIp,
    /// `destination.port`.
    DestinationPort,
    /// `connection.sni`.
    Sni,
    /// `experimental.envoy.filters.FILTER[KEY]`: what other filters leave behind, which is nothing here.
    Metadata,
}

/// A header, or one of the parts of a request line that are named like one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum HeaderKey {
    /// A header.
    Name(HeaderName),
    /// `:method`.
    Method,
    /// `:scheme`.
    Scheme,
    /// `:authority`, also called `host`.
    Authority,
    /// `:path`, with query.
    Path,
}

impl HeaderKey {
    fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            ":method" => Self::Method,
            ":scheme" => Self::Scheme,
            ":authority" | "host" => Self::Authority,
            ":path" => Self::Path,
            other => Self::Name(HeaderName::from_bytes(other.as_bytes()).ok()?),
        })
    }
}

/// What is inside the brackets of `NAME[…]`.
fn inside<'k>(key: &'k str, name: &str) -> Option<&'k str> {
    key.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']').filter(|k| !k.is_empty())
}

impl PolicyAttribute {
    /// Reads a key of `when`.
    ///
    /// # Errors
    /// Why it can't be one.
    pub fn parse(key: &str) -> Result<Self, String> {
        let bad = |form: &str| format!("bad key {key}: must be of form {form}");
        Ok(match key {
            "source.ip" => Self::SourceIp,
            "remote.ip" => Self::RemoteIp,
            "source.namespace" => Self::SourceNamespace,
            "source.principal" => Self::SourcePrincipal,
            "source.serviceAccount" => Self::SourceServiceAccount,
            "source.trustDomain" => Self::SourceTrustDomain,
            "request.auth.principal" => Self::RequestPrincipal,
            "request.auth.audiences" => Self::Audiences,
            "request.auth.presenter" => Self::Presenter,
            "destination.ip" => Self::DestinationIp,
            "destination.port" => Self::DestinationPort,
            "connection.sni" => Self::Sni,
            k if k.starts_with("request.headers") => {
                let name = inside(k, "request.headers").and_then(HeaderKey::parse);
                Self::RequestHeader(name.ok_or_else(|| bad("request.headers[name]"))?)
            }
            k if k.starts_with("request.auth.claims") => {
                let names = inside(k, "request.auth.claims").ok_or_else(|| bad("request.auth.claims[name]"))?;
                Self::Claim(claim_path(names))
            }
            k if k.starts_with("experimental.envoy.filters.") => {
                let form = "experimental.envoy.filters.filter[key]";
                let rest = k.strip_prefix("experimental.envoy.filters.").unwrap_or_default();
                let (filter, _) = rest.split_once('[').filter(|_| rest.ends_with(']')).ok_or_else(|| bad(form))?;
                if filter.is_empty() {
                    return Err(bad(form));
                }
                Self::Metadata
            }
            "source.user" => return Err("attribute source.user is replaced by source.principal".to_owned()),
            k if k == "destination.user"
                || k == "destination.name"
                || k == "destination.namespace"
                || k.starts_with("destination.labels") =>
            {
                return Err(format!("attribute {key} is not supported; select the workload with selector instead"));
            }
            _ => return Err(format!("unknown attribute: {key}")),
        })
    }

    /// Only HTTP requests have it.
    pub fn is_http_only(&self) -> bool {
        match self {
            Self::RequestHeader(_) | Self::RequestPrincipal | Self::Audiences | Self::Presenter | Self::Claim(_) => {
                true
            }
            Self::SourceIp
            | Self::RemoteIp
            | Self::SourceNamespace
            | Self::SourcePrincipal
            | Self::SourceServiceAccount
            | Self::SourceTrustDomain
            | Self::DestinationIp
            | Self::DestinationPort
            | Self::Sni
            | Self::Metadata => false,
        }
    }
}

/// `a][b` is the claim `b` in `a`. Where brackets don't pair up, everything is one name.
fn claim_path(names: &str) -> Arc<[Arc<str>]> {
    let parts: Vec<&str> = names.split("][").collect();
    let whole = parts.iter().all(|n| !n.is_empty() && !n.contains(['[', ']']));
    match whole {
        true => parts.into_iter().map(Arc::from).collect(),
        false => [Arc::from(names)].into(),
    }
}

/// A path with `{*}`, exactly one segment, and `{**}`, any text, as AuthorizationPolicy has them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathTemplate {
    /// Segments before `{**}`, or all.
    head: Box<[Segment]>,
    /// What follows the text that `{**}` stands for, with its slash; `None`: there is no `{**}`.
    tail: Option<Box<str>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Segment {
    Literal(Box<str>),
    Any,
}

/// Bytes that a literal may have, and that the operators stand for.
fn is_path_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&b)
}

impl PathTemplate {
    /// Whether a value of `paths` is a template, as opposed to a plain pattern.
    pub fn is_template(value: &str) -> bool {
        value.contains("{*}") || value.contains("{**}")
    }

    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(value: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("invalid or unsupported path {value}: {why}");
        let Some(path) = value.strip_prefix('/') else {
            return Err(wrong("a template begins with a slash"));
        };
        let (mut head, mut tail) = (Vec::new(), None::<String>);
        for segment in path.split('/') {
            match (segment, &mut tail) {
                ("{*}", None) => head.push(Segment::Any),
                ("{**}", None) => tail = Some(String::new()),
                ("{*}" | "{**}", Some(_)) => return Err(wrong("{**} must be the last operator")),
                (literal, _) if !literal.bytes().all(is_path_byte) => {
                    return Err(wrong("{*} and {**} have to be whole segments, and others can't have *, { or }"));
                }
                (literal, None) => head.push(Segment::Literal(literal.into())),
                (literal, Some(tail)) => {
                    tail.push('/');
                    tail.push_str(literal);
                }
            }
        }
        Ok(Self { head: head.into(), tail: tail.map(Into::into) })
    }

    /// Whether a path, without query, is covered.
    pub fn matches(&self, path: &str) -> bool {
        let mut rest = path;
        for segment in &self.head {
            let Some(after) = rest.strip_prefix('/') else { return false };
            let end = after.find('/').unwrap_or(after.len());
            let (here, next) = after.split_at(end);
            let holds = match segment {
                Segment::Literal(literal) => here == &**literal,
                Segment::Any => !here.is_empty() && here.bytes().all(is_path_byte),
            };
            if !holds {
                return false;
            }
            rest = next;
        }
        let Some(tail) = &self.tail else { return rest.is_empty() };
        let middle = rest.strip_prefix('/').and_then(|r| r.strip_suffix(&**tail));
        middle.is_some_and(|m| m.bytes().all(|b| b == b'/' || is_path_byte(b)))
    }

    /// What every path that it covers begins with.
    pub fn prefix(&self) -> String {
        let mut out = String::new();
        for segment in &self.head {
            out.push('/');
            match segment {
                Segment::Literal(literal) => out.push_str(literal),
                Segment::Any => return out,
            }
        }
        if self.tail.is_some() {
            out.push('/');
        }
        out
    }
}

#[cfg(test)]
mod tests;
