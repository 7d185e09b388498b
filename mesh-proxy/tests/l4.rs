//! Connections on loopback: TCP streams, sniffing, explicit proxying, and the real binary's ports and drain.
#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]

#[path = "http/checker.rs"]
#[allow(dead_code, clippy::disallowed_methods, reason = "shared with the tests of requests")]
mod checker;
#[path = "l4/doors.rs"]
mod doors;
#[path = "l4/policies.rs"]
mod policies;
#[path = "l4/process.rs"]
mod process;
#[path = "l4/profiles.rs"]
mod profiles;
#[path = "l4/sockets.rs"]
mod sockets;
#[path = "l4/streams.rs"]
mod streams;
#[path = "l4/support.rs"]
mod support;
