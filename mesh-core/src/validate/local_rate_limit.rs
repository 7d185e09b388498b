//! LocalRateLimit.

use std::time::Duration;

use super::{Check, common};
use crate::api::{LocalRateLimit, RateLimitBucket, RateLimitTarget};
use crate::yaml::{child, item};

/// Shortest interval that Envoy takes.
const MIN_INTERVAL: Duration = Duration::from_millis(50);

pub(super) fn check(check: &mut Check<'_>, spec: &LocalRateLimit) {
    let LocalRateLimit { selector, target_refs, token_bucket, status_code, response_headers: _ } = spec;
    if selector.is_some() && !target_refs.is_empty() {
        check.error_fix("spec", "At most one of [selector targetRefs] should be set", "make two objects of it");
    }
    if let Some(selector) = selector {
        common::labels(check, "spec.selector.matchLabels", &selector.match_labels);
    }
    for (i, RateLimitTarget { group, kind, name, section_name: _ }) in target_refs.iter().enumerate() {
        let at = item("spec.targetRefs", i);
        if (group.as_str(), kind.as_str()) != ("networking.istio.io", "VirtualService") {
            let message = format!("a rate limit can't target {kind:?} of group {group:?}");
            check.error_fix(&at, message, "write group: networking.istio.io and kind: VirtualService");
        }
        if name.is_empty() {
            check.required(&child(&at, "name"));
        }
    }
    if *status_code != 0 && !(400..=599).contains(status_code) {
        check.error("spec.statusCode", format!("{status_code} does not refuse a request; write 400 to 599"));
    }
    let at = "spec.tokenBucket";
    let Some(RateLimitBucket { max_tokens, tokens_per_fill, fill_interval }) = token_bucket else {
        return check.required(at);
    };
    if *max_tokens == 0 {
        check.error_fix(&child(at, "maxTokens"), "a bucket needs room for a token", "write maxTokens: 10, for example");
    }
    match fill_interval {
        None => check.required(&child(at, "fillInterval")),
        Some(interval) if interval.0 < MIN_INTERVAL => {
            check.error(&child(at, "fillInterval"), format!("{interval} is shorter than 50ms"));
        }
        Some(interval) if u128::from(*tokens_per_fill) > interval.0.as_nanos() => {
            check.error(&child(at, "tokensPerFill"), "more than one token in a nanosecond is no limit");
        }
        Some(_) => {}
    }
}
