//! HTTP end to end on loopback sockets: the rows of Envoy's observed behaviour, by id, against the real stack.
#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]
#![allow(clippy::disallowed_methods, reason = "clients and upstreams are not the proxy: they use sockets as they are")]

#[path = "http/authorizers.rs"]
mod authorizers;
#[path = "http/balancing.rs"]
mod balancing;
#[path = "http/checker.rs"]
mod checker;
#[path = "http/filters.rs"]
mod filters;
#[path = "http/frames.rs"]
mod frames;
#[path = "http/headers.rs"]
mod headers;
#[path = "http/http2.rs"]
mod http2;
#[path = "http/interop.rs"]
mod interop;
#[path = "http/lifetimes.rs"]
mod lifetimes;
#[path = "http/limits.rs"]
mod limits;
#[path = "http/local_replies.rs"]
mod local_replies;
#[path = "http/mesh.rs"]
mod mesh;
#[path = "http/mirrors.rs"]
mod mirrors;
#[path = "http/parsing.rs"]
mod parsing;
#[path = "http/paths.rs"]
mod paths;
#[path = "http/policies.rs"]
mod policies;
#[path = "http/redirects.rs"]
mod redirects;
#[path = "http/row.rs"]
mod row;
#[path = "http/rows.rs"]
mod rows;
#[path = "http/settings.rs"]
mod settings;
#[path = "http/signer.rs"]
mod signer;
#[path = "http/telemetry.rs"]
mod telemetry;
#[path = "http/timeouts.rs"]
mod timeouts;
#[path = "http/tokens.rs"]
mod tokens;
#[path = "http/unix.rs"]
mod unix;
#[path = "http/upgrades.rs"]
mod upgrades;
#[path = "http/upstream.rs"]
mod upstream;
