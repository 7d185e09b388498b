//! Conditions of HTTP rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderName;

use super::{Names, Wrong, gateway_name};
use crate::api::{HttpMatchRequest, StringMatch};
use crate::compile::account::Ledger;
use crate::matching::{ClaimMatch, HeaderMatch, QueryMatch, Regex, RequestMatch, StringMatcher};
use crate::model::{RuleMatch, StaticMatch};
use crate::yaml::child;

pub(super) fn request(
    ledger: &mut Ledger<'_>,
    at: &str,
    from: &HttpMatchRequest,
    names: Names<'_>,
) -> Result<RuleMatch, Wrong> {
    let HttpMatchRequest {
        name,
        uri,
        scheme,
        method,
        authority,
        headers,
        without_headers,
        query_params,
        ignore_uri_case,
        port,
        source_labels,
        source_namespace,
        gateways,
        stat_prefix,
    } = from;
    if *ignore_uri_case {
        match uri {
            Some(StringMatch::Exact(_) | StringMatch::Prefix(_)) => ledger.consumed(&format!("{at}.ignoreUriCase")),
            _ => {
                ledger.inert(&format!("{at}.ignoreUriCase"), "only exact and prefix conditions on uri can ignore case")
            }
        }
    }
    let mut text = |name: &str, m: &Option<StringMatch>| match m {
        Some(m) => string(ledger, &format!("{at}.{name}"), m).map(Some),
        None => Ok(None),
    };
    let (uri, scheme) = (text("uri", uri)?, text("scheme", scheme)?);
    let (method, authority) = (text("method", method)?, text("authority", authority)?);
    let mut claims = Vec::new();
    let mut header_matches = header_conditions(ledger, &format!("{at}.headers"), headers, false, &mut claims)?;
    let without = header_conditions(ledger, &format!("{at}.withoutHeaders"), without_headers, true, &mut claims)?;
    header_matches.extend(without);
    let mut query = Vec::with_capacity(query_params.len());
    for (name, m) in query_params {
        let value = string(ledger, &child(&format!("{at}.queryParams"), name), m)?;
        query.push(QueryMatch { name: name.as_str().into(), value });
    }
    let only = only(ledger, at, (*port, source_labels, source_namespace, gateways), names, true)?;
    Ok(RuleMatch {
        origin: ledger.origin(at),
        name: ledger.take(at, "name", name).as_str().into(),
        request: RequestMatch {
            uri,
            ignore_uri_case: *ignore_uri_case,
            segment_prefix: false,
            scheme,
            method,
            authority,
            headers: header_matches,
            query,
            claims,
        },
        only,
        stat_prefix: ledger.take(at, "statPrefix", stat_prefix).as_str().into(),
    })
}

type Only<'a> = (u32, &'a BTreeMap<String, String>, &'a String, &'a [String]);

/// Reads the conditions that are decided when the plan is made. In HTTP rules `gateways` replaces the conditions on
/// the client.
pub(super) fn only(
    ledger: &mut Ledger<'_>,
    at: &str,
    (port, labels, namespace, gateways): Only<'_>,
    names: Names<'_>,
    http: bool,
) -> Result<StaticMatch, Wrong> {
    ledger.take(at, "port", &port);
    ledger.take_list(at, "gateways", gateways);
    let field = format!("{at}.port");
    let mut only = StaticMatch {
        port: Some(u16::try_from(port).map_err(|_| Wrong(field, format!("port {port} is not in 1..65535")))?)
            .filter(|p| *p != 0),
        source_labels: labels.clone(),
        source_namespace: namespace.as_str().into(),
        gateways: gateways.iter().map(|g| gateway_name(g, names.namespace)).collect(),
    };
    if http && !only.gateways.is_empty() {
        let why = "the match has gateways, beside which conditions on the client are ignored";
        ledger.without_effect(at, "sourceLabels", labels, why);
        ledger.without_effect(at, "sourceNamespace", namespace, why);
        only.source_labels.clear();
        only.source_namespace = "".into();
    } else {
        ledger.take_map(at, "sourceLabels", labels);
        ledger.take(at, "sourceNamespace", namespace);
    }
    Ok(only)
}

/// Reads a string match; its one leaf, or its `{}`, is consumed.
pub(super) fn string(ledger: &mut Ledger<'_>, at: &str, from: &StringMatch) -> Result<StringMatcher, Wrong> {
    let leaf = match from {
        StringMatch::Exact(_) => format!("{at}.exact"),
        StringMatch::Prefix(_) => format!("{at}.prefix"),
        StringMatch::Regex(_) => format!("{at}.regex"),
        StringMatch::Present => at.to_owned(),
    };
    ledger.consumed(&leaf);
    if from.is_presence() {
        return Ok(StringMatcher::Present);
    }
    Ok(match from {
        StringMatch::Exact(v) => StringMatcher::Exact(v.as_str().into()),
        StringMatch::Prefix(v) => StringMatcher::Prefix(v.as_str().into()),
        StringMatch::Regex(v) => StringMatcher::Regex(Regex::full(v).map_err(Wrong::at(&leaf))?),
        StringMatch::Present => StringMatcher::Present,
    })
}

fn header_conditions(
    ledger: &mut Ledger<'_>,
    at: &str,
    from: &BTreeMap<String, StringMatch>,
    invert: bool,
    claims: &mut Vec<ClaimMatch>,
) -> Result<Vec<HeaderMatch>, Wrong> {
    let mut out = Vec::with_capacity(from.len());
    for (name, m) in from {
        let field = child(at, name);
        match name.as_str() {
            "uri" | "scheme" | "method" | "authority" => {
                ledger.inert(&field, "the key is ignored among headers; write the condition of that name instead");
                continue;
            }
            _ => {}
        }
        let value = string(ledger, &field, m)?;
        if let Some(path) = ClaimMatch::path(name) {
            claims.push(ClaimMatch { path, value, invert });
            continue;
        }
        // Envoy reads `host` as another name of `:authority`.
        let pseudo: Option<Arc<str>> = match name.as_str() {
            "host" => Some(":authority".into()),
            n if n.starts_with(':') => Some(n.into()),
            _ => None,
        };
        let name = match &pseudo {
            Some(_) => None,
            None => {
                let wrong = |_| Wrong(field, format!("header name \"{name}\" is not valid"));
                Some(HeaderName::try_from(name.as_str()).map_err(wrong)?)
            }
        };
        out.push(HeaderMatch { name, pseudo, value, invert });
    }
    Ok(out)
}
