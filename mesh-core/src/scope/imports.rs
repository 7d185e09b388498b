//! What a Sidecar lets its workloads see, and who sees what by exportTo.

use std::sync::Arc;

use crate::api::{Object, Sidecar};
use crate::matching::HostPattern;
use crate::model::Workload;
use crate::world::{World, covers};

/// Whether an object of namespace `own` is visible in `namespace`. An empty list means the default, whose empty list
/// means everybody.
pub fn exported(export_to: &[String], default: &[String], own: &str, namespace: &str) -> bool {
    let list = if export_to.is_empty() { default } else { export_to };
    list.is_empty()
        || list.iter().any(|e| match e.as_str() {
            "*" => true,
            "." => own == namespace,
            "~" => false,
            name => name == namespace,
        })
}

/// The Sidecar in force for a workload: one of its namespace with a matching selector, else the one without selector,
/// else that of the root namespace.
pub fn selected_sidecar<'a>(
    world: &'a World,
    namespace: &str,
    workload: Option<&Arc<Workload>>,
) -> Option<&'a Arc<Object<Sidecar>>> {
    let of = |ns: &'a str| world.sidecars().iter().filter(move |s| *s.key.namespace == *ns);
    let own = |s: &&Arc<Object<Sidecar>>| *s.key.namespace == *namespace;
    let matching = world.sidecars().iter().filter(own).find(|s| {
        let selector = s.spec.workload_selector.as_ref();
        selector.is_some_and(|l| !l.labels.is_empty() && workload.is_some_and(|w| covers(&l.labels, &w.labels)))
    });
    let general = |s: &&Arc<Object<Sidecar>>| s.spec.workload_selector.as_ref().is_none_or(|l| l.labels.is_empty());
    matching
        .or_else(|| world.sidecars().iter().filter(own).find(general))
        .or_else(|| of(world.root_namespace()).find(general))
}

/// Hosts that a Sidecar imports.
#[derive(Clone, Debug)]
pub struct Imports {
    /// `None`: everything.
    included: Option<Vec<(Namespaces, HostPattern)>>,
    excluded: Vec<(Namespaces, HostPattern)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Namespaces {
    All,
    One(Arc<str>),
}

impl Namespaces {
    fn has(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::One(n) => **n == *namespace,
        }
    }
}

impl Imports {
    /// Imports of a Sidecar for a workload in `namespace`; without a Sidecar, or without egress, everything.
    pub fn of(sidecar: Option<&Sidecar>, namespace: &str) -> Self {
        let mut excluded = Vec::new();
        let egress = sidecar.map_or(&[][..], |s| &s.egress);
        let mut included = Vec::new();
        for entry in egress.iter().flat_map(|l| &l.hosts) {
            let Some((ns, host)) = entry.split_once('/') else { continue };
            let pattern = HostPattern::parse(host);
            let named = |ns: &str| match ns {
                "*" | "" => Namespaces::All,
                "." => Namespaces::One(namespace.into()),
                name => Namespaces::One(name.into()),
            };
            match ns.strip_prefix('~') {
                Some("") => {}
                Some(rest) => excluded.push((named(rest), pattern)),
                None => included.push((named(ns), pattern)),
            }
        }
        // Exclusions alone are subtracted from everything.
        let all = egress.is_empty() || (included.is_empty() && !excluded.is_empty());
        Self { included: (!all).then_some(included), excluded }
    }

    /// A service of that namespace and host is imported.
    pub fn covers(&self, namespace: &str, host: &HostPattern) -> bool {
        self.test(namespace, |p| host.subset_of(p)) && !self.is_excluded(namespace, host)
    }

    /// A VirtualService of that namespace with that host is imported.
    pub fn overlaps(&self, namespace: &str, host: &HostPattern) -> bool {
        self.test(namespace, |p| host.overlaps(p)) && !self.is_excluded(namespace, host)
    }

    fn test(&self, namespace: &str, holds: impl Fn(&HostPattern) -> bool) -> bool {
        let Some(list) = &self.included else { return true };
        list.iter().any(|(n, p)| n.has(namespace) && holds(p))
    }

    fn is_excluded(&self, namespace: &str, host: &HostPattern) -> bool {
        self.excluded.iter().any(|(n, p)| n.has(namespace) && host.subset_of(p))
    }
}
