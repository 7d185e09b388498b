//! The gateway.

use std::process::ExitCode;

use mesh_core::snapshot::ProxyKind;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    mesh_proxy::run::main(ProxyKind::Gateway)
}
