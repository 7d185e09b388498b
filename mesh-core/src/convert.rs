//! From resources to the model: the step between what users write and what is compiled.
//!
//! Everything here is a pure function of its arguments. What Kubernetes would fill in (names of pods, their addresses,
//! virtual addresses) comes in as an argument or follows from names, so that `meshctl explain` on files and a running
//! local mesh agree.

mod addresses;
mod fates;
pub mod inject;
mod inputs;
mod service;
mod service_entry;
mod workload;

use std::net::IpAddr;
use std::sync::Arc;

pub use addresses::{Addresses, Range};
pub use fates::fates;
pub use inject::{Inject, wants_sidecar};
pub use inputs::{
    BUILTIN_GATEWAY, BUILTIN_MESH_CONFIG, Inputs, MESH_CONFIG_MAP, Options, builtin_gateway, builtin_mesh_config,
    changes, inputs, mesh_config, namespace_labels, quarantined, set_aside,
};
pub use service::{EXPORT_TO, service};
pub use service_entry::service_entry;
pub use workload::{Owner, Placement, entry, pod, pods_of};

/// What conversion needs to know about the mesh.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// DNS domain of the mesh.
    pub domain: Arc<str>,
    /// Cluster id that workloads carry.
    pub cluster: Arc<str>,
    /// `meshConfig.defaultServiceExportTo`, in force where an object has no exportTo; never empty.
    pub service_export_to: Vec<Arc<str>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { domain: "cluster.local".into(), cluster: "Kubernetes".into(), service_export_to: vec!["*".into()] }
    }
}

/// Visibility with the default filled in and `.` resolved; empty: nobody.
fn export_to(own: &[&str], default: &[Arc<str>], namespace: &Arc<str>) -> Vec<Arc<str>> {
    let resolve = |e: &str| match e {
        "~" => None,
        "." => Some(namespace.clone()),
        other => Some(other.into()),
    };
    if own.is_empty() {
        default.iter().filter_map(|e| resolve(e)).collect()
    } else {
        own.iter().filter_map(|e| resolve(e)).collect()
    }
}

fn parse_ip(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

#[cfg(test)]
mod tests;
