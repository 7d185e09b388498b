//! A list of resources -> World.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::inject::{Inject, is_gateway, wants_sidecar};
use super::{Addresses, Owner, Placement, Range, Settings, entry, pod, pods_of, service, service_entry};
use crate::api::kube::{ConfigMap, PodSpec, ServiceSpec};
use crate::api::{Key, Kind, MeshConfig, MeshLabelSelector, Meta, Object, Origin, Resource, Span, Spans};
use crate::report::{Level, Report};
use crate::validate::validate_mesh_config;
use crate::world::{Change, Texts, World};
use crate::yaml;

/// Name of the ConfigMap with the mesh's settings, in the root namespace.
pub const MESH_CONFIG_MAP: (&str, &str) = ("istio-system", "istio");

/// What conversion of resources to a World needs besides them.
#[derive(Clone, Default)]
pub struct Options<'a> {
    /// Names of the mesh.
    pub settings: Settings,
    /// ServiceEntry hosts get virtual addresses; `None`: as `ISTIO_META_DNS_CAPTURE` of the mesh's settings says.
    pub dns_capture: Option<bool>,
    /// Objects to leave out, because validation refused them.
    pub quarantined: BTreeSet<Key>,
    /// Where pods run, by key; pods that are not in it are thought to be ready, at an address that follows from their
    /// name.
    pub placements: Option<&'a BTreeMap<Key, Placement>>,
    /// `discoverySelectors`: namespaces of which any one must hold; empty: all are read.
    pub selectors: Vec<MeshLabelSelector>,
    /// Which of them have sidecars, as far as `placements` does not say it. Default: all, but those that say no.
    pub inject: Inject,
    /// Labels of the namespaces.
    pub namespaces: BTreeMap<Arc<str>, BTreeMap<String, String>>,
    /// Settings in force until there are good ones.
    pub mesh: Option<Arc<Object<MeshConfig>>>,
}

/// A World with what was said while it was made.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The World.
    pub world: World,
    /// What is wrong with objects that only conversion looks into (the mesh's settings).
    pub reports: Vec<Report>,
}

/// Keys of the objects that are not used, out of what reading and validating said.
pub fn quarantined(reports: &[Report]) -> BTreeSet<Key> {
    reports.iter().filter(|r| r.level == Level::Error).map(|r| r.object.clone()).collect()
}

/// The World of these resources.
pub fn inputs(resources: &[Resource], options: &Options<'_>, addresses: &mut Addresses) -> Inputs {
    let usable = || resources.iter().filter(|r| !options.quarantined.contains(r.key()));
    let (mesh, reports) = mesh_of(usable(), options.mesh.as_ref());
    let mut options = options.clone();
    if let Some(mesh) = &mesh {
        options.follow(&mesh.spec);
    }
    options.namespaces = usable().filter_map(namespace_labels).collect();
    let labels = &options.namespaces;
    let usable = || usable().filter(|r| options.discovers(&r.key().namespace, labels.get(&r.key().namespace)));
    for r in usable() {
        set_aside(r, addresses);
    }
    let (mut all, mut texts) = (vec![Change::Mesh(mesh)], Texts::default());
    for r in usable() {
        all.extend(changes(r, &options, addresses).into_iter().map(|change| texts.pack(change)));
    }
    Inputs { world: World::of(all), reports }
}

impl Options<'_> {
    /// Takes over what the mesh's settings say about conversion.
    pub fn follow(&mut self, mesh: &MeshConfig) {
        let export: Vec<Arc<str>> = mesh.default_service_export_to.iter().map(|e| e.as_str().into()).collect();
        if !export.is_empty() {
            self.settings.service_export_to = export;
        }
        let metadata = mesh.default_config.as_ref().map(|c| &c.proxy_metadata);
        let on = metadata.and_then(|m| m.get("ISTIO_META_DNS_CAPTURE")).is_some_and(|v| v == "true");
        self.dns_capture.get_or_insert(on);
        self.selectors.clone_from(&mesh.discovery_selectors);
    }

    /// Whether objects of a namespace with these labels are read. The root namespace always is, and so is what belongs
    /// to none.
    pub fn discovers(&self, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> bool {
        let named = BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), namespace.to_owned())]);
        let of = |key: &str| labels.and_then(|l| l.get(key)).or_else(|| named.get(key));
        let holds = |s: &MeshLabelSelector| {
            s.match_labels.iter().all(|(k, v)| of(k) == Some(v))
                && s.match_expressions.iter().all(|e| match e.operator.as_str() {
                    "In" => of(&e.key).is_some_and(|v| e.values.contains(v)),
                    "NotIn" => of(&e.key).is_none_or(|v| !e.values.contains(v)),
                    "Exists" => of(&e.key).is_some(),
                    "DoesNotExist" => of(&e.key).is_none(),
                    _ => false,
                })
        };
        let everywhere = self.selectors.is_empty() || namespace.is_empty() || namespace == MESH_CONFIG_MAP.0;
        everywhere || self.selectors.iter().any(holds)
    }
}

/// The settings of the mesh, if there is a good ConfigMap, else those before; with what is wrong.
fn mesh_of<'r>(
    resources: impl Iterator<Item = &'r Resource>,
    before: Option<&Arc<Object<MeshConfig>>>,
) -> (Option<Arc<Object<MeshConfig>>>, Vec<Report>) {
    let is_mesh = |k: &Key| (&*k.namespace, &*k.name) == MESH_CONFIG_MAP;
    let map = resources.filter_map(|r| match r {
        Resource::ConfigMap(m) if is_mesh(&m.key) => Some(m),
        _ => None,
    });
    match map.last().map(|m| mesh_config(m)) {
        None => (None, Vec::new()),
        Some(Ok((mesh, reports))) => (Some(Arc::new(mesh)), reports),
        Some(Err(reports)) => (before.cloned(), reports),
    }
}

/// The mesh's settings from their ConfigMap. Field paths begin with `spec`, as if they were an object of their own.
///
/// # Errors
/// Something in it is wrong: it must be refused as a whole.
pub fn mesh_config(map: &Object<ConfigMap>) -> Result<(Object<MeshConfig>, Vec<Report>), Vec<Report>> {
    let (spec, mut reports) = yaml::mesh_config(map)?;
    let text = map.spec.data.get("mesh").map_or("", String::as_str);
    let at = map.origin.at("data.mesh");
    let place = |s: Span| Span { line: if at.line == 0 { 0 } else { at.line + s.line }, column: s.column };
    let (documents, _) = yaml::documents(text);
    let below = |base: &str| {
        let all = documents.iter().take(1).flat_map(|d| d.spans.iter());
        let inner = all.map(|(path, span)| (format!("{base}.{path}"), place(span)));
        std::iter::once((base.to_owned(), at)).chain(inner).collect::<Spans>()
    };
    let (spans, written) = (below("spec"), below("data.mesh"));
    reports.extend(validate_mesh_config(&spec, &map.key, &Origin { spans: Arc::new(written), ..map.origin.clone() }));
    if reports.iter().any(|r| r.level == Level::Error) {
        return Err(reports);
    }
    let (namespace, name) = MESH_CONFIG_MAP;
    let mesh = Object {
        key: Key::new(Kind::new("mesh", "MeshConfig"), namespace, name),
        meta: Meta { name: name.into(), namespace: namespace.into(), ..Meta::default() },
        origin: Origin { spans: Arc::new(spans), ..map.origin.clone() },
        hash: crate::api::ContentHash::of(text.as_bytes()).with_str("mesh"),
        spec,
    };
    Ok((mesh, reports))
}

/// Sets the addresses aside that a Service or ServiceEntry names itself; to be done for all before any is given out.
pub fn set_aside(resource: &Resource, addresses: &mut Addresses) {
    let own: Vec<IpAddr> = match resource {
        Resource::Service(s) => {
            std::iter::once(&s.spec.cluster_ip).chain(&s.spec.cluster_ips).filter_map(|a| a.parse().ok()).collect()
        }
        Resource::ServiceEntry(s) => {
            s.spec.addresses.iter().filter_map(|a| super::service_entry::single_address(a)).collect()
        }
        _ => return,
    };
    for a in own {
        if let IpAddr::V4(a) = a {
            addresses.take(a);
        }
    }
}

/// The name and labels of a Namespace.
pub fn namespace_labels(resource: &Resource) -> Option<(Arc<str>, BTreeMap<String, String>)> {
    match resource {
        Resource::Namespace(o) => Some((o.key.name.clone(), o.meta.labels.clone())),
        _ => None,
    }
}

/// What a resource is in a World. Kinds that no proxy reads are nothing; the mesh's settings are left to
/// [`mesh_config`], as everything else depends on them.
pub fn changes(resource: &Resource, options: &Options<'_>, addresses: &mut Addresses) -> Vec<Change> {
    let settings = &options.settings;
    match resource {
        Resource::VirtualService(o) => vec![Change::VirtualService(o.clone())],
        Resource::DestinationRule(o) => vec![Change::DestinationRule(o.clone())],
        Resource::Gateway(o) => vec![Change::Gateway(o.clone())],
        Resource::Sidecar(o) => vec![Change::Sidecar(o.clone())],
        Resource::LocalRateLimit(o) => vec![Change::LocalRateLimit(o.clone())],
        Resource::ProxyConfig(o) => vec![Change::ProxyConfig(o.clone())],
        Resource::Service(o) => {
            let address = virtual_address(o, addresses);
            vec![Change::Service(Arc::new(service(o, address, settings)))]
        }
        Resource::ServiceEntry(o) => {
            let capture = options.dns_capture == Some(true);
            let allocate = |host: &str| addresses.of(Range::Hosts, host).filter(|_| capture).map(IpAddr::from);
            service_entry(o, settings, allocate).into_iter().map(|s| Change::Service(Arc::new(s))).collect()
        }
        Resource::Pod(o) => {
            let placement = options.placement(o, addresses);
            vec![Change::Workload(Arc::new(pod(o, None, &placement, settings)))]
        }
        Resource::Deployment(o) => {
            let owner = Owner { kind: "deployment", name: &o.key.name };
            let one = |p: Object<_>| {
                let placement = options.placement(&p, addresses);
                Change::Workload(Arc::new(pod(&p, Some(owner), &placement, settings)))
            };
            pods_of(o).into_iter().map(one).collect()
        }
        Resource::WorkloadEntry(o) => {
            vec![Change::Workload(Arc::new(entry(&o.spec, &o.key.name, &o.key, settings)))]
        }
        Resource::Namespace(o) => vec![Change::Namespace(o.key.name.clone(), o.meta.labels.clone())],
        Resource::PeerAuthentication(o) => vec![Change::PeerAuthentication(o.clone())],
        Resource::RequestAuthentication(o) => vec![Change::RequestAuthentication(o.clone())],
        Resource::AuthorizationPolicy(o) => vec![Change::AuthorizationPolicy(o.clone())],
        Resource::EgressPolicy(o) => vec![Change::EgressPolicy(o.clone())],
        // Machines that register themselves are the control plane's.
        Resource::WorkloadGroup(_) | Resource::ServiceAccount(_) | Resource::ConfigMap(_) | Resource::Unread(_) => {
            Vec::new()
        }
    }
}

/// The address that the mesh gives a Service that needs one.
fn virtual_address(o: &Object<ServiceSpec>, addresses: &mut Addresses) -> Option<IpAddr> {
    let name = format!("{}/{}", o.key.namespace, o.key.name);
    let wants = o.spec.cluster_ip.is_empty() && o.spec.cluster_ips.is_empty() && o.spec.r#type != "ExternalName";
    if wants { addresses.of(Range::Services, &name).map(IpAddr::from) } else { None }
}

impl Options<'_> {
    fn placement(&self, pod: &Object<PodSpec>, addresses: &mut Addresses) -> Placement {
        let key = &pod.key;
        match self.placements.and_then(|p| p.get(key)) {
            Some(p) => p.clone(),
            None => {
                let address = addresses.of(Range::Pods, &format!("{}/{}", key.namespace, key.name));
                let (addresses, sidecar) = (address.map(IpAddr::from).into_iter().collect(), self.has_sidecar(pod));
                Placement { addresses, sidecar, ..Placement::default() }
            }
        }
    }

    /// Whether a pod gets a sidecar.
    pub fn has_sidecar(&self, pod: &Object<PodSpec>) -> bool {
        let (meta, namespace) = (&pod.meta, self.namespaces.get(&pod.key.namespace));
        !is_gateway(&pod.spec) && wants_sidecar(self.inject, &meta.labels, &meta.annotations, namespace)
    }
}

/// The manifests of the ingress gateway that the mesh brings along: a Deployment and a Service.
pub const BUILTIN_GATEWAY: &str = include_str!("gateway.yaml");

/// The resources of [`BUILTIN_GATEWAY`], unless there are pods with its labels among these already.
pub fn builtin_gateway(resources: &[Resource]) -> Vec<Resource> {
    let is_gateway = |labels: &BTreeMap<String, String>| labels.get("istio").is_some_and(|v| v == "ingressgateway");
    let own = resources.iter().any(|r| match r {
        Resource::Deployment(d) => is_gateway(&d.spec.template.metadata.labels),
        Resource::Pod(p) => is_gateway(&p.meta.labels),
        _ => false,
    });
    if own { Vec::new() } else { yaml::read("built-in ingress gateway", BUILTIN_GATEWAY).0 }
}

/// The mesh settings of a local mesh: Istio's demo profile writes access logs, its default profile does not.
pub const BUILTIN_MESH_CONFIG: &str = include_str!("mesh_config.yaml");

/// The resource of [`BUILTIN_MESH_CONFIG`], unless there are mesh settings among these already.
pub fn builtin_mesh_config(resources: &[Resource]) -> Vec<Resource> {
    let ours = yaml::read("built-in mesh settings", BUILTIN_MESH_CONFIG).0;
    ours.into_iter().filter(|o| resources.iter().all(|r| r.key() != o.key())).collect()
}
