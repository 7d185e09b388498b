//! PeerAuthentication: which connections the ports of a workload take.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_core::api::{Key, MutualTls, MutualTlsMode, Object, PeerAuthentication};

use crate::attach::{Workload, age};

/// The modes of a workload's ports, resolved: none is [`MutualTlsMode::Unset`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerModes {
    general: PortMode,
    ports: BTreeMap<u16, PortMode>,
}

/// The mode of a port, and who says so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortMode {
    /// The mode.
    pub mode: MutualTlsMode,
    /// The policy that says so; `None`: it is what holds without one.
    pub policy: Option<Key>,
    /// `file:line`; live objects have none.
    pub location: Option<String>,
}

impl PortMode {
    fn of(policy: &Object<PeerAuthentication>, mode: MutualTlsMode, field: &str) -> Option<Self> {
        let (policy, location) = (Some(policy.key.clone()), policy.origin.location(field));
        (mode != MutualTlsMode::Unset).then_some(Self { mode, policy, location })
    }
}

impl PeerModes {
    /// The modes of a workload. Of policies of the same scope the oldest counts alone; a policy with a selector in the
    /// root namespace counts for nobody.
    pub fn resolve(workload: &Workload<'_>, policies: &[Arc<Object<PeerAuthentication>>]) -> Self {
        let oldest = |is: &dyn Fn(&Object<PeerAuthentication>) -> bool| {
            policies.iter().filter(|p| is(p)).min_by_key(|p| age(p)).map(|p| &**p)
        };
        let labels = |p: &Object<PeerAuthentication>| p.spec.selector.as_ref().map(|s| s.match_labels.clone());
        let general = |p: &Object<PeerAuthentication>| labels(p).is_none_or(|l| l.is_empty());
        let own = |p: &Object<PeerAuthentication>| {
            *p.key.namespace == *workload.namespace && workload.namespace != workload.root_namespace
        };
        let selected = |p: &Object<PeerAuthentication>| {
            labels(p).is_some_and(|l| l.iter().all(|(k, v)| workload.labels.get(k) == Some(v)))
        };
        let mesh = oldest(&|p| *p.key.namespace == *workload.root_namespace && general(p));
        let namespace = oldest(&|p| own(p) && general(p));
        let narrow = oldest(&|p| own(p) && !general(p) && selected(p));
        let says = |p: Option<&Object<PeerAuthentication>>| {
            let p = p?;
            PortMode::of(p, p.spec.mtls.as_ref().map_or(MutualTlsMode::Unset, |m| m.mode), "spec.mtls.mode")
        };
        let without = PortMode { mode: MutualTlsMode::Permissive, policy: None, location: None };
        let general = says(narrow).or_else(|| says(namespace)).or_else(|| says(mesh)).unwrap_or(without);
        let mut ports = BTreeMap::new();
        for (port, MutualTls { mode }) in narrow.iter().flat_map(|p| p.spec.port_level_mtls.iter().flatten()) {
            let at = format!("spec.portLevelMtls.{port}.mode");
            if let (Ok(number), Some(mode)) = (port.parse(), narrow.and_then(|p| PortMode::of(p, *mode, &at))) {
                ports.insert(number, mode);
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

#[cfg(test)]
mod tests;
