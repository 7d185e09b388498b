//! The one model that all front ends convert to and that alone is compiled: services and workloads, listeners and
//! routes.

mod workload;

pub use workload::{AppProtocol, Health, Location, Resolution, Service, ServicePort, TlsMode, Tunnel, Workload};
