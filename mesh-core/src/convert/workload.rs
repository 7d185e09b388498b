//! Pod, Deployment and WorkloadEntry -> model.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Settings, parse_ip};
use crate::api::kube::{Container, DeploymentSpec, PodSpec};
use crate::api::{ContentHash, Key, Kind, Meta, Object, WorkloadEntry};
use crate::model::{Health, TlsMode, Tunnel, Workload};

const CANONICAL_NAME: &str = "service.istio.io/canonical-name";
const CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";
const TLS_MODE: &str = "security.istio.io/tlsMode";
const LOCALITY: &str = "istio-locality";
const TOPOLOGY: [&str; 3] =
    ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];
const TEMPLATE_HASH: &str = "pod-template-hash";

/// What runs where: the part of a pod that its manifest does not say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Placement {
    /// Addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// Ready or not.
    pub health: Health,
    /// It has a sidecar, whose injector labels it so.
    pub sidecar: bool,
}

/// Owner that the user wrote: lower-case kind and name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner<'a> {
    /// `deployment`, `statefulset`, …
    pub kind: &'a str,
    /// Name.
    pub name: &'a str,
}

/// A Pod as an instance. Without an owner it is its own workload.
pub fn pod(object: &Object<PodSpec>, owner: Option<Owner<'_>>, placement: &Placement, settings: &Settings) -> Workload {
    let spec = &object.spec;
    let owner = owner.unwrap_or(Owner { kind: "pod", name: &object.key.name });
    let account = [&spec.service_account_name, &spec.service_account].into_iter().find(|a| !a.is_empty());
    // A sidecar among the init containers serves ports, too.
    let containers = spec.containers.iter().chain(spec.init_containers.iter().filter(|c| c.restart_policy == "Always"));
    let mut workload = Workload {
        uid: format!("{}//Pod/{}/{}", settings.cluster, object.key.namespace, object.key.name).into(),
        name: object.key.name.clone(),
        namespace: object.key.namespace.clone(),
        addresses: placement.addresses.clone(),
        hostname: None,
        socket: None,
        labels: with_canonical_labels(object.meta.labels.clone(), owner.name),
        annotations: object.meta.annotations.clone(),
        ports: named_ports(containers),
        service_account: account.map_or("default", String::as_str).into(),
        workload_name: owner.name.into(),
        workload_kind: owner.kind.into(),
        cluster: settings.cluster.clone(),
        network: object.meta.labels.get("topology.istio.io/network").map_or("", String::as_str).into(),
        locality: locality(&object.meta.labels).into(),
        tls_mode: match object.meta.labels.get(TLS_MODE).map(String::as_str) {
            Some("istio") => TlsMode::Istio,
            None if placement.sidecar => TlsMode::Istio,
            None | Some(_) => TlsMode::Disabled,
        },
        tunnel: Tunnel::None,
        health: placement.health,
        weight: 1,
        hash: ContentHash::default(),
    };
    workload.hash = hash(&workload);
    workload
}

/// `region/zone/subzone` of a pod: Istio's label, whose parts are separated by dots, else the topology labels, which
/// Kubernetes copies from the node.
fn locality(labels: &BTreeMap<String, String>) -> String {
    if let Some(label) = labels.get(LOCALITY) {
        return label.replace('.', "/");
    }
    let parts = TOPOLOGY.map(|name| labels.get(name).map_or("", String::as_str));
    parts.join("/").trim_end_matches('/').to_owned()
}

/// Name and revision by which metrics call a workload, as Istio's injector puts them on pods.
fn with_canonical_labels(mut labels: BTreeMap<String, String>, owner: &str) -> BTreeMap<String, String> {
    let first = |names: [&str; 2]| names.iter().find_map(|n| labels.get(*n)).cloned();
    let name = first(["app.kubernetes.io/name", "app"]).unwrap_or_else(|| owner.to_owned());
    let revision = first(["app.kubernetes.io/version", "version"]).unwrap_or_else(|| "latest".to_owned());
    labels.entry(CANONICAL_NAME.to_owned()).or_insert(name);
    labels.entry(CANONICAL_REVISION.to_owned()).or_insert(revision);
    labels
}

fn named_ports<'a>(containers: impl Iterator<Item = &'a Container>) -> BTreeMap<String, u16> {
    let mut ports = BTreeMap::new();
    for p in containers.flat_map(|c| &c.ports).filter(|p| !p.name.is_empty()) {
        if let Ok(number) = u16::try_from(p.container_port) {
            // The first container that names a port has it, as in Kubernetes.
            ports.entry(p.name.clone()).or_insert(number);
        }
    }
    ports
}

/// The pods of a Deployment: `NAME-<hash of the template>-<suffix>`, the same names in every run.
pub fn pods_of(deployment: &Object<DeploymentSpec>) -> Vec<Object<PodSpec>> {
    let template = &deployment.spec.template;
    let text = serde_json::to_vec(template).expect("invariant: a template has only string keys");
    let template_hash = ContentHash::of(&text);
    let revision = name_part(template_hash.0, 10);
    let count = deployment.spec.replicas.unwrap_or(1).max(0);
    (0..count)
        .map(|i| {
            let seed = ContentHash::of(deployment.key.namespace.as_bytes()).with_str(&deployment.key.name);
            let suffix = name_part(seed.with(template_hash).with(ContentHash(i.unsigned_abs().into())).0, 5);
            let name = format!("{}-{revision}-{suffix}", deployment.key.name);
            let mut labels = template.metadata.labels.clone();
            labels.insert(TEMPLATE_HASH.to_owned(), revision.clone());
            let mut key = deployment.key.clone();
            (key.kind, key.name) = (Kind::new("", "Pod"), name.as_str().into());
            let hash = template_hash.with_str(&name).with_str(&key.namespace);
            let meta = Meta {
                name,
                namespace: key.namespace.to_string(),
                labels,
                annotations: template.metadata.annotations.clone(),
                creation_timestamp: deployment.meta.creation_timestamp.clone(),
                ..Meta::default()
            };
            Object { key, meta, origin: deployment.origin.clone(), hash, spec: template.spec.clone() }
        })
        .collect()
}

/// Letters and digits that Kubernetes uses in generated names: no vowels, nothing that looks like another.
fn name_part(mut seed: u64, length: usize) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut text = String::with_capacity(length);
    for _ in 0..length {
        let (rest, digit) = (seed / LETTERS.len() as u64, seed % LETTERS.len() as u64);
        text.push(char::from(LETTERS[usize::try_from(digit).expect("invariant: below 27")]));
        seed = rest;
    }
    text
}

/// A WorkloadEntry as an instance: listed in a ServiceEntry or an object of its own, whose key is `of`.
pub fn entry(e: &WorkloadEntry, name: &str, of: &Key, settings: &Settings) -> Workload {
    let address = parse_ip(&e.address);
    let socket = e.address.strip_prefix("unix://").filter(|path| !path.is_empty());
    let is_name = address.is_none() && !e.address.is_empty() && socket.is_none();
    let owner = e.labels.get("service.istio.io/workload-name").map_or(name, String::as_str);
    let mut workload = Workload {
        uid: format!("{}/{}/{}/{}/{name}", settings.cluster, of.kind.group, of.kind.kind, of.namespace).into(),
        name: name.into(),
        namespace: of.namespace.clone(),
        addresses: address.into_iter().collect(),
        hostname: is_name.then(|| e.address.trim_end_matches('.').to_ascii_lowercase().into()),
        socket: socket.map(Into::into),
        labels: with_canonical_labels(e.labels.clone(), owner),
        annotations: BTreeMap::new(),
        ports: e.ports.iter().filter_map(|(n, p)| Some((n.clone(), u16::try_from(*p).ok()?))).collect(),
        service_account: e.service_account.as_str().into(),
        workload_name: owner.into(),
        workload_kind: "workloadentry".into(),
        cluster: settings.cluster.clone(),
        network: e.network.as_str().into(),
        locality: e.locality.as_str().into(),
        tls_mode: match e.labels.get(TLS_MODE).map(String::as_str) {
            Some("istio") => TlsMode::Istio,
            Some(_) => TlsMode::Disabled,
            None if e.service_account.is_empty() => TlsMode::Disabled,
            None => TlsMode::Istio,
        },
        tunnel: Tunnel::None,
        health: Health::Healthy,
        weight: e.weight.max(1),
        hash: ContentHash::default(),
    };
    workload.hash = hash(&workload);
    workload
}

fn hash(w: &Workload) -> ContentHash {
    ContentHash::of(&serde_json::to_vec(w).expect("invariant: a workload has only string keys"))
}
