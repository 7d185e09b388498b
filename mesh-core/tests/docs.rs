//! The examples of the documentation are objects that the mesh takes without a word.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use mesh_core::validate::validate;
use mesh_core::yaml;

#[test]
fn examples_are_valid() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    let mut names: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()).collect();
    // Cases of `meshctl test` are no objects.
    let is_cases = |p: &Path| p.file_stem().is_some_and(|s| s.to_string_lossy().ends_with("-cases"));
    names.retain(|p| p.extension().is_some_and(|e| e == "yaml") && !is_cases(p));
    assert!(names.len() > 5);
    for path in names {
        let name = path.file_name().unwrap().to_str().unwrap();
        let (resources, reports) = yaml::read(name, &std::fs::read_to_string(&path).unwrap());
        assert!(!resources.is_empty() && reports.is_empty(), "{name}: {reports:#?}");
        let found: Vec<_> = resources.iter().flat_map(validate).collect();
        assert!(found.is_empty(), "{name}: {found:#?}");
    }
}
