//! `meshctl logs`.

use super::Outcome;
use super::client::{Call, block_on};
use crate::control::Request;

/// Arguments of `logs`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// `NAME[.NAMESPACE]` of a Deployment or Pod, or `deploy/NAME`.
    workload: String,
    /// Go on as lines come.
    #[arg(short, long)]
    follow: bool,
    /// Container; `proxy` is the sidecar.
    #[arg(short, long)]
    container: Option<String>,
    /// Only the last lines.
    #[arg(long, value_name = "LINES")]
    tail: Option<usize>,
}

pub(super) fn run(mesh: &str, args: Args) -> Outcome {
    let Args { workload, follow, container, tail } = args;
    block_on(async {
        let request = Request::Logs { workload, container, follow, tail };
        Call::start(mesh, &request, &[]).await?.finish().await?;
        Ok(0)
    })
}
