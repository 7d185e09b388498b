//! The YAML reader.

use mesh_core::api::Resource;
use mesh_core::yaml::{documents, mesh_config, read, to_yaml};

/// Reads the input as a file. Places are inside it, what was read can be written and read again, and reading twice gives
/// the same.
pub fn yaml(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    // YAML's lines end with a carriage return alone, too.
    let ends = text.replace("\r\n", "\n").matches(['\n', '\r']).count();
    let lines = u32::try_from(ends + 2).unwrap_or(u32::MAX);
    let (parsed, errors) = documents(&text);
    for d in &parsed {
        assert!(d.span.line <= lines, "document at line {} of {lines}", d.span.line);
        for (path, span) in d.spans.iter() {
            assert!(span.line <= lines, "{path} at line {} of {lines}", span.line);
        }
        let written = to_yaml(&d.value);
        let (again, wrong) = documents(&written);
        // Null is a document without content.
        let expected = (!d.value.is_null()).then_some(&d.value);
        assert_eq!(again.first().map(|d| &d.value).filter(|v| !v.is_null()), expected, "{wrong:?}\n{written}");
    }
    for e in &errors {
        assert!(e.span.line <= lines, "error at line {} of {lines}: {}", e.span.line, e.message);
        assert!(!e.message.is_empty());
    }
    let (resources, reports) = read("input.yaml", &text);
    for r in &resources {
        // The other direction: an object of the API server is JSON of the same form.
        let _ = Resource::parse(r.to_value(), r.origin().clone());
        if let Resource::ConfigMap(map) = r {
            let _ = mesh_config(map);
        }
    }
    let (twice, more) = read("input.yaml", &text);
    assert_eq!(resources.len(), twice.len());
    assert!(resources.iter().zip(&twice).all(|(a, b)| a.hash() == b.hash()), "the hash is of the content");
    assert_eq!(reports.len(), more.len());
}
