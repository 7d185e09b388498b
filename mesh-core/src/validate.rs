//! Validation: the rules that Istio's own schemas and admission check, with Istio's texts, each at its field.
//!
//! An error means that the object is quarantined: it has no effect, the others are in force. Texts of the form
//! `spec.a.b: Invalid value: …` are those of the Kubernetes schema check, the others those of istiod.

mod authorization_policy;
mod common;
mod destination_rule;
mod egress_policy;
mod gateway;
mod http_route;
mod local_rate_limit;
mod mesh_config;
mod overlap;
mod peer_authentication;
mod pod;
mod proxy_config;
mod proxy_settings;
mod request_authentication;
mod service_entry;
mod sidecar;
mod string_match;
mod traffic_policy;
mod virtual_service;
mod workload_group;

pub use mesh_config::validate_mesh_config;
pub use proxy_config::validate_proxy_config;

use crate::api::codes::{self, Code};
use crate::api::{Key, Origin, Resource};
use crate::report::Report;

/// What is wrong with an object, or worth a warning. Kinds that Kubernetes checks itself have no rules here beyond
/// what reading them checks.
pub fn validate(resource: &Resource) -> Vec<Report> {
    let mut check = Check::new(resource.key(), resource.origin());
    let namespace = &*resource.key().namespace;
    match resource {
        Resource::VirtualService(o) => virtual_service::check(&mut check, &o.spec, namespace),
        Resource::DestinationRule(o) => destination_rule::check(&mut check, &o.spec, namespace),
        Resource::Gateway(o) => gateway::check(&mut check, &o.spec, &o.key.name),
        Resource::ServiceEntry(o) => service_entry::check(&mut check, &o.spec, namespace),
        Resource::WorkloadEntry(o) => service_entry::workload(&mut check, &o.spec, "spec"),
        Resource::WorkloadGroup(o) => workload_group::check(&mut check, &o.spec),
        Resource::Sidecar(o) => sidecar::check(&mut check, &o.spec),
        Resource::Deployment(o) => pod::check(&mut check, &o.spec.template.spec, "spec.template.spec"),
        Resource::Pod(o) => pod::check(&mut check, &o.spec, "spec"),
        Resource::LocalRateLimit(o) => local_rate_limit::check(&mut check, &o.spec),
        Resource::ProxyConfig(o) => proxy_settings::check(&mut check, &o.spec),
        Resource::PeerAuthentication(o) => peer_authentication::check(&mut check, &o.spec),
        Resource::AuthorizationPolicy(o) => authorization_policy::check(&mut check, o),
        Resource::EgressPolicy(o) => egress_policy::check(&mut check, o),
        Resource::RequestAuthentication(o) => request_authentication::check(&mut check, &o.spec),
        Resource::Service(_)
        | Resource::ServiceAccount(_)
        | Resource::Namespace(_)
        | Resource::ConfigMap(_)
        | Resource::Unread(_) => {}
    }
    check.reports
}

/// Collects what the rules find about one object.
struct Check<'a> {
    key: &'a Key,
    origin: &'a Origin,
    reports: Vec<Report>,
}

impl<'a> Check<'a> {
    fn new(key: &'a Key, origin: &'a Origin) -> Self {
        Self { key, origin, reports: Vec::new() }
    }

    fn say(&mut self, code: Code, field: &str, message: impl Into<String>) -> &mut Report {
        self.reports.push(code.report((self.key, self.origin), field, message));
        self.reports.last_mut().expect("invariant: just pushed")
    }

    /// The object is refused.
    fn error(&mut self, field: &str, message: impl Into<String>) {
        self.say(codes::SCHEMA, field, message);
    }

    /// The object is refused, and this is what to write instead.
    fn error_fix(&mut self, field: &str, message: impl Into<String>, fix: &str) {
        self.say(codes::SCHEMA, field, message).fix = Some(fix.to_owned());
    }

    /// The object is refused by the schema: the field's value is out of range.
    fn invalid(&mut self, field: &str, value: impl std::fmt::Display, why: &str) {
        self.error(field, format!("{field}: Invalid value: {value}: {why}"));
    }

    /// The object is refused by the schema: the field is missing.
    fn required(&mut self, field: &str) {
        self.error(field, format!("{field}: Required value"));
    }

    /// Accepted with a warning.
    fn warn(&mut self, field: &str, message: impl Into<String>) {
        self.say(codes::WARNING, field, message);
    }

    /// A text that has to be there and not empty.
    fn text(&mut self, field: &str, value: &str) {
        match (value.is_empty(), self.origin.wrote(field)) {
            (false, _) => {}
            (true, true) => self.error(field, format!("{field} in body should be at least 1 chars long")),
            (true, false) => self.required(field),
        }
    }

    /// An error at the field if the result is one.
    fn ok(&mut self, field: &str, result: Result<(), String>) {
        if let Err(message) = result {
            self.error(field, message);
        }
    }
}

/// The path of a field some levels below a path.
fn below(path: &str, fields: &str) -> String {
    format!("{path}.{fields}")
}

#[cfg(test)]
mod tests;
