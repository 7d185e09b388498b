//! The traffic Layers: tower services over one pair of types, `Request<`[`Body`]`>` in and `Response<`[`Body`]`>` or
//! [`crate::error::Error`] out.
//!
//! Every Layer is always ready: a limit that is reached is an error at once, never a queue in `poll_ready`. A Layer takes
//! a plain config struct, is generic over the inner service only, and does nothing but pass the request on when its
//! config asks for nothing. The order is not made here: the proxy's `stack` writes it down, one function per level.
//! Between levels a stack is erased to a [`BoxService`], twice for each request (route and cluster), never per Layer.

pub mod affinity;
pub mod body;
pub mod boxed;
pub mod cors;
pub mod fault;
pub mod limits;
pub mod meter;
pub mod mirror;
pub mod modify;
mod opt;
mod order;
pub mod outlier;
pub mod rate_limit;
pub mod respond;
pub mod retry;
pub mod route;
mod rules;
pub mod sanitize;
pub mod slot;
pub mod stream_limit;
#[cfg(test)]
mod testing;
pub mod timeout;
mod value;

use std::future::Future;
use std::pin::Pin;

pub use affinity::{Affinity, AffinityConfig, AffinityLayer, WithAffinity};
pub use body::{Body, BoxBody};
pub use boxed::{BoxFuture, BoxService, HttpService};
pub use cors::{Cors, CorsConfig, CorsLayer};
pub use fault::{Fault, FaultConfig, FaultLayer};
pub use limits::{Circuit, CircuitConfig, CircuitLayer};
pub use meter::{Meter, MeterBody, MeterConfig, MeterLayer};
pub use mirror::{Mirror, MirrorConfig, MirrorLayer, MirrorTarget};
pub use modify::{Modify, ModifyConfig, ModifyLayer};
pub use opt::{Opt, OptFuture, OptionalLayer, optional};
pub use order::order;
pub use outlier::{Outlier, OutlierLayer};
pub use rate_limit::{RateLimit, RateLimitConfig, RateLimitLayer};
pub use respond::{LocalReply, Respond, RespondLayer};
pub use retry::{Retry, RetryConfig, RetryLayer, RetryLimit};
pub use route::{Route, RouteConfig, RouteLayer, Routed};
pub use rules::{Rules, RulesError};
pub use sanitize::{Sanitize, SanitizeConfig, SanitizeLayer};
pub use slot::{Extension, Slot, SlotLayer};
pub use stream_limit::{StreamClock, StreamLimit, StreamLimitConfig, StreamLimitLayer, StreamTimer};
pub use timeout::{PerTry, PerTryLayer, Timeout, TimeoutConfig, TimeoutLayer};

use crate::error::Error;

/// The request that every Layer takes.
pub type Request = http::Request<Body>;
/// The response that every Layer gives.
pub type Response = http::Response<Body>;

/// What the Layers ask of the service below: ours, clonable, ready at any time, of the uniform types. Implemented by every
/// such tower service; a shorthand for bounds.
pub trait Upstream:
    tower::Service<Request, Response = Response, Error = Error, Future: Send + 'static> + Clone + Send + Sync + 'static
{
}

impl<S> Upstream for S
where
    S: tower::Service<Request, Response = Response, Error = Error> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
}

/// A boxed future that can be sent to another thread.
pub type SendFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
