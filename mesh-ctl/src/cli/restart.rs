//! `meshctl restart`.

use serde_json::Value;

use super::Outcome;
use super::client::ask;
use crate::control::Request;

/// Arguments of `restart`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// `NAME[.NAMESPACE]` of a Deployment or Pod, or `deploy/NAME`.
    workload: String,
}

pub(super) fn run(mesh: &str, args: Args) -> Outcome {
    let text = args.workload.clone();
    let _: Value = ask(mesh, &Request::Restart { workload: args.workload })?;
    super::print(&format!("{text} restarted\n"));
    Ok(0)
}
