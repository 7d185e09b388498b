//! The Layers that ask: external authorizers first ([`ExtAuthzLayer`]), then tokens ([`JwtLayer`]), then policies
//! ([`AuthzLayer`]); and policies again when they change ([`StandingLayer`]).

mod authz;
mod ext_authz;
mod jwt;
mod standing;

pub use authz::{Authz, AuthzConfig, AuthzFuture, AuthzLayer};
pub use ext_authz::{ExtAuthz, ExtAuthzConfig, ExtAuthzFuture, ExtAuthzLayer};
pub use jwt::{Jwt, JwtConfig, JwtFuture, JwtLayer};
pub use standing::{Standing, StandingConfig, StandingFuture, StandingLayer, Tenure};

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderValue;
use http::header::HOST;
use mesh_core::record::Cx;

/// The authority that a request is for: `Host`, else that of its target. `None`: it has none, or two that differ, so that
/// it is not known whom the application would believe.
fn authority<B>(request: &http::Request<B>) -> Option<&str> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let target = request.uri().authority().map(http::uri::Authority::as_str);
    match (hosts.next(), hosts.next(), target) {
        (Some(host), None, None) => host.to_str().ok(),
        (Some(host), None, Some(target)) => host.to_str().ok().filter(|h| h.eq_ignore_ascii_case(target)),
        (None, _, target) => target,
        (Some(_), Some(_), _) => None,
    }
}

/// The scheme as the client used it.
fn scheme<B>(request: &http::Request<B>) -> Cow<'_, str> {
    let forwarded = request.headers().get("x-forwarded-proto").and_then(|v: &HeaderValue| v.to_str().ok());
    forwarded.or(request.uri().scheme_str()).unwrap_or("http").into()
}

fn context<B>(request: &http::Request<B>) -> Option<Arc<Cx>> {
    request.extensions().get::<Arc<Cx>>().cloned()
}

#[cfg(test)]
mod tests;
