//! What Istio's resources say, for Layers that are used alone.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, Method, Uri};

use crate::compile::compile;
use crate::convert::{Addresses, Options, inputs, quarantined};
use crate::decide::decide_route;
use crate::matching::RequestFacts;
use crate::report::{Level, Report};
use crate::snapshot::{ClusterPlan, Direction, HttpPlan, ListenerKey, ProxyId, RoutePlan, Snapshot};
use crate::validate::validate;
use crate::yaml;

/// Resources, read, checked and compiled as for the sidecar of a client in namespace `default`; instead of a whole stack its
/// parts can be had one by one, as the plans that the Layers' configurations are made of.
///
/// Hosts have to be services: a VirtualService alone says nothing of ports.
///
/// ```
/// # use std::{sync::Arc, time::{Duration, SystemTime}};
/// use mesh_core::env::Env;
/// use mesh_core::layers::{CircuitConfig, FaultConfig, RetryConfig, Rules, TimeoutConfig};
///
/// # struct Clock;
/// # impl Env for Clock {
/// #     fn now(&self) -> SystemTime { SystemTime::UNIX_EPOCH }
/// #     fn random(&self) -> u64 { 0 }
/// # }
/// let rules = Rules::read("ratings.yaml", "
/// apiVersion: v1
/// kind: Service
/// metadata: {name: ratings, namespace: default}
/// spec: {ports: [{name: http, port: 9080}]}
/// ---
/// apiVersion: networking.istio.io/v1
/// kind: VirtualService
/// metadata: {name: ratings, namespace: default}
/// spec:
///   hosts: [ratings]
///   http:
///   - fault: {delay: {fixedDelay: 7s, percentage: {value: 50}}}
///     timeout: 10s
///     retries: {attempts: 2, perTryTimeout: 3s}
///     route: [{destination: {host: ratings}}]
/// ---
/// apiVersion: networking.istio.io/v1
/// kind: DestinationRule
/// metadata: {name: ratings, namespace: default}
/// spec: {host: ratings, trafficPolicy: {connectionPool: {http: {http2MaxRequests: 100}}}}
/// ").unwrap();
///
/// let env: Arc<dyn Env> = Arc::new(Clock);
/// let route = rules.route(&"http://ratings:9080/ratings/0".parse().unwrap()).expect("a route");
/// let fault = FaultConfig::of(route.filters.fault.as_ref().expect("a fault"), env.clone());
/// assert_eq!(fault.delay.unwrap().fixed, Duration::from_secs(7));
/// assert_eq!(TimeoutConfig::of(&route).timeout, Some(Duration::from_secs(10)));
/// assert_eq!(RetryConfig::of(&route, env).policy.unwrap().attempts, 2);
/// let cluster = rules.cluster("outbound|9080||ratings.default.svc.cluster.local").expect("a destination");
/// assert_eq!(CircuitConfig::of(cluster).max_requests, 100);
/// ```
#[derive(Clone, Debug)]
pub struct Rules(Arc<Snapshot>);

/// What is wrong with resources, each with its file, line and field.
#[derive(Clone, Debug)]
pub struct RulesError(Vec<Report>);

impl Rules {
    /// Reads resources from YAML documents; `file` is what errors call it.
    ///
    /// # Errors
    /// Something can't be read, or Istio would refuse it.
    pub fn read(file: &str, text: &str) -> Result<Self, RulesError> {
        let (resources, mut reports) = yaml::read(file, text);
        reports.extend(resources.iter().flat_map(validate));
        let options = Options { quarantined: quarantined(&reports), ..Options::default() };
        let made = inputs(&resources, &options, &mut Addresses::default());
        reports.extend(made.reports);
        reports.retain(|report| report.level == Level::Error);
        if !reports.is_empty() {
            return Err(RulesError(reports));
        }
        Ok(Self(compile(&made.world, &ProxyId::application(), None).snapshot))
    }

    /// The rules of all hosts with a port, for a [`RouteLayer`](super::RouteLayer). `None`: no service has it, or it is not HTTP.
    #[must_use]
    pub fn http(&self, port: u16) -> Option<&Arc<HttpPlan>> {
        self.0.listeners.get(&ListenerKey::new(Direction::Outbound, None, port))?.http.as_ref()
    }

    /// The rule that a `GET` of a URL without further headers gets; port 80 where it says none.
    #[must_use]
    pub fn route(&self, url: &Uri) -> Option<Arc<RoutePlan>> {
        let facts = RequestFacts {
            method: &Method::GET,
            scheme: "http",
            authority: url.authority()?.as_str(),
            path: url.path(),
            query: url.query(),
            headers: &HeaderMap::new(),
            claims: None,
        };
        decide_route(&self.http(url.port_u16().unwrap_or(80))?.routes, &facts).route().cloned()
    }

    /// A destination by the name that routes call it: `outbound|PORT|SUBSET|HOST`.
    #[must_use]
    pub fn cluster(&self, name: &str) -> Option<&Arc<ClusterPlan>> {
        self.0.clusters.get(name)
    }
}

impl RulesError {
    /// One by one.
    #[must_use]
    pub fn reports(&self) -> &[Report] {
        &self.0
    }
}

impl fmt::Display for RulesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.0.iter();
        lines.next().into_iter().try_for_each(|first| write!(f, "{first}"))?;
        lines.try_for_each(|report| write!(f, "\n{report}"))
    }
}

impl std::error::Error for RulesError {}
