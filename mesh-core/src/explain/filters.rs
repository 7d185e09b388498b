//! Fault, CORS, mirrors and counters of a route, in words.

use super::policies::line;
use super::{Outcome, Policy};
use crate::decide::{CorsDecision, decide_cors};
use crate::snapshot::{
    AbortStatus, Action, CorsPlan, FaultPlan, Provenance, RateLimitPlan, RouteFilters, RoutePlan, Share,
};

/// A line for each filter that a route has.
pub(super) fn lines(filters: &RouteFilters, route: &Provenance) -> Vec<Policy> {
    let RouteFilters { rate_limits, fault, cors, mirrors, stats } = filters;
    let limits = rate_limits.iter().map(|limit| {
        let RateLimitPlan { name: _, max_tokens, tokens_per_fill, fill_interval, status, headers: _, origin } =
            &**limit;
        let value = format!("{max_tokens} at once, {tokens_per_fill} each {fill_interval:?}, else {}", status.as_u16());
        line("rateLimit", value, origin)
    });
    let fault = fault.iter().map(|plan| line("fault", words(plan), &plan.origin));
    let cors = cors.iter().map(|plan| line("cors", cors_words(plan), &plan.origin));
    let mirrors = mirrors.iter().map(|m| line("mirror", format!("{} to {}", m.share, m.cluster), &m.origin));
    let stats = stats.iter().map(|s| line("statPrefix", format!("{} of {}", s.prefix, s.virtual_host), route));
    limits.chain(fault).chain(cors).chain(mirrors).chain(stats).collect()
}

/// The answer to a request that is aborted in any case, or that is a preflight.
pub(super) fn reply(route: &RoutePlan, cors: Option<&CorsDecision>) -> Option<Outcome> {
    let abort = route.filters.fault.as_ref().and_then(|f| f.abort).filter(|a| a.share == Share::ALL);
    match (abort, cors) {
        (Some(abort), _) => Some(aborted(abort.status)),
        (None, Some(CorsDecision::Answer(_))) => Some(Outcome {
            status: Some(200),
            flag: String::new(),
            body: String::new(),
            text: "preflight: answered by corsPolicy, the destination is not called".to_owned(),
        }),
        (None, _) => None,
    }
}

/// What CORS makes of a request.
pub(super) fn decided(route: &RoutePlan, method: &http::Method, headers: &http::HeaderMap) -> Option<CorsDecision> {
    // Only of what has a destination.
    let plan = route.filters.cors.as_ref().filter(|_| matches!(route.action, Action::Forward(_)));
    plan.map(|plan| decide_cors(plan, method, headers))
}

/// The response headers of that, as changes; an injected abort comes before it.
pub(super) fn changes(cors: Option<&CorsDecision>, reply: Option<&Outcome>) -> Vec<String> {
    let headers = match cors {
        Some(CorsDecision::Allow(headers)) if reply.is_none() => headers,
        Some(CorsDecision::Answer(headers)) if reply.is_none_or(|r| r.flag.is_empty()) => headers,
        _ => return Vec::new(),
    };
    let words = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        let value = String::from_utf8_lossy(value.as_bytes()).replace('%', "%%");
        format!("response header {name} is set to {value}")
    };
    headers.iter().map(words).collect()
}

fn words(plan: &FaultPlan) -> String {
    let FaultPlan { delay, abort, origin: _ } = plan;
    let delay = delay.map(|d| format!("{} delayed by {:?}", d.share, d.fixed));
    let abort = abort.map(|a| format!("{} answered with {}", a.share, a.status));
    delay.into_iter().chain(abort).collect::<Vec<_>>().join(", ")
}

fn aborted(status: AbortStatus) -> Outcome {
    let code = match status {
        AbortStatus::Http(status) => status.as_u16(),
        AbortStatus::Grpc(_) => 200,
    };
    let text = "injected: the destination is not called".to_owned();
    Outcome { status: Some(code), flag: "FI".to_owned(), body: "fault filter abort".to_owned(), text }
}

fn cors_words(plan: &CorsPlan) -> String {
    let origins: Vec<String> = plan.allow_origins.iter().map(super::miss::matcher).collect();
    let rest = if plan.forward_unmatched { "forwarded" } else { "answered without it" };
    let origins = if origins.is_empty() { "no origin".to_owned() } else { format!("origins {}", origins.join(", ")) };
    format!("allows {origins}; preflights of others are {rest}")
}
