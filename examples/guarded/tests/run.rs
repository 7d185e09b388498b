//! The example does what its page says.

#![allow(clippy::unwrap_used)]

use std::process::Command;

#[test]
fn who_gets_what() {
    let output = Command::new(env!("CARGO_BIN_EXE_guarded")).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let block = page.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert_eq!(said, block);
}
