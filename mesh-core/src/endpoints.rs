//! Endpoints of clusters: from services and workloads to addresses. Not part of a snapshot, because they come and go
//! without the configuration changing.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::model::{Service, ServicePort, Workload};
use crate::snapshot::{Address, ClusterPlan, Endpoint, EndpointSource};
use crate::world::{World, covers};

/// The endpoints of a cluster whose source is a service, in a stable order (by address); other sources have none here.
pub fn endpoints(world: &World, cluster: &ClusterPlan) -> Vec<Endpoint> {
    let EndpointSource::Service { namespace, hostname, port, labels } = &cluster.source else { return Vec::new() };
    match world.service(namespace, hostname) {
        Some(service) => of_service(world, service, *port, labels),
        None => Vec::new(),
    }
}

/// The endpoints of a service port, of those with these labels.
pub fn of_service(world: &World, service: &Service, port: u16, subset: &BTreeMap<String, String>) -> Vec<Endpoint> {
    let Some(port) = service.ports.iter().find(|p| p.number == port) else { return Vec::new() };
    let listed = service.endpoints.iter();
    let all = listed.chain(world.selected_workloads(service));
    let mut found: Vec<Endpoint> =
        all.filter(|w| covers(subset, &w.labels)).filter_map(|w| endpoint(service, port, w)).collect();
    found.sort_by(|a, b| (&a.address, &a.workload.uid).cmp(&(&b.address, &b.workload.uid)));
    found.dedup_by(|a, b| a.address == b.address);
    found
}

fn endpoint(service: &Service, port: &ServicePort, workload: &Arc<Workload>) -> Option<Endpoint> {
    let address = match &workload.socket {
        // A socket has no ports.
        Some(path) => Address::Unix(path.clone()),
        None => SocketAddr::new(address(service, workload)?, target_port(port, workload)?).into(),
    };
    Some(Endpoint { address, weight: workload.weight.max(1), health: workload.health, workload: workload.clone() })
}

/// One address of an instance counts once: of the family that the service has, else its first.
fn address(service: &Service, workload: &Workload) -> Option<IpAddr> {
    let wanted = service.addresses.first().map(IpAddr::is_ipv6);
    let same = workload.addresses.iter().find(|a| wanted.is_none_or(|v6| a.is_ipv6() == v6));
    same.or(workload.addresses.first()).copied()
}

/// The port on an instance: a pod's container port by name or number; for a WorkloadEntry, what it says for this port's
/// name comes first.
fn target_port(port: &ServicePort, workload: &Workload) -> Option<u16> {
    let is_pod = &*workload.workload_kind != "workloadentry";
    if !is_pod && let Some(own) = workload.ports.get(&*port.name) {
        return Some(*own);
    }
    match &port.target_name {
        Some(name) => workload.ports.get(&**name).copied(),
        None => Some(port.target_port),
    }
}

#[cfg(test)]
mod tests;
