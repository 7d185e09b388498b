//! Workloads with a proxy: their ports, and the policies that are for them.

use std::collections::BTreeSet;

use super::super::index::{Index, Pod};
use crate::api::kube::ServiceSpec;
use crate::api::{AuthorizationPolicy, IntOrString, Key, LabelSelector, Object, PolicyTargetReference};
use crate::api::{DRY_RUN, RequestAuthentication, go_bool};
use crate::model::AppProtocol;
use crate::world::covers;

/// Label of pods that belong to a Gateway of the Gateway API.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

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
#[derive(Clone, Copy)]
pub(super) struct For<'p> {
    pub(super) key: &'p Key,
    selector: Option<&'p LabelSelector>,
    target: Option<&'p PolicyTargetReference>,
    targets: &'p [PolicyTargetReference],
}

impl<'p> For<'p> {
    pub(super) fn authorization(o: &'p Object<AuthorizationPolicy>) -> Self {
        let AuthorizationPolicy { selector, target_ref, target_refs, .. } = &o.spec;
        Self { key: &o.key, selector: selector.as_ref(), target: target_ref.as_ref(), targets: target_refs }
    }

    pub(super) fn authentication(o: &'p Object<RequestAuthentication>) -> Self {
        let RequestAuthentication { selector, target_ref, target_refs, .. } = &o.spec;
        Self { key: &o.key, selector: selector.as_ref(), target: target_ref.as_ref(), targets: target_refs }
    }

    /// The same, by a selector alone.
    pub(super) fn selector(key: &'p Key, selector: Option<&'p LabelSelector>) -> Self {
        Self { key, selector, target: None, targets: &[] }
    }

    pub(super) fn targets(self) -> impl Iterator<Item = &'p PolicyTargetReference> {
        self.target.into_iter().chain(self.targets)
    }

    pub(super) fn is_it(
        self,
        root: &str,
        namespace: &str,
        labels: &std::collections::BTreeMap<String, String>,
    ) -> bool {
        let own = *self.key.namespace == *namespace;
        let mut targets = self.targets().peekable();
        match (targets.peek().is_some(), labels.get(GATEWAY_NAME)) {
            (false, _) => {
                (own || *self.key.namespace == *root) && self.selector.is_none_or(|s| covers(&s.match_labels, labels))
            }
            // Sidecars and classic gateways know no targets.
            (true, None) => false,
            (true, Some(name)) => own && targets.any(|t| t.kind == "Gateway" && t.name == *name),
        }
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
    pub(super) fn of<'s>(&'s self, policy: For<'s>) -> impl Iterator<Item = &'s Workload<'i>> {
        let root = self.index.root();
        self.workloads.iter().filter(move |w| policy.is_it(root, &w.pod.namespace, &w.pod.labels))
    }

    /// Policies in force at a pod; those that are only tried decide nothing.
    pub(super) fn authorization(&self, pod: &Pod) -> impl Iterator<Item = &'i Object<AuthorizationPolicy>> {
        let root = self.index.root();
        let all = self.index.authorization_policies.iter().copied().filter(|o| !is_tried(o));
        all.filter(move |o| For::authorization(o).is_it(root, &pod.namespace, &pod.labels))
    }

    /// What reads tokens at a pod.
    pub(super) fn authentication(&self, pod: &Pod) -> impl Iterator<Item = &'i Object<RequestAuthentication>> {
        let root = self.index.root();
        let all = self.index.request_authentications.iter().copied();
        all.filter(move |o| For::authentication(o).is_it(root, &pod.namespace, &pod.labels))
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
