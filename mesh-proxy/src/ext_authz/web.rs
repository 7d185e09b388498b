//! `envoyExtAuthzHttp`: the request's head goes to the authorizer, whose status is the answer.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, SERVER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use mesh_core::layers::{Body, Request};
use mesh_core::snapshot::{ClusterPlan, HttpCheck, NamePattern, ProviderPlan};
use mesh_policy::ext_authz::{Allowed, Check, Refused, Verdict};

use crate::cluster::Runtime;
use crate::errand;
use crate::net::Net;

/// Longest body of an answer that is passed on.
const MAX_BODY: usize = 1 << 20;

const EXPECTED: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
const PARTIAL: HeaderName = HeaderName::from_static("x-envoy-auth-partial-body");

pub(super) async fn ask<N: Net>(
    runtime: &Arc<Runtime<N>>,
    cluster: &Arc<ClusterPlan>,
    plan: &ProviderPlan,
    rules: &HttpCheck,
    check: &Check,
) -> Result<Verdict, String> {
    let response = errand::send(runtime, cluster, question(plan, rules, check)?).await.map_err(|e| e.to_string())?;
    let (head, body) = response.into_parts();
    if head.status.is_server_error() {
        return Err(format!("answered {}", head.status));
    }
    if head.status == StatusCode::OK {
        return Ok(Verdict::Allow(Allowed {
            set: chosen(&head.headers, &rules.upstream),
            response: chosen(&head.headers, &rules.downstream_on_allow),
            ..Allowed::default()
        }));
    }
    let body: Bytes = Limited::new(body, MAX_BODY).collect().await.map_err(|e| e.to_string())?.to_bytes();
    let headers = match rules.downstream_on_deny.is_empty() {
        // Envoy sends all of them then.
        true => head.headers.iter().filter(|(n, _)| !is_framing(n)).map(owned).collect(),
        false => chosen(&head.headers, &rules.downstream_on_deny),
    };
    Ok(Verdict::Deny(Refused { status: head.status, headers, body }))
}

/// What the authorizer is asked: the request's own method, path and host, and those headers that it may see.
fn question(plan: &ProviderPlan, rules: &HttpCheck, check: &Check) -> Result<Request, String> {
    let target = check.uri.path_and_query().map_or("/", |p| p.as_str());
    let uri: Uri = format!("{}{target}", rules.path_prefix).parse().map_err(|e| format!("{e}"))?;
    let mut headers = HeaderMap::new();
    let always = |name: &HeaderName| *name == HOST || *name == AUTHORIZATION;
    for (name, value) in &check.headers {
        if always(name) || (!is_of_message(name) && matches(&rules.include, name)) {
            headers.append(name.clone(), value.clone());
        }
    }
    for (name, value) in &rules.added {
        headers.insert(name.clone(), value.clone());
    }
    headers.insert(INTERNAL, HeaderValue::from_static("true"));
    if let Ok(ms) = u64::try_from(plan.timeout.as_millis()) {
        headers.insert(EXPECTED, ms.into());
    }
    let body = match &check.body {
        None => Body::Empty,
        Some((shown, partial)) => {
            headers.insert(PARTIAL, HeaderValue::from_static(if *partial { "true" } else { "false" }));
            Body::from(shown.clone())
        }
    };
    let length = check.body.as_ref().map_or(0, |(shown, _)| shown.len());
    headers.insert(CONTENT_LENGTH, length.into());
    let mut request = http::Request::new(body);
    (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (check.method.clone(), uri, headers);
    Ok(request)
}

fn matches(patterns: &[NamePattern], name: &HeaderName) -> bool {
    patterns.iter().any(|p| p.matches(name.as_str()))
}

fn chosen(headers: &HeaderMap, patterns: &[NamePattern]) -> Vec<(HeaderName, HeaderValue)> {
    headers.iter().filter(|(name, _)| !is_framing(name) && matches(patterns, name)).map(owned).collect()
}

fn owned((name, value): (&HeaderName, &HeaderValue)) -> (HeaderName, HeaderValue) {
    (name.clone(), value.clone())
}

/// Headers of a message as it was sent, not of what it says.
fn is_of_message(name: &HeaderName) -> bool {
    [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name) || name == "keep-alive"
}

/// The same of an answer. The content type of a refusal is the proxy's.
fn is_framing(name: &HeaderName) -> bool {
    is_of_message(name)
        || [CONTENT_TYPE, SERVER, http::header::DATE].contains(name)
        || name == "x-envoy-upstream-service-time"
}
