//! What stands before and beside forwarding on a route: rate limits, faults, CORS, mirrors, counters.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode};

use super::Provenance;
use crate::matching::StringMatcher;

/// The slots of a route that most routes leave empty.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RouteFilters {
    /// Rate limits, each of which has to have a token.
    pub rate_limits: Vec<Arc<RateLimitPlan>>,
    /// Faults to inject.
    pub fault: Option<Arc<FaultPlan>>,
    /// Cross-origin resource sharing.
    pub cors: Option<Arc<CorsPlan>>,
    /// Where copies of requests go, each decided on its own.
    pub mirrors: Vec<MirrorPlan>,
    /// Own counters of the route (`statPrefix`).
    pub stats: Option<StatsPlan>,
}

/// A share of requests, in millionths: the resolution of Istio's percentages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Share(u32);

impl Share {
    /// No request.
    pub const NONE: Self = Self(0);
    /// Every request.
    pub const ALL: Self = Self(Self::WHOLE);
    const WHOLE: u32 = 1_000_000;

    /// A share in percent, cut to 0..=100. Digits below 0.0001 % are cut off, as Istio does.
    pub fn percent(percent: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=10^6 before")]
        let millionths = (percent * 10_000.0).clamp(0.0, f64::from(Self::WHOLE)) as u32;
        Self(millionths)
    }

    /// The share in percent.
    pub fn as_percent(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// Whether a request with these 64 random bits belongs to it.
    pub fn takes(self, random: u64) -> bool {
        // Multiply-shift maps the bits evenly to 0..10^6 without a division.
        (u128::from(random) * u128::from(Self::WHOLE)) >> 64 < u128::from(self.0)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.as_percent())
    }
}

/// A local rate limit: a token bucket, one in each proxy for all routes that name it.
#[derive(Clone, PartialEq, Debug)]
pub struct RateLimitPlan {
    /// `namespace/name` of the object.
    pub name: Arc<str>,
    /// Most tokens in the bucket.
    pub max_tokens: u32,
    /// Tokens that come in each interval.
    pub tokens_per_fill: u32,
    /// The interval.
    pub fill_interval: Duration,
    /// Status of a refusal.
    pub status: StatusCode,
    /// Responses have `x-ratelimit-*`.
    pub headers: bool,
    /// The object.
    pub origin: Provenance,
}

/// Faults to inject (`fault`): delay first, then abort, each decided on its own.
#[derive(Clone, PartialEq, Debug)]
pub struct FaultPlan {
    /// Wait before forwarding.
    pub delay: Option<DelayPlan>,
    /// Answer instead of forwarding.
    pub abort: Option<AbortPlan>,
    /// The rule that says so.
    pub origin: Provenance,
}

/// A delay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DelayPlan {
    /// How long.
    pub fixed: Duration,
    /// Of which share of the requests.
    pub share: Share,
}

/// An answer in the application's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AbortPlan {
    /// With which status.
    pub status: AbortStatus,
    /// To which share of the requests.
    pub share: Share,
}

/// Status of an injected answer. A gRPC request gets an HTTP status mapped to a gRPC one; any other request gets a gRPC
/// status as HTTP 200.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AbortStatus {
    /// HTTP.
    Http(StatusCode),
    /// gRPC, by number.
    Grpc(u8),
}

impl fmt::Display for AbortStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(status) => write!(f, "{}", status.as_u16()),
            Self::Grpc(status) => write!(f, "gRPC status {status}"),
        }
    }
}

/// Cross-origin resource sharing (`corsPolicy`).
#[derive(Clone, PartialEq, Debug)]
pub struct CorsPlan {
    /// Origins that are allowed; one that takes `*` takes all.
    pub allow_origins: Vec<StringMatcher>,
    /// `access-control-allow-methods`; `*` is answered with the method that was asked for.
    pub allow_methods: Option<HeaderValue>,
    /// `access-control-allow-headers`; `*` is answered with the headers that were asked for.
    pub allow_headers: Option<HeaderValue>,
    /// `access-control-expose-headers`.
    pub expose_headers: Option<HeaderValue>,
    /// `access-control-max-age`, in seconds.
    pub max_age: Option<u64>,
    /// `access-control-allow-credentials: true` is sent.
    pub allow_credentials: bool,
    /// A preflight of another origin goes to the destination instead of being answered here.
    pub forward_unmatched: bool,
    /// The rule that says so.
    pub origin: Provenance,
}

impl CorsPlan {
    /// Whether an origin is allowed.
    pub fn allows(&self, origin: &str) -> bool {
        self.allow_origins.iter().any(|m| m.matches("*") || m.matches(origin))
    }
}

/// A destination of copies (`mirror`, `mirrors`).
#[derive(Clone, PartialEq, Debug)]
pub struct MirrorPlan {
    /// Name of the cluster in [`super::Snapshot::clusters`].
    pub cluster: Arc<str>,
    /// Of which share of the requests.
    pub share: Share,
    /// The mirror in the user's object.
    pub origin: Provenance,
}

/// Counters of a route's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatsPlan {
    /// Name of the virtual host.
    pub virtual_host: Arc<str>,
    /// `statPrefix`.
    pub prefix: Arc<str>,
}

#[cfg(test)]
mod tests;
