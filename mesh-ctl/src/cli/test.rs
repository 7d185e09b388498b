//! `meshctl test`: request cases against the plan that the proxies would have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_core::env::Env;
use mesh_core::explain::Explainer;
use mesh_core::explain::cases::{Case, Coverage, Verdict, coverage};
use mesh_core::report::Level;
use mesh_core::yaml;
use mesh_policy::judge::Judge;
use mesh_proxy::net::HostEnv;
use serde::Serialize;
use serde_json::Value;

use super::{Outcome, offline};
use crate::control::SourceFile;
use crate::manifest;

/// A file can't be read as what it should be.
const UNREADABLE: u8 = 65;

/// Arguments of `test`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Files with cases, and manifests; directories, - for standard input.
    #[arg(required = true, value_name = "FILES")]
    paths: Vec<String>,
    /// Run only cases whose name contains this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    run: String,
    /// Fail if the cases reach less than this percentage of the rules.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    min_coverage: f64,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
    Junit,
}

/// A file of cases, as read.
struct CaseFile {
    path: String,
    config: Vec<PathBuf>,
    cases: Vec<(u32, Result<Case, String>, String)>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    passed: usize,
    failed: usize,
    cases: Vec<Tested>,
    coverage: Coverage,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Tested {
    name: String,
    file: String,
    line: u32,
    passed: bool,
    failures: Vec<String>,
}

pub(super) fn run(args: &Args) -> Outcome {
    let (suites, manifests) = match sort(manifest::load(&args.paths)?) {
        Ok(sorted) => sorted,
        Err(e) => {
            eprintln!("Error: {e}");
            return Ok(UNREADABLE);
        }
    };
    if suites.iter().all(|s| s.cases.is_empty()) {
        return Err(format!(
            "there are no cases in {}; write a list `cases:`, see docs/testing.md",
            args.paths.join(", ")
        ));
    }
    let mut tested = Vec::new();
    let mut rules: BTreeMap<(String, String), (bool, mesh_core::explain::Decided)> = BTreeMap::new();
    for suite in &suites {
        tested.extend(suite_run(suite, &manifests, &args.run, &mut rules)?);
    }
    let reached = rules.values().filter(|(hit, _)| *hit).count();
    let unreached = rules.values().filter(|(hit, _)| !hit).map(|(_, d)| d.clone()).collect();
    let coverage = Coverage { rules: rules.len(), reached, unreached };
    let failed = tested.iter().filter(|t| !t.passed).count();
    let report = Report { passed: tested.len() - failed, failed, cases: tested, coverage };
    match args.output {
        Output::Json => {
            super::print_json(&report)?;
        }
        Output::Junit => super::print(&junit(&report)),
        Output::Text => super::print(&text(&report)),
    }
    let percent = report.coverage.reached as f64 * 100.0 / report.coverage.rules.max(1) as f64;
    let too_little = report.coverage.rules > 0 && percent < args.min_coverage;
    if too_little {
        eprintln!("Error: the cases reach {percent:.0} % of the rules, --min-coverage is {}", args.min_coverage);
    }
    Ok(u8::from(failed > 0 || too_little))
}

/// Runs the cases of one file with its own configuration, and notes which rules they reached.
fn suite_run(
    suite: &CaseFile,
    manifests: &[SourceFile],
    filter: &str,
    rules: &mut BTreeMap<(String, String), (bool, mesh_core::explain::Decided)>,
) -> Result<Vec<Tested>, String> {
    let paths: Vec<String> = suite.config.iter().map(|p| p.to_string_lossy().into_owned()).collect();
    let mut files = if paths.is_empty() { Vec::new() } else { manifest::load(&paths)? };
    files.retain(|f| !has_cases(&f.text));
    files.extend(manifests.iter().cloned());
    let offline = offline::read(&files, "default");
    for report in offline.reports.iter().filter(|r| r.level == Level::Error) {
        eprintln!("left out: {report}");
    }
    let world = &offline.inputs.world;
    let explainer = Explainer::new(world).judged_by(Arc::new(Judge::at(HostEnv.now())));
    let mut reached = BTreeSet::new();
    let mut tested = Vec::new();
    for (line, case, name) in suite.cases.iter().filter(|(_, _, name)| name.contains(filter)) {
        let verdict = match case {
            Ok(case) => case.run(&explainer),
            Err(e) => Verdict { failures: vec![e.clone()], reached: Vec::new() },
        };
        reached.extend(verdict.reached);
        let passed = verdict.failures.is_empty();
        let (name, file) = (name.clone(), suite.path.clone());
        tested.push(Tested { name, file, line: *line, passed, failures: verdict.failures });
    }
    let all = coverage(world, &BTreeSet::new()).unreached;
    let missed = coverage(world, &reached).unreached;
    for rule in all {
        let hit = !missed.contains(&rule);
        let key = (rule.object.clone().unwrap_or_default(), rule.field.clone());
        rules.entry(key).and_modify(|(old, _)| *old |= hit).or_insert((hit, rule));
    }
    Ok(tested)
}

fn has_cases(text: &str) -> bool {
    yaml::documents(text).0.iter().any(|d| d.value.get("cases").is_some() && d.value.get("kind").is_none())
}

/// Files of cases, and manifests.
fn sort(files: Vec<SourceFile>) -> Result<(Vec<CaseFile>, Vec<SourceFile>), String> {
    let (mut suites, mut manifests) = (Vec::new(), Vec::new());
    for file in files {
        let (documents, errors) = yaml::documents(&file.text);
        if let Some(e) = errors.first() {
            return Err(format!("{}:{}:{}: {}", file.path, e.span.line, e.span.column, e.message));
        }
        if !has_cases(&file.text) {
            manifests.push(file);
            continue;
        }
        for d in documents {
            suites.push(case_file(&file.path, &d)?);
        }
    }
    Ok((suites, manifests))
}

fn case_file(path: &str, d: &yaml::Document) -> Result<CaseFile, String> {
    let wrong = |what: &str| format!("{path}:{}: {what}; see docs/testing.md", d.span.line);
    let Some(fields) = d.value.as_object() else { return Err(wrong("is no mapping")) };
    if let Some(other) = fields.keys().find(|k| !matches!(k.as_str(), "config" | "cases")) {
        return Err(wrong(&format!("there is no field {other:?} beside config and cases")));
    }
    let list = |name: &str| match fields.get(name) {
        None => Ok(&[][..]),
        Some(Value::Array(list)) => Ok(list.as_slice()),
        Some(_) => Err(wrong(&format!("{name} is no list"))),
    };
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    let mut config = Vec::new();
    for entry in list("config")? {
        config.push(folder.join(entry.as_str().ok_or_else(|| wrong("config is a list of paths"))?));
    }
    let cases = list("cases")?.iter().enumerate().map(|(i, value)| {
        let line = d.spans.get(&format!("cases[{i}]")).map_or(d.span.line, |s| s.line);
        let name = value.get("name").and_then(Value::as_str).map_or(format!("case {i}"), str::to_owned);
        (line, serde_json::from_value(value.clone()).map_err(|e| e.to_string()), name)
    });
    Ok(CaseFile { path: path.to_owned(), config, cases: cases.collect() })
}

fn text(report: &Report) -> String {
    let mut out = String::new();
    for t in &report.cases {
        let Tested { name, file, line, passed, failures } = t;
        if *passed {
            out.push_str(&format!("ok    {name}\n"));
            continue;
        }
        out.push_str(&format!("FAIL  {name} ({file}:{line})\n"));
        failures.iter().for_each(|f| out.push_str(&format!("      {f}\n")));
    }
    out.push_str(&format!("{} passed, {} failed\n", report.passed, report.failed));
    let Coverage { rules, reached, unreached } = &report.coverage;
    out.push_str(&format!("rules reached: {reached} of {rules}\n"));
    for rule in unreached {
        out.push_str(&format!("not reached: {}\n", place(rule)));
    }
    out
}

/// `VirtualService default/reviews spec.http[1] (everybody), reviews.yaml:20`.
fn place(rule: &mesh_core::explain::Decided) -> String {
    let name = if rule.value.is_empty() { String::new() } else { format!(" ({})", rule.value) };
    let at = rule.location.as_ref().map_or(String::new(), |l| format!(", {l}"));
    format!("{} {}{name}{at}", rule.object.as_deref().unwrap_or_default(), rule.field)
}

fn junit(report: &Report) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let (all, failed) = (report.cases.len(), report.failed);
    out.push_str(&format!("<testsuites name=\"meshctl test\" tests=\"{all}\" failures=\"{failed}\">\n"));
    let mut files: Vec<&str> = report.cases.iter().map(|t| t.file.as_str()).collect();
    files.dedup();
    for file in files {
        let own: Vec<&Tested> = report.cases.iter().filter(|t| t.file == file).collect();
        let failures = own.iter().filter(|t| !t.passed).count();
        let tests = own.len();
        out.push_str(&format!("  <testsuite name=\"{}\" tests=\"{tests}\" failures=\"{failures}\">\n", escape(file)));
        for t in own {
            let (name, class) = (escape(&t.name), escape(file));
            let head =
                format!("    <testcase name=\"{name}\" classname=\"{class}\" file=\"{class}\" line=\"{}\"", t.line);
            if t.passed {
                out.push_str(&format!("{head}/>\n"));
                continue;
            }
            let first = escape(t.failures.first().map_or("", String::as_str));
            let body = escape(&t.failures.join("\n"));
            out.push_str(&format!("{head}>\n      <failure message=\"{first}\">{body}</failure>\n    </testcase>\n"));
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push('\n'),
            // XML 1.0 has no other control characters.
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
