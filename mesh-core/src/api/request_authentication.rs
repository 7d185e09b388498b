//! `security.istio.io` RequestAuthentication: which tokens (JWT) a workload accepts.

use serde::{Deserialize, Serialize};

use super::values::{Duration, is_default};
use super::{LabelSelector, PolicyTargetReference};

/// Spec of a RequestAuthentication.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RequestAuthentication {
    /// Workloads of the namespace (of the mesh, in the root namespace); absent: all.
    #[serde(skip_serializing_if = "is_default")]
    pub selector: Option<LabelSelector>,
    /// What it is attached to instead of a selector.
    #[serde(skip_serializing_if = "is_default")]
    pub target_ref: Option<PolicyTargetReference>,
    /// What it is attached to instead of a selector; at most 16.
    #[serde(skip_serializing_if = "is_default")]
    pub target_refs: Vec<PolicyTargetReference>,
    /// Issuers whose tokens are accepted.
    #[serde(skip_serializing_if = "is_default")]
    pub jwt_rules: Vec<JwtRule>,
}

/// Tokens of one issuer: where they are, how they are verified, what becomes of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct JwtRule {
    /// `iss` of the tokens; empty: any.
    #[serde(skip_serializing_if = "is_default")]
    pub issuer: String,
    /// `aud` has to hold one of these; empty: not checked.
    #[serde(skip_serializing_if = "is_default")]
    pub audiences: Vec<String>,
    /// Where the issuer's keys are, `http://` or `https://`. Without it and `jwks`, OIDC discovery says.
    #[serde(skip_serializing_if = "is_default")]
    pub jwks_uri: String,
    /// The issuer's keys: a JSON Web Key Set.
    #[serde(skip_serializing_if = "is_default")]
    pub jwks: String,
    /// Headers with tokens.
    #[serde(skip_serializing_if = "is_default")]
    pub from_headers: Vec<JwtHeader>,
    /// Query parameters with tokens.
    #[serde(skip_serializing_if = "is_default")]
    pub from_params: Vec<String>,
    /// Cookies with tokens.
    #[serde(skip_serializing_if = "is_default")]
    pub from_cookies: Vec<String>,
    /// Header that gets the payload of a valid token, in base64url without padding.
    #[serde(skip_serializing_if = "is_default")]
    pub output_payload_to_header: String,
    /// The token goes on to the application; else it is taken out of headers and query.
    #[serde(skip_serializing_if = "is_default")]
    pub forward_original_token: bool,
    /// Headers that get claims.
    #[serde(skip_serializing_if = "is_default")]
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    /// How long fetching keys may take; default 5 s.
    #[serde(skip_serializing_if = "is_default")]
    pub timeout: Option<Duration>,
    /// Claims that are lists of words, besides `scope` and `permission`; at most 64.
    #[serde(skip_serializing_if = "is_default")]
    pub space_delimited_claims: Vec<String>,
    /// Whether requests may come without a token.
    #[serde(skip_serializing_if = "is_default")]
    pub presence: JwtPresence,
}

/// A header with a token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct JwtHeader {
    /// Name.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// What comes before the token, such as `Bearer `, with the blank.
    #[serde(skip_serializing_if = "is_default")]
    pub prefix: String,
}

/// A claim that is copied to a header.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimToHeader {
    /// Name of the header; what the client sent in it is removed.
    #[serde(skip_serializing_if = "is_default")]
    pub header: String,
    /// Name of the claim; nested ones with dots.
    #[serde(skip_serializing_if = "is_default")]
    pub claim: String,
}

/// Whether requests may come without a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum JwtPresence {
    /// They may.
    #[default]
    #[serde(rename = "OPTIONAL")]
    Optional,
    /// They are refused.
    #[serde(rename = "REQUIRED")]
    Required,
}
