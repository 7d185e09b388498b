//! `meshctl apply`.

use super::Outcome;
use super::client::ask;
use crate::control::{Changes, Request};
use crate::manifest;

/// Arguments of `apply`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Files, directories, - for standard input.
    #[arg(short, long = "filename", required = true, value_name = "FILE|DIR|-")]
    filename: Vec<String>,
    /// Namespace of objects that name none.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// How changes are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    /// Lines.
    #[default]
    Text,
    /// JSON.
    Json,
}

pub(super) fn run(mesh: &str, args: Args) -> Outcome {
    let files = manifest::load(&args.filename)?;
    let changes: Changes = ask(mesh, &Request::Apply { files, namespace: args.namespace })?;
    show(&changes, args.output)
}

/// Prints what changed; 1 if something was refused or is not in force everywhere.
pub(super) fn show(changes: &Changes, output: Output) -> Outcome {
    let failed = changes.objects.iter().any(|o| o.change == "refused" || o.change == "not found");
    let code = u8::from(failed || !changes.behind.is_empty());
    if output == Output::Json {
        super::print_json(changes)?;
        return Ok(code);
    }
    let mut out = String::new();
    for object in &changes.objects {
        for message in &object.messages {
            out.push_str(&format!("{message}\n"));
        }
        out.push_str(&format!("{} {}\n", object.name, object.change));
    }
    out.push_str(&format!("in force on {} proxies after {:.1} ms\n", changes.proxies, changes.took_ms));
    for late in &changes.behind {
        out.push_str(&format!("not yet in force on {late}; see: meshctl logs {late} -c proxy\n"));
    }
    for rejected in &changes.rejected {
        out.push_str(&format!("refused by {rejected}\n"));
    }
    super::print(&out);
    Ok(code)
}
