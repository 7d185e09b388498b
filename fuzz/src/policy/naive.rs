//! What policies say, read field by field off the resources: no index, no compiled sets, nothing shared with `mesh-policy`.

use mesh_core::api::{
    AuthorizationAction, AuthorizationPolicy, AuthorizationRule, DRY_RUN, Object, RuleCondition, RuleOperation,
    RuleSource, go_bool,
};
use mesh_core::matching::{Cidr, Regex};
use mesh_policy::{Peer, PolicyInput};

/// The mesh's trust domains.
pub(super) const DOMAINS: [&str; 2] = ["td", "old"];

/// What fields are compared with.
struct Asked<'a> {
    input: &'a PolicyInput<'a>,
    /// The rule lets in.
    allows: bool,
    /// Namespace of the policy.
    namespace: &'a str,
}

/// `allowed`, `denied`, or `none` where nothing allowed.
pub(super) fn decide(policies: &[&Object<AuthorizationPolicy>], input: &PolicyInput<'_>) -> &'static str {
    let tried =
        |p: &Object<AuthorizationPolicy>| p.meta.annotations.get(DRY_RUN).and_then(|v| go_bool(v)) == Some(true);
    let of = |action| policies.iter().filter(move |p| p.spec.action == action && !tried(p));
    let matched = |action| {
        of(action).any(|p| {
            let allows = action == AuthorizationAction::Allow;
            let asked = Asked { input, allows, namespace: &p.key.namespace };
            p.spec.rules.iter().any(|rule| asked.matches(rule))
        })
    };
    if matched(AuthorizationAction::Deny) {
        return "denied";
    }
    let none = of(AuthorizationAction::Allow).next().is_some() && !matched(AuthorizationAction::Allow);
    if none { "none" } else { "allowed" }
}

type Match<'a> = &'a dyn Fn(&str) -> bool;

/// One field with its negation.
fn field(values: &[String], not_values: &[String], matches: Match<'_>) -> bool {
    (values.is_empty() || values.iter().any(|v| matches(v))) && !not_values.iter().any(|v| matches(v))
}

/// `*`, `prefix*`, `*suffix` or the same.
fn star(pattern: &str, value: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(""), _) => !value.is_empty(),
        (Some(suffix), _) => value.ends_with(suffix),
        (None, Some(prefix)) => value.starts_with(prefix),
        (None, None) => pattern == value,
    }
}

/// A star is any text, wherever it is.
fn wild(pattern: &str, value: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == value,
        Some((before, rest)) => value.strip_prefix(before).is_some_and(|after| {
            let ends = after.char_indices().map(|(at, _)| at).chain([after.len()]);
            ends.into_iter().any(|at| wild(rest, &after[at..]))
        }),
    }
}

/// A principal in the trust domains that its own stands for.
fn principals(written: &str) -> Vec<String> {
    let parts: Vec<&str> = written.split('/').collect();
    let [domain, rest @ ..] = &parts[..] else { return vec![written.to_owned()] };
    let covers = |a: &str, b: &str| a == b || (a.contains('*') && star(a, b));
    let local = *domain == "cluster.local" || DOMAINS.iter().any(|d| covers(domain, d));
    if parts.len() != 5 || *domain == "*" || !local {
        return vec![written.to_owned()];
    }
    let kept = |own: &str| domain.starts_with('*') && own.ends_with(&domain[1..]);
    let one = |own: &&str| if kept(own) { written.to_owned() } else { format!("{own}/{}", rest.join("/")) };
    DOMAINS.iter().map(one).collect()
}

/// The authority in lower case, and where `bare`, the same without a user and dots at the end of its name.
fn host(pattern: &str, authority: &str, bare: bool) -> bool {
    let (pattern, authority) = (pattern.to_ascii_lowercase(), authority.to_ascii_lowercase());
    if star(&pattern, &authority) {
        return true;
    }
    let host = authority.rsplit('@').next().unwrap_or_default();
    let (name, port) = match host.rfind(':') {
        Some(at) if host[at + 1..].bytes().all(|b| b.is_ascii_digit()) => host.split_at(at),
        _ => (host, ""),
    };
    bare && star(&pattern, &format!("{}{port}", name.trim_end_matches('.')))
}

fn path(pattern: &str, value: &str) -> bool {
    if !pattern.contains("{*}") && !pattern.contains("{**}") {
        return star(pattern, value);
    }
    let class = "-a-zA-Z0-9._~%!$&'()+,;:@=";
    let quoted = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_string() } else { format!("\\{c}") }).collect()
    };
    let segments: Vec<String> = pattern
        .split('/')
        .map(|s| match s {
            "{*}" => format!("[{class}]+"),
            "{**}" => format!("[{class}/]*"),
            literal => quoted(literal),
        })
        .collect();
    Regex::full(&segments.join("/")).is_ok_and(|r| r.is_match(value))
}

/// Whether a path is among patterns as it is and without parameters; `either`: or.
fn among(patterns: &[String], asked: &str, either: bool) -> bool {
    let is = |p: &str| patterns.iter().any(|v| path(v, p));
    if !asked.contains(';') || patterns.iter().any(|v| v.contains(';')) {
        return is(asked);
    }
    let mut kept: Vec<&str> = Vec::new();
    let names: Vec<&str> = asked.split('/').filter_map(|s| s.split(';').next()).collect();
    for name in &names {
        match *name {
            "" | "." => {}
            ".." => drop(kept.pop()),
            name => kept.push(name),
        }
    }
    let open = names.last().is_some_and(|n| ["", ".", ".."].contains(n)) && !kept.is_empty();
    let bare = format!("/{}{}", kept.join("/"), if open { "/" } else { "" });
    if either { is(asked) || is(&bare) } else { is(asked) && is(&bare) }
}

impl Asked<'_> {
    fn matches(&self, rule: &AuthorizationRule) -> bool {
        let AuthorizationRule { from, to, when } = rule;
        let sources = || from.iter().flatten().filter_map(|f| f.source.as_ref());
        let operations = || to.iter().flatten().filter_map(|t| t.operation.as_ref());
        let tcp = self.input.request.is_none();
        let speaks_http = sources().any(source_is_https)
            || operations().any(operation_is_https)
            || when.iter().any(|c| is_https(&c.key));
        if tcp && self.allows && speaks_http {
            return false;
        }
        (from.is_none() || sources().any(|s| self.source(s)))
            && (to.is_none() || operations().any(|o| self.operation(o)))
            && when.iter().all(|c| (tcp && is_https(&c.key)) || self.condition(c))
    }

    fn peer(&self) -> Option<&str> {
        match self.input.peer {
            Peer::Spiffe(id) => Some(id),
            Peer::Anonymous | Peer::Other(_) => None,
        }
    }

    fn principal(&self, written: &str) -> bool {
        self.peer().is_some_and(|p| principals(written).iter().any(|w| star(w, p)))
    }

    fn namespace(&self, written: &str) -> bool {
        self.peer().is_some_and(|p| wild(&format!("*/ns/{written}/*"), &format!("spiffe://{p}")))
    }

    fn account(&self, written: &str) -> bool {
        let (namespace, name) = written.split_once('/').unwrap_or((self.namespace, written));
        let parts: Vec<&str> = self.peer().unwrap_or_default().split('/').collect();
        matches!(parts[..], [_, "ns", ns, "sa", sa] if ns == namespace && sa == name && !ns.is_empty() && !sa.is_empty())
    }

    fn domain(&self, written: &str) -> bool {
        let all = if DOMAINS.contains(&written) { DOMAINS.to_vec() } else { vec![written] };
        let own = self.peer().and_then(|p| p.split_once('/'));
        own.is_some_and(|(domain, _)| all.iter().any(|w| star(w, domain)))
    }

    fn source(&self, s: &RuleSource) -> bool {
        let ip = |ip: std::net::IpAddr| move |v: &str| Cidr::parse(v).is_ok_and(|net| net.contains(ip));
        let (direct, remote) = (ip(self.input.source_ip), ip(self.input.remote_ip));
        // Nobody has a token here; on TCP the field is not there.
        let users = self.input.request.is_none() || s.request_principals.is_empty();
        users
            && field(&s.principals, &s.not_principals, &|v| self.principal(v))
            && field(&s.namespaces, &s.not_namespaces, &|v| self.namespace(v))
            && field(&s.service_accounts, &s.not_service_accounts, &|v| self.account(v))
            && field(&s.trust_domains, &s.not_trust_domains, &|v| self.domain(v))
            && field(&s.ip_blocks, &s.not_ip_blocks, &direct)
            && field(&s.remote_ip_blocks, &s.not_remote_ip_blocks, &remote)
    }

    fn operation(&self, o: &RuleOperation) -> bool {
        if !field(&o.ports, &o.not_ports, &|v| v.parse() == Ok(self.input.destination_port)) {
            return false;
        }
        let Some(request) = &self.input.request else { return true };
        field(&o.hosts, &[], &|v| host(v, request.authority, !self.allows))
            && field(&[], &o.not_hosts, &|v| host(v, request.authority, self.allows))
            && field(&o.methods, &o.not_methods, &|v| star(v, request.method.as_str()))
            && (o.paths.is_empty() || among(&o.paths, request.path, !self.allows))
            && (o.not_paths.is_empty() || !among(&o.not_paths, request.path, self.allows))
    }

    fn condition(&self, RuleCondition { key, values, not_values }: &RuleCondition) -> bool {
        let ip = |ip: std::net::IpAddr| move |v: &str| Cidr::parse(v).is_ok_and(|net| net.contains(ip));
        let (direct, remote) = (ip(self.input.source_ip), ip(self.input.remote_ip));
        let destination = ip(self.input.destination_ip);
        let sni = self.input.sni;
        let matches: Match<'_> = match key.as_str() {
            "source.ip" => &direct,
            "remote.ip" => &remote,
            "destination.ip" => &destination,
            "destination.port" => &|v| v.parse() == Ok(self.input.destination_port),
            "source.principal" => &|v| self.principal(v),
            "source.namespace" => &|v| self.namespace(v),
            "source.serviceAccount" => &|v| self.account(v),
            "source.trustDomain" => &|v| self.domain(v),
            "connection.sni" => &|v| !sni.is_empty() && star(v, sni),
            // Nobody has a token, and no filter leaves anything.
            other => match other.strip_prefix("request.headers[").and_then(|rest| rest.strip_suffix(']')) {
                Some(name) => &|v| self.header(name, v),
                None => &|_| false,
            },
        };
        field(values, not_values, matches)
    }

    fn header(&self, name: &str, pattern: &str) -> bool {
        let Some(request) = &self.input.request else { return false };
        let target = match request.query {
            Some(query) => format!("{}?{query}", request.path),
            None => request.path.to_owned(),
        };
        match &*name.to_ascii_lowercase() {
            ":method" => star(pattern, request.method.as_str()),
            ":scheme" => star(pattern, request.scheme),
            ":authority" | "host" => star(pattern, request.authority),
            ":path" => star(pattern, &target),
            name => request.headers.get_all(name).iter().any(|line| {
                pattern == "*" || std::str::from_utf8(line.as_bytes()).is_ok_and(|line| star(pattern, line))
            }),
        }
    }
}

fn source_is_https(s: &RuleSource) -> bool {
    !s.request_principals.is_empty() || !s.not_request_principals.is_empty()
}

fn operation_is_https(o: &RuleOperation) -> bool {
    [&o.hosts, &o.not_hosts, &o.methods, &o.not_methods, &o.paths, &o.not_paths].iter().any(|f| !f.is_empty())
}

fn is_https(key: &str) -> bool {
    key.starts_with("request.")
}
