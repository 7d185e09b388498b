//! Services of one name in several clusters: the mesh takes them for one service, so they have to be alike.

use std::collections::{BTreeMap, BTreeSet};

use super::index::{Index, full_name};
use super::messages::INCONSISTENT_SERVICE;
use crate::api::Object;
use crate::api::kube::{ServicePort, ServiceSpec};
use crate::report::Report;

/// Name of the cluster whose files are analyzed, as Istio calls a cluster that has none.
const LOCAL: &str = "Kubernetes";

/// Services that differ between clusters.
pub(super) fn services(index: &Index<'_>) -> Vec<Report> {
    let mut remote: BTreeMap<String, Vec<(&str, &Object<ServiceSpec>)>> = BTreeMap::new();
    for (cluster, o) in &index.remote_services {
        remote.entry(full_name(o)).or_default().push((cluster, o));
    }
    let mut found = Vec::new();
    for o in &index.services {
        let Some(others) = remote.get(&full_name(o)) else { continue };
        let mut clusters = BTreeSet::new();
        let mut reasons = BTreeSet::new();
        for (cluster, other) in others {
            let why = differences(&o.spec, &other.spec);
            if !why.is_empty() {
                clusters.insert(*cluster);
                reasons.extend(why);
            }
        }
        if clusters.is_empty() {
            continue;
        }
        clusters.insert(LOCAL);
        let clusters: Vec<String> = clusters.into_iter().map(|c| format!("{c:?}")).collect();
        let text = format!(
            "The service {} in namespace {:?} is inconsistent across clusters [{}], which can lead to undefined behaviors. The inconsistent behaviors are: {}.",
            o.key.name,
            o.key.namespace,
            clusters.join(" "),
            reasons.into_iter().collect::<Vec<_>>().join("; ")
        );
        let report = INCONSISTENT_SERVICE.report((&o.key, &o.origin), "spec", text);
        found.push(report.fix("write the same type, clusterIP: None or not, and ports in every cluster"));
    }
    found
}

fn differences(a: &ServiceSpec, b: &ServiceSpec) -> Vec<&'static str> {
    let headless = |s: &ServiceSpec| s.cluster_ip == "None";
    let sorted = |s: &ServiceSpec| {
        let mut ports: Vec<ServicePort> = s.ports.clone();
        ports.sort_by(|a, b| a.name.cmp(&b.name));
        ports
    };
    let found = [
        ("service has mixed mode like headless and clusterIP", headless(a) != headless(b)),
        ("service type is inconsistent", a.r#type != b.r#type),
        ("service ports are inconsistent", sorted(a) != sorted(b)),
    ];
    found.into_iter().filter(|(_, differs)| *differs).map(|(why, _)| why).collect()
}
