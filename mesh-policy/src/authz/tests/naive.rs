//! Compiled policies decide as an evaluator does that reads the resources field by field, with regular expressions and no
//! index, on random policies and requests.

use std::net::IpAddr;

use mesh_core::api::{AuthorizationPolicy, AuthorizationRule, RuleSource};
use mesh_core::matching::{Cidr, Regex};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// What a field says of one value.
type Match<'a> = &'a dyn Fn(&str) -> bool;

fn field(values: &[String], not_values: &[String], matches: Match<'_>) -> bool {
    (values.is_empty() || values.iter().any(|v| matches(v))) && !not_values.iter().any(|v| matches(v))
}

fn full(pattern: &str, text: &str) -> bool {
    Regex::full(pattern).unwrap().is_match(text)
}

fn quoted(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_string() } else { format!("\\{c}") }).collect()
}

fn star(pattern: &str, value: &str) -> bool {
    match pattern {
        "*" => !value.is_empty(),
        p if p.starts_with('*') => full(&format!(".*{}", quoted(&p[1..])), value),
        p if p.ends_with('*') => full(&format!("{}.*", quoted(&p[..p.len() - 1])), value),
        p => p == value,
    }
}

fn principal(pattern: &str, peer: Option<&str>) -> bool {
    peer.is_some_and(|p| match pattern {
        "*" => !p.is_empty(),
        v if v.starts_with('*') => full(&format!("spiffe://.*{}", quoted(&v[1..])), &format!("spiffe://{p}")),
        v => star(&format!("spiffe://{v}"), &format!("spiffe://{p}")),
    })
}

fn namespace(pattern: &str, peer: Option<&str>) -> bool {
    let parts: Vec<String> = pattern.split('*').map(quoted).collect();
    peer.is_some_and(|p| full(&format!(".*/ns/{}/.*", parts.join(".*")), &format!("spiffe://{p}")))
}

fn account(pattern: &str, own: &str, peer: Option<&str>) -> bool {
    let (namespace, name) = pattern.split_once('/').unwrap_or((own, pattern));
    peer.is_some_and(|p| full(&format!("[^/]+/ns/{}/sa/{}", quoted(namespace), quoted(name)), p))
}

fn domain(pattern: &str, peer: Option<&str>) -> bool {
    peer.and_then(|p| p.split_once('/')).is_some_and(|(d, _)| star(pattern, d))
}

fn claim(facts: &Facts, path: &[&str]) -> Option<Value> {
    let map = facts.claims.as_ref()?.as_map();
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(map.get(*first)?, |v, name| v.get(*name)).cloned()
}

fn has_claim(facts: &Facts, path: &[&str], pattern: &str) -> bool {
    match claim(facts, path) {
        Some(Value::String(text)) => star(pattern, &text),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).any(|t| star(pattern, t)),
        _ => false,
    }
}

fn user(pattern: &str, facts: &Facts) -> bool {
    let text = |name| claim(facts, &[name]).and_then(|v| v.as_str().map(str::to_owned));
    let (Some(iss), Some(sub)) = (text("iss"), text("sub")) else { return false };
    match pattern.rsplit_once('/') {
        _ if pattern == "*" => !iss.is_empty() && !sub.is_empty(),
        Some((i, s)) => star(i, &iss) && star(s, &sub),
        None if pattern.starts_with('*') => !iss.is_empty() && star(pattern, &sub),
        None if pattern.ends_with('*') => star(pattern, &iss) && !sub.is_empty(),
        None => pattern == iss && sub.is_empty(),
    }
}

fn ip(pattern: &str, address: &str) -> bool {
    let address: IpAddr = address.parse().unwrap();
    Cidr::parse(pattern).unwrap().contains(address)
}

fn path(pattern: &str, value: &str) -> bool {
    if !pattern.contains("{*}") && !pattern.contains("{**}") {
        return star(pattern, value);
    }
    let class = "-a-zA-Z0-9._~%!$&'()+,;:@=";
    let segments = pattern.split('/').map(|s| match s {
        "{*}" => format!("[{class}]+"),
        "{**}" => format!("[{class}/]*"),
        literal => quoted(literal),
    });
    full(&segments.collect::<Vec<_>>().join("/"), value)
}

fn source(s: &RuleSource, own: &str, f: &Facts) -> bool {
    let peer = f.peer.as_deref();
    field(&s.principals, &s.not_principals, &|v| principal(v, peer))
        && field(&s.request_principals, &s.not_request_principals, &|v| user(v, f))
        && field(&s.namespaces, &s.not_namespaces, &|v| namespace(v, peer))
        && field(&s.service_accounts, &s.not_service_accounts, &|v| account(v, own, peer))
        && field(&s.trust_domains, &s.not_trust_domains, &|v| domain(v, peer))
        && field(&s.ip_blocks, &s.not_ip_blocks, &|v| ip(v, &f.source_ip))
        && field(&s.remote_ip_blocks, &s.not_remote_ip_blocks, &|v| ip(v, &f.remote_ip))
}

/// The host in lower case, or without the dots after its name and the user before it.
fn host(pattern: &str, authority: &str, dots: bool) -> bool {
    let (pattern, authority) = (pattern.to_lowercase(), authority.to_lowercase());
    let bare = authority.rsplit_once('@').map_or(&*authority, |(_, bare)| bare);
    let (name, port) = bare.rsplit_once(':').map_or((bare, String::new()), |(n, p)| (n, format!(":{p}")));
    let without = format!("{}{port}", name.trim_end_matches('.'));
    star(&pattern, &authority) || (dots && star(&pattern, &without))
}

/// Whether a path is among patterns as it is and without parameters; `either`: or.
fn paths(patterns: &[String], path: &str, either: bool) -> bool {
    let among = |p: &str| patterns.iter().any(|v| self::path(v, p));
    if patterns.iter().any(|v| v.contains(';')) {
        return among(path);
    }
    let names = path.split('/').map(|s| s.split(';').next().unwrap());
    let mut bare = String::new();
    for name in names.filter(|n| !["", "."].contains(n)) {
        match name {
            ".." => bare.truncate(bare.rfind('/').unwrap_or(0)),
            name => bare += &format!("/{name}"),
        }
    }
    let last = path.rsplit('/').next().unwrap().split(';').next().unwrap();
    if ["", ".", ".."].contains(&last) || bare.is_empty() {
        bare.push('/');
    }
    let bare = if path.contains(';') { &*bare } else { path };
    if either { among(path) || among(bare) } else { among(path) && among(bare) }
}

/// Whether a rule matches an HTTP request. `allows`: it is one that lets in.
fn matches(rule: &AuthorizationRule, own: &str, f: &Facts, allows: bool) -> bool {
    let from = rule.from.as_ref().is_none_or(|l| l.iter().any(|s| source(s.source.as_ref().unwrap(), own, f)));
    let to = rule.to.as_ref().is_none_or(|l| {
        l.iter().any(|t| {
            let o = t.operation.as_ref().unwrap();
            field(&o.hosts, &[], &|v| host(v, &f.authority, !allows))
                && field(&[], &o.not_hosts, &|v| host(v, &f.authority, allows))
                && field(&o.ports, &o.not_ports, &|v| v.parse() == Ok(f.port))
                && field(&o.methods, &o.not_methods, &|v| star(v, f.method.as_str()))
                && (o.paths.is_empty() || paths(&o.paths, &f.path, !allows))
                && (o.not_paths.is_empty() || !paths(&o.not_paths, &f.path, allows))
        })
    });
    let peer = f.peer.as_deref();
    let when = rule.when.iter().all(|c| {
        let line = |v: &str| f.headers.get_all("x-a").iter().any(|h| v == "*" || star(v, h.to_str().unwrap()));
        let matches: Match<'_> = match c.key.as_str() {
            "request.headers[x-a]" => &line,
            "source.principal" => &|v| principal(v, peer),
            "source.namespace" => &|v| namespace(v, peer),
            "source.ip" => &|v| ip(v, &f.source_ip),
            "destination.ip" => &|v| ip(v, &f.destination_ip),
            "destination.port" => &|v| v.parse() == Ok(f.port),
            "connection.sni" => &|v| star(v, &f.sni),
            "request.auth.principal" => &|v| user(v, f),
            "request.auth.audiences" => &|v| has_claim(f, &["aud"], v),
            "request.auth.claims[groups]" => &|v| has_claim(f, &["groups"], v),
            "request.auth.claims[a][b]" => &|v| has_claim(f, &["a", "b"], v),
            other => panic!("{other}"),
        };
        field(&c.values, &c.not_values, matches)
    });
    from && to && when
}

/// Decides as the policies say, one after the other.
fn decide(policies: &[Arc<Object<AuthorizationPolicy>>], facts: &Facts) -> String {
    let of = |action| policies.iter().filter(move |p| p.spec.action == action);
    let mut matching: Vec<String> = Vec::new();
    for p in of(AuthorizationAction::Deny) {
        for (i, rule) in p.spec.rules.iter().enumerate() {
            if matches(rule, &p.key.namespace, facts, false) {
                matching.push(format!("ns[{}]-policy[{}]-rule[{i}]", p.key.namespace, p.key.name));
            }
        }
    }
    matching.sort();
    if let Some(first) = matching.first() {
        return first.clone();
    }
    let allowed = of(AuthorizationAction::Allow)
        .any(|p| p.spec.rules.iter().any(|rule| matches(rule, &p.key.namespace, facts, true)));
    if allowed || of(AuthorizationAction::Allow).next().is_none() { "allow".into() } else { "none".into() }
}

fn one_of(values: &'static [&'static str]) -> BoxedStrategy<String> {
    prop::sample::select(values).prop_map(str::to_owned).boxed()
}

fn some(values: &'static [&'static str]) -> BoxedStrategy<Vec<String>> {
    prop_oneof![3 => Just(Vec::new()), 2 => prop::collection::vec(one_of(values), 1..4)].boxed()
}

const PEERS: &[&str] = &["", A, B, "td2/ns/ns/sa/sa", "ns/ns/foo/sa/a", "td2/ns/barfoo/sa/b", "odd", "td2/x/ns/foo/y"];
const PRINCIPALS: &[&str] = &[
    "*",
    A,
    B,
    "cluster.local/ns/foo/*",
    "*/sa/b",
    "*sa",
    "td2/*",
    "ns*",
    "spiffe://x",
    "*foo/sa/a",
    "*td2/ns/ns/sa/sa",
];
const NAMESPACES: &[&str] =
    &["foo", "bar", "ns", "sa", "b*", "*foo", "*", "b*r", "*a*", "f**", "{foo}", "b?r", "[b]ar", "foo/sa", "**", "*sa"];
const ACCOUNTS: &[&str] = &["a", "bar/b", "b", "ns/sa"];
const DOMAINS: &[&str] = &["cluster.local", "td2", "td*", "*local", "*", "odd"];
const USERS: &[&str] = &["*", "i/s", "*/s", "i/*", "i*", "*s", "i", "*i/s*", "i/", "x/i/s"];
const IPS: &[&str] = &["10.0.0.1", "10.0.0.0/8", "0.0.0.0/0", "192.168.1.0/24", "::1", "2001:db8::/32", "::/0"];
const ADDRESSES: &[&str] = &["10.0.0.1", "192.168.1.7", "::1", "2001:db8::5", "127.0.0.1"];
const HOSTS: &[&str] = &[
    "a.example",
    "A.Example",
    "*.example",
    "a*",
    "*",
    "a.example:80",
    "b",
    "a.example.",
    "A.example.:80",
    "a.example:*",
    "u@a.example",
    "u:p@A.example.:80",
];
const METHODS: &[&str] = &["GET", "POST", "G*", "*T", "get", "*"];
const PATHS: &[&str] = &[
    "/",
    "/a",
    "/a/*",
    "*/b",
    "*",
    "/{*}",
    "/a/{**}",
    "/{*}/b",
    "/a/{*}/c/{**}",
    "/{**}/b",
    "/a*",
    "**",
    "/*",
    "/a;x",
];
const SEEN_PATHS: &[&str] = &[
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/a/x/c/",
    "/a/x/c/d/b",
    "/b",
    "/a|b",
    "//b",
    "/aa",
    "/a;x",
    "/a/..;/b",
    "/;/b",
    "/a;x/b;y/",
    "/..;",
];
const HEADERS: &[&str] = &["", "1", "12", "21", "2"];
const VALUES: &[&str] = &["1", "1*", "*1", "*", "2", "12"];
const CLAIMS: &[&str] = &[
    "",
    r#"{"iss": "i", "sub": "s"}"#,
    r#"{"iss": "i", "sub": "", "aud": "1"}"#,
    r#"{"iss": "x/i", "sub": "s", "groups": ["1", "21"], "aud": ["2", 1]}"#,
    r#"{"iss": "ii", "groups": "12", "a": {"b": ["1"]}}"#,
    r#"{"iss": "i", "sub": 1, "groups": 1, "a": {"b": "2"}}"#,
];
const PORTS: &[&str] = &["80", "8080", "0"];
const KEYS: &[(&str, &[&str])] = &[
    ("request.headers[x-a]", VALUES),
    ("source.principal", PRINCIPALS),
    ("source.namespace", NAMESPACES),
    ("source.ip", IPS),
    ("destination.ip", IPS),
    ("destination.port", PORTS),
    ("connection.sni", HOSTS),
    ("request.auth.principal", USERS),
    ("request.auth.audiences", VALUES),
    ("request.auth.claims[groups]", VALUES),
    ("request.auth.claims[a][b]", VALUES),
];

/// An object of lists by name.
fn lists(fields: &[(&'static str, &'static [&'static str])]) -> BoxedStrategy<Value> {
    let all: Vec<_> = fields.iter().map(|&(name, values)| some(values).prop_map(move |v| (name, v))).collect();
    let all = all.prop_map(|l| Value::Object(l.into_iter().map(|(n, v)| (n.to_owned(), json!(v))).collect()));
    all.boxed()
}

fn rule() -> impl Strategy<Value = Value> {
    let by_name = lists(&[
        ("principals", PRINCIPALS),
        ("notPrincipals", PRINCIPALS),
        ("namespaces", NAMESPACES),
        ("notNamespaces", NAMESPACES),
    ]);
    let others = lists(&[
        ("serviceAccounts", ACCOUNTS),
        ("notServiceAccounts", ACCOUNTS),
        ("trustDomains", DOMAINS),
        ("notTrustDomains", DOMAINS),
        ("requestPrincipals", USERS),
        ("notRequestPrincipals", USERS),
    ]);
    let addresses =
        lists(&[("ipBlocks", IPS), ("notIpBlocks", IPS), ("remoteIpBlocks", IPS), ("notRemoteIpBlocks", IPS)]);
    let source = prop_oneof![by_name, others, addresses].prop_map(|s| json!({ "source": s }));
    let operation = lists(&[
        ("hosts", HOSTS),
        ("notHosts", HOSTS),
        ("ports", PORTS),
        ("notPorts", PORTS),
        ("methods", METHODS),
        ("notMethods", METHODS),
        ("paths", PATHS),
        ("notPaths", PATHS),
    ])
    .prop_map(|o| json!({ "operation": o }));
    let condition = prop::sample::select(KEYS).prop_flat_map(|(key, values)| {
        (some(values), some(values)).prop_map(move |(v, n)| json!({"key": key, "values": v, "notValues": n}))
    });
    let from = prop::option::of(prop::collection::vec(source, 1..3));
    let to = prop::option::of(prop::collection::vec(operation, 1..3));
    let when = prop::collection::vec(condition, 0..2);
    (from, to, when).prop_map(|(from, to, when)| json!({"from": from, "to": to, "when": when}))
}

fn policies() -> impl Strategy<Value = Vec<Value>> {
    let spec = (prop::sample::select(&["ALLOW", "DENY"][..]), prop::collection::vec(rule(), 0..4));
    let spec = spec.prop_map(|(action, rules)| json!({"action": action, "rules": rules}));
    prop::collection::vec(spec, 0..5)
}

/// Requests out of the pools that policies are made of.
pub(super) fn requests() -> impl Strategy<Value = Facts> {
    let who = (one_of(PEERS), one_of(ADDRESSES), one_of(ADDRESSES), one_of(CLAIMS));
    let what = (one_of(METHODS), one_of(HOSTS), one_of(SEEN_PATHS), one_of(PORTS), one_of(HOSTS));
    let headers = prop::collection::vec(one_of(HEADERS), 0..3);
    (who, what, headers).prop_map(|((peer, source, remote, claims), (method, host, path, port, sni), headers)| {
        let mut facts = Facts {
            source_ip: source,
            remote_ip: remote,
            destination_ip: "10.0.0.1".into(),
            port: port.parse().unwrap(),
            sni: if sni.starts_with('*') { String::new() } else { sni },
            peer: (!peer.is_empty()).then_some(peer),
            method: method.replace('*', "").parse().unwrap_or(Method::GET),
            authority: host.replace('*', "x"),
            path,
            ..Facts::default()
        };
        for value in headers {
            facts.headers.append("x-a", value.parse().unwrap());
        }
        if claims.is_empty() { facts } else { facts.claims(&claims) }
    })
}

/// Objects of specs that were made up, whether valid or not.
fn objects(specs: &[Value]) -> Vec<Arc<Object<AuthorizationPolicy>>> {
    let text: Vec<String> = specs
        .iter()
        .enumerate()
        .map(|(i, spec)| {
            let meta = json!({"name": format!("p{i}"), "namespace": "foo"});
            let kind = "AuthorizationPolicy";
            json!({"apiVersion": "security.istio.io/v1", "kind": kind, "metadata": meta, "spec": spec}).to_string()
        })
        .collect();
    read(&text.join("\n---\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn compiled_policies_decide_as_the_resources_say(
        specs in policies(),
        requests in prop::collection::vec(requests(), 1..12),
    ) {
        let objects = objects(&specs);
        let compiled = Policies::compile(&AuthzInput {
            policies: &objects,
            protocol: Protocol::Http,
            trust_domains: &TrustDomains::default(),
            providers: &BTreeMap::new(),
        });
        for facts in requests {
            prop_assert_eq!(decision(&compiled, &facts), decide(&objects, &facts), "{:#?}\n{:#?}", specs, facts);
        }
    }
}
