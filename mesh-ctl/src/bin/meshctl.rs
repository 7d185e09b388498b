//! The operator's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh_ctl::cli::run()
}
