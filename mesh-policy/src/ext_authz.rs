//! External authorizers (`CUSTOM`): what they are asked, and what they may answer. How they are asked is somebody else's.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use mesh_core::layers::SendFuture;
use mesh_core::record::{ConnInfo, Cx};

/// Asks an external authorizer over whatever it speaks.
pub trait ExternalAuthorizer: Send + Sync + 'static {
    /// Asks. An error says why there is no answer; whether that lets the request through is [`Provider::fail_open`]'s to
    /// say.
    fn check(&self, check: &Check) -> SendFuture<Result<Verdict, String>>;

    /// Asks whether a stream of bytes may go on.
    fn admits(&self, conn: &Arc<ConnInfo>) -> SendFuture<Result<bool, String>>;
}

/// A provider of `extensionProviders` that can be asked.
#[derive(Clone)]
pub struct Provider {
    /// Its name.
    pub name: Arc<str>,
    /// Asks it.
    pub authorizer: Arc<dyn ExternalAuthorizer>,
    /// `failOpen`: without an answer the request goes on.
    pub fail_open: bool,
    /// `statusOnError`: without an answer the request is refused with this; Istio's default is 403.
    pub status_on_error: StatusCode,
    /// `includeRequestBodyInCheck`; unset: it does not see bodies.
    pub body: Option<BodyInCheck>,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, authorizer: _, fail_open, status_on_error, body } = self;
        f.debug_struct("Provider")
            .field("name", name)
            .field("fail_open", fail_open)
            .field("status_on_error", status_on_error)
            .field("body", body)
            .finish_non_exhaustive()
    }
}

/// `includeRequestBodyInCheck`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BodyInCheck {
    /// `maxRequestBytes`.
    pub max: usize,
    /// `allowPartialMessage`: of a longer body the beginning is shown; else such a request is refused (413).
    pub allow_partial: bool,
}

/// What an authorizer is asked about.
#[derive(Clone, Debug)]
pub struct Check {
    /// Method.
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// Version.
    pub version: Version,
    /// Headers, `host` among them.
    pub headers: HeaderMap,
    /// The scheme as the client used it.
    pub scheme: String,
    /// The body's beginning, and whether there is more; `None`: it is not shown.
    pub body: Option<(Bytes, bool)>,
    /// The connection, and the request's context.
    pub cx: Arc<Cx>,
}

/// Its answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The request goes on, with changes.
    Allow(Allowed),
    /// It does not.
    Deny(Refused),
}

/// Changes of a request that goes on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Allowed {
    /// Headers that are removed from the request.
    pub remove: Vec<HeaderName>,
    /// Headers that are set in it.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Headers that are added to it.
    pub append: Vec<(HeaderName, HeaderValue)>,
    /// Headers that are added to the response.
    pub response: Vec<(HeaderName, HeaderValue)>,
}

/// The answer to a request that does not go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Status.
    pub status: StatusCode,
    /// Headers, before those that a reply has anyway.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Body.
    pub body: Bytes,
}
