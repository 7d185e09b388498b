//! A route's filters as JSON.

use http::HeaderValue;
use serde_json::{Value, json};

use super::{duration, provenance, string_matcher};
use crate::snapshot::{
    AbortPlan, AbortStatus, CorsPlan, DelayPlan, FaultPlan, MirrorPlan, RateLimitPlan, RouteFilters, Share, StatsPlan,
};

pub(super) fn json(filters: &RouteFilters) -> Value {
    let RouteFilters { rate_limits, fault, cors, mirrors, stats } = filters;
    if *filters == RouteFilters::default() {
        return Value::Null;
    }
    json!({
        "rateLimits": rate_limits.iter().map(|l| rate_limit(l)).collect::<Vec<_>>(),
        "fault": fault.as_deref().map(fault_json),
        "cors": cors.as_deref().map(cors_json),
        "mirrors": mirrors.iter().map(mirror).collect::<Vec<_>>(),
        "stats": stats.as_ref().map(|StatsPlan { virtual_host, prefix }| {
            json!({ "virtualHost": virtual_host, "prefix": prefix })
        }),
    })
}

fn percent(share: Share) -> Value {
    json!(share.as_percent())
}

fn rate_limit(plan: &RateLimitPlan) -> Value {
    let RateLimitPlan { name, max_tokens, tokens_per_fill, fill_interval, status, headers, origin } = plan;
    json!({
        "name": name,
        "maxTokens": max_tokens,
        "tokensPerFill": tokens_per_fill,
        "fillInterval": duration(Some(*fill_interval)),
        "statusCode": status.as_u16(),
        "responseHeaders": headers,
        "origin": provenance(origin),
    })
}

fn fault_json(plan: &FaultPlan) -> Value {
    let FaultPlan { delay, abort, origin } = plan;
    json!({
        "delay": delay.map(|DelayPlan { fixed, share }| json!({
            "fixedDelay": duration(Some(fixed)),
            "percentage": percent(share),
        })),
        "abort": abort.map(|AbortPlan { status, share }| match status {
            AbortStatus::Http(status) => json!({ "httpStatus": status.as_u16(), "percentage": percent(share) }),
            AbortStatus::Grpc(status) => json!({ "grpcStatus": status, "percentage": percent(share) }),
        }),
        "origin": provenance(origin),
    })
}

fn cors_json(plan: &CorsPlan) -> Value {
    let CorsPlan {
        allow_origins,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
        forward_unmatched,
        origin,
    } = plan;
    let text = |value: &Option<HeaderValue>| value.as_ref().map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
    json!({
        "allowOrigins": allow_origins.iter().map(string_matcher).collect::<Vec<_>>(),
        "allowMethods": text(allow_methods),
        "allowHeaders": text(allow_headers),
        "exposeHeaders": text(expose_headers),
        "maxAge": max_age,
        "allowCredentials": allow_credentials,
        "unmatchedPreflights": if *forward_unmatched { "FORWARD" } else { "IGNORE" },
        "origin": provenance(origin),
    })
}

fn mirror(plan: &MirrorPlan) -> Value {
    let MirrorPlan { cluster, share, origin } = plan;
    json!({ "cluster": cluster, "percentage": percent(*share), "origin": provenance(origin) })
}
