//! Endpoints of clusters: from services and workloads to addresses, and how they are spoken to. Not part of a snapshot, because they come and go
//! without the configuration changing.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::identity::TrustDomains;
use crate::model::{Service, ServicePort, Workload};
use crate::peer::{identities, takes_mtls};
use crate::snapshot::{Address, ClusterPlan, Endpoint, EndpointSource, MeshPeer};
use crate::world::{World, covers};

/// The endpoints of a cluster whose source is a service, in a stable order (by address). Where the client chooses one itself,
/// those of all ports of the service that are known. Other sources have none here.
pub fn endpoints(world: &World, cluster: &ClusterPlan) -> Vec<Endpoint> {
    Finder::new(world).endpoints(cluster)
}

/// The endpoints of a service port, of those with these labels.
pub fn of_service(world: &World, service: &Service, port: u16, subset: &BTreeMap<String, String>) -> Vec<Endpoint> {
    Finder::new(world).of_ports(service, |p| p.number == port, subset)
}

/// Namespace and service account.
type Account = (Arc<str>, Arc<str>);

/// Finds the endpoints of many clusters in one World; what they have in common it makes once.
#[derive(Debug)]
pub struct Finder<'a> {
    world: &'a World,
    trust: TrustDomains,
    /// By namespace and service account.
    identities: BTreeMap<Account, Arc<[Arc<str>]>>,
}

impl<'a> Finder<'a> {
    /// In this World.
    pub fn new(world: &'a World) -> Self {
        Self { world, trust: TrustDomains::of(&world.mesh().spec), identities: BTreeMap::new() }
    }

    /// As [`endpoints`].
    pub fn endpoints(&mut self, cluster: &ClusterPlan) -> Vec<Endpoint> {
        let world = self.world;
        match &cluster.source {
            EndpointSource::Service { namespace, hostname, port, labels } => match world.service(namespace, hostname) {
                Some(service) => self.of_ports(service, |p| p.number == *port, labels),
                None => Vec::new(),
            },
            EndpointSource::OriginalDst { .. } => match world.service(&cluster.service_namespace, &cluster.service) {
                Some(service) => self.of_ports(service, |_| true, &BTreeMap::new()),
                None => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    fn of_ports(
        &mut self,
        service: &Service,
        is_meant: impl Fn(&ServicePort) -> bool,
        subset: &BTreeMap<String, String>,
    ) -> Vec<Endpoint> {
        let world = self.world;
        let mut found: Vec<Endpoint> = Vec::new();
        for port in service.ports.iter().filter(|p| is_meant(p)) {
            let all = service.endpoints.iter().chain(world.selected_workloads(service));
            let all = all.filter(|w| covers(subset, &w.labels));
            found.extend(all.filter_map(|w| self.endpoint(service, port, w)));
        }
        found.sort_by(|a, b| (&a.address, &a.workload.uid).cmp(&(&b.address, &b.workload.uid)));
        found.dedup_by(|a, b| a.address == b.address);
        found
    }

    fn endpoint(&mut self, service: &Service, port: &ServicePort, workload: &Arc<Workload>) -> Option<Endpoint> {
        let (address, mesh) = match &workload.socket {
            // A socket has no ports, and no proxy in front of it.
            Some(path) => (Address::Unix(path.clone()), MeshPeer::default()),
            None => {
                let number = target_port(port, workload)?;
                let address = SocketAddr::new(address(service, workload)?, number);
                (address.into(), self.peer(workload, number))
            }
        };
        let (weight, health, workload) = (workload.weight.max(1), workload.health, workload.clone());
        Some(Endpoint { address, weight, health, workload, mesh })
    }

    fn peer(&mut self, workload: &Arc<Workload>, port: u16) -> MeshPeer {
        let account = (workload.namespace.clone(), workload.service_account.clone());
        let identities = self.identities.entry(account).or_insert_with(|| identities(&self.trust, workload)).clone();
        let (takes, _) = takes_mtls(self.world, workload, port);
        MeshPeer { takes, identities }
    }
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
