//! The binaries from outside: processes, sockets and logs.
#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]
#![allow(clippy::disallowed_methods, reason = "clients and upstreams are not the proxy: they use sockets as they are")]

#[path = "outside/about.rs"]
mod about;
#[path = "tls/certificates.rs"]
mod certificates;
#[path = "outside/client.rs"]
mod client;
#[path = "outside/compare.rs"]
mod compare;
#[path = "outside/coverage.rs"]
mod coverage;
#[path = "outside/echo.rs"]
mod echo;
#[path = "outside/envoy.rs"]
mod envoy;
#[path = "outside/expect.rs"]
mod expect;
#[path = "outside/explained.rs"]
mod explained;
#[path = "outside/generate.rs"]
mod generate;
#[path = "outside/handshake.rs"]
mod handshake;
#[path = "outside/identities.rs"]
mod identities;
#[path = "outside/lab.rs"]
mod lab;
#[path = "outside/member.rs"]
mod member;
#[path = "outside/mutants.rs"]
mod mutants;
#[path = "outside/requests.rs"]
mod requests;
#[path = "outside/rng.rs"]
mod rng;
#[path = "outside/secrets.rs"]
mod secrets;
#[path = "outside/secured.rs"]
mod secured;
#[path = "outside/services.rs"]
mod services;
#[path = "http/signer.rs"]
mod signer;
#[path = "outside/tokens.rs"]
mod tokens;
#[path = "outside/topology.rs"]
mod topology;
