//! Resources as users write them: Kubernetes' and Istio's own kinds, with where each field was written.
//!
//! One struct per message, with Istio's field names; a field that can be absent as opposed to zero is an `Option`, any
//! other has its zero value when it is absent, as in Istio's own decoder.

mod authorization_policy;
pub mod codes;
pub(crate) mod decode;
mod destination_rule;
mod extension_provider;
mod gateway;
pub mod kube;
mod local_rate_limit;
mod mesh_config;
mod meta;
mod peer_authentication;
mod proxy_config;
mod proxy_settings;
mod request_authentication;
mod resource;
mod service_entry;
mod sidecar;
pub(crate) mod spans;
mod values;
mod virtual_service;
mod workload_group;

pub use authorization_policy::*;
pub use destination_rule::*;
pub use extension_provider::{ExtAuthzProvider, ExtAuthzSettings, RequestBodyInCheck};
pub use gateway::*;
pub use local_rate_limit::*;
pub use mesh_config::*;
pub use meta::{Condition, ContentHash, Identity, Key, Kind, Meta, Object, Origin, Source, Span};
pub use peer_authentication::*;
pub use proxy_config::*;
pub use proxy_settings::ProxySettings;
pub use request_authentication::*;
pub use resource::{Resource, ServedKind, served_kinds};
pub use service_entry::*;
pub use sidecar::*;
pub use spans::Spans;
pub use values::{Duration, IntOrString, Percent, StringMatch};
pub use virtual_service::*;
pub use workload_group::{WorkloadGroup, WorkloadGroupMeta};
