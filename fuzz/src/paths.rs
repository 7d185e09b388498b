//! Paths: what is matched is what the application will see, however it is written.
//!
//! The input is request targets, each a line.

use mesh_core::decide::{BadPath, normalize_target};
use mesh_core::snapshot::PathNormalization;

/// Normalizes each line in each way.
pub fn paths(data: &[u8]) {
    for line in String::from_utf8_lossy(data).lines().take(50) {
        for mode in [
            PathNormalization::None,
            PathNormalization::Base,
            PathNormalization::MergeSlashes,
            PathNormalization::DecodeAndMergeSlashes,
        ] {
            check(line, mode);
        }
    }
}

fn check(sent: &str, mode: PathNormalization) {
    let Ok(normal) = normalize_target(sent, mode) else {
        assert!(sent.contains("%00") && mode != PathNormalization::None, "{sent:?} is refused");
        return;
    };
    assert_eq!(normalize_target(&normal, mode).as_deref(), Ok(&*normal), "{sent:?} is not normal after {mode:?}");
    assert!(!normal.contains('#'));
    if mode == PathNormalization::None || !normal.starts_with('/') {
        return;
    }
    let (path, query) = normal.split_once('?').unwrap_or((&normal, ""));
    assert!(sent.contains(query), "{sent:?}: the query is another one");
    assert!(!path.contains(['\\', '{', '}', '"']), "{path:?}");
    assert!(!path.split('/').any(|s| matches!(s, "." | "..")), "{path:?} has dot segments");
    // Neither for somebody who decodes it once more.
    let again = decoded(path);
    assert!(
        !again.split('/').any(|s| matches!(s, "." | "..")) || path.contains("%2f") || path.contains("%2F"),
        "{path:?}"
    );
    if mode != PathNormalization::Base {
        assert!(!path.contains("//"), "{path:?}");
    }
    if mode == PathNormalization::DecodeAndMergeSlashes {
        let lower = path.to_ascii_lowercase();
        assert!(!lower.contains("%2f") && !lower.contains("%5c"), "{path:?}");
    }
    assert_ne!(normalize_target(&normal, mode), Err(BadPath));
}

/// What an application makes of a path: every escape decoded.
fn decoded(path: &str) -> String {
    let mut out = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).and_then(|d| std::str::from_utf8(d).ok());
        let digits = digits.filter(|d| *first == b'%' && d.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits.and_then(|d| u8::from_str_radix(d, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[2..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
