//! The one model that all front ends convert to and that alone is compiled: services and workloads, listeners and
//! routes.

mod filters;
mod route;
mod selector;
mod workload;

pub use filters::RuleFilters;
pub use route::{
    Backend, L4Match, L4Route, PathRewrite, RedirectPort, RedirectTo, Route, Rule, RuleAction, RuleMatch, RuleRedirect,
    Sourced, StaticMatch,
};
pub use selector::Selector;
pub use workload::{
    AppProtocol, Health, Location, Resolution, Service, ServicePort, TlsMode, TrafficDistribution, Tunnel, Workload,
};
