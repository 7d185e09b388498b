//! What becomes of the fields of objects that conversion reads and no proxy's compilation sees again.

use crate::api::{
    Key, LabelSelector, Object, ProxySettings, Resource, ServiceEntry, ServicePort, ServiceResolution, WorkloadEntry,
    WorkloadGroup, WorkloadSelector,
};
use crate::report::{Fate, Outcome};
use crate::yaml::{child, item};

/// The fates of a ServiceEntry, WorkloadEntry, WorkloadGroup or ProxyConfig; other kinds have theirs from compilation.
pub fn fates(resource: &Resource) -> Vec<Fate> {
    match resource {
        Resource::ServiceEntry(o) => of(&o.key, |w| service_entry(w, o)),
        Resource::WorkloadEntry(o) => of(&o.key, |w| workload_entry(w, "spec", &o.spec)),
        Resource::WorkloadGroup(o) => of(&o.key, |w| workload_group(w, o)),
        Resource::ProxyConfig(o) => of(&o.key, |w| proxy_config(w, o)),
        _ => Vec::new(),
    }
}

fn of(key: &Key, write: impl FnOnce(&mut Writer)) -> Vec<Fate> {
    let mut writer = Writer { key: key.clone(), fates: Vec::new() };
    write(&mut writer);
    writer.fates
}

struct Writer {
    key: Key,
    fates: Vec<Fate>,
}

impl Writer {
    fn fate(&mut self, field: String, outcome: Outcome) {
        self.fates.push(Fate { object: self.key.clone(), field: field.into(), outcome });
    }

    fn used<T: Default + PartialEq>(&mut self, at: &str, name: &str, value: &T) {
        if *value != T::default() {
            self.fate(child(at, name), Outcome::Consumed);
        }
    }

    fn inert<T: Default + PartialEq>(&mut self, at: &str, name: &str, value: &T, because: &str) {
        if *value != T::default() {
            self.fate(child(at, name), Outcome::Inert { because: because.into() });
        }
    }

    fn list<T>(&mut self, at: &str, name: &str, values: &[T]) {
        for i in 0..values.len() {
            self.fate(item(&child(at, name), i), Outcome::Consumed);
        }
    }

    fn map<'k>(&mut self, at: &str, name: &str, keys: impl Iterator<Item = &'k String>) {
        for key in keys {
            self.fate(child(&child(at, name), key), Outcome::Consumed);
        }
    }
}

fn service_entry(w: &mut Writer, object: &Object<ServiceEntry>) {
    let ServiceEntry {
        hosts,
        addresses,
        ports,
        location,
        resolution,
        endpoints,
        workload_selector,
        export_to,
        subject_alt_names,
    } = &object.spec;
    w.list("spec", "hosts", hosts);
    w.list("spec", "addresses", addresses);
    for (i, port) in ports.iter().enumerate() {
        let at = item("spec.ports", i);
        let ServicePort { number, protocol, name, target_port } = port;
        w.used(&at, "number", number);
        w.used(&at, "protocol", protocol);
        w.used(&at, "name", name);
        match target_port == number {
            true => w.inert(&at, "targetPort", target_port, "it is the port itself"),
            false => w.used(&at, "targetPort", target_port),
        }
    }
    w.used("spec", "location", location);
    w.used("spec", "resolution", resolution);
    for (i, endpoint) in endpoints.iter().enumerate() {
        let at = item("spec.endpoints", i);
        match resolution {
            ServiceResolution::None => {
                w.fate(at, Outcome::Inert { because: "resolution NONE goes where the client dialled".into() });
            }
            ServiceResolution::Dns | ServiceResolution::DnsRoundRobin if endpoint.address.starts_with("unix:") => {
                w.fate(at, Outcome::Inert { because: "unix sockets are reached with resolution STATIC only".into() });
            }
            _ => workload_entry(w, &at, endpoint),
        }
    }
    if let Some(WorkloadSelector { labels }) = workload_selector {
        w.fate("spec.workloadSelector".into(), Outcome::Consumed);
        w.map("spec.workloadSelector", "labels", labels.keys());
    }
    w.list("spec", "exportTo", export_to);
    w.list("spec", "subjectAltNames", subject_alt_names);
}

fn workload_entry(w: &mut Writer, at: &str, entry: &WorkloadEntry) {
    let WorkloadEntry { address, ports, labels, network, locality, weight, service_account } = entry;
    w.used(at, "address", address);
    w.map(at, "ports", ports.keys());
    w.map(at, "labels", labels.keys());
    w.inert(at, "network", network, "all workloads are in one network, and reached directly");
    w.used(at, "locality", locality);
    w.used(at, "weight", weight);
    w.used(at, "serviceAccount", service_account);
}

/// Machines register themselves with a control plane; where there is none, nobody becomes a member of a group.
fn workload_group(w: &mut Writer, object: &Object<WorkloadGroup>) {
    let WorkloadGroup { metadata, template, probe } = &object.spec;
    let because = "no machine registers itself here; write a WorkloadEntry for each instance";
    w.inert("spec", "metadata", metadata, because);
    w.inert("spec", "template", template, because);
    w.inert("spec", "probe", probe, because);
}

fn proxy_config(w: &mut Writer, object: &Object<ProxySettings>) {
    let ProxySettings { selector, concurrency, environment_variables, image } = &object.spec;
    if let Some(LabelSelector { match_labels }) = selector {
        w.fate("spec.selector".into(), Outcome::Consumed);
        w.map("spec.selector", "matchLabels", match_labels.keys());
    }
    if concurrency.is_some() {
        w.fate("spec.concurrency".into(), Outcome::Consumed);
    }
    w.map("spec", "environmentVariables", environment_variables.keys());
    w.inert("spec", "image", image, "the proxy is a program beside meshctl, not an image");
}

#[cfg(test)]
mod tests;
