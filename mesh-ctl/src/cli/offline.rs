//! Manifests as a World, without a running mesh.

use std::collections::BTreeMap;

use mesh_core::api::{Key, Kind, Resource, Source};
use mesh_core::convert::{
    Addresses, Inputs, Options, Placement, builtin_gateway, builtin_mesh_config, inputs, quarantined,
};
use mesh_core::model::Health;
use mesh_core::report::Report;

use crate::control::SourceFile;
use crate::manifest::{self, Document};

/// What files hold together.
pub(super) struct Offline {
    /// Everything that could be read, with the built-in gateway.
    pub(super) resources: Vec<Resource>,
    /// What reading, validating and converting said.
    pub(super) reports: Vec<Report>,
    /// Something is no YAML.
    pub(super) unreadable: bool,
    /// The World of what is not quarantined.
    pub(super) inputs: Inputs,
}

/// Reads files as `up` does.
pub(super) fn read(files: &[SourceFile], namespace: &str) -> Offline {
    of_documents(files.iter().flat_map(|f| manifest::read(f, namespace)).collect(), None)
}

/// The same for documents, with pods where they run.
pub(super) fn of_documents(documents: Vec<Document>, placements: Option<&BTreeMap<Key, Placement>>) -> Offline {
    let unreadable = documents.iter().any(|d| d.value.is_null());
    let mut reports: Vec<Report> = documents.iter().flat_map(|d| d.reports.iter().cloned()).collect();
    let refused = quarantined(&reports);
    // A later document of the same object replaces an earlier one, as if both were applied.
    let mut last: BTreeMap<Key, usize> = BTreeMap::new();
    for (i, document) in documents.iter().enumerate() {
        last.insert(document.key.clone(), i);
    }
    let kept = documents.into_iter().enumerate().filter(|(i, d)| last.get(&d.key) == Some(i));
    let mut resources: Vec<Resource> = kept.filter_map(|(_, d)| d.resource).collect();
    resources.extend(builtin_gateway(&resources));
    resources.extend(builtin_mesh_config(&resources));
    let options = Options { dns_capture: Some(true), quarantined: refused, placements, ..Options::default() };
    let inputs = inputs(&resources, &options, &mut Addresses::default());
    reports.extend(inputs.reports.iter().cloned());
    Offline { resources, reports, unreadable, inputs }
}

impl Offline {
    /// Only what users wrote, for messages.
    pub(super) fn written(&self) -> Vec<Resource> {
        let own =
            |r: &&Resource| !matches!(&r.origin().source, Source::File { path, .. } if path.starts_with("built-in"));
        self.resources.iter().filter(own).cloned().collect()
    }
}

/// Where the pods of a running mesh are, out of what `get pods` gives.
pub(super) fn placements(pods: &[serde_json::Value]) -> BTreeMap<Key, Placement> {
    let one = |pod: &serde_json::Value| {
        let text = |pointer: &str| pod.pointer(pointer).and_then(serde_json::Value::as_str);
        let key = Key::new(Kind::new("", "Pod"), text("/metadata/namespace")?, text("/metadata/name")?);
        let ready = text("/status/conditions/0/status") == Some("True");
        let addresses = vec![text("/status/podIP")?.parse().ok()?];
        let health = if ready { Health::Healthy } else { Health::Unhealthy };
        let containers = pod.pointer("/status/containerStatuses").and_then(serde_json::Value::as_array);
        let sidecar = containers.is_some_and(|all| all.iter().any(|c| c["name"] == crate::node::PROXY_CONTAINER));
        Some((key, Placement { addresses, health, sidecar }))
    };
    pods.iter().filter_map(one).collect()
}
