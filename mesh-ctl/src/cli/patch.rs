//! `meshctl patch`.

use super::client::ask;
use super::{Outcome, apply};
use crate::control::{Changes, PatchKind, Request};

/// Arguments of `patch`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Kind, as `vs` or `virtualservice`.
    kind: String,
    /// Name.
    #[arg(value_name = "NAME")]
    object: String,
    /// How to read the patch.
    #[arg(long = "type", value_enum, default_value = "merge")]
    how: PatchKind,
    /// The patch, YAML or JSON.
    #[arg(short, long, required_unless_present = "patch_file")]
    patch: Option<String>,
    /// A file with the patch.
    #[arg(long, conflicts_with = "patch")]
    patch_file: Option<String>,
    /// Namespace.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: apply::Output,
}

pub(super) fn run(mesh: &str, args: Args) -> Outcome {
    let patch = match (args.patch, args.patch_file) {
        (Some(text), _) => text,
        (None, Some(file)) => std::fs::read_to_string(&file).map_err(|e| format!("{file}: {e}"))?,
        (None, None) => return Err("give a patch with -p or --patch-file".into()),
    };
    let Args { kind, object, how, namespace, output, .. } = args;
    let request = Request::Patch { kind, name: object, namespace, kind_of_patch: how, patch };
    let changes: Changes = ask(mesh, &request)?;
    apply::show(&changes, output)
}
