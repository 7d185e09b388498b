//! `extensionProviders` of the mesh, as far as they are external authorizers.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::values::Duration;

/// An external authorizer.
#[derive(Clone, PartialEq, Debug)]
pub struct ExtAuthzProvider {
    /// Name, by which policies mean it.
    pub name: String,
    /// `envoyExtAuthzHttp` or `envoyExtAuthzGrpc`.
    pub field: &'static str,
    /// Its settings.
    pub settings: ExtAuthzSettings,
}

/// Settings of an external authorizer. Those about headers are for `envoyExtAuthzHttp`.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ExtAuthzSettings {
    /// Service of the mesh: `host` or `namespace/host`.
    pub service: String,
    /// Port of it.
    pub port: i64,
    /// How long an answer may take; default 10 minutes.
    pub timeout: Option<Duration>,
    /// Requests go on when there is no answer.
    pub fail_open: bool,
    /// Routes are chosen anew after an answer.
    pub clear_route_cache: bool,
    /// Status when there is no answer; default 403.
    pub status_on_error: String,
    /// Part of the request's body that the authorizer sees.
    pub include_request_body_in_check: Option<RequestBodyInCheck>,
    /// Put before the path of what it is asked.
    pub path_prefix: String,
    /// Headers that it sees beside host, method, path, length and `authorization`.
    pub include_request_headers_in_check: Vec<String>,
    /// Deprecated name of `includeRequestHeadersInCheck`.
    pub include_headers_in_check: Vec<String>,
    /// Headers that are added to what it is asked.
    pub include_additional_headers_in_check: BTreeMap<String, String>,
    /// Headers of its answer that go on to the application.
    pub headers_to_upstream_on_allow: Vec<String>,
    /// Headers of its refusal that go to the client; none: all.
    pub headers_to_downstream_on_deny: Vec<String>,
    /// Headers of its answer that go to the client with the application's.
    pub headers_to_downstream_on_allow: Vec<String>,
}

/// Part of a request's body that an authorizer sees.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RequestBodyInCheck {
    /// Most bytes.
    pub max_request_bytes: u32,
    /// Of longer bodies the beginning is shown; else they are refused.
    pub allow_partial_message: bool,
    /// Over gRPC: as bytes, not as text.
    pub pack_as_bytes: bool,
}

/// The kinds of providers that are external authorizers.
const KINDS: [&str; 2] = ["envoyExtAuthzHttp", "envoyExtAuthzGrpc"];

impl ExtAuthzProvider {
    /// Reads a provider; `None`: it is one of another kind.
    ///
    /// # Errors
    /// It is an authorizer whose settings can't be read; the text says where and why.
    pub fn read(provider: &Value) -> Option<Result<Self, String>> {
        let field = KINDS.into_iter().find(|k| provider.get(k).is_some())?;
        let name = provider.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let settings = ExtAuthzSettings::deserialize(&provider[field]).map_err(|e| format!("{field}: {e}"));
        Some(settings.map(|settings| Self { name, field, settings }))
    }
}
