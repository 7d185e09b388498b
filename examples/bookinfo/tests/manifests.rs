//! The manifests fit together: every image has its program, and the names are those of Istio's sample.

#![allow(missing_docs, reason = "a test has no users")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(ROOT).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Istio's sample, if the corpus lies beside the repository.
fn sample() -> Option<String> {
    let file = "shared/corpus/samples/bookinfo/platform/kube/bookinfo.yaml";
    let found =
        ["../../..", "../../../.."].iter().map(|up| PathBuf::from(ROOT).join(up).join(file)).find(|path| path.exists());
    if found.is_none() {
        println!("skipped: corpus not present");
    }
    found.map(read)
}

/// The values of `key:` at any depth.
fn values<'a>(yaml: &'a str, key: &str) -> Vec<&'a str> {
    let lines = yaml.lines().map(|line| line.trim_start_matches([' ', '-']));
    let values = lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    values.map(|value| value.trim().trim_matches('"')).filter(|value| !value.is_empty()).collect()
}

/// Lines that say what an object is, the images apart, which are ours.
fn outline(yaml: &str) -> BTreeSet<String> {
    let objects = yaml.split("\n---").map(|document| {
        let of = |key| values(document, key).join(",");
        let name = document.split("metadata:").nth(1).and_then(|rest| values(rest, "name").first().copied());
        let (app, version, port) = (of("app"), of("version"), format!("{}{}", of("port"), of("containerPort")));
        format!("{} {name:?} app {app} version {version} port {port} account {}", of("kind"), of("serviceAccountName"))
    });
    objects.filter(|object| !object.starts_with(' ')).collect()
}

fn matches(glob: &str, text: &str) -> bool {
    match glob.split_once('*') {
        None => glob == text,
        Some((start, rest)) => text
            .strip_prefix(start)
            .is_some_and(|text| (0..=text.len()).any(|at| text.is_char_boundary(at) && matches(rest, &text[at..]))),
    }
}

fn assert_mapped_once(platform: &str) {
    let map = read("platform/images.yaml");
    let globs: Vec<&str> = values(&map, "image").into_iter().collect();
    let images = values(platform, "image");
    assert_eq!(images.len(), 6);
    for image in images {
        assert_eq!(globs.iter().filter(|glob| matches(glob, image)).count(), 1, "{image}");
    }
}

#[test]
fn every_image_of_ours_stands_for_one_program() {
    assert_mapped_once(&read("platform/bookinfo.yaml"));
}

#[test]
fn every_image_of_the_sample_stands_for_one_program() {
    if let Some(sample) = sample() {
        assert_mapped_once(&sample);
    }
}

#[test]
fn objects_are_named_and_labelled_as_in_the_sample() {
    let ours = outline(&read("platform/bookinfo.yaml"));
    assert_eq!(ours.len(), 14, "{ours:#?}");
    if let Some(sample) = sample() {
        assert_eq!(ours, outline(&sample));
    }
}
