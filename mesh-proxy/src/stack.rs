//! The order of the Layers, one function for each level. Nothing else in the workspace orders them.
//!
//! Each level reads from the outside in: the first line sees the request first and the response last. A slot is there for
//! what is not part of the plan yet, too: filling it later changes no order.

mod activate;
mod host;
mod router;
mod security;
mod slots;

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use mesh_core::env::Env;
use mesh_core::error::{Error, ErrorKind};
use mesh_core::layers::modify::NodeFacts;
use mesh_core::layers::rate_limit::Limit;
use mesh_core::layers::{
    AffinityConfig, AffinityLayer, BoxService, CorsConfig, CorsLayer, FaultConfig, FaultLayer, Meter, MeterConfig,
    MeterLayer, MirrorConfig, MirrorLayer, MirrorTarget, ModifyConfig, ModifyLayer, Opt, OutlierLayer, PerTryLayer,
    RateLimitConfig, RateLimitLayer, Request, Respond, RespondLayer, RetryConfig, RetryLayer, RetryLimit, Sanitize,
    SanitizeConfig, SanitizeLayer, StreamLimit, StreamLimitConfig, StreamLimitLayer, TimeoutConfig, TimeoutLayer,
    Upstream, optional,
};
use mesh_core::record::Sink;
use mesh_core::snapshot::{Action, Direction, HashKey, HttpPlan, RouteFilters, RoutePlan, ServerHeader};
use mesh_policy::layers::{self as policies, Authz, ExtAuthz, Jwt};
use tower::ServiceBuilder;

pub use activate::{Active, HttpStack, activate};
pub use router::{Router, RouterFuture};
pub(crate) use security::{Guards, Security, Standing};
pub use slots::*;

use crate::net::Net;
use crate::pool::{Destination, send};
use slots::{In, empty};

/// What every stack of a proxy is built with.
#[derive(Clone)]
pub struct Common {
    /// Clock and randomness.
    pub env: Arc<dyn Env>,
    /// Readers of request records.
    pub sinks: Arc<[Arc<dyn Sink>]>,
    /// What a loopback client is called in `x-forwarded-for`.
    pub node_address: Option<IpAddr>,
    /// What header values may say about this process.
    pub node: Arc<NodeFacts>,
    /// Mirrored requests have `-shadow` after their host.
    pub shadow_suffix: bool,
}

impl Common {
    fn meter(&self) -> MeterLayer {
        MeterLayer::new(MeterConfig { sinks: Arc::clone(&self.sinks), env: Arc::clone(&self.env) })
    }

    fn mirror(&self, targets: Vec<MirrorTarget>) -> Option<MirrorLayer> {
        let config = MirrorConfig {
            targets,
            node_address: self.node_address,
            shadow_suffix: self.shadow_suffix,
            sinks: Arc::clone(&self.sinks),
            env: Arc::clone(&self.env),
        };
        (!config.targets.is_empty()).then(|| MirrorLayer::new(config))
    }

    fn sanitize(&self, plan: &HttpPlan, direction: Direction) -> SanitizeLayer {
        SanitizeLayer::new(SanitizeConfig::of(plan, direction, self.node_address, Arc::clone(&self.env)))
    }
}

fn respond(plan: &HttpPlan) -> RespondLayer {
    let name = match &plan.server {
        ServerHeader::Overwrite(name) => name,
        ServerHeader::PassThrough => "envoy",
    };
    RespondLayer::new(HeaderValue::from_str(name).unwrap_or_else(|_| HeaderValue::from_static("envoy")))
}

fn stream_limits(plan: &HttpPlan) -> Option<StreamLimitLayer> {
    StreamLimitConfig::of(&plan.settings).map(StreamLimitLayer::new)
}

/// The policies of a server, in Istio's order, then the router.
type Policies<S> = In<BeforeAuthn, In<PeerAuthn, Guarded<S>>>;

/// External authorizers, tokens, policies, and policies again when they change, in this order.
type Guarded<S> = Maybe<ExtAuthz<Tokens<S>>, Tokens<S>>;
type Tokens<S> = Maybe<Jwt<Allowed<S>>, Allowed<S>>;
type Allowed<S> = In<BeforeAuthz, Maybe<Authz<Lasting<S>>, Lasting<S>>>;
type Lasting<S> = Maybe<policies::Standing<In<BeforeStats, S>>, In<BeforeStats, S>>;
type Maybe<Filled, Empty> = Opt<Filled, Empty>;

/// A service with the limits of its listener's requests, if there are any.
type Limited<S> = Opt<StreamLimit<S>, S>;

/// Stack of an inbound listener.
pub type Inbound = Meter<Respond<Limited<Sanitize<In<Trace, Policies<Router>>>>>>;

/// Towards the own application: one route for each port, behind all policies.
pub(crate) fn inbound(common: &Common, plan: &HttpPlan, guards: Guards, router: Router) -> Inbound {
    let Guards { external, jwt, authz, standing } = guards;
    ServiceBuilder::new()
        .layer(common.meter()) // sees everything, ends everything once
        .layer(respond(plan)) // below it, failures are errors
        .layer(optional(stream_limits(plan))) // slow clients and endless streams end in a reply
        .layer(common.sanitize(plan, Direction::Inbound)) // nothing below sees a header that lies
        .layer(empty::<Trace>())
        .layer(empty::<BeforeAuthn>())
        .layer(empty::<PeerAuthn>()) // who is the peer
        .layer(optional(external)) // CUSTOM goes before the others
        .layer(optional(jwt)) // who is the user
        .layer(empty::<BeforeAuthz>())
        .layer(optional(authz)) // may they
        .layer(optional(standing)) // may they still, when policies change
        .layer(empty::<BeforeStats>())
        .service(router)
}

/// Stack of an outbound or gateway listener.
pub type Outbound = Meter<Respond<Limited<Sanitize<In<Trace, In<BeforeAuthn, Guarded<Router>>>>>>>;

/// From the own application, or through a gateway; only gateways fill the policy slots.
pub(crate) fn outbound(
    common: &Common,
    plan: &HttpPlan,
    direction: Direction,
    guards: Guards,
    router: Router,
) -> Outbound {
    let Guards { external, jwt, authz, standing } = guards;
    ServiceBuilder::new()
        .layer(common.meter())
        .layer(respond(plan))
        .layer(optional(stream_limits(plan)))
        .layer(common.sanitize(plan, direction))
        .layer(empty::<Trace>())
        .layer(empty::<BeforeAuthn>())
        .layer(optional(external))
        .layer(optional(jwt))
        .layer(empty::<BeforeAuthz>())
        .layer(optional(authz))
        .layer(optional(standing))
        .layer(empty::<BeforeStats>())
        .service(router)
}

/// One route towards one of its destinations.
pub fn route(
    common: &Common,
    plan: &Arc<RoutePlan>,
    at: Place,
    (cluster, limit): (BoxService, Option<RetryLimit>),
    (limits, mirrors): (Vec<Limit>, Vec<MirrorTarget>),
) -> impl Upstream + use<> {
    let RouteFilters { rate_limits: _, fault, cors, mirrors: _, stats: _ } = &plan.filters;
    // Envoy's filter does not look at routes without a destination.
    let cors = cors.as_ref().filter(|_| matches!(plan.action, Action::Forward(_)));
    let modify = ModifyLayer::new(ModifyConfig {
        route: Arc::clone(plan),
        destination: at.destination,
        node: Arc::clone(&common.node),
    });
    let fault = fault.as_ref().map(|f| FaultConfig::of(f, Arc::clone(&common.env)).headers(modify.reply_headers()));
    let limits = (!limits.is_empty()).then(|| RateLimitLayer::new(RateLimitConfig { limits }));
    let retry = plan.retry.clone();
    let per_try = retry.as_ref().and_then(|r| r.per_try_timeout);
    let outwards = at.direction != Direction::Inbound;
    ServiceBuilder::new()
        .layer(optional(limits)) // cheapest refusal first
        .layer(optional(fault.map(FaultLayer::new)))
        .layer(optional(cors.map(|c| CorsLayer::new(CorsConfig::of(c))))) // answers preflights before anything is changed
        .layer(modify) // headers, path, host; answers redirects and direct responses
        .layer(optional(common.mirror(mirrors))) // a copy sees the changed request, once, not once a try
        .layer(TimeoutLayer::new(TimeoutConfig {
            timeout: plan.timeout,
            per_try,
            announce: outwards && plan.headers.debug,
        }))
        .layer(RetryLayer::new(RetryConfig {
            policy: retry,
            attempt_count: outwards && plan.headers.attempt_count,
            buffer: plan.replay,
            env: Arc::clone(&common.env),
            limit,
        }))
        .service(cluster)
}

/// What sends the copies of a route to a mirror: as the route sends to its cluster, but once. They say what the first try
/// says, also how long a try may take.
pub fn copy(common: &Common, plan: &RoutePlan, direction: Direction, cluster: BoxService) -> impl Upstream + use<> {
    let outwards = direction != Direction::Inbound;
    ServiceBuilder::new()
        .layer(TimeoutLayer::new(TimeoutConfig {
            timeout: plan.timeout,
            per_try: plan.retry.as_ref().and_then(|r| r.per_try_timeout),
            announce: outwards && plan.headers.debug,
        }))
        .layer(RetryLayer::new(RetryConfig {
            policy: None,
            attempt_count: outwards && plan.headers.attempt_count,
            buffer: 0,
            env: Arc::clone(&common.env),
            limit: None,
        }))
        .service(cluster)
}

/// Which destination of a route, on a listener of which direction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Place {
    /// Direction of the listener.
    pub direction: Direction,
    /// Index among the route's destinations.
    pub destination: usize,
}

/// One cluster, for routes with this timeout of one try.
pub(crate) fn cluster<N: Net>(to: Arc<Destination<N>>, per_try: Option<std::time::Duration>) -> impl Upstream + use<N> {
    let balancing = &to.plan.balancing;
    let outliers = balancing.outlier.is_some().then(|| OutlierLayer::new(Arc::clone(to.cluster.detector())));
    let affinity = |key: &HashKey| AffinityConfig { key: key.clone(), env: Arc::clone(&to.runtime.env) };
    let affinity = balancing.hash_key.as_ref().map(|key| AffinityLayer::new(affinity(key)));
    ServiceBuilder::new()
        .layer(optional(per_try.map(PerTryLayer::new))) // covers connecting, too
        .layer(optional(outliers)) // sees what each try did
        .layer(optional(affinity)) // the key by which the endpoint is chosen
        .service(tower::service_fn(move |request: Request| send(Arc::clone(&to), request))) // endpoint -> limits, pool -> hops
}

/// Where a route names a cluster that does not exist: the route says with which status that is answered.
pub(crate) fn no_cluster(status: StatusCode) -> impl Upstream {
    tower::service_fn(move |_: Request| std::future::ready(Err(Error::new(ErrorKind::NoCluster).with_status(status))))
}
