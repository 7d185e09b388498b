//! Why a token is refused, in Envoy's words.

use std::fmt;

use http::StatusCode;

/// Why a request is refused for its token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum JwtError {
    /// A token is required, and there is none.
    Missing,
    /// Not three parts with dots between them.
    BadFormat,
    /// The header is not base64url.
    HeaderBase64,
    /// The header is not a JSON object.
    HeaderJson,
    /// The header has no `alg`.
    HeaderAlg,
    /// `kid` is not a text.
    HeaderKid,
    /// The algorithm is none of those that are known.
    AlgorithmUnknown,
    /// The payload is not base64url.
    PayloadBase64,
    /// The payload is not a JSON object, or has a name twice.
    PayloadJson,
    /// `iss` is not a text.
    Iss,
    /// `sub` is not a text.
    Sub,
    /// `iat` is not a number.
    IatInteger,
    /// `iat` is negative or too large.
    IatPositive,
    /// `nbf` is not a number.
    NbfInteger,
    /// `nbf` is negative or too large.
    NbfPositive,
    /// `exp` is not a number.
    ExpInteger,
    /// `exp` is negative or too large.
    ExpPositive,
    /// `jti` is not a text.
    Jti,
    /// `aud` is neither a text nor a list of texts.
    Aud,
    /// The signature is not base64url.
    SignatureBase64,
    /// No rule is for this issuer.
    UnknownIssuer,
    /// It is over.
    Expired,
    /// It has not begun.
    NotYetValid,
    /// It is for somebody else.
    Audience,
    /// The issuer's keys are not known, because fetching them failed.
    KeysUnavailable,
    /// None of the issuer's keys is meant by its `kid` and `alg`.
    NoKey,
    /// The signature is wrong.
    Signature,
}

impl JwtError {
    /// Status of the answer.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Audience => StatusCode::FORBIDDEN,
            _ => StatusCode::UNAUTHORIZED,
        }
    }

    /// Body of the answer.
    pub fn text(self) -> &'static str {
        match self {
            Self::Missing => "Jwt is missing",
            Self::BadFormat => "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
            Self::HeaderBase64 => "Jwt header is an invalid Base64url encoded",
            Self::HeaderJson => "Jwt header is an invalid JSON",
            Self::HeaderAlg => "Jwt header [alg] field is required and must be a string",
            Self::HeaderKid => "Jwt header [kid] field is not a string",
            Self::AlgorithmUnknown => "Jwt header [alg] is not supported",
            Self::PayloadBase64 => "Jwt payload is an invalid Base64url encoded",
            Self::PayloadJson => "Jwt payload is an invalid JSON",
            Self::Iss => "Jwt payload [iss] field is not a string",
            Self::Sub => "Jwt payload [sub] field is not a string",
            Self::IatInteger => "Jwt payload [iat] field is not an integer",
            Self::IatPositive => "Jwt payload [iat] field is not a positive 64 bit integer",
            Self::NbfInteger => "Jwt payload [nbf] field is not an integer",
            Self::NbfPositive => "Jwt payload [nbf] field is not a positive 64 bit integer",
            Self::ExpInteger => "Jwt payload [exp] field is not an integer",
            Self::ExpPositive => "Jwt payload [exp] field is not a positive 64 bit integer",
            Self::Jti => "Jwt payload [jti] field is not a string",
            Self::Aud => "Jwt payload [aud] field is not a string or string list",
            Self::SignatureBase64 => "Jwt signature is an invalid Base64url encoded",
            Self::UnknownIssuer => "Jwt issuer is not configured",
            Self::Expired => "Jwt is expired",
            Self::NotYetValid => "Jwt not yet valid",
            Self::Audience => "Audiences in Jwt are not allowed",
            Self::KeysUnavailable => "Jwks remote fetch is failed",
            Self::NoKey => "Jwks doesn't have key to match kid or alg from Jwt",
            Self::Signature => "Jwt verification fails",
        }
    }

    /// `%RESPONSE_CODE_DETAILS%`.
    pub fn details(self) -> String {
        format!("jwt_authn_access_denied{{{}}}", self.text().replace(' ', "_"))
    }
}

impl fmt::Display for JwtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for JwtError {}
