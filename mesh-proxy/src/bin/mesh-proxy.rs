//! The sidecar.

use std::alloc::System;
use std::process::ExitCode;

use mesh_core::snapshot::ProxyKind;
use mesh_proxy::profile::Sampled;
use mimalloc as _; // what `malloc` is from here on

#[global_allocator]
static ALLOCATOR: Sampled<System> = Sampled::new(System);

fn main() -> ExitCode {
    mesh_proxy::run::main(ProxyKind::Sidecar)
}
