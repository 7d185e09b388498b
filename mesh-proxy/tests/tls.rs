//! TLS end to end on loopback sockets: gateways that end it or pass it on, and clusters that are reached by it.
#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]
#![allow(clippy::disallowed_methods, reason = "clients and upstreams are not the proxy: they use sockets as they are")]

#[path = "tls/attacks.rs"]
mod attacks;
#[path = "tls/certificates.rs"]
mod certificates;
#[path = "tls/embedded.rs"]
mod embedded;
#[path = "tls/envoy.rs"]
mod envoy;
#[path = "tls/gateways.rs"]
mod gateways;
#[path = "tls/live.rs"]
mod live;
#[path = "tls/mesh.rs"]
mod mesh;
#[path = "tls/origination.rs"]
mod origination;
#[path = "tls/programs.rs"]
mod programs;
#[path = "tls/running.rs"]
mod running;
#[path = "tls/soak.rs"]
mod soak;
#[path = "tls/trust.rs"]
mod trust;
