//! One HTTP rule of a VirtualService.

use super::common::{self, destination, duration, is_label, percent, port, weights};
use super::string_match::{change_header, header_value, is_token, match_header_name};
use super::string_match::{set_request_header, string_match};
use super::{Check, virtual_service};
use crate::api::{CorsPolicy, FaultAbort, FaultDelay, HeaderOperations, Headers, HttpDirectResponse};
use crate::api::{HttpFaultInjection, HttpMatchRequest, HttpRedirect, HttpRetry, HttpRewrite, HttpRoute, StringMatch};
use crate::matching::{ClaimMatch, Regex};
use crate::yaml::{child, item};

/// What kind of VirtualService the rule is in.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) is_delegate: bool,
    /// Some gateway uses it, so that JWT claims may be matched.
    pub(super) on_gateway: bool,
}

pub(super) fn check(check: &mut Check<'_>, path: &str, index: usize, route: &HttpRoute, place: Place) {
    actions(check, path, index, route, place);
    for (i, m) in route.r#match.iter().enumerate() {
        matches(check, &item(&child(path, "match"), i), m, place.on_gateway);
    }
    for (i, d) in route.route.iter().enumerate() {
        let at = item(&child(path, "route"), i);
        destination(check, &child(&at, "destination"), &d.destination);
        headers(check, &child(&at, "headers"), d.headers.as_ref());
    }
    weights(check, &child(path, "route"), &route.route.iter().map(|d| d.weight).collect::<Vec<_>>());
    headers(check, &child(path, "headers"), route.headers.as_ref());
    authority(check, path, route);
    duration(check, &child(path, "timeout"), route.timeout);
    if let Some(retry) = &route.retries {
        retries(check, &child(path, "retries"), retry);
    }
    if let Some(rewrite) = &route.rewrite {
        self::rewrite(check, &child(path, "rewrite"), rewrite);
    }
    if let Some(redirect) = &route.redirect {
        self::redirect(check, &child(path, "redirect"), redirect, route);
    }
    if let Some(response) = &route.direct_response {
        direct_response(check, &child(path, "directResponse"), response);
    }
    if let Some(faults) = &route.fault {
        fault(check, &child(path, "fault"), faults);
    }
    if let Some(policy) = &route.cors_policy {
        cors(check, &child(path, "corsPolicy"), policy);
    }
    mirrors(check, path, route);
}

/// Which of route, redirect, directResponse, delegate and their companions may stand together.
fn actions(check: &mut Check<'_>, path: &str, index: usize, route: &HttpRoute, place: Place) {
    if route.delegate.is_some() {
        if place.is_delegate {
            check.error(&child(path, "delegate"), format!("delegate HTTP route {index} must not contain delegate"));
        }
        if !route.route.is_empty() {
            check.error(&child(path, "route"), format!("root HTTP route {index} must not specify route"));
        }
        if route.redirect.is_some() {
            check.error(&child(path, "redirect"), format!("root HTTP route {index} must not specify redirect"));
        }
    }
    let parts =
        [("route", !route.route.is_empty()), ("fault", route.fault.is_some()), ("rewrite", route.rewrite.is_some())];
    let written = || parts.iter().filter(|(_, present)| *present);
    if route.redirect.is_some() {
        for (name, _) in written() {
            check.error(&child(path, name), format!("HTTP route cannot contain both {name} and redirect"));
        }
    }
    if route.direct_response.is_some() {
        for (name, _) in written() {
            check.error(&child(path, name), format!("HTTP route cannot contain both {name} and direct_response"));
        }
        if route.redirect.is_some() {
            let message = "HTTP route cannot contain both redirect and direct_response";
            check.error(&child(path, "directResponse"), message);
        }
    }
    let acts = !route.route.is_empty() || route.redirect.is_some() || route.direct_response.is_some();
    if !acts && route.delegate.is_none() {
        check.error_fix(path, "HTTP route, redirect or direct_response is required", "add a route with a destination");
    }
}

fn matches(check: &mut Check<'_>, path: &str, m: &HttpMatchRequest, on_gateway: bool) {
    for (name, value) in [("scheme", &m.scheme), ("method", &m.method), ("authority", &m.authority)] {
        if let Some(value) = value {
            string_match(check, &child(path, name), value, false, false);
        }
    }
    if let Some(uri) = &m.uri {
        string_match(check, &child(path, "uri"), uri, true, false);
    }
    for (field, map) in [("headers", &m.headers), ("withoutHeaders", &m.without_headers)] {
        for (name, value) in map {
            let at = child(&child(path, field), name);
            if ClaimMatch::path(name).is_some() {
                if !on_gateway {
                    let message = format!("JWT claim based routing (key: {name}) is only supported for gateway");
                    check.error(&at, message);
                }
            } else {
                check.ok(&at, match_header_name(name));
            }
            string_match(check, &at, value, false, true);
        }
    }
    for (name, value) in &m.query_params {
        let at = child(&child(path, "queryParams"), name);
        if name.is_empty() {
            check.error(&at, "query parameter name cannot be empty");
        }
        string_match(check, &at, value, false, true);
    }
    if m.port != 0 {
        check.ok(&child(path, "port"), port(m.port));
    }
    common::labels(check, &child(path, "sourceLabels"), &m.source_labels);
    virtual_service::gateways(check, &child(path, "gateways"), &m.gateways);
    if !m.source_namespace.is_empty() && !is_label(&m.source_namespace) {
        let message = format!("sourceNamespace match {:?} is invalid", m.source_namespace);
        check.error(&child(path, "sourceNamespace"), message);
    }
}

fn headers(check: &mut Check<'_>, path: &str, headers: Option<&Headers>) {
    let Some(Headers { request, response }) = headers else {
        return;
    };
    if let Some(operations) = request {
        header_operations(check, &child(path, "request"), operations, set_request_header);
    }
    if let Some(operations) = response {
        header_operations(check, &child(path, "response"), operations, change_header);
    }
}

fn header_operations(
    check: &mut Check<'_>,
    path: &str,
    operations: &HeaderOperations,
    name_rule: fn(&str) -> Result<(), String>,
) {
    for (field, map) in [("set", &operations.set), ("add", &operations.add)] {
        for (name, value) in map {
            let at = child(&child(path, field), name);
            check.ok(&at, name_rule(name));
            match header_value(value) {
                Ok(empty) => empty.iter().for_each(|(name, why)| {
                    check.warn(&at, format!("%{name}% is always empty here: {why}"));
                }),
                Err(message) => check.error(&at, message),
            }
        }
    }
    for (i, name) in operations.remove.iter().enumerate() {
        check.ok(&item(&child(path, "remove"), i), change_header(name));
    }
}

/// The authority may be rewritten once.
fn authority(check: &mut Check<'_>, path: &str, route: &HttpRoute) {
    let in_operations = |headers: Option<&Headers>| {
        let operations = headers.and_then(|h| h.request.as_ref());
        let is_host = |name: &&String| name.eq_ignore_ascii_case("host") || *name == ":authority";
        operations.map_or(0, |o| o.set.keys().chain(o.add.keys()).filter(is_host).count())
    };
    let rewrites = usize::from(route.rewrite.as_ref().is_some_and(|r| !r.authority.is_empty()));
    let own = rewrites + in_operations(route.headers.as_ref());
    let most = route.route.iter().map(|d| in_operations(d.headers.as_ref())).max().unwrap_or(0);
    if own > 1 || most > 1 {
        check.error(path, "authority header cannot be set multiple times");
    }
}

const RETRY_ON: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

/// A retry policy, of a rule or of the mesh.
pub(super) fn retries(check: &mut Check<'_>, path: &str, retry: &HttpRetry) {
    let HttpRetry { attempts, per_try_timeout, retry_on, retry_remote_localities, backoff, .. } = retry;
    if *attempts < 0 {
        check.error(&child(path, "attempts"), "attempts cannot be negative");
    }
    let configured = per_try_timeout.is_some() || !retry_on.is_empty() || retry_remote_localities.is_some();
    if *attempts == 0 && configured {
        let message = "http retry policy configured when attempts are set to 0 (disabled)";
        check.error_fix(path, message, "write attempts: 2, for example");
    }
    duration(check, &child(path, "perTryTimeout"), *per_try_timeout);
    duration(check, &child(path, "backoff"), *backoff);
    for token in retry_on.split(',').filter(|_| !retry_on.is_empty()) {
        let status = token.parse::<u16>().is_ok_and(known_status);
        if !RETRY_ON.contains(&token) && !status {
            check.error(&child(path, "retryOn"), format!("{token:?} is not a valid retryOn policy"));
        }
    }
}

/// Statuses with a name.
fn known_status(code: u16) -> bool {
    http::StatusCode::from_u16(code).is_ok_and(|s| s.canonical_reason().is_some())
}

fn rewrite(check: &mut Check<'_>, path: &str, rewrite: &HttpRewrite) {
    let HttpRewrite { uri, authority, uri_regex_rewrite } = rewrite;
    match uri_regex_rewrite {
        Some(_) if !uri.is_empty() => {
            check.error(path, "rewrite may only contain one of URI or UriRegexRewrite");
        }
        Some(r) => {
            let at = child(path, "uriRegexRewrite");
            if r.r#match.is_empty() || r.rewrite.is_empty() {
                check.error(&at, "UriRegexRewrite requires both Rewrite and Match fields to be specified");
            } else {
                check.ok(&child(&at, "match"), Regex::anywhere(&r.r#match).map(drop));
            }
        }
        None if uri.is_empty() && authority.is_empty() => {
            check.error(path, "rewrite must specify URI, UriRegexRewrite, or authority");
        }
        None => {}
    }
}

fn redirect(check: &mut Check<'_>, path: &str, redirect: &HttpRedirect, route: &HttpRoute) {
    let HttpRedirect { uri, prefix_rewrite, authority, port: number, derive_port, scheme, redirect_code } = redirect;
    let has_port = number.is_some() || derive_port.is_some();
    if uri.is_empty() && prefix_rewrite.is_empty() && authority.is_empty() && scheme.is_empty() && !has_port {
        check.error(path, "redirect must specify URI, authority, scheme, or port");
    }
    if !uri.is_empty() && !prefix_rewrite.is_empty() {
        check.error(&child(path, "prefixRewrite"), "redirect cannot contain both uri and prefixRewrite");
    }
    let all_prefixes = route.r#match.iter().all(|m| matches!(m.uri, Some(StringMatch::Prefix(_))));
    if !prefix_rewrite.is_empty() && (route.r#match.is_empty() || !all_prefixes) {
        check.error(&child(path, "prefixRewrite"), "prefixRewrite requires that every match has a uri prefix");
    }
    if number.is_some() && derive_port.is_some() {
        check.error(path, "At most one of [port derivePort] should be set");
    }
    if let Some(number) = number {
        check.ok(&child(path, "port"), port(*number));
    }
    if !matches!(scheme.as_str(), "" | "http" | "https") {
        check.error(&child(path, "scheme"), "invalid redirect scheme, must be one of [http, https]");
    }
    if *redirect_code != 0 && !(300..=399).contains(redirect_code) {
        let message = format!("{redirect_code} is not a valid redirect code, must be 3xx");
        check.error(&child(path, "redirectCode"), message);
    } else if !matches!(redirect_code, 0 | 301 | 302 | 303 | 307 | 308) {
        let message = format!("redirect code {redirect_code} has no effect; use one of 301, 302, 303, 307, 308");
        check.warn(&child(path, "redirectCode"), message);
    }
}

fn direct_response(check: &mut Check<'_>, path: &str, response: &HttpDirectResponse) {
    let HttpDirectResponse { status, body } = response;
    if !(200..=600).contains(status) {
        check.error(&child(path, "status"), format!("HTTP status {status} is not in range 200-599"));
    }
    let Some(body) = body else {
        return;
    };
    let at = child(path, "body");
    if body.string.is_some() && body.bytes.is_some() {
        check.error(&at, "At most one of [string bytes] should be set");
    }
    let encoded = body.bytes.as_deref().map_or(0, |b| b.trim_end_matches('=').len() * 3 / 4);
    match body.string.as_deref().map_or(encoded, str::len) {
        n if n > 1_048_576 => check.error(&at, "large direct_responses may impact proxy performance; the limit is 1MB"),
        n if n > 102_400 => check.warn(&at, "large direct_responses may impact proxy performance"),
        _ => {}
    }
}

fn fault(check: &mut Check<'_>, path: &str, fault: &HttpFaultInjection) {
    let HttpFaultInjection { delay, abort } = fault;
    if delay.is_none() && abort.is_none() {
        check.error(path, "HTTP fault injection must have an abort and/or a delay");
    }
    if let Some(FaultDelay { percent: whole, fixed_delay, exponential_delay, percentage }) = delay {
        let at = child(path, "delay");
        percent(check, &child(&at, "percentage"), *percentage);
        if !(0..=100).contains(whole) {
            check.error(&child(&at, "percent"), format!("percentage {whole} is not in range 0..100"));
        }
        duration(check, &child(&at, "fixedDelay"), *fixed_delay);
        match (fixed_delay, exponential_delay) {
            (_, Some(_)) => check.error(&child(&at, "exponentialDelay"), "exponentialDelay not supported yet"),
            (None, None) => check.error(&at, "a delay needs fixedDelay"),
            (Some(_), None) => {}
        }
    }
    if let Some(abort) = abort {
        fault_abort(check, &child(path, "abort"), abort);
    }
}

fn fault_abort(check: &mut Check<'_>, at: &str, abort: &FaultAbort) {
    let FaultAbort { http_status, grpc_status, http2_error, percentage } = abort;
    percent(check, &child(at, "percentage"), *percentage);
    let kinds = [http_status.is_some(), grpc_status.is_some(), http2_error.is_some()];
    match kinds.iter().filter(|k| **k).count() {
        0 => check.warn(at, "abort has no httpStatus or grpcStatus; nothing is aborted"),
        1 => {}
        _ => check.error(at, "At most one of [httpStatus grpcStatus http2Error] should be set"),
    }
    if let Some(status) = http_status
        && !(200..=600).contains(status)
    {
        check.error(&child(at, "httpStatus"), format!("HTTP status {status} is not in range 200-599"));
    }
    if let Some(status) = grpc_status
        && crate::api::grpc_status(status).is_none()
    {
        check.error(&child(at, "grpcStatus"), format!("gRPC status {status:?} is not supported"));
    }
    if http2_error.is_some() {
        check.error(&child(at, "http2Error"), "HTTP/2 abort fault injection not supported yet");
    }
}

const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"];

fn cors(check: &mut Check<'_>, path: &str, policy: &CorsPolicy) {
    for (i, origin) in policy.allow_origins.iter().enumerate() {
        let at = item(&child(path, "allowOrigins"), i);
        match origin {
            StringMatch::Present => check.error(&at, "allowOrigins entries need one of exact, prefix and regex"),
            StringMatch::Exact(text) if text.is_empty() => {
                check.error(&at, "exact string match should not be empty");
            }
            other => string_match(check, &at, other, false, false),
        }
    }
    for (i, method) in policy.allow_methods.iter().enumerate() {
        if !METHODS.contains(&method.as_str()) {
            let at = item(&child(path, "allowMethods"), i);
            check.error(&at, format!("{method:?} is not a supported HTTP method"));
        }
    }
    for (field, names) in [("allowHeaders", &policy.allow_headers), ("exposeHeaders", &policy.expose_headers)] {
        for (i, name) in names.iter().enumerate() {
            if name != "*" && !is_token(name) {
                check.error(&item(&child(path, field), i), format!("header name {name:?} is not a valid header name"));
            }
        }
    }
    let at = child(path, "maxAge");
    duration(check, &at, policy.max_age);
    if policy.max_age.is_some_and(|d| d.0.subsec_nanos() != 0 && d.0.as_millis() > 0) {
        check.error(&at, "max_age duration is accurate only to seconds precision");
    }
}

fn mirrors(check: &mut Check<'_>, path: &str, route: &HttpRoute) {
    if route.mirror.is_some() {
        destination(check, &child(path, "mirror"), &route.mirror);
        if !route.mirrors.is_empty() {
            check.error(&child(path, "mirrors"), "HTTP route cannot contain both mirror and mirrors");
        }
    }
    if let Some(percent) = route.mirror_percent {
        let at = child(path, "mirrorPercent");
        if percent > 100 {
            check.error(&at, format!("mirror_percent must have a max value of 100 (it has {percent})"));
        }
        check.warn(&at, "using deprecated setting \"mirrorPercent\", use \"mirrorPercentage\" instead");
    }
    let percentage = |check: &mut Check<'_>, at: &str, value: Option<crate::api::Percent>| {
        if let Some(value) = value.filter(|p| p.value > 100.0) {
            check.error(at, format!("mirror_percentage must have a max value of 100 (it has {})", value.value));
        } else if let Some(value) = value.filter(|p| p.value < 0.0) {
            check.error(at, format!("mirror_percentage must have a min value of 0 (it has {})", value.value));
        }
    };
    percentage(check, &child(path, "mirrorPercentage"), route.mirror_percentage);
    for (i, mirror) in route.mirrors.iter().enumerate() {
        let at = item(&child(path, "mirrors"), i);
        destination(check, &child(&at, "destination"), &mirror.destination);
        percentage(check, &child(&at, "percentage"), mirror.percentage);
    }
}
