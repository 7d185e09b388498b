//! Texts that many resources have in common: their kind, their namespace, their file. Each is kept once.

use std::collections::HashSet;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::Change;
use crate::api::spans::KnownPaths;
use crate::api::{Identity, Key, Origin, Source};
use crate::model::{Service, ServicePort};

/// Texts that there are already.
#[derive(Default)]
pub(crate) struct Texts {
    texts: HashSet<Arc<str>, RandomState>,
    paths: KnownPaths,
}

impl Texts {
    fn share(&mut self, text: &mut Arc<str>) {
        match self.texts.get(&**text) {
            Some(known) => *text = Arc::clone(known),
            None => drop(self.texts.insert(Arc::clone(text))),
        }
    }

    /// What every object begins with.
    pub(crate) fn of_head(&mut self, key: &mut Key, origin: &mut Origin) {
        let Identity { cluster, kind, namespace, name: _ } = &mut **key;
        for text in [cluster, &mut kind.group, &mut kind.kind, namespace] {
            self.share(text);
        }
        match &mut origin.source {
            Source::File { path: text, document: _ } | Source::Generated(text) => self.share(text),
            Source::Live => {}
        }
        if let Some(spans) = Arc::get_mut(&mut origin.spans) {
            self.paths.share(spans);
        }
    }

    /// What an object says, if nobody else has it yet.
    pub(crate) fn pack(&mut self, change: Change) -> Change {
        match change {
            Change::Service(service) => match Arc::try_unwrap(service) {
                Ok(service) => Change::Service(Arc::new(self.of_service(service))),
                Err(shared) => Change::Service(shared),
            },
            other => other,
        }
    }

    /// A service, without room for more of anything.
    pub(crate) fn of_service(&mut self, mut service: Service) -> Service {
        let Service { key, origin, namespace, addresses, ports, export_to, subject_alt_names, .. } = &mut service;
        self.of_head(key, origin);
        self.share(namespace);
        addresses.shrink_to_fit();
        subject_alt_names.shrink_to_fit();
        export_to.iter_mut().for_each(|text| self.share(text));
        export_to.shrink_to_fit();
        ports.shrink_to_fit();
        for ServicePort { name, .. } in ports {
            self.share(name);
        }
        service
    }
}
