//! What CORS does with one request.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
};
use http::{HeaderMap, HeaderValue, Method};

use crate::snapshot::CorsPlan;

/// What to do with a request.
#[derive(Clone, PartialEq, Debug)]
pub enum CorsDecision {
    /// Forward; the response stays as it is.
    Pass,
    /// Forward, and set these headers on the response.
    Allow(HeaderMap),
    /// A preflight: answer 200 with these headers.
    Answer(HeaderMap),
}

/// Decides a request. A preflight is OPTIONS with `origin` and `access-control-request-method`.
pub fn decide_cors(plan: &CorsPlan, method: &Method, headers: &HeaderMap) -> CorsDecision {
    let Some(origin) = headers.get(ORIGIN).filter(|o| !o.is_empty()) else { return CorsDecision::Pass };
    let allowed = origin.to_str().is_ok_and(|o| plan.allows(o));
    let asked = headers.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|m| *method == Method::OPTIONS && !m.is_empty());
    let mut out = HeaderMap::new();
    if allowed {
        out.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
    if plan.allow_credentials {
        out.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    let expose = plan.expose_headers.clone().map(|v| (ACCESS_CONTROL_EXPOSE_HEADERS, v));
    match (asked, allowed) {
        (None, false) => CorsDecision::Pass,
        (None, true) => {
            out.extend(expose);
            CorsDecision::Allow(out)
        }
        (Some(_), false) if plan.forward_unmatched => CorsDecision::Pass,
        (Some(asked), _) => {
            if let Some(methods) = &plan.allow_methods {
                let value = if methods == "*" { asked } else { methods };
                out.insert(ACCESS_CONTROL_ALLOW_METHODS, value.clone());
            }
            if let Some(names) = &plan.allow_headers {
                let wanted = headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
                let value = if names == "*" { wanted.unwrap_or(HeaderValue::from_static("")) } else { names.clone() };
                out.insert(ACCESS_CONTROL_ALLOW_HEADERS, value);
            }
            out.extend(plan.max_age.map(|seconds| (ACCESS_CONTROL_MAX_AGE, HeaderValue::from(seconds))));
            out.extend(expose.filter(|_| allowed));
            CorsDecision::Answer(out)
        }
    }
}

#[cfg(test)]
mod tests;
