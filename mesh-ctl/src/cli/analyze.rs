//! `meshctl analyze`: files together, with istioctl's codes, output and exit codes.

use mesh_core::analyze::{ANALYZERS, AnalyzeInput, Message, ON_REQUEST, analyze_with};
use mesh_core::report::{Level, Report};

use super::{Outcome, offline};
use crate::manifest;

/// A document is no YAML.
const UNREADABLE: u8 = 65;
/// Something at or above the threshold was found.
const FOUND: u8 = 79;

/// Arguments of `analyze`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Files, directories, - for standard input.
    #[arg(required_unless_present = "list_analyzers")]
    paths: Vec<String>,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Least severe level that makes the exit code 79.
    #[arg(long, value_enum, default_value_t = Threshold::Error)]
    failure_threshold: Threshold,
    /// Least severe level that is shown.
    #[arg(long, value_enum, default_value_t = Threshold::Info)]
    output_threshold: Threshold,
    /// Leave messages out: `CODE=Kind name.namespace`; `*` stands for any characters.
    #[arg(short = 'S', long, value_name = "CODE=RESOURCE", value_parser = suppression)]
    suppress: Vec<(String, String)>,
    /// Namespace of objects that name none.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Documents that are no YAML don't make the exit code 65.
    #[arg(long)]
    ignore_unknown: bool,
    /// Run only this analyzer; can be given again.
    #[arg(long, value_name = "NAME")]
    analyzer: Vec<String>,
    /// Files of another cluster of the mesh, whose Services have to be like those here; can be given again.
    #[arg(long, value_name = "NAME=PATH", value_parser = cluster)]
    remote_cluster: Vec<(String, String)>,
    /// Print the analyzers' names.
    #[arg(short = 'L', long)]
    list_analyzers: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    #[default]
    #[value(alias = "log")]
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Threshold {
    #[value(alias = "Info")]
    Info,
    #[value(alias = "Warning")]
    Warning,
    #[value(alias = "Error")]
    Error,
}

impl From<Threshold> for Level {
    fn from(t: Threshold) -> Self {
        match t {
            Threshold::Info => Self::Info,
            Threshold::Warning => Self::Warning,
            Threshold::Error => Self::Error,
        }
    }
}

fn suppression(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(_, resource)| !resource.contains('='));
    pair.map(|(c, r)| (c.to_owned(), r.to_owned())).ok_or_else(|| format!("{text:?} is not CODE=Kind name.namespace"))
}

fn cluster(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, path)| !name.is_empty() && !path.is_empty());
    pair.map(|(n, p)| (n.to_owned(), p.to_owned())).ok_or_else(|| format!("{text:?} is not NAME=PATH"))
}

/// The analyzers to run: all of the default set, unless some are asked for.
fn analyzers(args: &Args) -> Vec<&str> {
    let known = |n: &&str| ANALYZERS.contains(n) || ON_REQUEST.contains(n);
    let (some, unknown): (Vec<&str>, Vec<&str>) = args.analyzer.iter().map(String::as_str).partition(known);
    if !unknown.is_empty() {
        eprintln!("there is no analyzer {}; meshctl analyze -L lists them", unknown.join(", "));
    }
    // As istioctl: with no known name, all run.
    if some.is_empty() { ANALYZERS.to_vec() } else { some }
}

pub(super) fn run(args: &Args) -> Outcome {
    if args.list_analyzers {
        let names = ANALYZERS.iter().chain(ON_REQUEST).map(|n| format!("{n}\n"));
        super::print(&names.collect::<String>());
        return Ok(0);
    }
    let offline = offline::read(&manifest::load(&args.paths)?, &args.namespace);
    let written = offline.written();
    let mut clusters = Vec::new();
    for (name, path) in &args.remote_cluster {
        let there = offline::read(&manifest::load(std::slice::from_ref(path))?, &args.namespace);
        clusters.push((name.clone(), there.written()));
    }
    let input = AnalyzeInput {
        resources: &written,
        reports: &offline.reports,
        world: Some(&offline.inputs.world),
        clusters: &clusters,
    };
    let mut found = analyze_with(&input, &analyzers(args));
    found.retain(|r| !args.suppress.iter().any(|s| suppressed(r, s)));
    let shown: Vec<&Report> = found.iter().filter(|r| r.level >= args.output_threshold.into()).collect();
    let failed = found.iter().any(|r| r.level >= args.failure_threshold.into());
    if args.output == Output::Json {
        // As istioctl's: findings don't make the exit code of JSON output.
        super::print_json(&shown.iter().map(|r| Message::from(*r)).collect::<Vec<_>>())?;
    } else {
        super::print(&shown.iter().map(|r| line(r)).collect::<String>());
        if shown.is_empty() {
            eprintln!("✔ No validation issues found when analyzing {}.", args.paths.join(", "));
        }
    }
    if offline.unreadable && !args.ignore_unknown {
        eprintln!("Error: some documents can't be read");
        return Ok(UNREADABLE);
    }
    if failed && args.output == Output::Text {
        eprintln!("Error: Analyzers found issues when analyzing {}.", args.paths.join(", "));
        eprintln!(
            "See the message's code at https://istio.io/latest/docs/reference/config/analysis for causes and fixes."
        );
        return Ok(FOUND);
    }
    Ok(0)
}

/// `Error [IST0101] (VirtualService ns/name file.yaml:12:7) message; fix`.
fn line(r: &Report) -> String {
    let place =
        if r.file.is_empty() { String::new() } else { format!(" {}:{}:{}", r.file, r.span.line, r.span.column) };
    let fix = r.fix.as_ref().map(|f| format!(" (fix: {f})")).unwrap_or_default();
    format!("{:?} [{}] ({}{place}) {}{fix}\n", r.level, r.code, r.object, r.message)
}

fn suppressed(r: &Report, (code, resource): &(String, String)) -> bool {
    let name = match &*r.object.namespace {
        "" => format!("{} {}", r.object.kind, r.object.name),
        namespace => format!("{} {}.{namespace}", r.object.kind, r.object.name),
    };
    *r.code == **code && crate::node::images::glob(resource, &name)
}
