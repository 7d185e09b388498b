//! What analyzers look things up in; built once, so that each analyzer is linear in the objects that it looks at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::AnalyzeInput;
use crate::api::kube::{ConfigMap, DeploymentSpec, Namespace, PodSpec, ServiceSpec};
use crate::api::{
    AuthorizationPolicy, DestinationRule, Gateway, Key, LabelSelector, MeshConfig, Object, PeerAuthentication,
    ProxySettings, RequestAuthentication, Resource, ServiceEntry, Sidecar, VirtualService, WorkloadEntry,
};
use crate::convert::{EXPORT_TO, pods_of};
use crate::matching::HostPattern;
use crate::world::{covers, full_host};

pub(super) const DOMAIN: &str = "cluster.local";
pub(super) const SYSTEM: &str = "istio-system";

/// A pod, real or of a Deployment.
pub(super) struct Pod {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    /// What the user wrote it as: the name of its Deployment, or its own.
    pub(super) workload: Arc<str>,
    pub(super) labels: BTreeMap<String, String>,
    /// Service account.
    pub(super) account: String,
    /// Container ports by name, or by number if they have none.
    pub(super) ports: BTreeMap<String, u16>,
    /// Whether it has a sidecar, if it says so itself: by a container, a label or an annotation.
    injected: Option<bool>,
}

impl Pod {
    fn of(o: &Object<PodSpec>) -> Self {
        let containers = || o.spec.containers.iter().chain(&o.spec.init_containers);
        let by_container = containers().any(|c| c.name == "istio-proxy").then_some(true);
        let said = |m: &BTreeMap<String, String>| m.get("sidecar.istio.io/inject").map(|v| v == "true");
        let account = [&o.spec.service_account_name, &o.spec.service_account].into_iter().find(|a| !a.is_empty());
        let ports = containers().flat_map(|c| &c.ports).filter_map(|p| {
            let name = if p.name.is_empty() { p.container_port.to_string() } else { p.name.clone() };
            Some((name, u16::try_from(p.container_port).ok()?))
        });
        Self {
            namespace: o.key.namespace.clone(),
            name: o.key.name.clone(),
            workload: o.key.name.clone(),
            labels: o.meta.labels.clone(),
            account: account.cloned().unwrap_or_else(|| "default".to_owned()),
            ports: ports.collect(),
            injected: by_container.or_else(|| said(&o.meta.labels)).or_else(|| said(&o.meta.annotations)),
        }
    }
}

impl Pod {
    /// One with a proxy, that is no pod of the files.
    fn named(namespace: &str, name: &str, labels: BTreeMap<String, String>, account: &str) -> Self {
        let account = account.to_owned();
        Self {
            namespace: namespace.into(),
            name: name.into(),
            workload: name.into(),
            labels,
            account,
            ports: BTreeMap::new(),
            injected: Some(true),
        }
    }

    /// The one that a selector describes; it has no name.
    pub(super) fn imagined(namespace: &str, selector: Option<&LabelSelector>) -> Self {
        let labels = selector.map(|s| s.match_labels.clone()).unwrap_or_default();
        Self::named(namespace, "", labels, "default")
    }
}

/// Something that a destination can name.
pub(super) struct Host<'a> {
    pub(super) namespace: &'a str,
    pub(super) export_to: Vec<&'a str>,
    pub(super) ports: Vec<u32>,
    pub(super) selector: Option<&'a BTreeMap<String, String>>,
    pub(super) is_entry: bool,
}

impl Host<'_> {
    pub(super) fn visible_in(&self, namespace: &str) -> bool {
        self.export_to.is_empty()
            || self.export_to.iter().any(|e| match *e {
                "*" => true,
                "." => self.namespace == namespace,
                "~" => false,
                name => name == namespace,
            })
    }
}

#[derive(Default)]
pub(super) struct Index<'a> {
    pub(super) virtual_services: Vec<&'a Object<VirtualService>>,
    pub(super) destination_rules: Vec<&'a Object<DestinationRule>>,
    pub(super) gateways: Vec<&'a Object<Gateway>>,
    pub(super) service_entries: Vec<&'a Object<ServiceEntry>>,
    pub(super) sidecars: Vec<&'a Object<Sidecar>>,
    pub(super) services: Vec<&'a Object<ServiceSpec>>,
    pub(super) deployments: Vec<&'a Object<DeploymentSpec>>,
    pub(super) written_pods: Vec<&'a Object<PodSpec>>,
    pub(super) namespaces: Vec<&'a Object<Namespace>>,
    pub(super) config_maps: Vec<&'a Object<ConfigMap>>,
    pub(super) proxy_configs: Vec<&'a Object<ProxySettings>>,
    pub(super) request_authentications: Vec<&'a Object<RequestAuthentication>>,
    pub(super) peer_authentications: Vec<&'a Arc<Object<PeerAuthentication>>>,
    pub(super) authorization_policies: Vec<&'a Object<AuthorizationPolicy>>,
    pub(super) service_accounts: Vec<&'a Key>,
    /// Services of other clusters, by the cluster's name.
    pub(super) remote_services: Vec<(&'a str, &'a Object<ServiceSpec>)>,
    pub(super) resources: &'a [Resource],
    pub(super) unread: Vec<&'a Object<serde_json::Value>>,
    pub(super) mesh: MeshConfig,
    pub(super) pods: Vec<Pod>,
    pods_by_namespace: BTreeMap<Arc<str>, Vec<usize>>,
    pods_by_label: BTreeMap<(String, String), Vec<usize>>,
    hosts: BTreeMap<Arc<str>, Vec<Host<'a>>>,
    wild_hosts: Vec<(HostPattern, Host<'a>)>,
    rules_by_host: BTreeMap<Arc<str>, Vec<&'a Object<DestinationRule>>>,
    host_network: BTreeSet<&'a Key>,
}

impl<'a> Index<'a> {
    pub(super) fn new(input: &AnalyzeInput<'a>, mesh: &MeshConfig) -> Self {
        let AnalyzeInput { resources, reports, clusters, world: _ } = *input;
        let mut index = Self { mesh: mesh.clone(), resources, ..Self::default() };
        for r in resources {
            index.add(r);
        }
        for (cluster, objects) in clusters {
            let services = objects.iter().filter_map(|r| if let Resource::Service(o) = r { Some(&**o) } else { None });
            index.remote_services.extend(services.map(|o| (cluster.as_str(), o)));
        }
        let inert = reports.iter().filter(|r| &*r.field == "spec.hostNetwork");
        index.host_network = inert.map(|r| &r.object).collect();
        index.default_gateway();
        for (i, p) in index.pods.iter().enumerate() {
            index.pods_by_namespace.entry(p.namespace.clone()).or_default().push(i);
            for (k, v) in &p.labels {
                index.pods_by_label.entry((k.clone(), v.clone())).or_default().push(i);
            }
        }
        index
    }

    fn add(&mut self, resource: &'a Resource) {
        match resource {
            Resource::VirtualService(o) => self.virtual_services.push(o),
            Resource::DestinationRule(o) => {
                let host = full_host(&o.spec.host, &o.key.namespace, DOMAIN);
                self.rules_by_host.entry(host).or_default().push(o);
                self.destination_rules.push(o);
            }
            Resource::Gateway(o) => self.gateways.push(o),
            Resource::ServiceEntry(o) => self.service_entry(o),
            Resource::Sidecar(o) => self.sidecars.push(o),
            Resource::Service(o) => self.service(o),
            Resource::Deployment(o) => {
                self.deployments.push(o);
                let pods = pods_of(o);
                self.pods.extend(pods.iter().map(|p| Pod { workload: o.key.name.clone(), ..Pod::of(p) }));
            }
            Resource::Pod(o) => {
                self.written_pods.push(o);
                self.pods.push(Pod::of(o));
            }
            Resource::Namespace(o) => self.namespaces.push(o),
            Resource::ConfigMap(o) => self.config_maps.push(o),
            Resource::Unread(o) => self.unread.push(o),
            Resource::WorkloadEntry(o) => {
                let WorkloadEntry { labels, ports, service_account, .. } = &o.spec;
                let ports = ports.iter().filter_map(|(n, p)| Some((n.clone(), u16::try_from(*p).ok()?)));
                let account = if service_account.is_empty() { "default" } else { service_account };
                self.pods.push(Pod {
                    ports: ports.collect(),
                    ..Pod::named(&o.key.namespace, &o.key.name, labels.clone(), account)
                });
            }
            Resource::ProxyConfig(o) => self.proxy_configs.push(o),
            Resource::RequestAuthentication(o) => self.request_authentications.push(o),
            Resource::PeerAuthentication(o) => self.peer_authentications.push(o),
            Resource::AuthorizationPolicy(o) => self.authorization_policies.push(o),
            Resource::ServiceAccount(o) => self.service_accounts.push(&o.key),
            Resource::EgressPolicy(_) | Resource::LocalRateLimit(_) | Resource::WorkloadGroup(_) => {}
        }
    }

    fn service(&mut self, o: &'a Object<ServiceSpec>) {
        self.services.push(o);
        let annotation = o.meta.annotations.get(EXPORT_TO).map(String::as_str).unwrap_or_default();
        let host = Host {
            namespace: &o.key.namespace,
            export_to: annotation.split(',').map(str::trim).filter(|s| !s.is_empty()).collect(),
            ports: o.spec.ports.iter().map(|p| p.port).collect(),
            selector: (!o.spec.selector.is_empty()).then_some(&o.spec.selector),
            is_entry: false,
        };
        let name = full_host(&o.key.name, &o.key.namespace, DOMAIN);
        self.hosts.entry(name).or_default().push(host);
    }

    fn service_entry(&mut self, o: &'a Object<ServiceEntry>) {
        self.service_entries.push(o);
        for host in &o.spec.hosts {
            let entry = Host {
                namespace: &o.key.namespace,
                export_to: o.spec.export_to.iter().map(String::as_str).collect(),
                ports: o.spec.ports.iter().map(|p| p.number).collect(),
                selector: o.spec.workload_selector.as_ref().map(|s| &s.labels),
                is_entry: true,
            };
            let pattern = HostPattern::parse(host);
            match pattern.is_exact() {
                true => self.hosts.entry(host.to_ascii_lowercase().into()).or_default().push(entry),
                false => self.wild_hosts.push((pattern, entry)),
            }
        }
    }

    /// The ingress gateway that the mesh brings along, unless the objects have their own pods for its labels.
    fn default_gateway(&mut self) {
        let labels = [("istio", "ingressgateway"), ("app", "istio-ingressgateway")];
        let labels: BTreeMap<String, String> = labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let has = self.pods.iter().any(|p| p.labels.get("istio").is_some_and(|v| v == "ingressgateway"));
        if !has {
            let account = "istio-ingressgateway-service-account";
            self.pods.push(Pod::named(SYSTEM, "istio-ingressgateway", labels, account));
        }
    }

    /// Pods with all of these labels, in a namespace or anywhere.
    pub(super) fn select<'s>(
        &'s self,
        selector: &'s BTreeMap<String, String>,
        namespace: Option<&'s str>,
    ) -> impl Iterator<Item = &'s Pod> {
        static NONE: Vec<usize> = Vec::new();
        let smallest = selector
            .iter()
            .map(|(k, v)| self.pods_by_label.get(&(k.clone(), v.clone())).unwrap_or(&NONE))
            .min_by_key(|l| l.len());
        let all = match (smallest, namespace) {
            (Some(list), _) => Box::new(list.iter().copied()) as Box<dyn Iterator<Item = usize>>,
            (None, Some(n)) => Box::new(self.pods_by_namespace.get(n).unwrap_or(&NONE).iter().copied()),
            (None, None) => Box::new(0..self.pods.len()),
        };
        let here = move |p: &&Pod| namespace.is_none_or(|n| *p.namespace == *n) && covers(selector, &p.labels);
        all.map(|i| &self.pods[i]).filter(here)
    }

    /// What a host as written in an object of `namespace` stands for, out of what is visible to any of `seen_from`.
    pub(super) fn host(&self, host: &str, namespace: &str, seen_from: &[&str]) -> Option<&Host<'a>> {
        let name = full_host(host, namespace, DOMAIN);
        let visible = |h: &&Host<'a>| seen_from.iter().any(|n| h.visible_in(n));
        if let Some(found) = self.hosts.get(&name).and_then(|all| all.iter().find(visible)) {
            return Some(found);
        }
        let wanted = HostPattern::parse(&name);
        self.wild_hosts.iter().filter(|(p, _)| wanted.subset_of(p)).map(|(_, h)| h).find(visible)
    }

    /// DestinationRules whose host is exactly this name once both are completed.
    pub(super) fn rules_of(&self, host: &str, namespace: &str) -> &[&'a Object<DestinationRule>] {
        self.rules_by_host.get(&full_host(host, namespace, DOMAIN)).map_or(&[], Vec::as_slice)
    }

    pub(super) fn is_host_network(&self, pod: &Key) -> bool {
        self.host_network.contains(pod)
    }

    /// Namespace of mesh-wide objects.
    pub(super) fn root(&self) -> &str {
        if self.mesh.root_namespace.is_empty() { SYSTEM } else { &self.mesh.root_namespace }
    }

    /// Whether a pod has a proxy: it says so itself, or its namespace does. A namespace that nobody wrote down has no
    /// labels to go by; its pods count as part of the mesh, as the local mesh has it.
    pub(super) fn in_mesh(&self, pod: &Pod) -> bool {
        pod.injected.unwrap_or_else(|| {
            self.namespace_labels(&pod.namespace).is_none_or(|l| match l.get("istio-injection") {
                Some(v) => v == "enabled",
                None => l.contains_key("istio.io/rev") || l.contains_key("istio.io/dataplane-mode"),
            })
        })
    }

    /// Whole documents of a kind that nothing else reads.
    pub(super) fn documents(&self, kind: &'static str) -> impl Iterator<Item = &'a Object<serde_json::Value>> {
        self.unread.iter().copied().filter(move |u| &*u.key.kind.kind == kind)
    }

    pub(super) fn namespace_labels(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        self.namespaces.iter().find(|n| *n.key.name == *name).map(|n| &n.meta.labels)
    }
}

/// Namespaces from which an object sees others: its exportTo, with `.` and `*` standing for its own.
pub(super) fn seen_from<'s>(export_to: &'s [String], own: &'s str) -> Vec<&'s str> {
    if export_to.is_empty() {
        return vec![own];
    }
    export_to.iter().map(|e| if matches!(e.as_str(), "." | "*") { own } else { e }).collect()
}

/// A list as Go prints it: `[a b]`.
pub(super) fn go_list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|i| i.to_string()).collect();
    format!("[{}]", items.join(" "))
}

/// A label selector as Kubernetes prints it: `a=b,c=d`.
pub(super) fn selector_text(selector: &BTreeMap<String, String>) -> String {
    let items: Vec<String> = selector.iter().map(|(k, v)| format!("{k}={v}")).collect();
    items.join(",")
}

/// Name of an object as Istio's messages print it: `namespace/name`.
pub(super) fn full_name<S>(o: &Object<S>) -> String {
    format!("{}/{}", o.key.namespace, o.key.name)
}

/// A Kubernetes label selector as JSON: `matchLabels` and `matchExpressions`; none selects everything.
pub(super) fn selects(selector: Option<&serde_json::Value>, labels: &BTreeMap<String, String>) -> bool {
    let Some(selector) = selector else { return true };
    let wanted = selector.get("matchLabels").and_then(|m| m.as_object()).into_iter().flatten();
    let mut expressions = selector.get("matchExpressions").and_then(|m| m.as_array()).into_iter().flatten();
    wanted.into_iter().all(|(k, v)| labels.get(k).map(String::as_str) == v.as_str())
        && expressions.all(|e| {
            let key = e.get("key").and_then(|k| k.as_str()).unwrap_or_default();
            let values = e.get("values").and_then(|v| v.as_array()).map_or(&[][..], Vec::as_slice);
            let has = labels.get(key);
            let listed = has.is_some_and(|h| values.iter().any(|v| v.as_str() == Some(h)));
            match e.get("operator").and_then(|o| o.as_str()).unwrap_or_default() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => has.is_some(),
                "DoesNotExist" => has.is_none(),
                _ => false,
            }
        })
}
