//! Workloads with a proxy: their ports, and the policies that are for them.

use std::collections::BTreeSet;

use super::super::index::{Index, Pod};
use crate::api::kube::ServiceSpec;
use crate::api::{AuthorizationPolicy, IntOrString, Key, Object, PeerAuthentication, PolicyTargetReference};
use crate::api::{DRY_RUN, RequestAuthentication, go_bool};
use crate::attach::{self, Attached};
use crate::model::AppProtocol;
use crate::world::covers;

/// What there is.
pub(super) struct View<'i> {
    pub(super) index: &'i Index<'i>,
    /// One of each kind of workload: pods with the same labels and account in a namespace are alike.
    pub(super) workloads: Vec<Workload<'i>>,
    /// Somebody wrote workloads down; else there is only the built-in gateway, and nothing can be said about who is selected.
    pub(super) has_workloads: bool,
}

/// One of them.
pub(super) struct Workload<'i> {
    pub(super) pod: &'i Pod,
    pub(super) ports: Vec<Port<'i>>,
}

/// A port that a Service leads to.
pub(super) struct Port<'i> {
    /// Number at the workload.
    pub(super) number: u16,
    /// Number at the Service.
    pub(super) service_port: u32,
    pub(super) service: &'i Object<ServiceSpec>,
    pub(super) protocol: AppProtocol,
}

impl Port<'_> {
    /// No HTTP: rules about requests know nothing there.
    pub(super) fn is_tcp(&self) -> bool {
        matches!(self.protocol, AppProtocol::Tcp | AppProtocol::Tls | AppProtocol::Https)
    }

    /// It may carry HTTP.
    pub(super) fn is_http(&self) -> bool {
        self.protocol.is_http() || self.protocol == AppProtocol::Auto
    }
}

/// Who a policy is for.
pub(super) struct For<'p> {
    pub(super) key: &'p Key,
    targets: Vec<&'p PolicyTargetReference>,
    applies: Box<dyn Fn(attach::Workload<'_>) -> bool + 'p>,
}

impl<'p> For<'p> {
    /// As proxies have it.
    pub(super) fn policy<S: Attached>(o: &'p Object<S>) -> Self {
        Self { key: &o.key, targets: o.spec.targets().collect(), applies: Box::new(|w| w.applies(o)) }
    }

    /// A PeerAuthentication: by its selector alone.
    pub(super) fn peers(o: &'p Object<PeerAuthentication>) -> Self {
        let selected = move |w: attach::Workload<'_>| {
            let here = *o.key.namespace == *w.namespace || *o.key.namespace == *w.root_namespace;
            here && o.spec.selector.as_ref().is_none_or(|s| covers(&s.match_labels, w.labels))
        };
        Self { key: &o.key, targets: Vec::new(), applies: Box::new(selected) }
    }

    pub(super) fn targets(&self) -> impl Iterator<Item = &'p PolicyTargetReference> {
        self.targets.iter().copied()
    }
}

impl<'i> View<'i> {
    pub(super) fn new(index: &'i Index<'i>) -> Self {
        let mut seen = BTreeSet::new();
        let mut workloads = Vec::new();
        for pod in index.pods.iter().filter(|p| index.in_mesh(p)) {
            if seen.insert((&*pod.namespace, &pod.labels, &pod.account)) {
                workloads.push(Workload { pod, ports: ports(index, pod) });
            }
        }
        let has_workloads = !index.deployments.is_empty() || !index.written_pods.is_empty();
        Self { index, workloads, has_workloads }
    }

    /// Those that a policy is for.
    pub(super) fn of<'s>(&'s self, policy: &'s For<'s>) -> impl Iterator<Item = &'s Workload<'i>> {
        self.workloads.iter().filter(|w| (policy.applies)(self.attached(w.pod)))
    }

    fn attached<'s>(&'s self, pod: &'s Pod) -> attach::Workload<'s> {
        attach::Workload::new(self.index.root(), &pod.namespace, &pod.labels)
    }

    /// Policies in force at a pod; those that are only tried decide nothing.
    pub(super) fn authorization<'s>(&'s self, pod: &'s Pod) -> impl Iterator<Item = &'i Object<AuthorizationPolicy>> {
        let at = self.attached(pod);
        self.index.authorization_policies.iter().copied().filter(move |o| !is_tried(o) && at.applies(o))
    }

    /// What reads tokens at a pod.
    pub(super) fn authentication<'s>(
        &'s self,
        pod: &'s Pod,
    ) -> impl Iterator<Item = &'i Object<RequestAuthentication>> {
        let at = self.attached(pod);
        self.index.request_authentications.iter().copied().filter(move |o| at.applies(o))
    }
}

/// A policy that is only tried: nothing is refused for it.
pub(super) fn is_tried(o: &Object<AuthorizationPolicy>) -> bool {
    o.meta.annotations.get(DRY_RUN).and_then(|v| go_bool(v)) == Some(true)
}

/// Ports of a pod as Services have them.
pub(super) fn ports<'i>(index: &'i Index<'i>, pod: &Pod) -> Vec<Port<'i>> {
    let near = index.services.iter().copied().filter(|s| {
        s.key.namespace == pod.namespace && !s.spec.selector.is_empty() && covers(&s.spec.selector, &pod.labels)
    });
    let mut found = Vec::new();
    for service in near {
        for p in service.spec.ports.iter().filter(|p| p.protocol != "UDP") {
            let number = match &p.target_port {
                Some(IntOrString::Int(n)) if *n != 0 => u16::try_from(*n).ok(),
                Some(IntOrString::String(name)) => pod.ports.get(name).copied(),
                _ => u16::try_from(p.port).ok(),
            };
            let of_port = AppProtocol::of_port(p.app_protocol.as_deref(), &p.name, u16::try_from(p.port).unwrap_or(0));
            found.extend(number.map(|number| Port { number, service_port: p.port, service, protocol: of_port }));
        }
    }
    found.sort_by(|a, b| (a.number, &a.service.key).cmp(&(b.number, &b.service.key)));
    found
}
