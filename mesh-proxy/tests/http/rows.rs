//! Every observed row about what is in force is tested by its id, or stands in `docs/envoy-differences.md` with a reason.
//! Nothing here says how: only that no row is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Sections of observations about the data plane.
const SECTIONS: [char; 22] =
    ['A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O', 'P', 'Q', 'R', 'S', 'T', 'U', 'V'];

/// Rows about what is not in force yet. A row leaves this list with its feature.
const LATER: [(&str, &[&str]); 1] = [("tracing", &["M6", "V4", "V5", "V6", "V7", "V8", "V9"])];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Words that look like ids.
fn ids(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| is_id(word))
}

fn is_id(word: &str) -> bool {
    let mut chars = word.chars();
    let number = |rest: &str| !rest.is_empty() && rest.len() <= 2 && rest.bytes().all(|b| b.is_ascii_digit());
    chars.next().is_some_and(|c| SECTIONS.contains(&c)) && number(chars.as_str())
}

/// First cells of the table rows of a Markdown text.
fn first_cells(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("http/rows.rs") {
            into.push(path);
        }
    }
}

/// What a file of tests says that it tests: ids in texts and comments, and at the beginning of the names of functions.
fn tested(text: &str) -> BTreeSet<String> {
    // Variants of enums (`SocketAddr::V4`) are no ids.
    let mut found: BTreeSet<String> = ids(&text.replace("::V", "::_")).map(str::to_owned).collect();
    for name in text.split("fn ").skip(1) {
        let words = name.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit());
        let words = words.map(str::to_ascii_uppercase).filter(|w| w != "AND");
        found.extend(words.take_while(|w| is_id(w)));
    }
    found
}

fn all_tested() -> BTreeSet<String> {
    let mut files = Vec::new();
    for member in ["mesh-core", "mesh-policy", "mesh-tls", "mesh-proxy"] {
        sources(&root().join(member), &mut files);
    }
    files.iter().flat_map(|p| tested(tests_of(p, &fs::read_to_string(p).unwrap()))).collect()
}

/// The tests in a file.
fn tests_of<'a>(path: &Path, text: &'a str) -> &'a str {
    let whole = path.components().any(|c| c.as_os_str() == "tests") || path.ends_with("tests.rs");
    if whole { text } else { text.split_once("\nmod tests {").map_or("", |(_, tests)| tests) }
}

#[test]
fn every_observed_row_is_accounted_for() {
    let observed = ["../shared", "../../shared"].map(|p| root().join(p).join("spec/envoy-observed.md"));
    let Some(observed) = observed.iter().find_map(|p| fs::read_to_string(p).ok()) else {
        println!("skipped: the observations are not present");
        return;
    };
    let rows: BTreeSet<&str> = first_cells(&observed).filter(|cell| is_id(cell)).collect();
    assert!(rows.len() > 200, "{} rows: the table has another form", rows.len());
    let differences = fs::read_to_string(root().join("docs/envoy-differences.md")).unwrap();
    let differing: BTreeSet<&str> = first_cells(&differences).flat_map(ids).collect();
    let (tested, mut later) = (all_tested(), BTreeMap::new());
    for (feature, ids) in LATER {
        later.extend(ids.iter().map(|id| (*id, feature)));
    }
    let known = |id: &&str| tested.contains(*id) || differing.contains(id) || later.contains_key(id);
    let forgotten: Vec<_> = rows.iter().filter(|id| !known(id)).collect();
    assert!(forgotten.is_empty(), "neither tested nor explained: {forgotten:?}");
    let unknown: Vec<_> = differing.iter().chain(later.keys()).filter(|id| !rows.contains(*id)).collect();
    assert!(unknown.is_empty(), "no such rows: {unknown:?}");
    let settled: Vec<_> = later.iter().filter(|(id, _)| tested.contains(**id)).collect();
    assert!(settled.is_empty(), "tested, and still listed as later: {settled:?}");
}

#[test]
fn ids_are_recognized() {
    assert_eq!(ids("A1, X9 (B12) a3 R1x C").collect::<Vec<_>>(), ["A1", "B12"]);
    let found = tested("async fn b1_and_b4_a_full_queue() {} fn reviews_v1() { row(\"O5 differs\") } // D8");
    assert_eq!(found, ["B1", "B4", "D8", "O5"].map(str::to_owned).into());
}
