//! Every target on its seeds, and on changed copies of them.

#![allow(clippy::unwrap_used, reason = "a test says what it could not read by failing")]

use std::path::PathBuf;

use mesh_fuzz::mutate::{Random, mutate};
use mesh_fuzz::{TARGETS, Target};

/// Changed copies for each target. A count and not a time, so that every run does the same; `FUZZ_COPIES` is another one,
/// and `FUZZ_SEED` other copies.
const COPIES: usize = 1000;
/// Of more copies than that, some are changed so often.
const TURNS: usize = 6;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap_or_else(|e| panic!("{name}: {e}")))
}

/// Prints the input if the target panics.
struct Input<'a>(&'a str, &'a [u8]);

impl Drop for Input<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("target {} failed on:\n{}\n(as bytes: {:?})", self.0, String::from_utf8_lossy(self.1), self.1);
        }
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no seeds", folder.display());
    files.iter().map(|f| std::fs::read(f).unwrap()).collect()
}

fn run((name, target): Target) {
    let once = |input: &[u8]| {
        let _shown = Input(name, input);
        target(input);
    };
    let seeds = seeds(name);
    once(b"");
    seeds.iter().for_each(|s| once(s));
    let mut random = Random::new(setting("FUZZ_SEED").unwrap_or(0x6d65_7368));
    let copies = setting("FUZZ_COPIES").map_or(COPIES, |n| usize::try_from(n).unwrap());
    for i in 0..copies {
        let mut copy = seeds[i % seeds.len()].clone();
        let turns = if i < COPIES { 0 } else { random.below(TURNS) };
        for _ in 0..=turns {
            let other = &seeds[random.below(seeds.len())];
            copy = mutate(&copy, other, &mut random);
        }
        once(&copy);
    }
}

fn named(name: &str) -> Target {
    *TARGETS.iter().find(|(n, _)| *n == name).unwrap()
}

#[test]
fn deltas() {
    run(named("deltas"));
}

#[test]
fn identities() {
    run(named("identities"));
}

#[test]
fn jwt() {
    run(named("jwt"));
}

#[test]
fn matching() {
    run(named("matching"));
}

#[test]
fn paths() {
    run(named("paths"));
}

#[test]
fn patterns() {
    run(named("patterns"));
}

#[test]
fn policy() {
    run(named("policy"));
}

#[test]
fn sniff() {
    run(named("sniff"));
}

#[test]
fn wire() {
    run(named("wire"));
}

#[test]
fn yaml() {
    run(named("yaml"));
}

#[test]
fn every_target_has_a_test_and_a_program() {
    for (name, _) in TARGETS {
        let here = include_str!("seeds.rs");
        assert!(here.contains(&format!("fn {name}()")), "{name} has no test");
        let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("fuzz_targets/{name}.rs"));
        assert!(program.exists(), "{} is missing", program.display());
    }
}
