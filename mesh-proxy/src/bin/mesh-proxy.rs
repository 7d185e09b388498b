//! The sidecar.

use std::process::ExitCode;

use mesh_core::snapshot::ProxyKind;
use mimalloc as _; // what `malloc` is from here on

fn main() -> ExitCode {
    mesh_proxy::run::main(ProxyKind::Sidecar)
}
