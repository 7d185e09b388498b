//! `meshctl delete`.

use super::client::ask;
use super::{Outcome, apply};
use crate::control::{Changes, Request, Selection};
use crate::manifest;

/// Arguments of `delete`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Files whose objects are deleted.
    #[arg(short, long = "filename", value_name = "FILE|DIR|-", conflicts_with_all = ["kind", "objects"])]
    filename: Vec<String>,
    /// Kind, as `vs` or `virtualservice`.
    #[arg(required_unless_present = "filename", requires = "objects")]
    kind: Option<String>,
    /// Names.
    #[arg(value_name = "NAME")]
    objects: Vec<String>,
    /// Namespace.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: apply::Output,
}

pub(super) fn run(mesh: &str, args: Args) -> Outcome {
    let what = match args.kind {
        Some(kind) => Selection::Named { kind, names: args.objects },
        None => Selection::Files(manifest::load(&args.filename)?),
    };
    let changes: Changes = ask(mesh, &Request::Delete { what, namespace: args.namespace })?;
    apply::show(&changes, args.output)
}
