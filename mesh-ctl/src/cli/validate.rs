//! `meshctl validate`: each document by itself.

use mesh_core::api::Source;
use mesh_core::report::{Level, Report};
use serde::Serialize;

use super::Outcome;
use crate::manifest::{self, Document};

/// Arguments of `validate`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Files, directories, - for standard input.
    #[arg(value_name = "FILES", required_unless_present = "filename")]
    paths: Vec<String>,
    /// The same, as istioctl has it.
    #[arg(short, long, value_name = "FILE")]
    filename: Vec<String>,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: super::apply::Output,
}

/// One document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    file: String,
    document: u32,
    origin: String,
    valid: bool,
    errors: Vec<Message>,
    warnings: Vec<Message>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    code: String,
    message: String,
    field: String,
    line: u32,
    column: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl From<&Report> for Message {
    fn from(r: &Report) -> Self {
        Self {
            code: r.code.to_string(),
            message: r.message.clone(),
            field: r.field.to_string(),
            line: r.span.line,
            column: r.span.column,
            fix: r.fix.clone(),
        }
    }
}

impl From<&Document> for Entry {
    fn from(d: &Document) -> Self {
        let of = |wanted: fn(Level) -> bool| d.reports.iter().filter(|r| wanted(r.level)).map(Message::from).collect();
        let (file, document) = match &d.origin.source {
            Source::File { path, document } => (path.to_string(), *document),
            Source::Live | Source::Generated(_) => (String::new(), 0),
        };
        Self {
            file,
            document,
            origin: d.key.to_string(),
            valid: !d.refused(),
            errors: of(|l| l == Level::Error),
            warnings: of(|l| l < Level::Error),
        }
    }
}

pub(super) fn run(args: &Args) -> Outcome {
    let paths: Vec<String> = args.paths.iter().chain(&args.filename).cloned().collect();
    let files = manifest::load(&paths)?;
    let documents: Vec<Document> = files.iter().flat_map(|f| manifest::read(f, "default")).collect();
    let code = u8::from(documents.iter().any(Document::refused));
    if args.output == super::apply::Output::Json {
        super::print_json(&documents.iter().map(Entry::from).collect::<Vec<_>>())?;
        return Ok(code);
    }
    let mut out = String::new();
    for file in &files {
        let here = |d: &&Document| matches!(&d.origin.source, Source::File { path, .. } if **path == *file.path);
        let (mut bad, mut warned) = (false, false);
        for document in documents.iter().filter(here) {
            bad |= document.refused();
            for report in document.reports.iter().filter(|r| r.level > Level::Info) {
                warned = true;
                out.push_str(&format!("{report}\n"));
            }
        }
        let verdict = match (bad, warned) {
            (true, _) => "is not valid",
            (false, true) => "is valid, with warnings",
            (false, false) => "is valid",
        };
        out.push_str(&format!("{:?} {verdict}\n", file.path));
    }
    super::print(&out);
    Ok(code)
}
