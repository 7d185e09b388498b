//! HTTP matching: tables of hosts against a linear search, conditions against their own account of what failed.
//!
//! The input is lines. `domain X` adds a host, `uri|method|scheme|authority|header N|without N|query N` with
//! `exact|prefix|regex|present` and a value adds a condition, `ignore-case` and `segment` set how paths compare,
//! `rewrite N TEXT`, `redirect N TEXT`, `with N VALUE` adds a header to the requests after it, `request METHOD TARGET
//! AUTHORITY` asks.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use mesh_core::api::ContentHash;
use mesh_core::decide::{apply_redirect, decide_route, nearest_miss, normalize_target, rewrite_path};
use mesh_core::matching::{
    HeaderMatch, QueryMatch, Regex, RequestFacts, RequestMatch, StringMatcher, host_without_port,
};
use mesh_core::snapshot::{
    Action, DirectResponse, HeaderOps, PathNormalization, Provenance, RedirectPath, RedirectPlan, RewritePath,
    RouteFilters, RoutePlan, RouteTable, VirtualHostPlan,
};

/// Builds a route table from the input and asks it.
pub fn matching(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut state = State::default();
    for line in text.lines().take(200) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "domain" => state.domains.push(rest.to_ascii_lowercase()),
            "ignore-case" => state.matches.ignore_uri_case = true,
            "segment" => state.matches.segment_prefix = true,
            "with" => state.header(rest),
            "rewrite" => state.rewrite = rest.into(),
            "redirect" => state.redirect = rest.into(),
            "request" => state.ask(rest),
            condition => state.condition(condition, rest),
        }
    }
}

#[derive(Default)]
struct State {
    domains: Vec<String>,
    matches: RequestMatch,
    headers: HeaderMap,
    rewrite: Arc<str>,
    redirect: Arc<str>,
}

impl State {
    fn header(&mut self, text: &str) {
        let (name, value) = text.split_once(' ').unwrap_or((text, ""));
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            self.headers.append(name, value);
        }
    }

    fn condition(&mut self, on: &str, rest: &str) {
        let m = &mut self.matches;
        match on {
            "uri" => m.uri = matcher(rest),
            "method" => m.method = matcher(rest),
            "scheme" => m.scheme = matcher(rest),
            "authority" => m.authority = matcher(rest),
            "header" | "without" | "query" => {
                let Some((name, rest)) = rest.split_once(' ') else { return };
                let Some(value) = matcher(rest) else { return };
                if on == "query" {
                    m.query.push(QueryMatch { name: name.into(), value });
                    return;
                }
                let pseudo = name.starts_with(':').then(|| name.into());
                let name = HeaderName::from_bytes(name.as_bytes()).ok().filter(|_| pseudo.is_none());
                m.headers.push(HeaderMatch { name, pseudo, value, invert: on == "without" });
            }
            _ => {}
        }
    }

    fn ask(&self, text: &str) {
        let mut words = text.splitn(3, ' ');
        let method = words.next().and_then(|m| Method::from_bytes(m.as_bytes()).ok()).unwrap_or_default();
        let target = words.next().unwrap_or("/");
        let authority = words.next().unwrap_or_default();
        for mode in [
            PathNormalization::None,
            PathNormalization::Base,
            PathNormalization::MergeSlashes,
            PathNormalization::DecodeAndMergeSlashes,
        ] {
            let Ok(normal) = normalize_target(target, mode) else { continue };
            assert!(!target.starts_with('/') || normal.starts_with('/'), "{target} became {normal}");
            let (path, query) = normal.split_once('?').map_or((&*normal, None), |(p, q)| (p, Some(q)));
            let facts = RequestFacts {
                method: &method,
                scheme: "http",
                authority,
                path,
                query,
                headers: &self.headers,
                claims: None,
            };
            self.check(&facts);
        }
    }

    fn check(&self, facts: &RequestFacts<'_>) {
        let (table, hosts) = self.table();
        let expected = linear(&hosts, facts.authority);
        assert_eq!(table.lookup(facts.authority).map(|v| &*v.name), expected, "{:?}", facts.authority);

        let misses = self.matches.misses(facts);
        assert_eq!(self.matches.check(facts).err(), misses.first().copied());
        // Every path of a request begins with a slash, but for `*` and nothing at all.
        assert!(!self.matches.is_catch_all() || misses.is_empty() || !facts.path.starts_with('/'));
        let decision = decide_route(&table, facts);
        assert_eq!(decision.route().is_some(), expected.is_some() && misses.is_empty());
        assert_eq!(nearest_miss(&table, facts).is_none(), decision.route().is_some());
        self.act(facts);
    }

    fn act(&self, facts: &RequestFacts<'_>) {
        let length = self.matches.prefix_length().unwrap_or_default();
        let full = RewritePath::Full(self.rewrite.clone());
        let mut rewrites = vec![RewritePath::Prefix(length, self.rewrite.clone()), full];
        if let Some(StringMatcher::Regex(r)) = &self.matches.uri {
            rewrites.push(RewritePath::Regex(r.clone(), self.rewrite.clone()));
        }
        for r in rewrites {
            let path = rewrite_path(&r, facts.path, facts.query);
            assert!(facts.query.is_none_or(|q| path.ends_with(q)));
        }
        for path in
            [None, Some(RedirectPath::Full(self.redirect.clone())), Some(RedirectPath::Prefix(length, "/x".into()))]
        {
            let code = http::StatusCode::FOUND;
            let plan = RedirectPlan { code, scheme: Some("https".into()), authority: None, port: Some(443), path };
            assert!(apply_redirect(&plan, facts).starts_with("https://"));
        }
    }

    /// The table, and the same hosts as a plain list.
    fn table(&self) -> (RouteTable, Vec<String>) {
        let mut hosts: Vec<String> = Vec::new();
        for domain in &self.domains {
            if hosts.contains(domain) {
                continue;
            }
            hosts.push(domain.clone());
        }
        let table = RouteTable::of("fuzz", hosts.iter().map(|d| self.virtual_host(d)).collect());
        (table, hosts)
    }

    fn virtual_host(&self, domain: &str) -> Arc<VirtualHostPlan> {
        let origin = Provenance::default("fuzz");
        let direct = DirectResponse { status: http::StatusCode::OK, body: Vec::new().into() };
        let route = RoutePlan {
            name: "default".into(),
            matches: self.matches.clone(),
            action: Action::Direct(direct),
            request_headers: HeaderOps::default(),
            response_headers: HeaderOps::default(),
            rewrite: None,
            filters: RouteFilters::default(),
            headers: Default::default(),
            timeout: None,
            retry: None,
            replay: RoutePlan::REPLAY,
            origin: origin.clone(),
            timeout_origin: origin.clone(),
            retry_origin: origin.clone(),
            hash: ContentHash::default(),
        };
        Arc::new(VirtualHostPlan {
            name: domain.into(),
            domains: [domain.into()].into(),
            routes: vec![Arc::new(route)],
            paths: None,
            origin,
            hash: ContentHash::default(),
        })
    }
}

fn matcher(text: &str) -> Option<StringMatcher> {
    let (kind, value) = text.split_once(' ').unwrap_or((text, ""));
    Some(match kind {
        "exact" => StringMatcher::Exact(value.into()),
        "prefix" => StringMatcher::Prefix(value.into()),
        "regex" => StringMatcher::Regex(Regex::full(value).ok()?),
        "present" => StringMatcher::Present,
        _ => return None,
    })
}

/// Exact, then the longest suffix, then the longest prefix, then any: by looking at every host.
fn linear<'a>(hosts: &'a [String], authority: &str) -> Option<&'a str> {
    let name = host_without_port(authority).to_ascii_lowercase();
    let exact = hosts.iter().find(|h| !h.starts_with('*') && !h.ends_with('*') && **h == name);
    let longer = |part: &str| name.len() > part.len();
    let suffix = |h: &&String| h.strip_prefix('*').is_some_and(|s| !s.is_empty() && longer(s) && name.ends_with(s));
    let prefix =
        |h: &&String| !h.starts_with('*') && h.strip_suffix('*').is_some_and(|p| longer(p) && name.starts_with(p));
    let longest = |a: &&String| a.len();
    exact
        .or_else(|| hosts.iter().filter(suffix).max_by_key(longest))
        .or_else(|| hosts.iter().filter(prefix).max_by_key(longest))
        .or_else(|| hosts.iter().find(|h| *h == "*"))
        .map(String::as_str)
}
