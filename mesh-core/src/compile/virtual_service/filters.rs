//! Fault, CORS and mirrors of HTTP rules.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};

use super::{Names, Wrong, matches, to};
use crate::api::{
    CorsPolicy, FaultAbort, FaultDelay, HttpFaultInjection, HttpMirrorPolicy, HttpRoute, Percent, StringMatch,
    UnmatchedPreflights, grpc_status,
};
use crate::compile::account::Ledger;
use crate::matching::StringMatcher;
use crate::model::RuleFilters;
use crate::snapshot::{AbortPlan, AbortStatus, CorsPlan, DelayPlan, FaultPlan, Share};

const NO_SHARE: &str = "its percentage is 0 or not set: no request is taken";

/// Reads the fields; `forwards`: the rule does not answer itself.
pub(super) fn filters(
    ledger: &mut Ledger<'_>,
    at: &str,
    rule: &HttpRoute,
    names: Names<'_>,
    forwards: bool,
) -> Result<RuleFilters, Wrong> {
    let HttpRoute { fault, cors_policy, mirror, mirrors, mirror_percent, mirror_percentage, delegate, .. } = rule;
    let mut out = RuleFilters::default();
    if let Some(f) = fault {
        out.fault = self::fault(ledger, &format!("{at}.fault"), f)?.map(Arc::new);
    }
    if let Some(c) = cors_policy.as_ref().filter(|_| forwards) {
        out.cors = Some(Arc::new(cors(ledger, &format!("{at}.corsPolicy"), c)?));
    }
    if !forwards {
        let why = "nothing is forwarded by this rule";
        // Envoy's filter does not look at such routes.
        ledger.without_effect(at, "corsPolicy", cors_policy, why);
        ledger.without_effect(at, "mirror", mirror, why);
        ledger.without_effect(at, "mirrors", mirrors, why);
        ledger.without_effect(at, "mirrorPercent", mirror_percent, why);
        ledger.without_effect(at, "mirrorPercentage", mirror_percentage, why);
        return Ok(out);
    }
    // A delegate and its root complete each other.
    let has_mirror = mirror.is_some() || delegate.is_some() || ledger.is_delegate;
    out.mirror_share = match (mirror_percentage, mirror_percent) {
        (Some(p), _) if has_mirror => {
            ledger.without_effect(at, "mirrorPercent", mirror_percent, "mirrorPercentage says the share");
            Some(percentage(ledger, at, "mirrorPercentage", *p))
        }
        (None, Some(percent)) if has_mirror => {
            ledger.consumed(&format!("{at}.mirrorPercent"));
            Some(Share::percent(f64::from(*percent)))
        }
        (None, None) => None,
        _ => {
            ledger.without_effect(at, "mirrorPercent", mirror_percent, "there is no mirror");
            ledger.without_effect(at, "mirrorPercentage", mirror_percentage, "there is no mirror");
            None
        }
    };
    if let Some(destination) = mirror {
        let field = format!("{at}.mirror");
        out.mirror = Some(to(ledger, &field, &field, destination, names)?);
        if out.mirror_share == Some(Share::NONE) {
            ledger.inert(&field, NO_SHARE);
        }
    }
    for (i, HttpMirrorPolicy { destination, percentage: share }) in mirrors.iter().enumerate() {
        let field = format!("{at}.mirrors[{i}]");
        let Some(destination) = destination else {
            return Err(Wrong(field, "destination is required".into()));
        };
        let share = share.map_or(Share::ALL, |p| percentage(ledger, &field, "percentage", p));
        out.mirrors.push((to(ledger, &field, &format!("{field}.destination"), destination, names)?, share));
        if share == Share::NONE {
            ledger.inert(&field, NO_SHARE);
        }
    }
    Ok(out)
}

/// Reads a percentage, which may be an empty object that stands for 0.
fn percentage(ledger: &mut Ledger<'_>, at: &str, name: &str, Percent { value }: Percent) -> Share {
    let at = format!("{at}.{name}");
    ledger.consumed(&at);
    Share::percent(*ledger.take(&at, "value", &value))
}

fn fault(ledger: &mut Ledger<'_>, at: &str, from: &HttpFaultInjection) -> Result<Option<FaultPlan>, Wrong> {
    let HttpFaultInjection { delay, abort } = from;
    let mut plan = FaultPlan { delay: None, abort: None, origin: ledger.origin(at) };
    if let Some(delay) = delay {
        plan.delay = self::delay(ledger, &format!("{at}.delay"), delay)?;
    }
    if let Some(abort) = abort {
        plan.abort = self::abort(ledger, &format!("{at}.abort"), abort)?;
    }
    Ok((plan.delay.is_some() || plan.abort.is_some()).then_some(plan))
}

fn delay(ledger: &mut Ledger<'_>, at: &str, from: &FaultDelay) -> Result<Option<DelayPlan>, Wrong> {
    let FaultDelay { percent, fixed_delay, exponential_delay, percentage: share } = from;
    ledger.without_effect(at, "exponentialDelay", exponential_delay, "Istio does not support it; write fixedDelay");
    let Some(fixed) = ledger.take(at, "fixedDelay", fixed_delay) else {
        ledger.inert(at, "it has no fixedDelay");
        return Ok(None);
    };
    let share = match share {
        Some(share) => {
            ledger.without_effect(at, "percent", percent, "percentage says the share");
            percentage(ledger, at, "percentage", *share)
        }
        None => Share::percent(f64::from(*ledger.take(at, "percent", percent))),
    };
    if share == Share::NONE {
        ledger.inert(at, NO_SHARE);
        return Ok(None);
    }
    Ok(Some(DelayPlan { fixed: (*fixed).into(), share }))
}

fn abort(ledger: &mut Ledger<'_>, at: &str, from: &FaultAbort) -> Result<Option<AbortPlan>, Wrong> {
    let FaultAbort { http_status, grpc_status: grpc, http2_error, percentage: share } = from;
    ledger.without_effect(at, "http2Error", http2_error, "Istio does not support it; write httpStatus or grpcStatus");
    let status = match (http_status, grpc) {
        (Some(code), _) => {
            ledger.without_effect(at, "grpcStatus", grpc, "httpStatus says the status");
            ledger.consumed(&format!("{at}.httpStatus"));
            let status = u16::try_from(*code).ok().filter(|s| (200..=600).contains(s));
            let wrong = || Wrong(format!("{at}.httpStatus"), format!("HTTP status {code} is not in range 200-599"));
            AbortStatus::Http(status.and_then(|s| StatusCode::from_u16(s).ok()).ok_or_else(wrong)?)
        }
        (None, Some(name)) => {
            ledger.consumed(&format!("{at}.grpcStatus"));
            let wrong = || Wrong(format!("{at}.grpcStatus"), format!("gRPC status {name:?} is not supported"));
            AbortStatus::Grpc(grpc_status(name).ok_or_else(wrong)?)
        }
        (None, None) => {
            ledger.inert(at, "it has neither httpStatus nor grpcStatus");
            return Ok(None);
        }
    };
    let share = share.map_or(Share::NONE, |p| percentage(ledger, at, "percentage", p));
    if share == Share::NONE {
        ledger.inert(at, NO_SHARE);
        return Ok(None);
    }
    Ok(Some(AbortPlan { status, share }))
}

fn cors(ledger: &mut Ledger<'_>, at: &str, from: &CorsPolicy) -> Result<CorsPlan, Wrong> {
    let CorsPolicy {
        allow_origin,
        allow_origins,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
        unmatched_preflights,
    } = from;
    let mut origins = Vec::with_capacity(allow_origins.len());
    for (i, origin) in allow_origins.iter().enumerate() {
        let field = format!("{at}.allowOrigins[{i}]");
        if matches!(origin, StringMatch::Present) {
            return Err(Wrong(field, "allowOrigins entries need one of exact, prefix and regex".into()));
        }
        origins.push(matches::string(ledger, &field, origin)?);
    }
    if allow_origins.is_empty() {
        let exact = ledger.take_list(at, "allowOrigin", allow_origin).iter();
        origins.extend(exact.map(|o| StringMatcher::Exact(o.as_str().into())));
    } else {
        ledger.without_effect(at, "allowOrigin", allow_origin, "allowOrigins says which origins are allowed");
    }
    let mut joined = |name: &str, list: &[String]| {
        let text = ledger.take_list(at, name, list).join(",");
        let wrong = |_| Wrong(format!("{at}.{name}"), format!("{text:?} can't be sent in a header"));
        (!list.is_empty()).then(|| HeaderValue::from_str(&text).map_err(wrong)).transpose()
    };
    let (allow_methods, allow_headers) =
        (joined("allowMethods", allow_methods)?, joined("allowHeaders", allow_headers)?);
    let expose_headers = joined("exposeHeaders", expose_headers)?;
    if allow_credentials.is_some() {
        ledger.consumed(&format!("{at}.allowCredentials"));
    }
    Ok(CorsPlan {
        allow_origins: origins,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age: ledger.take(at, "maxAge", max_age).map(|d| std::time::Duration::from(d).as_secs()),
        allow_credentials: *allow_credentials == Some(true),
        forward_unmatched: *ledger.take(at, "unmatchedPreflights", unmatched_preflights) != UnmatchedPreflights::Ignore,
        origin: ledger.origin(at),
    })
}
