//! What HTTP rules do: redirect, direct response, rewrite, retries.

use std::collections::BTreeSet;
use std::time::Duration;

use http::StatusCode;

use super::Wrong;
use crate::api::{
    HttpBody, HttpDirectResponse, HttpRedirect, HttpRetry, HttpRewrite, RedirectPortSelection, RegexRewrite,
};
use crate::compile::account::Ledger;
use crate::matching::{HeaderValueTemplate, Regex};
use crate::model::{PathRewrite, RedirectPort, RedirectTo, RuleRedirect};
use crate::snapshot::{DirectResponse, RetryOn, RetryPlan};

pub(super) fn redirect(ledger: &mut Ledger<'_>, at: &str, from: &HttpRedirect) -> Result<RuleRedirect, Wrong> {
    let HttpRedirect { uri, prefix_rewrite, authority, port, derive_port, scheme, redirect_code } = from;
    let some = |text: &String| Some(text.as_str().into()).filter(|_| !text.is_empty());
    let code = match ledger.take(at, "redirectCode", redirect_code) {
        0 => StatusCode::MOVED_PERMANENTLY,
        code @ (301 | 302 | 303 | 307 | 308) => {
            StatusCode::from_u16(u16::try_from(*code).unwrap_or(301)).unwrap_or(StatusCode::MOVED_PERMANENTLY)
        }
        code => {
            let why = format!("{code} is not a redirect code that can be sent; write 301, 302, 303, 307 or 308");
            return Err(Wrong(format!("{at}.redirectCode"), why));
        }
    };
    let path = match ledger.take(at, "uri", uri).as_str() {
        "" => some(ledger.take(at, "prefixRewrite", prefix_rewrite)).map(RedirectTo::Prefix),
        path => {
            ledger.without_effect(at, "prefixRewrite", prefix_rewrite, "uri replaces the whole path");
            Some(RedirectTo::Path(path.into()))
        }
    };
    ledger.take(at, "port", port);
    let port = match port {
        Some(port) => {
            ledger.without_effect(at, "derivePort", derive_port, "the port is given");
            let wrong = |_| Wrong(format!("{at}.port"), format!("port {port} is not in 1..65535"));
            RedirectPort::Explicit(u16::try_from(*port).map_err(wrong)?)
        }
        None => match ledger.take(at, "derivePort", derive_port) {
            Some(RedirectPortSelection::FromRequestPort) => RedirectPort::Listener,
            Some(RedirectPortSelection::FromProtocolDefault) | None => RedirectPort::Keep,
        },
    };
    Ok(RuleRedirect {
        code,
        scheme: some(ledger.take(at, "scheme", scheme)),
        authority: some(ledger.take(at, "authority", authority)),
        port,
        path,
    })
}

pub(super) fn direct(ledger: &mut Ledger<'_>, at: &str, from: &HttpDirectResponse) -> Result<DirectResponse, Wrong> {
    let HttpDirectResponse { status, body } = from;
    let code = u16::try_from(*ledger.take(at, "status", status)).ok().filter(|s| (200..600).contains(s));
    let status = code.and_then(|s| StatusCode::from_u16(s).ok());
    let wrong = || Wrong(format!("{at}.status"), "HTTP status must be in range 200-599".into());
    let body = match body {
        None => bytes::Bytes::new(),
        Some(HttpBody { string, bytes }) => {
            let inner = format!("{at}.body");
            ledger.take(&inner, "string", string);
            match (string, ledger.take(&inner, "bytes", bytes)) {
                (Some(text), _) => text.clone().into(),
                (None, Some(encoded)) => {
                    let wrong = || Wrong(format!("{inner}.bytes"), "is not base64".into());
                    crate::base64::decode(encoded).ok_or_else(wrong)?.into()
                }
                (None, None) => bytes::Bytes::new(),
            }
        }
    };
    Ok(DirectResponse { status: status.ok_or_else(wrong)?, body })
}

type Rewritten = (Option<PathRewrite>, Option<HeaderValueTemplate>);

pub(super) fn rewrite(ledger: &mut Ledger<'_>, at: &str, from: &HttpRewrite) -> Result<Rewritten, Wrong> {
    let HttpRewrite { uri, authority, uri_regex_rewrite } = from;
    let path = match (ledger.take(at, "uri", uri).as_str(), uri_regex_rewrite) {
        ("", Some(RegexRewrite { r#match, rewrite })) => {
            let inner = format!("{at}.uriRegexRewrite");
            ledger.take(&inner, "match", r#match);
            ledger.take(&inner, "rewrite", rewrite);
            let regex = Regex::anywhere(r#match).map_err(Wrong::at(&format!("{inner}.match")))?;
            Some(PathRewrite::Regex(regex, substitution(rewrite).into()))
        }
        ("", None) => None,
        (uri, _) => {
            ledger.without_effect(at, "uriRegexRewrite", uri_regex_rewrite, "uri rewrites the path");
            Some(PathRewrite::Uri(uri.into()))
        }
    };
    let authority = match ledger.take(at, "authority", authority).as_str() {
        "" => None,
        // Literal: only header operations have operators.
        text => {
            let value = http::HeaderValue::from_str(text);
            let wrong = |_| Wrong(format!("{at}.authority"), format!("\"{text}\" can't be an authority"));
            Some(HeaderValueTemplate::Literal(value.map_err(wrong)?))
        }
    };
    Ok((path, authority))
}

/// RE2's `\1` in the form of the regex crate; `$` has no meaning in RE2's replacements.
fn substitution(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            ('$', _) => out.push_str("$$"),
            (_, true) => match chars.next() {
                Some(d) if d.is_ascii_digit() => out.extend(["${", &d.to_string(), "}"]),
                Some(other) => out.push(other),
                None => {}
            },
            _ => out.push(c),
        }
    }
    out
}

/// Reads a retry policy; `None` is "no retries" (0 attempts).
pub(in crate::compile) fn retry_plan(
    ledger: &mut Ledger<'_>,
    at: &str,
    from: &HttpRetry,
) -> Result<Option<RetryPlan>, Wrong> {
    let HttpRetry {
        attempts,
        per_try_timeout,
        retry_on,
        retry_remote_localities,
        retry_ignore_previous_hosts,
        backoff,
    } = from;
    let Some(attempts) = u32::try_from(*ledger.take(at, "attempts", attempts)).ok().filter(|a| *a > 0) else {
        ledger.consumed(at);
        let why = "attempts is 0 or not set: retries are off";
        ledger.without_effect(at, "perTryTimeout", per_try_timeout, why);
        ledger.without_effect(at, "retryOn", retry_on, why);
        ledger.without_effect(at, "backoff", backoff, why);
        ledger.without_effect(at, "retryRemoteLocalities", retry_remote_localities, why);
        ledger.without_effect(at, "retryIgnorePreviousHosts", retry_ignore_previous_hosts, why);
        return Ok(None);
    };
    let (on, status_codes) = match ledger.take(at, "retryOn", retry_on).as_str() {
        "" => (RetryPlan::istio().on, BTreeSet::new()),
        text => tokens(text).map_err(Wrong::at(&format!("{at}.retryOn")))?,
    };
    Ok(Some(RetryPlan {
        attempts,
        per_try_timeout: ledger.take(at, "perTryTimeout", per_try_timeout).map(Into::into),
        on,
        status_codes,
        backoff: ledger.take(at, "backoff", backoff).map_or(Duration::from_millis(25), Into::into),
        remote_localities: ledger.take(at, "retryRemoteLocalities", retry_remote_localities).unwrap_or(false),
        ignore_previous_hosts: *ledger.take(at, "retryIgnorePreviousHosts", retry_ignore_previous_hosts),
    }))
}

fn tokens(text: &str) -> Result<(RetryOn, BTreeSet<u16>), String> {
    let (mut on, mut codes) = (RetryOn::default(), BTreeSet::new());
    for token in text.split(',').map(str::trim).filter(|t| !t.is_empty()) {
        match token {
            "5xx" => on.server_error = true,
            "gateway-error" => on.gateway_error = true,
            "reset" => on.reset = true,
            "reset-before-request" => on.reset_before_request = true,
            "connect-failure" => on.connect_failure = true,
            "refused-stream" => on.refused_stream = true,
            "retriable-4xx" => on.retriable_4xx = true,
            "envoy-ratelimited" => on.ratelimited = true,
            "cancelled" => on.cancelled = true,
            "deadline-exceeded" => on.deadline_exceeded = true,
            "resource-exhausted" => on.resource_exhausted = true,
            "internal" => on.internal = true,
            "unavailable" => on.unavailable = true,
            // Conditions without a list of codes or headers, and of a protocol that is not spoken.
            "retriable-status-codes" | "retriable-headers" | "http3-post-connect-failure" => {}
            number => match number.parse() {
                Ok(code @ 100..=599) => {
                    codes.insert(code);
                }
                _ => return Err(format!("\"{number}\" is not a valid retryOn policy")),
            },
        }
    }
    Ok((on, codes))
}
