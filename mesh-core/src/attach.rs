//! Which policies apply to a workload: root namespace, selectors and targets.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::{AuthorizationPolicy, LabelSelector, Object, PolicyTargetReference, RequestAuthentication};

/// Label of pods that belong to a Gateway of the Gateway API.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
/// GatewayClass of waypoints.
const WAYPOINT_CLASS: &str = "istio-waypoint";

/// The workload that policies are looked up for.
#[derive(Clone, Copy, Debug)]
pub struct Workload<'a> {
    /// Root namespace of the mesh (`istio-system`), whose policies are everybody's.
    pub root_namespace: &'a str,
    /// The workload's namespace.
    pub namespace: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// It is a waypoint, for these; `None`: a sidecar or a gateway.
    pub waypoint: Option<&'a [Target<'a>]>,
}

/// A Service or ServiceEntry that a waypoint serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target<'a> {
    /// `Service` or `ServiceEntry`.
    pub kind: &'a str,
    /// Namespace.
    pub namespace: &'a str,
    /// Name.
    pub name: &'a str,
}

/// A policy that is attached by selector or targets.
pub trait Attached {
    /// `selector`.
    fn selector(&self) -> Option<&LabelSelector>;
    /// `targetRef` and `targetRefs`.
    fn targets(&self) -> impl Iterator<Item = &PolicyTargetReference>;
}

impl Attached for AuthorizationPolicy {
    fn selector(&self) -> Option<&LabelSelector> {
        self.selector.as_ref()
    }

    fn targets(&self) -> impl Iterator<Item = &PolicyTargetReference> {
        self.target_ref.iter().chain(&self.target_refs)
    }
}

impl Attached for RequestAuthentication {
    fn selector(&self) -> Option<&LabelSelector> {
        self.selector.as_ref()
    }

    fn targets(&self) -> impl Iterator<Item = &PolicyTargetReference> {
        self.target_ref.iter().chain(&self.target_refs)
    }
}

impl<'a> Workload<'a> {
    /// A pod with a sidecar, or a gateway.
    pub fn new(root_namespace: &'a str, namespace: &'a str, labels: &'a BTreeMap<String, String>) -> Self {
        Self { root_namespace, namespace, labels, waypoint: None }
    }

    /// The policies that apply, oldest first. The order decides nothing; it is the one in which they are listed.
    pub fn policies<S: Attached>(&self, all: &[Arc<Object<S>>]) -> Vec<Arc<Object<S>>> {
        let mut found: Vec<_> = all.iter().filter(|o| self.applies(o)).cloned().collect();
        found.sort_by_cached_key(|o| age(o));
        found
    }

    /// Whether a policy applies.
    pub fn applies<S: Attached>(&self, policy: &Object<S>) -> bool {
        let namespace = &*policy.key.namespace;
        let mut targets = policy.spec.targets().peekable();
        let has_targets = targets.peek().is_some();
        let here = namespace == self.namespace || namespace == self.root_namespace;
        let gateway = self.labels.get(GATEWAY_NAME);
        if let Some(served) = self.waypoint {
            return targets.any(|t| self.is_waypoint_target(t, namespace, gateway, served));
        }
        match (has_targets, gateway) {
            (false, _) => here && self.selected(policy.spec.selector()),
            // Sidecars and classic gateways know no targets.
            (true, None) => false,
            (true, Some(name)) => {
                namespace == self.namespace && targets.any(|t| is(t, GATEWAY_GROUP, "Gateway") && t.name == *name)
            }
        }
    }

    fn selected(&self, selector: Option<&LabelSelector>) -> bool {
        selector.is_none_or(|s| s.match_labels.iter().all(|(k, v)| self.labels.get(k) == Some(v)))
    }

    fn is_waypoint_target(
        &self,
        target: &PolicyTargetReference,
        namespace: &str,
        gateway: Option<&String>,
        served: &[Target<'_>],
    ) -> bool {
        let service = |group: &str, kind: &str| {
            let same = |s: &Target<'_>| s.kind == kind && s.namespace == namespace && s.name == target.name;
            is(target, group, kind) && served.iter().any(same)
        };
        let own = is(target, GATEWAY_GROUP, "Gateway") && namespace == self.namespace && gateway == Some(&target.name);
        let class = is(target, GATEWAY_GROUP, "GatewayClass") && target.name == WAYPOINT_CLASS;
        own || (class && namespace == self.root_namespace)
            || service("", "Service")
            || service("networking.istio.io", "ServiceEntry")
    }
}

/// What objects are ordered by: those with a time first, the oldest of them before others, then by name and namespace.
pub fn age<S>(o: &Object<S>) -> (bool, Option<String>, Arc<str>, Arc<str>) {
    let time = o.meta.creation_timestamp.clone();
    (time.is_none(), time, o.key.name.clone(), o.key.namespace.clone())
}

/// A reference of this kind in the policy's own namespace; others are never followed.
fn is(target: &PolicyTargetReference, group: &str, kind: &str) -> bool {
    target.group == group && target.kind == kind && target.namespace.is_empty()
}

#[cfg(test)]
mod tests;
