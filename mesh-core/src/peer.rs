//! PeerAuthentication: which connections the ports of a workload take.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::{MutualTls, MutualTlsMode, Object, PeerAuthentication};
use crate::convert::inject::takes_port;
use crate::identity::{SpiffeId, TrustDomains};
use crate::model::{TlsMode, Workload};
use crate::snapshot::{MtlsMode, Provenance};
use crate::world::{World, covers};

/// The modes of a workload's ports, resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerModes {
    general: PortMode,
    ports: BTreeMap<u16, PortMode>,
}

/// The mode of a port, and who says so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortMode {
    /// The mode.
    pub mode: MtlsMode,
    /// The policy and field that say so, or that nobody does.
    pub origin: Provenance,
}

const BOTH: &str = "without a PeerAuthentication both mutual TLS and plaintext are taken";

type Policy = Arc<Object<PeerAuthentication>>;

/// The policies that have a say about a workload: of each scope the oldest, which counts alone. A policy with a selector in
/// the root namespace counts for nobody.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scopes<'a> {
    /// Of the root namespace.
    pub(crate) mesh: Option<&'a Policy>,
    /// Of the workload's namespace.
    pub(crate) namespace: Option<&'a Policy>,
    /// Of this namespace, selecting the workload.
    pub(crate) workload: Option<&'a Policy>,
}

impl<'a> Scopes<'a> {
    /// Of `policies`, those for a workload of this namespace with these labels.
    pub(crate) fn of(
        root: &str,
        (namespace, labels): (&str, &BTreeMap<String, String>),
        policies: impl Iterator<Item = &'a Policy> + Clone,
    ) -> Self {
        let oldest = |is: &dyn Fn(&Object<PeerAuthentication>) -> bool| {
            policies.clone().filter(|p| is(p)).min_by(|a, b| age(a).cmp(&age(b)))
        };
        let own = |p: &Object<PeerAuthentication>| *p.key.namespace == *namespace && namespace != root;
        Self {
            mesh: oldest(&|p| *p.key.namespace == *root && is_general(p)),
            namespace: oldest(&|p| own(p) && is_general(p)),
            workload: oldest(&|p| own(p) && !is_general(p) && selects(p, labels)),
        }
    }
}

/// Whether a policy is for the whole of its namespace.
pub(crate) fn is_general(policy: &Object<PeerAuthentication>) -> bool {
    policy.spec.selector.as_ref().is_none_or(|s| s.match_labels.is_empty())
}

fn selects(policy: &Object<PeerAuthentication>, labels: &BTreeMap<String, String>) -> bool {
    policy.spec.selector.as_ref().is_some_and(|s| covers(&s.match_labels, labels))
}

/// What policies are ordered by: those with a time first, the oldest of them before others, then by name and namespace.
fn age(o: &Object<PeerAuthentication>) -> (bool, Option<&str>, &str, &str) {
    let time = o.meta.creation_timestamp.as_deref();
    (time.is_none(), time, &o.key.name, &o.key.namespace)
}

impl<'a> Scopes<'a> {
    /// Of the policies of a World.
    pub(crate) fn in_world(world: &'a World, namespace: &str, labels: &BTreeMap<String, String>) -> Self {
        let root = world.root_namespace();
        let own = if namespace == root { &[][..] } else { world.peer_authentications_in(namespace) };
        Self::of(root, (namespace, labels), world.peer_authentications_in(root).iter().chain(own))
    }
}

impl PeerModes {
    /// The modes of the ports of a workload of this namespace with these labels.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    ///
    /// use mesh_core::peer::PeerModes;
    /// use mesh_core::snapshot::MtlsMode;
    ///
    /// let modes = PeerModes::resolve("istio-system", ("default", &BTreeMap::new()), &[]);
    /// assert_eq!(modes.port(8080).mode, MtlsMode::Permissive);
    /// ```
    pub fn resolve(
        root_namespace: &str,
        workload: (&str, &BTreeMap<String, String>),
        policies: &[Arc<Object<PeerAuthentication>>],
    ) -> Self {
        Self::of_scopes(Scopes::of(root_namespace, workload, policies.iter()))
    }

    /// The same, of the policies of a World.
    pub fn of(world: &World, namespace: &str, labels: &BTreeMap<String, String>) -> Self {
        Self::of_scopes(Scopes::in_world(world, namespace, labels))
    }

    pub(crate) fn of_scopes(scopes: Scopes<'_>) -> Self {
        let Scopes { mesh, namespace, workload } = scopes;
        let says = |policy: Option<&Policy>| {
            let policy = policy?;
            port_mode(policy, policy.spec.mtls.as_ref().map(|m| m.mode).unwrap_or_default(), "spec.mtls.mode")
        };
        let general = says(workload)
            .or_else(|| says(namespace))
            .or_else(|| says(mesh))
            .unwrap_or_else(|| PortMode { mode: MtlsMode::Permissive, origin: Provenance::default(BOTH) });
        let mut ports = BTreeMap::new();
        for (port, MutualTls { mode }) in workload.iter().flat_map(|p| p.spec.port_level_mtls.iter().flatten()) {
            let at = crate::yaml::child("spec.portLevelMtls", port);
            let own = workload.and_then(|p| port_mode(p, *mode, &format!("{at}.mode")));
            if let (Ok(number), Some(own)) = (port.parse(), own) {
                ports.insert(number, own);
            }
        }
        Self { general, ports }
    }

    /// The mode of a port of the workload (a container's, not a Service's), whether or not a Service declares it.
    pub fn port(&self, port: u16) -> &PortMode {
        self.ports.get(&port).unwrap_or(&self.general)
    }

    /// The mode of ports without one of their own.
    pub fn general(&self) -> &PortMode {
        &self.general
    }

    /// The ports with a mode of their own.
    pub fn ports(&self) -> impl Iterator<Item = (u16, &PortMode)> {
        self.ports.iter().map(|(port, mode)| (*port, mode))
    }
}

/// Whether clients begin the mesh's own TLS with a port of a workload, and who says so: its own mark (the label
/// `security.istio.io/tlsMode`, which the injector sets), the ports that its sidecar takes, its mode.
pub fn takes_mtls(world: &World, workload: &Workload, port: u16) -> (bool, Provenance) {
    if workload.tls_mode != TlsMode::Istio {
        return (false, Provenance::default("the endpoint has no proxy that ends the mesh's TLS"));
    }
    if !takes_port(&workload.annotations, port) {
        return (false, Provenance::default("annotations of the pod keep the port from its sidecar"));
    }
    let policies = world.peer_authentications();
    if policies.iter().next().is_none() {
        return (true, Provenance::default(BOTH));
    }
    let modes = PeerModes::of(world, &workload.namespace, &workload.labels);
    let PortMode { mode, origin } = modes.port(port);
    (*mode != MtlsMode::Disable, origin.clone())
}

/// Who the instances of a workload are: its service account, under each name of the mesh's trust domain.
pub fn identities(trust: &TrustDomains, workload: &Workload) -> Arc<[Arc<str>]> {
    let Workload { namespace, service_account, .. } = workload;
    if service_account.is_empty() {
        return Arc::default();
    }
    let id = SpiffeId::new(trust.own(), namespace, service_account).to_string();
    trust.expand([id.as_str()]).into_iter().map(Arc::from).collect()
}

fn port_mode(policy: &Policy, mode: MutualTlsMode, field: &str) -> Option<PortMode> {
    let mode = match mode {
        MutualTlsMode::Unset => return None,
        MutualTlsMode::Disable => MtlsMode::Disable,
        MutualTlsMode::Permissive => MtlsMode::Permissive,
        MutualTlsMode::Strict => MtlsMode::Strict,
    };
    Some(PortMode { mode, origin: Provenance::field(&policy.key, &policy.origin, field) })
}

#[cfg(test)]
mod tests;
