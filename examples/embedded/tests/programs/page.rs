//! What docs/embedding.md shows is what runs here.

use std::fs;
use std::path::Path;

/// Lines without what only their place adds.
fn plain(text: &str) -> Vec<String> {
    text.lines().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect()
}

#[test]
fn the_code_of_the_page_is_that_of_the_programs() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(here.join("../../docs/embedding.md")).unwrap();
    let mut files = vec![here.join("tests/programs/faults.rs"), here.join("tests/programs.rs")];
    files.extend(fs::read_dir(here.join("src")).unwrap().map(|e| e.unwrap().path()));
    let files: Vec<_> = files.iter().map(|f| plain(&fs::read_to_string(f).unwrap())).collect();
    let blocks: Vec<_> = page.split("```rust\n").skip(1).map(|b| b.split("```").next().unwrap()).collect();
    assert!(blocks.len() > 3, "the page has {} blocks of code", blocks.len());
    for block in blocks {
        let lines = plain(block);
        let shown = files.iter().any(|f| f.windows(lines.len()).any(|w| w == lines));
        assert!(shown, "no program has these lines:\n{block}");
    }
}
