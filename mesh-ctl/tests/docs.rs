//! What the documentation says is so: links lead somewhere, examples are valid and do what they say, commands run.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What runs where every example runs.
const BASE: [&str; 2] = ["examples/bookinfo", "docs/examples/reviews-subsets.yaml"];

/// Verbs that need no running mesh, which are run as they stand in the text.
const OFFLINE: [&str; 4] = ["validate", "analyze", "authz", "explain"];

fn in_folder(folder: &str, ending: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<String> = entries.filter(|f| f.ends_with(ending)).map(|f| format!("{folder}/{f}")).collect();
    files.sort();
    files
}

/// Every page: those at the top, those in docs, and those of the examples.
fn pages() -> Vec<String> {
    let mut pages = vec!["README.md".into(), "CONTRIBUTING.md".into(), "examples/bookinfo/README.md".into()];
    pages.extend(["fuzz/README.md", "examples/embedded/README.md", "examples/guarded/README.md"].map(String::from));
    pages.extend(in_folder("docs", ".md"));
    pages
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// Runs a command line of ours; what it printed on standard output, and whether it succeeded.
fn run(words: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_meshctl"))
        .args(words)
        .current_dir(root())
        .env_remove("MESH_NAME")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), text + &String::from_utf8_lossy(&output.stderr))
}

/// Words of a command line; single quotes keep spaces.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![];
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').unwrap_or_else(|| panic!("a quote is not closed: {line}")),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
}

#[test]
fn links_lead_somewhere() {
    let mut count = 0;
    for page in pages() {
        let text = read(&page);
        for link in text.split("](").skip(1).map(|l| l.split([')', '#']).next().unwrap()) {
            if link.is_empty() || link.contains("://") {
                continue;
            }
            let target = root().join(Path::new(&page).parent().unwrap()).join(link);
            assert!(target.exists(), "{page}: the link {link} leads nowhere");
            count += 1;
        }
    }
    assert!(count > 10, "only {count} links were found");
}

#[test]
fn examples_do_what_they_say() {
    // Cases are no objects; `meshctl test` runs them in tests of its own.
    for file in in_folder("docs/examples", ".yaml").into_iter().filter(|f| !f.ends_with("-cases.yaml")) {
        let (valid, said) = run(&["validate", &file]);
        assert!(valid, "{file}: {said}");
        let (clean, said) = run(&[&["analyze"], &BASE[..], &[&*file]].concat());
        assert!(clean && !said.contains("Warning ["), "{file}: {said}");
        let mut answer = None;
        for line in read(&file).lines().map_while(|l| l.strip_prefix('#')).map(str::trim) {
            if let Some(command) = line.strip_prefix("meshctl ") {
                let command = words(command);
                let command: Vec<&str> = command.iter().map(String::as_str).collect();
                let (good, said) = run(&[&command[..], &BASE[..], &[&*file]].concat());
                assert!(good, "{file}: {line}: {said}");
                answer = Some(said);
            } else if let Some(expected) = line.strip_prefix("=> ") {
                let said = answer.as_ref().unwrap_or_else(|| panic!("{file}: {line} without a command"));
                assert!(said.contains(expected), "{file}: no {expected:?} in {said}");
            }
        }
    }
}

/// The command lines in the indented blocks of a page, with continued lines joined.
fn commands(page: &str) -> Vec<String> {
    let text = read(page).replace("\\\n", " ");
    let lines = text.lines().filter_map(|l| l.strip_prefix("    ")).filter_map(|l| l.trim().strip_prefix("meshctl "));
    // A remark follows after two spaces and a hash.
    lines.map(|l| l.split("  #").next().unwrap().to_owned()).collect()
}

#[test]
fn commands_of_the_pages_run() {
    let (_, help) = run(&["--help"]);
    let mut ran = 0;
    for page in pages() {
        for command in commands(&page).iter().filter(|c| !c.contains('…')) {
            let words = words(command);
            let verb = words.iter().find(|w| !w.starts_with('-')).unwrap();
            let known = help.lines().any(|l| l.split_whitespace().next() == Some(verb));
            assert!(known, "{page}: meshctl {command}: {verb} is no verb of\n{help}");
            for path in words.iter().filter(|w| w.starts_with("docs/") || w.starts_with("examples/")) {
                assert!(root().join(path).exists(), "{page}: meshctl {command}: {path} is not there");
            }
            if OFFLINE.contains(&verb.as_str()) {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                let (good, said) = run(&words);
                assert!(good, "{page}: meshctl {command}: {said}");
                ran += 1;
            }
        }
    }
    assert!(ran >= 5, "only {ran} commands were run");
}

/// Each row of the attacks names tests that are there.
#[test]
fn attacks_have_tests() {
    let mut count = 0;
    for row in read("docs/attacks.md").lines().filter(|l| l.starts_with("| ") && l.contains("` ")) {
        let tests = row.trim_end_matches('|').rsplit('|').next().unwrap();
        for part in tests.split("; ") {
            let (file, names) = part.trim().strip_prefix('`').and_then(|p| p.split_once("` ")).expect("`file` tests");
            let text = read(file);
            for name in names.split(", ") {
                assert!(text.contains(&format!("fn {name}(")), "{file} has no test {name}");
                count += 1;
            }
        }
    }
    assert!(count > 30, "only {count} tests are named");
}

/// Names and versions of what a crate brings along, itself included.
fn tree(package: &str) -> BTreeSet<String> {
    let tree = "tree --offline --locked --target x86_64-unknown-linux-gnu -e normal --prefix none -p";
    let output = Command::new(std::env::var("CARGO").unwrap())
        .args(tree.split(' ').chain(package.split(' ')))
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{package}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|l| l.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect()
}

/// Crates of ours bring along as many others as docs/embedding.md says, and none that belongs to another part.
#[test]
fn dependencies_are_few() {
    let page = read("docs/embedding.md");
    let rows = page.lines().filter_map(|l| l.strip_prefix("| `mesh-")?.split_once("` | "));
    let rows: Vec<_> = rows.filter_map(|(name, n)| Some((name, n.trim_end_matches(" |").parse().ok()?))).collect();
    assert_eq!(rows.len(), 6, "{rows:?}");
    for (name, said) in rows {
        let crates = tree(&format!("mesh-{name}"));
        assert_eq!(crates.len(), said, "docs/embedding.md on mesh-{name}; it has {crates:#?}");
        let programs = ["clap", "mimalloc", "pprof", "backtrace", "flate2", "tracing-subscriber"];
        let network = ["hyper", "hyper-util", "h2", "tonic", "prost", "axum", "reqwest"];
        let never = ["kube", "kube-core", "k8s-openapi", "openssl", "ring"];
        let mut without = never.to_vec();
        if name != "proxy" {
            without.extend(programs);
        }
        if !name.starts_with("proxy") {
            without.extend(network);
        }
        let there = |n: &&str| crates.iter().any(|c| c.split(' ').next() == Some(*n));
        let wrong: Vec<_> = without.iter().filter(|n| there(n)).collect();
        assert!(wrong.is_empty(), "mesh-{name} brings along {wrong:?}");
    }
}
